"""The table of cells for the tests that run over all of them, and their random data."""

from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

from jaxrnn import (
    Cell,
    Network,
    NetworkParams,
    State,
    custom_cell,
    elman,
    gru,
    indrnn,
    layer_norm,
    lru,
    lstm,
    mgu,
    mingru,
)


def two_gates(own, z, r, state_prev):
    """A gate map without a derivative by hand: h = u h' + (1-u) tanh(n)."""
    del own
    u, n = jnp.split(z + r, 2, axis=-1)
    u = jax.nn.sigmoid(u)
    return State(u * state_prev.h + (1 - u) * jnp.tanh(n))


class Peepholes(NamedTuple):
    """[H] each, the weights by which a gate sees the memory."""

    i: Array
    f: Array
    o: Array


class PeepholeState(NamedTuple):
    h: Array
    c: Array


def peephole_gate(own, z, r, state_prev):
    """An LSTM whose gates see the memory (Gers et al. 2002): `own` parameters."""
    a_i, a_f, a_g, a_o = jnp.split(z + r, 4, axis=-1)
    p_i, p_f, p_o = (jnp.broadcast_to(p, a_i.shape) for p in own)
    i = jax.nn.sigmoid(a_i + p_i * state_prev.c)
    f = jax.nn.sigmoid(a_f + p_f * state_prev.c)
    c = f * state_prev.c + i * jnp.tanh(a_g)
    return PeepholeState(jax.nn.sigmoid(a_o + p_o * c) * jnp.tanh(c), c)


def with_peepholes() -> Cell:
    plain = custom_cell(peephole_gate, gates=4, state=PeepholeState, independent=True)

    def init(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32):
        params = plain.init(key, input_size, hidden_size, bias=bias, dtype=dtype)
        own = Peepholes(*(jnp.zeros(hidden_size, dtype) for _ in Peepholes._fields))
        return params._replace(own=own)

    return plain._replace(init=init)


CELLS = {
    "elman-tanh": elman(),
    "elman-relu": elman("relu"),
    "elman-sigmoid": elman("sigmoid"),
    "elman-identity": elman("identity"),
    "elman-sin": elman(jnp.sin),
    "lstm": lstm(),
    "gru": gru(),
    "custom": custom_cell(two_gates, gates=2, independent=True),
    "peephole": with_peepholes(),
}
PARTS = {name: 2 if name in ("lstm", "peephole") else 1 for name in CELLS}

# More cells, which the gradient's tests walk; the contract is the same code for all.
MORE_CELLS = {
    "gru-before": gru(reset_after=False),
    "lstm-peepholes": lstm(peepholes=True),
    "lstm-coupled": lstm(coupled=True),
    "lstm-projection": lstm(projection=2),
    "lstm-projection-bias": lstm(projection=2, projection_bias=True),
    "lstm-memory-clip": lstm(peepholes=True, memory_clip=0.4),
    "lstm-memory-norm": lstm(memory_norm=True),
    "lstm-all": lstm(peepholes=True, coupled=True, projection=2, memory_norm=True),
    "layer-norm-lstm": layer_norm(lstm(memory_norm=True)),
    "layer-norm-gru": layer_norm(gru()),
    "irnn": elman("relu", recurrent="identity"),
    "mgu": mgu(),
    "indrnn": indrnn(),
    "indrnn-sin": indrnn(jnp.sin),
    "mingru": mingru(),
    "lru": lru(),
}

each_cell = pytest.mark.parametrize("name", CELLS)


def cells(*names: str):
    return pytest.mark.parametrize("name", names)


class Case(NamedTuple):
    """The inputs of a run and its pull-back, as NumPy arrays."""

    params: Any
    xs: Any
    state: Any
    d_states: Any
    d_final: Any

    @property
    def inputs(self) -> tuple[Any, Any, Any]:
        return self.params, self.xs, self.state


def draw(
    cell: Cell,
    *,
    steps: int = 5,
    batch: tuple[int, ...] = (2,),
    inputs: int = 2,
    units: int = 3,
    bias: bool = True,
    dtype: Any = np.float64,
    seed: int = 0,
) -> Case:
    """Draw a case without zero leaves, so that no gradient is zero by accident."""
    rng = np.random.default_rng(seed)

    def like(scale):
        return lambda a: (scale * rng.standard_normal(a.shape)).astype(dtype)

    def shapes():
        key = jax.random.key(0)
        params = cell.init(key, inputs, units, bias=bias, dtype=jnp.float32)
        return params, cell.initial_state(params, batch)

    # Shapes from JAX, numbers from NumPy: nothing is compiled to draw a case.
    params, state = jax.eval_shape(shapes)
    over_time = jax.tree.map(lambda a: np.empty((steps, *a.shape)), state)
    return Case(
        jax.tree.map(like(0.6), params),
        like(1.0)(np.empty((steps, *batch, inputs))),
        jax.tree.map(like(0.5), state),
        jax.tree.map(like(1.0), over_time),
        jax.tree.map(like(1.0), state),
    )


def draw_params(net: Network, dtype: Any = "float32") -> NetworkParams:
    """A network's parameters, 2 inputs to 3 units to 2 outputs, no bias zero."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), 2, 3, 2))
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda a: jnp.asarray(rng.standard_normal(a.shape) / 2, dtype), shapes
    )


def relative_errors(ours: Any, theirs: Any) -> dict[str, float]:
    """‖ours - theirs‖ / ‖theirs‖ for each leaf, by its name.

    Raises:  TypeError for another structure, ValueError for another shape; neither is
             the AssertionError that a control expects.
    """
    wanted, tree = jax.tree_util.tree_flatten_with_path(theirs)
    given = jax.tree.structure(ours)
    if given != tree:
        raise TypeError(f"expected the structure {tree}, got {given}")
    errors = {}
    for (path, b), a in zip(wanted, jax.tree.leaves(ours), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if a.shape != b.shape:
            raise ValueError(f"{name}: expected shape {b.shape}, got {a.shape}")
        error, norm = np.linalg.norm(a - b), np.linalg.norm(b)
        errors[name] = 0.0 if error == 0 else float(error / norm) if norm else np.inf
    return errors


def assert_alike(ours: Any, theirs: Any, tolerance: float) -> None:
    """Every leaf within a relative error; NaN is not."""
    errors = relative_errors(ours, theirs)
    assert all(e <= tolerance for e in errors.values()), errors


def assert_equal(ours: Any, theirs: Any) -> None:
    """Every leaf equal to the bit, in shape and dtype as well."""
    chex.assert_trees_all_equal(ours, theirs, strict=True)

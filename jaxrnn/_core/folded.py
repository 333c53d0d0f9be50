"""One step of a layer, and its state as a vector."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.chunks import Plan
from jaxrnn._core.door import as_layer, check_forward
from jaxrnn._core.forward import advance_all
from jaxrnn._core.marks import Marks
from jaxrnn._core.route import route
from jaxrnn._core.runners import by_hand
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Layer


def _at_once(cell, carrier, marks, xs):
    """A runner of sequences of one step, without a loop."""
    start = jax.tree.map(lambda s: s[None], carrier.state)
    states = advance_all(cell, carrier, marks, xs, start)
    return states[0], states, jax.tree.map(lambda s: s[0], states)


_BY_HAND = partial(by_hand, Plan(chunk=1, store="states"))


def one_step(
    layer: Cell | Layer,
    params: Any,
    state: Any,
    x: Array,
    marks: Marks | None = None,
    restart: Any = None,
    *,
    gradient: str = "manual",
) -> tuple[Any, Array]:
    """One step, its arguments taken as right: the new state and the output.

    Args:
        marks: of this step, arrays [...].
        restart: what a reset puts in place; None: the state itself.
        gradient: "manual", by hand as in `bptt`, for reverse mode; or "autodiff", JAX's
            own, for both modes.
    Raises:  ValueError for a layer that runs backward in time: it has no single step.
    """
    layer = as_layer(layer)
    check_forward(layer)
    one = jax.tree.map(lambda m: m[None], marks or Marks())
    runner = _BY_HAND if gradient == "manual" else _at_once
    carrier = Carrier(params, state, restart)
    hs, _, state = route(runner, layer, carrier, one, x[None])
    return state, hs[0]


def pack(state: Any) -> Array:
    """A state's parts side by side: [..., H] each -> [..., N]."""
    return jnp.concatenate(jax.tree.leaves(state), axis=-1)


def unpack(vector: Array, like: Any) -> Any:
    """`pack`, undone: a state with the parts of `like`, whatever its leading axes."""
    leaves, tree = jax.tree.flatten(like)
    ends = [sum(a.shape[-1] for a in leaves[: i + 1]) for i in range(len(leaves) - 1)]
    return jax.tree.unflatten(tree, jnp.split(vector, ends, axis=-1))


def size_of(state: Any) -> int:
    """N, the features of all parts."""
    return sum(part.shape[-1] for part in jax.tree.leaves(state))


def push(
    layer: Cell | Layer, params: Any, x: Array, state: Any, direction: Array
) -> Array:
    """J v of one row's step, [N] -> [N]; by forward mode."""

    def step(state):
        return one_step(layer, params, state, x, gradient="autodiff")[0]

    return pack(jax.jvp(step, (state,), (unpack(direction, state),))[1])


def pull(
    layer: Cell | Layer, params: Any, x: Array, state: Any, adjoint: Array
) -> Array:
    """Jᵀ v of one row's step, [N] -> [N]; by hand."""
    _, back = jax.vjp(lambda s: one_step(layer, params, s, x)[0], state)
    return pack(back(unpack(adjoint, state))[0])


def over_batch(f: Any, axes: int, *, in_axes: Any = 0, out_axes: Any = 0) -> Any:
    """`f` of one row, mapped over the batch axes of its arguments."""
    for _ in range(axes):
        f = jax.vmap(f, in_axes, out_axes)
    return f

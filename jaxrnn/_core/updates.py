"""What updates are made of: an optimiser, its states, gradients, weights, flags."""

from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

from jaxrnn._core.checks import as_array, as_numbers
from jaxrnn._core.numerics import sum_dtype
from jaxrnn._core.trees import describe


def check_optimizer(optimizer: Any) -> None:
    """Raise unless it is an Optax optimiser."""
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            "optimizer: expected an Optax optimiser such as optax.adam(1e-3), got "
            f"{type(optimizer).__name__}"
        )


def read_weight(weight: Any) -> Array:
    """Return the weight as a float32 scalar, or raise if it is not a number >= 0."""
    if not isinstance(weight, Real | np.ndarray | Array):
        raise TypeError(f"weight: expected a number, got {type(weight).__name__}")
    read = jnp.asarray(weight, jnp.float32)
    if read.shape:
        raise ValueError(f"weight: expected a scalar, got shape {read.shape}")
    if not isinstance(weight, Tracer) and np.asarray(weight) < 0:
        raise ValueError(f"weight: expected a number of 0 or more, got {weight}")
    return read


def read_flush(flush: Any) -> Array:
    """The flag as a boolean scalar; it may be traced."""
    dtype = getattr(flush, "dtype", type(flush))
    if dtype not in (bool, jnp.bool_) or jnp.shape(flush):
        raise TypeError(f"flush: expected True or False, got {flush!r}")
    return jnp.asarray(flush)


def check_state(state: Any, kind: type) -> None:
    """Raise unless it is a state of this kind."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state: expected {kind.__name__}, as init gives it, got {describe(state)}"
        )


def read_gradients(gradients: Any, mean: Any) -> Any:
    """Return the gradients as arrays, or raise if they are not like the window's mean,
    whose dtype may be wider."""
    given, wanted = (
        {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
        for leaves in map(jax.tree_util.tree_leaves_with_path, (gradients, mean))
    )
    same = jax.tree.structure(gradients) == jax.tree.structure(mean)
    if not same:
        raise ValueError(
            "gradients: expected the tree of the params that init was given, with "
            f"the leaves {list(wanted)}, got {list(given)}"
        )
    read = []
    for name, leaf in wanted.items():
        g = as_array(f"gradients{name}", given[name])
        if g.shape != leaf.shape:
            raise ValueError(
                f"gradients{name}: expected shape {leaf.shape}, got {g.shape}"
            )
        floating = jnp.issubdtype(g.dtype, jnp.floating)
        if not floating or sum_dtype(g.dtype) != leaf.dtype:
            raise TypeError(
                f"gradients{name}: expected a float that sums in {leaf.dtype}, got "
                f"{g.dtype}"
            )
        read.append(g)
    return jax.tree.unflatten(jax.tree.structure(mean), read)


def read_leaves(name: str, tree: Any) -> Any:
    """A pytree of arrays, keys and numbers, NumPy's in native byte order.

    Raises:  TypeError or ValueError, by its path, for a leaf that is none or deleted.
    """

    def deleted(a):
        return not isinstance(a, Tracer) and a.is_deleted()

    def read(path, leaf):
        alive = isinstance(leaf, Array) and not deleted(leaf)
        if alive or isinstance(leaf, int | float | complex):
            return leaf
        return as_numbers(name + jax.tree_util.keystr(path), leaf)

    return jax.tree_util.tree_map_with_path(read, tree)


def states_in(opt_state: Any, kind: type) -> list[Any]:
    """The states of this kind inside an optimiser's state."""

    def is_kind(part):
        return isinstance(part, kind)

    return [p for p in jax.tree.leaves(opt_state, is_leaf=is_kind) if is_kind(p)]


def rises(kind: type, count: str, before: Any, after: Any) -> Array:
    """Whether a counter of the states of this kind increases."""
    pairs = zip(states_in(before, kind), states_in(after, kind), strict=True)
    rises = [getattr(b, count) > getattr(a, count) for a, b in pairs]
    return jnp.stack(rises).any() if rises else jnp.array(False)

"""Rules of arithmetic: the dtype of sums, broadcasting of rows, norms."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array


def sum_dtype(dtype: Any) -> Any:
    """The dtype of long sums: float32, or float64 for float64."""
    return np.promote_types(dtype, np.float32)


def widen(a: Array) -> Array:
    """`a` in the dtype of its sums."""
    return a.astype(sum_dtype(a.dtype))


def is_real(a: Any) -> bool:
    """Whether an array can have a gradient; integers, booleans and keys cannot."""
    return jnp.issubdtype(a.dtype, jnp.inexact)


def real_only(tree: Any) -> Any:
    """A pytree with None in place of each leaf that has no gradient."""
    return jax.tree.map(lambda a: a if is_real(a) else None, tree)


def joined(real: Any, tree: Any) -> Any:
    """The inverse of `real_only`: leaves that it left out are taken from `tree`."""
    return jax.tree.map(
        lambda r, a: a if r is None else r, real, tree, is_leaf=lambda r: r is None
    )


def over_batch(
    f: Callable[..., Any], axes: int, *, in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """Map `f` of one row over the batch axes of its arguments."""
    for _ in range(axes):
        f = jax.vmap(f, in_axes, out_axes)
    return f


def spread(row: Array, like: Array) -> Array:
    """A row [N] as an array of the rank of `like` [..., N], without promoting it."""
    return row.reshape((1,) * (like.ndim - 1) + row.shape)


def add_bias(a: Array, bias: Array | None) -> Array:
    """a [..., N] plus a bias [N] or None."""
    return a if bias is None else a + spread(bias, a)


def global_norm(tree: Any) -> Array:
    """The 2-norm over all leaves, in float32 or better whatever their dtypes.

    Scaled by the largest element, so that no square over- or underflows. NaN or inf
    in any leaf gives NaN or inf.
    """
    leaves = [widen(a) for a in jax.tree.leaves(tree) if a.size]
    if not leaves:
        return jnp.zeros((), jnp.float32)
    widest = max((a.dtype for a in leaves), key=lambda dtype: dtype.itemsize)
    leaves = [a.astype(widest) for a in leaves]
    largest = jnp.stack([jnp.abs(a).max() for a in leaves]).max()
    usable = jnp.isfinite(largest) & (largest > 0)
    # 2**126 has a reciprocal that is not subnormal, which would be flushed to 0.
    scale = jnp.where(usable, jnp.minimum(largest, 2.0**126), 1)
    return scale * optax.tree.norm([a / scale for a in leaves])

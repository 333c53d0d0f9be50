"""Rules of arithmetic: what sums are held in, and how a row meets an array."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array


def sum_dtype(dtype: Any) -> Any:
    """The dtype that long sums are held in: float32, or float64 for float64."""
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits > 32 else jnp.dtype(jnp.float32)


def widen(a: Array) -> Array:
    """`a` in the dtype of its sums."""
    return a.astype(sum_dtype(a.dtype))


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

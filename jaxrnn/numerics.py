"""Rules of arithmetic: what sums are held in, and how a row meets an array."""

from typing import Any

import jax.numpy as jnp
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

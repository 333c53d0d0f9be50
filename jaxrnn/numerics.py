"""Two rules of arithmetic: what sums are held in, and how a bias is added."""

from typing import Any

import jax.numpy as jnp
from jax import Array


def sum_dtype(dtype: Any) -> Any:
    """The dtype that long sums are held in: float32, or float64 for float64."""
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits > 32 else jnp.dtype(jnp.float32)


def widen(a: Array) -> Array:
    """`a` in the dtype of its sums."""
    return a.astype(sum_dtype(a.dtype))


def add_bias(a: Array, bias: Array | None) -> Array:
    """a [..., N] plus a bias [N] or None, without promoting the rank."""
    return a if bias is None else a + bias.reshape((1,) * (a.ndim - 1) + bias.shape)

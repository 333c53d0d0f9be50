"""The two affine maps of a cell, and their gradients as sums of outer products."""

import math
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.numerics import add_bias, sum_dtype
from jaxrnn.cell import Cell, Params


def input_map(cell: Cell, params: Params, x: Array) -> Array:
    """z = x W_x + b, for one step or many at once: [..., D] -> [..., G·H]."""
    return add_bias(product(x, params.w_x, cell.compute_dtype), params.b)


def recurrent_map(cell: Cell, params: Params, h: Array) -> Array:
    """r = h W_s (+ b_s): [..., H] -> [..., G·H]."""
    return add_bias(product(h, params.w_s, cell.compute_dtype), params.b_s)


def product(a: Array, w: Array, dtype: Any = None) -> Array:
    """a w in the dtype of a; its operands are rounded to `dtype`, if given."""
    if dtype is None:
        return a @ w
    made = jnp.matmul(
        a.astype(dtype), w.astype(dtype), preferred_element_type=sum_dtype(dtype)
    )
    return made.astype(a.dtype)


def operand(mask: Array | None, h: Array) -> Array:
    """The masked h that multiplies W_s, of one step [..., H] or of many [T, ..., H]."""
    return h if mask is None else h * jnp.broadcast_to(mask, h.shape)


def outer_sum(rows: Array, deltas: Array, dtype: Any = None) -> Array:
    """Σ rowsᵀ deltas over every leading axis, accumulated in float32 or better.

    Its operands are rounded to `dtype`, if given.
    """
    count = math.prod(rows.shape[:-1])  # not -1: there may be no columns
    rows = rows.reshape(count, rows.shape[-1])
    deltas = deltas.reshape(count, deltas.shape[-1])
    dtype = rows.dtype if dtype is None else dtype
    return lax.dot_general(
        rows.astype(dtype),
        deltas.astype(dtype),
        (((0,), (0,)), ((), ())),
        preferred_element_type=sum_dtype(dtype),
    )


def row_sum(deltas: Array) -> Array:
    """Σ deltas over every leading axis, accumulated in float32 or better."""
    axes = tuple(range(deltas.ndim - 1))
    return deltas.sum(axes, dtype=sum_dtype(deltas.dtype))

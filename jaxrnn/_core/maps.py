"""The two affine maps of a cell, and their gradients as sums of outer products."""

import math

import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.numerics import add_bias, sum_dtype
from jaxrnn.cell import Params


def input_map(params: Params, x: Array) -> Array:
    """z = x W_x + b, for one step or many at once: [..., D] -> [..., G·H]."""
    return add_bias(x @ params.w_x, params.b)


def recurrent_map(params: Params, h: Array) -> Array:
    """r = h W_s (+ b_s): [..., H] -> [..., G·H]."""
    return add_bias(h @ params.w_s, params.b_s)


def operand(mask: Array | None, h: Array) -> Array:
    """The masked h that multiplies W_s, of one step [..., H] or of many [T, ..., H]."""
    return h if mask is None else h * jnp.broadcast_to(mask, h.shape)


def outer_sum(rows: Array, deltas: Array) -> Array:
    """Σ rowsᵀ deltas over every leading axis, accumulated in float32 or better."""
    count = math.prod(rows.shape[:-1])  # not -1: there may be no columns
    rows = rows.reshape(count, rows.shape[-1])
    deltas = deltas.reshape(count, deltas.shape[-1])
    return lax.dot_general(
        rows,
        deltas,
        (((0,), (0,)), ((), ())),
        preferred_element_type=sum_dtype(rows.dtype),
    )


def row_sum(deltas: Array) -> Array:
    """Σ deltas over every leading axis, accumulated in float32 or better."""
    axes = tuple(range(deltas.ndim - 1))
    return deltas.sum(axes, dtype=sum_dtype(deltas.dtype))

"""A cell's step and its derivative in closed form: equations 56, 59 and 60.

With g_t = ∂E_t/∂s_t the direct part of the cotangent, backward over time:

    λ_t      = g_t + carry_t                          total ∂E/∂s_t
    carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ  goes to the step before
    ∂E/∂W_s  = Σ_t h_{t-1}ᵀ δr_t                      (59) over all previous steps
    ∂E/∂W_x  = Σ_t x_tᵀ δz_t                          (60)
    ∂E/∂b    = Σ_t δz_t        ∂E/∂b_s = Σ_t δr_t     ∂E/∂x_t = δz_t W_xᵀ

Source: Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxrnn._core.inputs import split
from jaxrnn._core.maps import (
    input_map,
    operand,
    outer_sum,
    product,
    recurrent_map,
    row_sum,
)
from jaxrnn._core.numerics import joined, real_only, widen
from jaxrnn._core.rule import Rule
from jaxrnn.cell import Cell, Params
from jaxrnn.layer import Carrier


class Deltas(NamedTuple):
    """∂E/∂ of the pre-activations: `z` [T, ..., G·H] and `r` [T, ..., G·H]."""

    z: Array
    r: Array


# One step ---------------------------------------------------------------------------


def ahead(cell: Cell, carrier: Carrier, xs: Any) -> Any:
    """The input map of every step, before the loop."""
    xs, extra = split(cell, xs)
    z = input_map(cell, carrier.params, xs)
    return (z, *extra) if extra else z


def advance(
    cell: Cell, carrier: Carrier, x: Any, before: Any, *, ahead: bool
) -> tuple[Any, None, Any]:
    """One step, (56), or many at once; x is z if the input map ran ahead.

    The carrier's mask has the state's leading axes.
    """
    params, mask = carrier.params, carrier.noise.mask
    x, extra = split(cell, x)
    z = x if ahead else input_map(cell, params, x)
    r = recurrent_map(cell, params, operand(mask, before[cell.recurrent]))
    after, kept = cell.gate(params.own, z, r, before, *extra)
    return after, None, kept


# Its derivative -----------------------------------------------------------------------


def weight_gradients(
    cell: Cell, params: Params, xs: Array, h_prev: Array, delta: Deltas
) -> Params:
    """Equations 59 and 60: the gradients of both maps, from the δ of many steps.

    The seed has  ∂E_N/∂W_s = Σ_{i≤N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_s   (59)
             and  ∂E_N/∂W_x = Σ_{i≤N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_x   (60)

    The first two factors, summed over all errors E_N, are λ_i, and Φ' turns it into
    δ_i. The last factor is the immediate partial, with s_{i-1} held fixed: the other
    operand of the product, h_{i-1} or x_i. So each sum is one product, rowsᵀ δ, over
    all steps.

    Shapes:  xs [T, ..., D], h_prev [T, ..., H], delta.z and delta.r [T, ..., G·H] ->
             as params, in float32 or better; no gradient of `own`.
    """
    dtype = cell.compute_dtype
    return Params(
        w_x=outer_sum(xs, delta.z, dtype),  # (60) Σ_t x_tᵀ δz_t
        w_s=outer_sum(h_prev, delta.r, dtype),  # (59) Σ_t h_{t-1}ᵀ δr_t
        b=None if params.b is None else row_sum(delta.z),  # Σ_t δz_t
        b_s=None if params.b_s is None else row_sum(delta.r),  # Σ_t δr_t
    )


def total_adjoint(direct: Any, carry: Any) -> Any:
    """λ_t = g_t + carry_t; the direct error g_t may be None, all of it or in parts."""
    if direct is None:
        return carry

    def add(g, c):
        return c if g is None else g + c

    return jax.tree.map(add, direct, carry, is_leaf=lambda g: g is None)


def step_back(
    cell: Cell,
    own: Any,
    w_s_t: Array,
    mask: Array | None,
    coefficients: Any,
    adjoint: Any,
    d_output: None = None,
) -> tuple[Any, Deltas]:
    """One step back: carry_{t-1} and δ_t, both linear in λ_t.

    Args:
        own: the gate map's own parameters.
        w_s_t: W_sᵀ, transposed once for a chunk.
        mask: multiplies h before W_s, or None.
        coefficients: c_t, from `cell.linearize`.
        adjoint: λ_t, parts [..., H]; a cell's output is part of its state.
    """
    d_z, d_r, before = cell.pullback(own, coefficients, adjoint)  # δz_t, δr_t, s̄_{t-1}
    d_h = operand(mask, product(d_r, w_s_t, cell.compute_dtype))  # δr_t W_sᵀ
    parts = list(before)
    parts[cell.recurrent] += d_h
    return type(before)(*parts), Deltas(d_z, d_r)


class Point(NamedTuple):
    """The values at which steps are linearised."""

    before: Any  # the state before, a reset's included; parts [T, ..., H]
    h_prev: Array  # what W_s multiplied
    z: Array
    r: Array


def linearize(
    cell: Cell, carrier: Carrier, xs: Any, before: Any, after: Any, kept: Any
) -> tuple[Point, Any, Any]:
    """The points of linearisation, the coefficients c_t, and `step_back`."""
    params, mask = carrier.params, carrier.noise.mask
    xs, extra = split(cell, xs)
    h_prev = operand(mask, before[cell.recurrent])
    z, r = input_map(cell, params, xs), recurrent_map(cell, params, h_prev)
    at = Point(before, h_prev, z, r)
    if kept is None:
        new, kept = cell.gate(params.own, z, r, before, *extra)
        after = new if after is None else after
    coefficients = cell.linearize(params.own, kept, before, after, *extra)
    back = partial(step_back, cell, params.own, params.w_s.T, mask)
    return at, coefficients, back


def gather(
    cell: Cell,
    carrier: Carrier,
    xs: Any,
    at: Point,
    delta: Deltas,
    adjoints: Any,
    d_outputs: None,
) -> tuple[Params, Any]:
    """Every parameter's gradient, and ∂E/∂x_t, from all δ and λ of a chunk at once."""
    params = carrier.params
    xs, extra = split(cell, xs)
    gradients = weight_gradients(cell, params, xs, at.h_prev, delta)
    # ∂E/∂x_t = δz_t W_xᵀ
    d_xs = product(delta.z, params.w_x.T, cell.compute_dtype)
    if params.own is None and not extra:
        return gradients, d_xs

    def after(own, real_extra):
        return cell.gate(own, at.z, at.r, at.before, *joined(real_extra, extra))[0]

    _, pull = jax.vjp(after, params.own, real_only(extra))
    d_own, d_extra = pull(adjoints)
    gradients = gradients._replace(own=jax.tree.map(widen, d_own))
    return gradients, (d_xs, *d_extra) if extra else d_xs


CLOSED = Rule(ahead, advance, linearize, gather)

"""Backpropagation through time, derived by hand: the equations, then their loop.

With g_t = ∂E_t/∂s_t the direct part of the cotangent, backward over time:

    λ_t      = g_t + carry_t                          total ∂E/∂s_t
    carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ  what crosses to the step before
    ∂E/∂W_s  = Σ_t h_{t-1}ᵀ δr_t                      (59) over all previous steps
    ∂E/∂W_x  = Σ_t x_tᵀ δz_t                          (60)
    ∂E/∂b    = Σ_t δz_t        ∂E/∂b_s = Σ_t δr_t     ∂E/∂x_t = δz_t W_xᵀ

The coefficients of this linear recurrence are known once the forward pass is done.
So the loop holds only what is truly sequential; its coefficients are made for a whole
chunk before it, from what the forward pass stored or by computing it again, and the
chunk's weight gradients are two large products after it, accumulated in float32 or
better.

Source: Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.chunks import Plan, scan_chunks, scan_steps
from jaxrnn._core.forward import scan_cell
from jaxrnn._core.maps import input_map, operand, outer_sum, recurrent_map, row_sum
from jaxrnn._core.marks import (
    Marks,
    live_only,
    over_time,
    shares,
    states_before,
    where_live,
    where_reset,
)
from jaxrnn._core.mesh import vary_alike
from jaxrnn._core.numerics import sum_dtype, widen
from jaxrnn.cell import Cell, Params
from jaxrnn.layer import Carrier


class Deltas(NamedTuple):
    """∂E/∂ of the pre-activations: `z` [T, ..., G·H] and `r` [T, ..., G·H]."""

    z: Array
    r: Array


# The equations --------------------------------------------------------------------


def weight_gradients(params: Params, xs: Array, h_prev: Array, delta: Deltas) -> Params:
    """Equations 59 and 60: the gradients of both maps, from the δ of many steps.

    The seed has  ∂E_N/∂W_s = Σ_{i≤N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_s   (59)
             and  ∂E_N/∂W_x = Σ_{i≤N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_x   (60)

    The first two factors, summed over all errors E_N, are λ_i. Φ' makes δ_i of it. The
    last factor is the immediate partial, s_{i-1} held fixed: the product's other
    operand, h_{i-1} or x_i. So each sum is one product, rowsᵀ δ, over all steps.

    Shapes:  xs [T, ..., D], h_prev [T, ..., H], delta.z and delta.r [T, ..., G·H] ->
             as params, in float32 or better; no gradient of `own`.
    """
    return Params(
        w_x=outer_sum(xs, delta.z),  # (60) Σ_t x_tᵀ δz_t
        w_s=outer_sum(h_prev, delta.r),  # (59) Σ_t h_{t-1}ᵀ δr_t
        b=None if params.b is None else row_sum(delta.z),  # Σ_t δz_t
        b_s=None if params.b_s is None else row_sum(delta.r),  # Σ_t δr_t
    )


def total_adjoint(direct: Any, carry: Any) -> Any:
    """λ_t = g_t + carry_t; a part of the direct error g_t may be None."""
    pairs = zip(direct, carry, strict=True)
    return type(carry)(*(c if g is None else g + c for g, c in pairs))


def step_back(
    cell: Cell,
    own: Any,
    w_s_t: Array,
    mask: Array | None,
    coefficients: Any,
    adjoint: Any,
) -> tuple[Deltas, Any]:
    """One step back: δ_t and carry_{t-1}, both linear in λ_t.

    Args:
        own: the gate map's own parameters.
        w_s_t: W_sᵀ, transposed once for all steps.
        mask: what h is multiplied by before W_s, or None.
        coefficients: c_t, from `cell.linearize`.
        adjoint: λ_t, parts [..., H].
    """
    d_z, d_r, before = cell.pullback(own, coefficients, adjoint)  # δz_t, δr_t, s̄_{t-1}
    d_h = operand(mask, d_r @ w_s_t)  # δr_t W_sᵀ
    return Deltas(d_z, d_r), type(before)(before[0] + d_h, *before[1:])


# What stands around them: lengths, resets, zoneout --------------------------------


class Point(NamedTuple):
    """Where steps are linearised: what each of them read."""

    before: Any  # the state before, a reset's included; parts [T, ..., H]
    h_prev: Array  # what W_s multiplied
    z: Array
    r: Array


def points(carrier: Carrier, marks: Marks, xs: Array, before: Any) -> Point:
    """What every step reads, from the states before them, parts [T, ..., H]."""
    params = carrier.params
    if marks.reset is not None:
        restart = over_time(carrier.restart, before)
        before = where_reset(marks, restart, before)
    h_prev = operand(carrier.noise.mask, before[0])
    return Point(before, h_prev, input_map(params, xs), recurrent_map(params, h_prev))


def linearized(
    cell: Cell, own: Any, marks: Marks, at: Point, states: Any, kept: Any
) -> Any:
    """The coefficients c_t of every step; what the forward pass left is used again."""
    if kept is None or marks.hold is not None:  # mixed: the gate's own state is gone
        after, kept = cell.gate(own, at.z, at.r, at.before)
        states = after if states is None or marks.hold is not None else states
    return cell.linearize(own, kept, at.before, states)


def marked_step_back(
    cell: Cell,
    own: Any,
    w_s_t: Array,
    mask: Array | None,
    marks: Marks,
    coefficients: Any,
    adjoint: Any,
) -> tuple[Any, Any, Deltas, Any]:
    """`step_back` inside lengths and resets, and past the share that zoneout keeps.

    Returns: carry_{t-1}, ∂E/∂ what a reset put in place (None without resets), δ_t, and
             λ_t, both zero past a row's length.
    """
    live = live_only(marks, adjoint)
    to_gate, past_gate = shares(marks, live)
    delta, before = step_back(cell, own, w_s_t, mask, coefficients, to_gate)
    if past_gate is not None:
        before = jax.tree.map(jnp.add, before, past_gate)
    before = where_live(marks, before, adjoint)  # held past the length: s_t = s_{t-1}
    if marks.reset is None:
        return before, None, delta, live
    # A reset's step comes from the state that it puts in place.
    nothing = jax.tree.map(jnp.zeros_like, before)
    to_restart = where_reset(marks, before, nothing)
    return where_reset(marks, nothing, before), to_restart, delta, live


def gather(
    cell: Cell,
    params: Params,
    marks: Marks,
    xs: Array,
    at: Point,
    delta: Deltas,
    adjoints: Any,
) -> Params:
    """Every parameter's gradient from all δ and λ of a chunk at once."""
    gradients = weight_gradients(params, xs, at.h_prev, delta)
    if params.own is None:
        return gradients
    _, pull = jax.vjp(lambda own: cell.gate(own, at.z, at.r, at.before)[0], params.own)
    (d_own,) = pull(shares(marks, adjoints)[0])
    return gradients._replace(own=jax.tree.map(widen, d_own))


# Their loop over time -------------------------------------------------------------


def backward(
    cell: Cell,
    plan: Plan,
    carrier: Carrier,
    marks: Marks,
    xs: Array,
    left: tuple[Any, Any, Any],
    direct: Any,
    final: Any,
) -> tuple[Carrier, Array]:
    """The backward pass: ∂E/∂ the carrier, and ∂E/∂xs.

    Args:
        left: what `forward` left, with the same plan, carrier and marks.
        direct: g_t = ∂E/∂states, parts [T, ..., H] or None where a part has none.
        final: ∂E/∂ the final state, parts [..., H].
    """
    params, own, mask = carrier.params, carrier.params.own, carrier.noise.mask
    starts, states, kept = left
    keep = carrier.deltas is not None  # whether δ and λ are asked for
    back = partial(marked_step_back, cell, own, params.w_s.T, mask)

    def one_step(carry, step):
        carried, d_restart = carry
        coefficients, direct, marks = step
        adjoint = total_adjoint(direct, carried)  # λ_t = g_t + carry_t
        before, to_restart, (d_z, d_r), live = back(marks, coefficients, adjoint)
        d_restart = jax.tree.map(jnp.add, d_restart, to_restart)
        # None says "the same as d_z", so that the scan stores it once.
        d_r = None if d_r is d_z else d_r
        out = d_z, d_r, live if keep or own is not None else None
        return (before, d_restart), out

    def one_chunk(carry, start, steps):
        adjoint, d_restart, sums = carry
        xs, marks, states, kept, direct = steps
        if plan.store == "borders":
            _, (states, kept) = scan_cell(
                cell, plan, carrier, marks, xs, start, keep=marks.hold is None
            )
        at = points(carrier, marks, xs, states_before(start, states))
        coefficients = linearized(cell, own, marks, at, states, kept)
        (adjoint, d_restart), (d_z, d_r, adjoints) = scan_steps(
            one_step,
            (adjoint, d_restart),
            (coefficients, direct, marks),
            reverse=True,
        )
        delta = Deltas(d_z, d_z if d_r is None else d_r)
        new = gather(cell, params, marks, xs, at, delta, adjoints)
        sums = jax.tree.map(jnp.add, sums, new)
        d_xs = d_z @ params.w_x.T  # ∂E/∂x_t = δz_t W_xᵀ
        found = (delta, adjoints) if keep else (None, None)
        return (adjoint, d_restart, sums), (d_xs, *found)

    sums = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), params)
    d_restart = None if marks.reset is None else jax.tree.map(jnp.zeros_like, final)
    # zeros made here do not vary yet
    final, d_restart, sums, _ = vary_alike(final, d_restart, sums, xs)
    (d_state, d_restart, sums), (d_xs, deltas, adjoints) = scan_chunks(
        one_chunk,
        (final, d_restart, sums),
        (xs, marks, states, kept, direct),
        plan.chunk,
        starts=starts,
        reverse=True,
    )
    d_params = jax.tree.map(lambda p, g: g.astype(p.dtype), params, sums)
    return Carrier(d_params, d_state, d_restart, None, deltas, adjoints), d_xs

"""Backpropagation through time, derived by hand: the loop, and the rule it is for JAX.

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

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.chunks import Plan, scan_chunks, scan_steps
from jaxrnn.forward import (
    Fixed,
    Trace,
    input_map,
    operand,
    recurrent_map,
    scan_cell,
    unfold,
    vary_alike,
)
from jaxrnn.marks import Marks, live_only, mix, where_live, where_reset
from jaxrnn.numerics import sum_dtype, widen


class Deltas(NamedTuple):
    """∂E/∂ of the pre-activations: `z` [T, ..., G·H] and `r` [T, ..., G·H]."""

    z: Array
    r: Array


class Probes(NamedTuple):
    """Zeros that stand beside the pre-activations and states: their gradients are
    every δ_t and λ_t."""

    deltas: Deltas
    adjoints: Any


class Gradients(NamedTuple):
    """What the backward loop gives: ∂E/∂ each input of the run, every δ_t and λ_t."""

    params: Params
    xs: Array
    state: Any
    restart: Any  # None without resets
    probes: Probes | None


def run_autodiff(cell, plan, return_states, params, xs, marks, fixed, state, probes):
    """The run: hs or every state, and the final one; its gradient is JAX's own."""
    del probes
    states, final, _ = unfold(cell, plan, params, xs, marks, fixed, state)
    return states if return_states else states[0], final


run_manual = jax.custom_vjp(run_autodiff, nondiff_argnums=(0, 1, 2))


def _forward(cell, plan, return_states, params, xs, marks, fixed, state, probes):
    states, final, trace = unfold(cell, plan, params, xs, marks, fixed, state)
    out = states if return_states else states[0]
    return (out, final), (params, xs, marks, fixed, trace, probes)


def _backward(cell, plan, return_states, residuals, cotangents):
    params, xs, marks, fixed, trace, probes = residuals
    direct, final = cotangents
    if not return_states:
        direct = type(final)(direct, *[None] * (len(final) - 1))
    inputs = params, xs, marks, fixed, trace
    keep = probes is not None
    d = backward(cell, plan, *inputs, cotangents=direct, final=final, keep=keep)
    d_fixed = None if d.restart is None else Fixed(d.restart)
    return d.params, d.xs, None, d_fixed, d.state, d.probes


run_manual.defvjp(_forward, _backward)


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


def backward(
    cell: Cell,
    plan: Plan,
    params: Params,
    xs: Array,
    marks: Marks,
    fixed: Fixed,
    trace: Trace,
    cotangents: Any,
    final: Any,
    *,
    keep: bool,
) -> Gradients:
    """The backward pass, given what the forward one left.

    Args:
        trace: from `unfold` with the same plan, marks and fixed.
        cotangents: ∂E/∂states, parts [T, ..., H] or None where a part has none.
        final: ∂E/∂ the final state, parts [..., H].
        keep: whether to return δ and λ.
    """
    own, w_s_t = params.own, params.w_s.T

    def one_chunk(carry, start, steps):
        adjoint, d_restart, sums = carry
        xs, marks, states, kept, cotangents = steps
        if plan.store == "borders":
            _, (states, kept) = scan_cell(
                cell, plan, params, xs, marks, fixed, start, keep=marks.hold is None
            )
        previous = jax.tree.map(
            lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: s.shape[0]],
            start,
            states,
        )
        if marks.reset is not None:
            restarts = jax.tree.map(_over_time, fixed.restart, previous)
            previous = where_reset(marks, restarts, previous)
        h_prev = operand(fixed, previous[0])
        z, r = input_map(params, xs), recurrent_map(params, h_prev)
        if marks.hold is not None:
            states, kept = cell.gate(own, z, r, previous)  # before the shares are mixed
        elif plan.store == "states":
            _, kept = cell.gate(own, z, r, previous)
        coefficients = cell.linearize(own, kept, previous, states)
        (adjoint, d_restart), (d_z, d_r, adjoints) = scan_steps(
            partial(_one_step, cell, own, w_s_t, fixed, keep or own is not None),
            (adjoint, d_restart),
            (coefficients, cotangents, marks),
            reverse=True,
        )
        d_r = d_z if d_r is None else d_r
        new = Params(
            w_x=outer_sum(xs, d_z),  # (60) Σ_t x_tᵀ δz_t
            w_s=outer_sum(h_prev, d_r),  # (59) Σ_t h_{t-1}ᵀ δr_t
            b=None if params.b is None else row_sum(d_z),
            b_s=None if params.b_s is None else row_sum(d_r),
            own=_own_gradient(cell, own, z, r, previous, marks, adjoints),
        )
        sums = jax.tree.map(jnp.add, sums, new)
        d_xs = d_z @ params.w_x.T  # ∂E/∂x_t = δz_t W_xᵀ
        probes = Probes(Deltas(d_z, d_r), adjoints) if keep else None
        return (adjoint, d_restart, sums), (d_xs, probes)

    sums = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), params)
    d_restart = None if marks.reset is None else jax.tree.map(jnp.zeros_like, final)
    # zeros made here do not vary yet
    final, d_restart, sums, _ = vary_alike(final, d_restart, sums, xs)
    (d_state, d_restart, sums), (d_xs, probes) = scan_chunks(
        one_chunk,
        (final, d_restart, sums),
        (xs, marks, trace.states, trace.kept, cotangents),
        plan.chunk,
        starts=trace.starts,
        reverse=True,
    )
    d_params = jax.tree.map(lambda p, g: g.astype(p.dtype), params, sums)
    return Gradients(d_params, d_xs, d_state, d_restart, probes)


def _one_step(cell, own, w_s_t, fixed, keep, carry, inputs):
    """One step back: the carry, and δz_t, δr_t and, if kept, λ_t."""
    carried, d_restart = carry
    coefficients, direct, marks = inputs
    # λ_t = g_t + carry_t
    adjoint = type(carried)(
        *(c if g is None else g + c for g, c in zip(direct, carried, strict=True))
    )
    live = live_only(marks, adjoint)
    to_gate, past_gate = _shares(marks, live)
    d_z, d_r, before = cell.pullback(own, coefficients, to_gate)
    # carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ
    d_h = operand(fixed, d_r @ w_s_t)
    before = type(before)(before[0] + d_h, *before[1:])
    if past_gate is not None:
        before = jax.tree.map(jnp.add, before, past_gate)
    before = where_live(marks, before, adjoint)  # held past the length: s_t = s_{t-1}
    if d_restart is not None:  # a reset's step comes from the state it puts in place
        nothing = jax.tree.map(jnp.zeros_like, before)
        to_restart = where_reset(marks, before, nothing)
        d_restart = jax.tree.map(jnp.add, d_restart, to_restart)
        before = where_reset(marks, nothing, before)
    # None says "the same as d_z", so that the scan stores it once.
    d_r = None if d_r is d_z else d_r
    return (before, d_restart), (d_z, d_r, live if keep else None)


def _shares(marks: Marks, adjoint: Any) -> tuple[Any, Any]:
    """λ of the gate's state, (1-w) λ, and of the share kept, w λ: `mix` transposed."""
    if marks.hold is None:
        return adjoint, None
    nothing = jax.tree.map(jnp.zeros_like, adjoint)
    return mix(marks, adjoint, nothing), mix(marks, nothing, adjoint)


def _over_time(part: Array, over: Array) -> Array:
    return jnp.broadcast_to(part, over.shape)


def _own_gradient(cell, own, z, r, previous, marks, adjoints):
    """Σ_t of the gate map's own parameters' gradient, from all λ of a chunk at once."""
    if own is None:
        return None
    _, pull = jax.vjp(lambda own: cell.gate(own, z, r, previous)[0], own)
    (d_own,) = pull(_shares(marks, adjoints)[0])
    return jax.tree.map(widen, d_own)

"""Backpropagation through time, derived by hand.

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
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.checks import check_alike, check_array, check_flag, check_inputs
from jaxrnn.chunks import Plan, Store, make_plan, scan_chunks, scan_steps
from jaxrnn.forward import (
    Trace,
    input_map,
    recurrent_map,
    scan_cell,
    unfold,
    vary_alike,
)
from jaxrnn.marks import (
    Marks,
    live_only,
    make_marks,
    turn,
    where_live,
    where_reset,
)
from jaxrnn.numerics import sum_dtype, widen


class Deltas(NamedTuple):
    """∂E/∂ of the pre-activations: `z` [T, ..., G·H] and `r` [T, ..., G·H]."""

    z: Array
    r: Array


class BPTT(NamedTuple):
    """What a backward pass gives: ∂E/∂params, ∂E/∂xs, ∂E/∂state, every δ_t and λ_t."""

    params: Params
    xs: Array
    state: Any
    deltas: Deltas | None
    adjoints: Any | None


def _add_to_h(state: Any, h: Array) -> Any:
    """`state` with h added to its first part, the exposed one."""
    return type(state)(state[0] + h, *state[1:])


def outer_sum(rows: Array, deltas: Array) -> Array:
    """Σ rowsᵀ deltas over every leading axis, accumulated in float32 or better."""
    rows = rows.reshape(-1, rows.shape[-1])
    deltas = deltas.reshape(-1, deltas.shape[-1])
    return lax.dot_general(
        rows,
        deltas,
        (((0,), (0,)), ((), ())),
        preferred_element_type=sum_dtype(rows.dtype),
    )


def row_sum(deltas: Array) -> Array:
    axes = tuple(range(deltas.ndim - 1))
    return deltas.sum(axes, dtype=sum_dtype(deltas.dtype))


def bptt(
    cell: Cell,
    params: Params,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
    chunk_size: int | None = None,
    store: Store | None = None,
    lengths: Any = None,
    resets: Any = None,
    reverse: bool = False,
) -> BPTT:
    """The hand-derived backward pass, called by hand: gradients, every δ_t and λ_t.

    Math:    λ_t = g_t + carry_t, carry_{t-1} = s̄_{t-1} + δr_t W_sᵀ in its h part;
             ∂E/∂W_s = Σ_t h_{t-1}ᵀ δr_t (59); ∂E/∂W_x = Σ_t x_tᵀ δz_t (60)
    Shapes:  xs [T, ..., D], state parts [..., H] -> params as given, xs [T, ..., D],
             state parts [..., H], deltas.z and deltas.r [T, ..., G·H], adjoints
             parts [T, ..., H].
    Args:
        state: the state before the first step; zeros by default.
        cotangents: ∂E/∂hs [T, ..., H], or one such array or None for each part of
            the state; None if only the final state matters.
        final: ∂E/∂ the final state, parts [..., H]; zeros by default.
        chunk_size, store, lengths, resets, reverse: as in `unroll`. Past a row's
            length its cotangents are not read, and its δ and λ are zero.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does, and for
             cotangents of another shape or dtype than the states.
    Source:  Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
    """
    xs, state = check_inputs(cell, params, xs, state)
    plan = make_plan(params, xs, chunk_size, store)
    marks = make_marks(xs, lengths, resets)
    check_flag("reverse", reverse)
    cotangents = _per_part(cotangents, xs, state)
    if final is None:
        final = jax.tree.map(jnp.zeros_like, state)
    check_alike("final", final, state)
    inputs = vary_alike(params, xs, marks, state, cotangents, final)
    return _bptt(cell, plan, reverse, *inputs)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _bptt(cell, plan, reverse, params, xs, marks, state, cotangents, final):
    if reverse:
        xs, marks, cotangents = turn((xs, marks, cotangents))
    xs, cotangents = live_only(marks, (xs, cotangents))
    _, _, trace = unfold(cell, plan, params, xs, marks, state)
    d = backward(cell, plan, params, xs, marks, trace, cotangents, final, keep=True)
    if not reverse:
        return d
    xs, deltas, adjoints = turn((d.xs, d.deltas, d.adjoints))
    return d._replace(xs=xs, deltas=deltas, adjoints=adjoints)


def _per_part(cotangents: Any, xs: Array, state: Any) -> Any:
    """The cotangents as a state whose parts are arrays [T, ..., H] or None."""
    if not isinstance(cotangents, tuple):
        cotangents = (cotangents, *[None] * (len(state) - 1))
    if len(cotangents) != len(state):
        raise ValueError(
            f"cotangents: expected {len(state)} parts as {type(state).__name__} has, "
            f"got {len(cotangents)}"
        )
    for name, part, given in zip(state._fields, state, cotangents, strict=True):
        if given is not None:
            shape = (xs.shape[0], *part.shape)
            check_array(f"cotangents.{name}", given, shape, part.dtype)
    return type(state)(*cotangents)


def backward(
    cell: Cell,
    plan: Plan,
    params: Params,
    xs: Array,
    marks: Marks,
    trace: Trace,
    cotangents: Any,
    final: Any,
    *,
    keep: bool,
) -> BPTT:
    """The backward pass, given what the forward one left.

    Args:
        trace: from `unfold` with the same plan and marks.
        cotangents: ∂E/∂states, parts [T, ..., H] or None where a part has none.
        final: ∂E/∂ the final state, parts [..., H].
        keep: whether to return δ and λ.
    """
    own, w_s_t = params.own, params.w_s.T
    initial = jax.tree.map(lambda s: s[0], trace.starts)

    def one_chunk(carry, start, steps):
        adjoint, d_initial, sums = carry
        xs, marks, states, kept, cotangents = steps
        if plan.store == "borders":
            _, (states, kept) = scan_cell(
                cell, plan, params, xs, marks, start, initial, keep=True
            )
        previous = jax.tree.map(
            lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: s.shape[0]],
            start,
            states,
        )
        previous = where_reset(marks, _over_time(initial, previous), previous)
        z, r = input_map(params, xs), recurrent_map(params, previous[0])
        if plan.store == "states":
            _, kept = cell.gate(own, z, r, previous)
        coefficients = cell.linearize(own, kept, previous, states)
        (adjoint, d_initial), (d_z, d_r, adjoints) = scan_steps(
            partial(_one_step, cell, own, w_s_t, keep or own is not None),
            (adjoint, d_initial),
            (coefficients, cotangents, marks),
            reverse=True,
        )
        d_r = d_z if d_r is None else d_r
        new = Params(
            w_x=outer_sum(xs, d_z),  # (60) Σ_t x_tᵀ δz_t
            w_s=outer_sum(previous[0], d_r),  # (59) Σ_t h_{t-1}ᵀ δr_t
            b=None if params.b is None else row_sum(d_z),
            b_s=None if params.b_s is None else row_sum(d_r),
            own=_own_gradient(cell, own, z, r, previous, adjoints),
        )
        sums = jax.tree.map(jnp.add, sums, new)
        d_xs = d_z @ params.w_x.T  # ∂E/∂x_t = δz_t W_xᵀ
        kept = (Deltas(d_z, d_r), adjoints) if keep else (None, None)
        return (adjoint, d_initial, sums), (d_xs, *kept)

    sums = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), params)
    d_initial = None if marks.reset is None else jax.tree.map(jnp.zeros_like, final)
    # zeros made here do not vary yet
    final, d_initial, sums, _ = vary_alike(final, d_initial, sums, xs)
    (d_state, d_initial, sums), (d_xs, deltas, adjoints) = scan_chunks(
        one_chunk,
        (final, d_initial, sums),
        (xs, marks, trace.states, trace.kept, cotangents),
        plan.chunk,
        starts=trace.starts,
        reverse=True,
    )
    if d_initial is not None:  # the resets' share
        d_state = jax.tree.map(jnp.add, d_state, d_initial)
    d_params = jax.tree.map(lambda p, g: g.astype(p.dtype), params, sums)
    return BPTT(d_params, d_xs, d_state, deltas, adjoints)


def _one_step(cell, own, w_s_t, keep, carry, inputs):
    """One step back: the carry, and δz_t, δr_t and, if kept, λ_t."""
    carried, d_initial = carry
    coefficients, direct, marks = inputs
    # λ_t = g_t + carry_t
    adjoint = type(carried)(
        *(c if g is None else g + c for g, c in zip(direct, carried, strict=True))
    )
    live = live_only(marks, adjoint)
    d_z, d_r, adjoint_prev = cell.pullback(own, coefficients, live)
    # carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ
    before = _add_to_h(adjoint_prev, d_r @ w_s_t)
    before = where_live(marks, before, adjoint)  # held past the length: s_t = s_{t-1}
    if d_initial is not None:  # a reset's step comes from the initial state
        nothing = jax.tree.map(jnp.zeros_like, before)
        d_initial = jax.tree.map(
            jnp.add, d_initial, where_reset(marks, before, nothing)
        )
        before = where_reset(marks, nothing, before)
    # None says "the same as d_z", so that the scan stores it once.
    d_r = None if d_r is d_z else d_r
    return (before, d_initial), (d_z, d_r, live if keep else None)


def _over_time(state: Any, states: Any) -> Any:
    return jax.tree.map(lambda s, over: jnp.broadcast_to(s, over.shape), state, states)


def _own_gradient(cell, own, z, r, previous, adjoints):
    """Σ_t of the gate map's own parameters' gradient, from all λ of a chunk at once."""
    if own is None:
        return None
    _, pull = jax.vjp(lambda own: cell.gate(own, z, r, previous)[0], own)
    (d_own,) = pull(adjoints)
    return jax.tree.map(widen, d_own)

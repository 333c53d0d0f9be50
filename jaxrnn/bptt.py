"""Backpropagation through time, derived by hand.

With g_t = ∂E_t/∂s_t the direct part of the cotangent, backward over time:

    λ_t      = g_t + carry_t                          total ∂E/∂s_t
    carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ  what crosses to the step before
    ∂E/∂W_s  = Σ_t h_{t-1}ᵀ δr_t                      (59) over all previous steps
    ∂E/∂W_x  = Σ_t x_tᵀ δz_t                          (60)
    ∂E/∂b    = Σ_t δz_t        ∂E/∂b_s = Σ_t δr_t     ∂E/∂x_t = δz_t W_xᵀ

The coefficients of this linear recurrence are known once the forward pass is done.
So the loop holds only what is truly sequential, the λ; a chunk's pre-activations are
recomputed by two large products before it, and its weight gradients are two large
products after it, accumulated in float32 or better.

Source: Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.checks import check_alike, check_array, check_chunk, check_inputs
from jaxrnn.forward import (
    chunk_or_default,
    input_map,
    recurrent_map,
    scan_chunks,
    scan_states,
    vary_alike,
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
        chunk_size: as in `unroll`.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does, and for
             cotangents of another shape or dtype than the states.
    Source:  Werbos (1990), Proc. IEEE 78, 1550-1560; the seed's equations 48-60.
    """
    xs, state = check_inputs(cell, params, xs, state)
    check_chunk(chunk_size)
    cotangents = _per_part(cotangents, xs, state)
    if final is None:
        final = jax.tree.map(jnp.zeros_like, state)
    check_alike("final", final, state)
    chunk = chunk_or_default(params, xs, chunk_size)
    return _bptt(cell, chunk, *vary_alike(params, xs, state, cotangents, final))


@partial(jax.jit, static_argnums=(0, 1))
def _bptt(cell, chunk, params, xs, state, cotangents, final):
    states, _ = scan_states(cell, params, xs, state, chunk)
    return backward(
        cell, params, xs, state, states, cotangents, final, chunk, keep=True
    )


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
    params: Params,
    xs: Array,
    state: Any,
    states: Any,
    cotangents: Any,
    final: Any,
    chunk: int,
    *,
    keep: bool,
) -> BPTT:
    """The backward pass, given the states of the forward one.

    Args:
        states: every state, parts [T, ..., H].
        cotangents: ∂E/∂states, parts [T, ..., H] or None where a part has none.
        final: ∂E/∂ the final state, parts [..., H].
        keep: whether to return δ and λ.
    """
    own = params.own
    w_s_t = params.w_s.T

    def pullback(coefficients, adjoint):
        d_z, d_r, adjoint_prev = cell.pullback(own, coefficients, adjoint)
        # None says "the same as d_z", so that vmap and scan carry it once.
        return d_z, None if d_r is d_z else d_r, adjoint_prev

    def one_step(carry, inputs):
        coefficients, direct = inputs
        # λ_t = g_t + carry_t
        adjoint = type(carry)(
            *(c if g is None else g + c for g, c in zip(direct, carry, strict=True))
        )
        d_z, d_r, adjoint_prev = pullback(coefficients, adjoint)
        d_r = d_z if d_r is None else d_r
        # carry_{t-1} = s̄_{t-1}, its h part plus δr_t W_sᵀ
        return _add_to_h(adjoint_prev, d_r @ w_s_t), adjoint

    def one_chunk(carry, start, steps):
        adjoint, sums = carry
        xs, states, cotangents = steps
        previous = jax.tree.map(
            lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: s.shape[0]],
            start,
            states,
        )
        z = input_map(params, xs)
        r = recurrent_map(params, previous[0])
        coefficients = cell.linearize(own, z, r, previous, states)
        # Without the barrier XLA computes the coefficients again inside the loop.
        coefficients = lax.optimization_barrier(coefficients)
        adjoint, adjoints = lax.scan(
            one_step, adjoint, (coefficients, cotangents), reverse=True
        )
        d_z, d_r, _ = jax.vmap(pullback)(coefficients, adjoints)
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
        return (adjoint, sums), (d_xs, *kept)

    # The state before each chunk's first step.
    starts = jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[chunk - 1 : -1 : chunk]]),
        state,
        states,
    )
    sums = jax.tree.map(lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), params)
    final, sums, _ = vary_alike(final, sums, xs)  # zeros made here do not vary yet
    (d_state, sums), (d_xs, deltas, adjoints) = scan_chunks(
        one_chunk,
        (final, sums),
        (xs, states, cotangents),
        chunk,
        starts=starts,
        reverse=True,
    )
    d_params = jax.tree.map(lambda p, g: g.astype(p.dtype), params, sums)
    return BPTT(d_params, d_xs, d_state, deltas, adjoints)


def _own_gradient(cell, own, z, r, previous, adjoints):
    """Σ_t of the gate map's own parameters' gradient, from all λ of a chunk at once."""
    if own is None:
        return None
    _, pull = jax.vjp(lambda own: cell.gate(own, z, r, previous), own)
    (d_own,) = pull(adjoints)
    return jax.tree.map(widen, d_own)

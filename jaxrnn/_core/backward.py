"""Backpropagation through time: the backward loop of any transition.

The coefficients of the recurrence of λ_t are known once the forward pass is done. So
the loop holds only what is truly sequential: the coefficients of a whole chunk are
computed before it, from what the forward pass stored or by running it again, and the
chunk's gradients after it. For a cell these are two large products, accumulated in
float32 or better.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.chunks import Plan, scan_chunks, scan_steps
from jaxrnn._core.equations import total_adjoint
from jaxrnn._core.forward import scan_part
from jaxrnn._core.marks import (
    Marks,
    changes_states,
    live_only,
    over_time,
    shares,
    states_before,
    where_live,
    where_reset,
)
from jaxrnn._core.mesh import vary_alike
from jaxrnn._core.numerics import real_only, sum_dtype
from jaxrnn._core.rules import rule_of
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Transition


def linearize(
    part: Cell | Transition,
    carrier: Carrier,
    marks: Marks,
    xs: Any,
    before: Any,
    states: Any = None,
    kept: Any = None,
) -> tuple[Any, Any, Callable[..., Any]]:
    """The rule's `linearize`, with resets applied to the states before every step.

    Args:
        states, kept: stored by the forward pass, or None to be computed again.
    """
    if marks.reset is not None:
        before = where_reset(marks, over_time(carrier.restart, before), before)
    if changes_states(marks):  # the gate map's own state is gone
        states = kept = None
    return rule_of(part).linearize(part, carrier, xs, before, states, kept)


def marked(pull: Callable[..., Any]) -> Callable[..., tuple[Any, Any, Any, Any]]:
    """A rule's `pull` with lengths, resets and zoneout applied.

    Returns: (marks, coefficients, adjoint, ...) -> carry_{t-1}, the gradient of the
             state that a reset starts from (None without resets), δ_t and λ_t, both
             zero past a row's length.
    """

    def back(marks, coefficients, adjoint, *d_output):
        live = live_only(marks, adjoint)
        to_gate, past_gate = shares(marks, live)
        before, delta = pull(coefficients, to_gate, *d_output)
        if past_gate is not None:
            before = jax.tree.map(jnp.add, before, past_gate)
        before = where_live(marks, before, adjoint)  # held: s_t = s_{t-1}
        if marks.reset is None:
            return before, None, delta, live
        # At a reset, the step came from the state that it starts from.
        nothing = jax.tree.map(jnp.zeros_like, before)
        to_restart = where_reset(marks, before, nothing)
        return where_reset(marks, nothing, before), to_restart, delta, live

    return back


def gather(
    part: Cell | Transition,
    carrier: Carrier,
    marks: Marks,
    xs: Any,
    at: Any,
    deltas: Any,
    adjoints: Any,
    d_outputs: Any,
) -> tuple[Any, Any]:
    """The rule's `gather`, given every λ_t as `marked` gives it."""
    to_gate = None if adjoints is None else shares(marks, adjoints)[0]
    return rule_of(part).gather(part, carrier, xs, at, deltas, to_gate, d_outputs)


def backward(
    part: Cell | Transition,
    plan: Plan,
    carrier: Carrier,
    marks: Marks,
    xs: Any,
    left: tuple[Any, Any, Any],
    direct: Any,
    d_outputs: Any,
    final: Any,
) -> tuple[Carrier, Any]:
    """The backward pass: ∂E/∂ the carrier, and ∂E/∂xs.

    Args:
        left: the residuals of `forward`, with the same plan, carrier and marks.
        direct: g_t = ∂E/∂states, parts [T, ..., H] or None where a part has none.
        d_outputs: ∂E/∂ every step's output; None for a cell, whose output is h.
        final: ∂E/∂ the final state, parts [..., H].
    """
    params = carrier.params
    starts, states, kept = left
    keep = carrier.adjoints is not None  # whether every λ is asked for, and δ
    # What a gate map reads beside its maps, and what a step reads, is reached by λ.
    reach = keep or isinstance(part, Transition) or params.own is not None
    reach = reach or part.x_ndim is not None

    def one_chunk(carry, start, steps):
        adjoint, d_restart, sums = carry
        xs, marks, states, kept, direct, d_outputs = steps
        if plan.store == "borders":
            again = not changes_states(marks)
            _, (states, _, kept) = scan_part(
                part, plan, carrier, marks, xs, start, keep=again
            )
        before = states_before(start, states)
        at, coefficients, pull = linearize(
            part, carrier, marks, xs, before, states, kept
        )
        back = marked(pull)

        def one_step(carry, step):
            carried, d_restart = carry
            coefficients, direct, d_output, marks = step
            adjoint = total_adjoint(direct, carried)  # λ_t = g_t + carry_t
            before, to_restart, delta, live = back(
                marks, coefficients, adjoint, d_output
            )
            d_restart = jax.tree.map(jnp.add, d_restart, to_restart)
            if delta is not None and delta.r is delta.z:
                delta = delta._replace(r=None)  # so that the scan stores it once
            return (before, d_restart), (delta, live if reach else None)

        (adjoint, d_restart), (deltas, adjoints) = scan_steps(
            one_step,
            (adjoint, d_restart),
            (coefficients, direct, d_outputs, marks),
            reverse=True,
        )
        if deltas is not None and deltas.r is None:
            deltas = deltas._replace(r=deltas.z)
        new, d_xs = gather(part, carrier, marks, xs, at, deltas, adjoints, d_outputs)
        sums = jax.tree.map(jnp.add, sums, new)
        deltas = None if carrier.deltas is None else deltas
        return (adjoint, d_restart, sums), (d_xs, deltas, adjoints if keep else None)

    sums = jax.tree.map(
        lambda p: jnp.zeros(p.shape, sum_dtype(p.dtype)), real_only(params)
    )
    d_restart = None if marks.reset is None else jax.tree.map(jnp.zeros_like, final)
    # zeros made here do not vary over devices yet
    final, d_restart, sums, _ = vary_alike(final, d_restart, sums, xs)
    (d_state, d_restart, sums), (d_xs, deltas, adjoints) = scan_chunks(
        one_chunk,
        (final, d_restart, sums),
        (xs, marks, states, kept, direct, d_outputs),
        plan.chunk,
        starts=starts,
        reverse=True,
    )
    d_params = jax.tree.map(lambda p, g: g.astype(p.dtype), real_only(params), sums)
    return Carrier(d_params, d_state, d_restart, None, deltas, adjoints), d_xs

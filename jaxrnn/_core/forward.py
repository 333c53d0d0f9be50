"""The forward pass: one step with its marks, and the loop over time."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.chunks import Plan, scan_chunks, scan_steps
from jaxrnn._core.marks import (
    Marks,
    add,
    changes_states,
    mix,
    over_time,
    where_live,
    where_reset,
)
from jaxrnn._core.rules import rule_of
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Transition


def advance(
    part: Cell | Transition,
    carrier: Carrier,
    marks: Marks,
    x: Any,
    state: Any,
    *,
    ahead: bool = False,
) -> tuple[Any, Any, Any]:
    """One step with lengths and resets: the new state, the output, the kept values.

    The carrier's restart has the state's leading axes.
    """
    before = where_reset(marks, carrier.restart, state)
    step = rule_of(part).advance
    after, output, kept = step(part, carrier, x, before, ahead=ahead)
    after = add(marks, mix(marks, after, before))
    return where_live(marks, after, before), output, kept


def advance_all(
    part: Cell | Transition, carrier: Carrier, marks: Marks, xs: Any, before: Any
) -> tuple[Any, Any]:
    """All steps at once, each from a given state: the states and the outputs."""
    if carrier.restart is not None:
        carrier = carrier._replace(restart=over_time(carrier.restart, before))
    states, outputs, _ = advance(part, carrier, marks, xs, before)
    return states, states[0] if outputs is None else outputs


def scan_part(
    part: Cell | Transition,
    plan: Plan,
    carrier: Carrier,
    marks: Marks,
    xs: Any,
    state: Any,
    *,
    keep: bool,
) -> tuple[Any, tuple[Any, Any, Any]]:
    """The loop over time: the last state, and all states, outputs and kept values."""

    def one_step(state, inputs):
        x, marks = inputs
        state, output, kept = advance(part, carrier, marks, x, state, ahead=plan.ahead)
        return state, (state, output, kept if keep else None)

    xs = rule_of(part).ahead(part, carrier, xs) if plan.ahead else xs
    return scan_steps(one_step, state, (xs, marks))


def forward(
    part: Cell | Transition, plan: Plan, carrier: Carrier, marks: Marks, xs: Any
) -> tuple[Any, Any, Any, tuple[Any, Any, Any]]:
    """Run a cell or a transition.

    Returns: every state, parts [T, ..., H]; every output, None where it is the state's
             h; the last state; and the residuals of the backward pass: the state before
             each chunk's first step, every state, and what every step kept, the last
             two None where they are computed again.
    """
    run = partial(scan_part, part, plan, carrier)
    state = carrier.state
    if plan.store == "borders":

        def one_chunk(start, _, steps):
            xs, marks = steps
            final, (states, outputs, _) = run(marks, xs, start, keep=False)
            first = jax.tree.map(lambda s: s[None], start)
            return final, (first, states, outputs)

        final, (starts, states, outputs) = scan_chunks(
            one_chunk, state, (xs, marks), plan.chunk
        )
        return states, outputs, final, (starts, None, None)

    keep = plan.store == "activations" and not changes_states(marks)
    final, (states, outputs, kept) = run(marks, xs, state, keep=keep)
    starts = jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[plan.chunk - 1 : -1 : plan.chunk]]),
        state,
        states,
    )
    return states, outputs, final, (starts, states, kept)

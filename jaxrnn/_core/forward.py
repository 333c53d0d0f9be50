"""The forward pass: one step of a cell with its marks, and the loop over time."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.chunks import Plan, scan_chunks, scan_steps
from jaxrnn._core.maps import input_map, operand, recurrent_map
from jaxrnn._core.marks import Marks, mix, over_time, where_live, where_reset
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier


def advance(
    cell: Cell, carrier: Carrier, marks: Marks, z: Array, state: Any
) -> tuple[Any, Any]:
    """One step, (56), inside its lengths and resets: the new state and what is kept.

    The carrier's restart and mask have the state's leading axes.
    """
    params, mask = carrier.params, carrier.noise.mask
    before = where_reset(marks, carrier.restart, state)
    r = recurrent_map(params, operand(mask, before[0]))
    after, kept = cell.gate(params.own, z, r, before)
    return where_live(marks, mix(marks, after, before), before), kept


def advance_all(
    cell: Cell, carrier: Carrier, marks: Marks, xs: Array, before: Any
) -> Any:
    """Every step at once, each from a given state: parts [T, ..., H] -> the same."""
    if carrier.restart is not None:
        carrier = carrier._replace(restart=over_time(carrier.restart, before))
    return advance(cell, carrier, marks, input_map(carrier.params, xs), before)[0]


def scan_cell(
    cell: Cell,
    plan: Plan,
    carrier: Carrier,
    marks: Marks,
    xs: Array,
    state: Any,
    *,
    keep: bool,
) -> tuple[Any, tuple[Any, Any]]:
    """The loop over time: the last state, every state and what its gate kept."""

    def one_step(state, inputs):
        z, marks = inputs
        z = z if plan.ahead else input_map(carrier.params, z)
        state, kept = advance(cell, carrier, marks, z, state)
        return state, (state, kept if keep else None)

    zs = input_map(carrier.params, xs) if plan.ahead else xs
    return scan_steps(one_step, state, (zs, marks))


def forward(
    cell: Cell, plan: Plan, carrier: Carrier, marks: Marks, xs: Array
) -> tuple[Any, Any, tuple[Any, Any, Any]]:
    """Run the cell.

    Returns: every state, parts [T, ..., H]; the last one; and what is left for the
             backward pass: the state before each chunk's first step, every state, and
             what every gate kept, the last two None where they are computed again.
    """
    run = partial(scan_cell, cell, plan, carrier)
    state = carrier.state
    if plan.store == "borders":

        def one_chunk(start, _, steps):
            xs, marks = steps
            final, (states, _) = run(marks, xs, start, keep=False)
            return final, (jax.tree.map(lambda s: s[None], start), states)

        final, (starts, states) = scan_chunks(one_chunk, state, (xs, marks), plan.chunk)
        return states, final, (starts, None, None)

    # A gate's state is gone where a share of the one before replaced it.
    keep = plan.store == "activations" and marks.hold is None
    final, (states, kept) = run(marks, xs, state, keep=keep)
    starts = jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[plan.chunk - 1 : -1 : plan.chunk]]),
        state,
        states,
    )
    return states, final, (starts, states, kept)

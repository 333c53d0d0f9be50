"""The forward pass: the two affine maps, and a scan of the transition over time."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.chunks import Plan, scan_chunks, scan_steps
from jaxrnn.marks import Marks, mix, where_live, where_reset
from jaxrnn.numerics import add_bias


def input_map(params: Params, x: Array) -> Array:
    """z = x W_x + b, for one step or many at once: [..., D] -> [..., G·H]."""
    return add_bias(x @ params.w_x, params.b)


def recurrent_map(params: Params, h: Array) -> Array:
    """r = h W_s (+ b_s): [..., H] -> [..., G·H]."""
    return add_bias(h @ params.w_s, params.b_s)


class Fixed(NamedTuple):
    """What is the same at every step of a run, beside the parameters."""

    restart: Any  # the state that a reset puts in place; None without resets
    mask: Array | None = None  # [..., H], what h is multiplied by before W_s


def operand(fixed: Fixed, h: Array) -> Array:
    """What W_s multiplies; h of one step [..., H] or of many [T, ..., H]."""
    return h if fixed.mask is None else h * jnp.broadcast_to(fixed.mask, h.shape)


class Trace(NamedTuple):
    """What the forward pass leaves for the backward one."""

    starts: Any  # the state before each chunk's first step, the first included
    states: Any  # every state, parts [T, ..., H], or None: computed again
    kept: Any  # what every gate kept, [T, ...], or None: computed again


def scan_cell(
    cell: Cell,
    plan: Plan,
    params: Params,
    xs: Array,
    marks: Marks,
    fixed: Fixed,
    state: Any,
    *,
    keep: bool,
) -> tuple[Any, tuple[Any, Any]]:
    """The loop over time: the last state, every state and what its gate kept."""

    def one_step(state, inputs):
        z, marks = inputs
        z = z if plan.ahead else input_map(params, z)
        before = where_reset(marks, fixed.restart, state)
        r = recurrent_map(params, operand(fixed, before[0]))
        after, kept = cell.gate(params.own, z, r, before)
        state = where_live(marks, mix(marks, after, before), state)
        return state, (state, kept if keep else None)

    zs = input_map(params, xs) if plan.ahead else xs
    return scan_steps(one_step, state, (zs, marks))


def unfold(
    cell: Cell,
    plan: Plan,
    params: Params,
    xs: Array,
    marks: Marks,
    fixed: Fixed,
    state: Any,
) -> tuple[Any, Any, Trace]:
    """Run the cell: every state (parts [T, ..., H]), the last one, and the trace."""
    run = partial(scan_cell, cell, plan, params)
    if plan.store == "borders":

        def one_chunk(start, _, steps):
            xs, marks = steps
            final, (states, _) = run(xs, marks, fixed, start, keep=False)
            return final, (jax.tree.map(lambda s: s[None], start), states)

        final, (starts, states) = scan_chunks(one_chunk, state, (xs, marks), plan.chunk)
        return states, final, Trace(starts, None, None)

    # A gate's state is gone where a share of the one before replaced it.
    keep = plan.store == "activations" and marks.hold is None
    final, (states, kept) = run(xs, marks, fixed, state, keep=keep)
    starts = jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[plan.chunk - 1 : -1 : plan.chunk]]),
        state,
        states,
    )
    return states, final, Trace(starts, states, kept)


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """Inside `shard_map`, mark every array as varying over all axes that any varies on.

    A scan wants its carry to vary alike before and after a step; and the transpose of
    this cast is the sum of a replicated parameter's gradient over the devices.
    """
    axes = frozenset().union(*(_varying(a) for a in jax.tree.leaves(trees)))

    def vary(a):
        missing = tuple(axes - _varying(a))
        return lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, trees)


def _varying(a: Array) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying

"""Gradients by traces: each parameter's influence on its own unit alone.

A parameter acts directly on one unit j. With e_t its trace, one number for each part of
that unit's state, and D_t the unit's own block of the step's Jacobian,

    e_t = D_t e_{t-1} + ∂⁺s_t[j]/∂θ      ∂E_t/∂θ ≈ ∂E_t/∂s_t[j] e_t

In SnAp-1, D_t is the full influence of a unit on itself, including its diagonal element
of W_s; in e-prop only the part that does not pass through W_s; in RFLO one number.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn._core.checks import check_cell, check_number, check_side_by_side
from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import one_step
from jaxrnn._core.inputs import split
from jaxrnn._core.maps import input_map, recurrent_map
from jaxrnn._core.numerics import over_batch
from jaxrnn.cell import Cell, Params
from jaxrnn.online.record import (
    Online,
    check_start,
    make,
    sum_rows,
    zeros_by_row,
)


class Traces(NamedTuple):
    """The state, and the traces of each of its parts, leaves [..., *leaf]."""

    state: Any
    of_params: tuple[Any, ...]


def snap1(cell: Cell) -> Online:
    """SnAp-1: RTRL that keeps only the influences that a single step creates.

    Args:
        cell: an independent cell, such as `lstm()`.
    Returns: an `Online`.
    Raises:  ValueError for a cell whose gate map mixes units; TypeError for a layer.
    Source:  Menick et al. (2021), arXiv 2006.07232, §3, SnAp-1.
    """
    return _local("snap1", cell, partial(_own_blocks, recurrent=True))


def eprop(cell: Cell) -> Online:
    """Eligibility propagation: traces of what stays inside a unit, not through W_s.

    The learning signal is the true ∂E_t/∂h_t ("symmetric e-prop"); for random feedback
    pass another `cotangent`.

    Args:
        cell: an independent cell, such as `lstm()`.
    Returns: an `Online`.
    Raises:  as `snap1`.
    Source:  Bellec et al. (2020), Nature Communications 11, 3625, equations 3, 4, 13.
    """
    return _local("eprop", cell, partial(_own_blocks, recurrent=False))


def rflo(cell: Cell, decay: float) -> Online:
    """Random feedback local online learning: traces that decay by one factor.

    e_t = decay e_{t-1} + ∂⁺s_t/∂θ. For a leaky network, s_t = (1-α) s_{t-1} + α Φ(a_t),
    decay is 1-α and the traces are e-prop's. Random feedback is a choice of
    `cotangent`.

    Args:
        cell: an independent cell, such as `elman()`.
        decay: in [0, 1).
    Returns: an `Online`.
    Raises:  ValueError unless 0 <= decay < 1; as `snap1`.
    Source:  Murray (2019), eLife 8, e43299, equation 3.
    """
    check_number("decay", decay)
    if not 0 <= decay < 1:
        raise ValueError(f"decay: expected a number in [0, 1), got {decay!r}")

    def blocks(cell, params, parts):
        del cell, params
        same = jnp.full_like(parts[0].before[0], decay)
        zero = jnp.zeros_like(same)
        count = range(len(parts))
        return [[same if p == q else zero for q in count] for p in count]

    return _local("rflo", cell, blocks)


class _Part(NamedTuple):
    """The derivatives of one part of every unit's state, [H] or [G·H]."""

    z: Any
    r: Any
    before: Any
    own: Any


def _local(name: str, cell: Cell, blocks: Callable[..., Any]) -> Online:
    check_cell(cell, ": its units and its W_s are told apart; see rtrl or uoro")
    if not cell.independent:
        raise ValueError(
            f"cell: {name} expected a gate map in which each unit reads its own "
            "pre-activations and state alone; this one mixes units, or does not say "
            "that it does not (independent=True): see rtrl or uoro"
        )

    layer = as_layer(cell)

    def start(params, state, batch, x, anew):
        del x
        check_side_by_side(state)
        if anew:
            check_start(name, layer, params)
        zeros = zeros_by_row(params, batch)
        return Traces(state, tuple(zeros for _ in state))

    def advance(params, memory, batch, x, cotangent):
        after, _ = one_step(cell, params, memory.state, x)

        def of_row(state, traces, x, d_h):
            parts = _derivatives(cell, params, state, x)
            block = blocks(cell, params, parts)
            new = tuple(
                _add(
                    [_scale(d, t) for d, t in zip(row, traces, strict=True)],
                    _at_once(params, part, split(cell, x)[0], state[cell.recurrent]),
                )
                for row, part in zip(block, parts, strict=True)
            )
            return new, _scale(d_h, new[0])  # ∂E_t/∂h_t[j] e_t

        inputs = memory.state, memory.of_params, x, cotangent(after[0])
        traces, grads = over_batch(of_row, len(batch))(*inputs)
        return Traces(after, traces), sum_rows(grads, batch)

    return make(cell, start, advance)


def _derivatives(cell, params, state, x) -> list[_Part]:
    """The derivatives of each part, by one hand-made pull-back per part.

    Units are independent in the gate map, so pulling back ones gives every unit's
    derivative.
    """
    x, extra = split(cell, x)
    z = input_map(cell, params, x)
    r = recurrent_map(cell, params, state[cell.recurrent])
    new, kept = cell.gate(params.own, z, r, state, *extra)
    over_time = jax.tree.map(lambda a: a[None], (kept, state, new, *extra))
    coefficients = cell.linearize(params.own, *over_time)
    coefficients = jax.tree.map(lambda a: a[0], coefficients)
    _, pull_own = jax.vjp(
        lambda own: cell.gate(own, z, r, state, *extra)[0], params.own
    )
    found = []
    for p in range(len(state)):
        parts = (jnp.ones_like(s) if q == p else 0 * s for q, s in enumerate(state))
        ones = type(state)(*parts)
        d_z, d_r, before = cell.pullback(params.own, coefficients, ones)
        found.append(_Part(d_z, d_r, before, *pull_own(ones)))
    return found


def _own_blocks(
    cell: Cell, params: Params, parts: list[_Part], *, recurrent: bool
) -> Any:
    """D_t: ∂ each part / ∂ each part of the previous state, [H] each."""
    blocks = [list(part.before) for part in parts]
    units = len(parts[0].before[0])
    if recurrent and params.w_s.shape[1]:
        gates = params.w_s.reshape(units, -1, units)
        own = jnp.diagonal(gates, axis1=0, axis2=2)  # [G, H]: each unit on itself
        for row, part in zip(blocks, parts, strict=True):
            row[cell.recurrent] += (part.r.reshape(-1, units) * own).sum(0)
    return blocks


def _at_once(params: Params, part: _Part, x: Any, h: Any) -> Params:
    """∂⁺ of one part of every unit's state with respect to each parameter."""
    return Params(
        w_x=jnp.outer(x, part.z),
        w_s=jnp.outer(h, part.r),
        b=None if params.b is None else part.z,
        b_s=None if params.b_s is None else part.r,
        own=part.own,
    )


def _scale(row: Any, tree: Any) -> Any:
    """Multiply every leaf by one number per unit; [..., G·H] by [H]."""

    def of_leaf(a):
        wide = jnp.tile(row, a.shape[-1] // len(row))
        return a * jnp.broadcast_to(wide, a.shape)

    return jax.tree.map(of_leaf, tree)


def _add(trees: list[Any], last: Any) -> Any:
    return jax.tree.map(lambda *leaves: sum(leaves), *trees, last)

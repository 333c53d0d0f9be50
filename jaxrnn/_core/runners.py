"""Runners, which run one cell or transition forward in time.

    runner(plan, part, carrier, marks, xs) -> (outputs, states or None, final state)

`plan` holds the runner's own static choices. The carrier's gradient is a carrier, whose
deltas and adjoints are every δ_t and λ_t. Past a row's length outputs and states are
zero.
`by_hand` is the library's; `by_jax` is the same scan, differentiated by JAX. There are
more in `jaxrnn.parallel`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxrnn._core.backward import backward
from jaxrnn._core.chunks import Plan, Store, make_plan
from jaxrnn._core.forward import forward
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import Marks, held_outputs, inside_only
from jaxrnn._core.mesh import vary_alike
from jaxrnn._core.numerics import real_only
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Transition

# Cells with at least this D + H store their activations: computing one again takes
# D + H multiplications, which cost more than writing and reading it.
_WIDE = 192

# A transition's state of this many times the size of a step's input, such as a matrix
# memory, costs less to compute again than to write and read.
_LARGE = 16


def _scanned(
    rule: Callable[..., Any],
    plan: Plan,
    part: Cell | Transition,
    carrier: Carrier,
    marks: Marks,
    xs: Any,
) -> tuple[Any, Any, Any]:
    steps, *batch = axes_of(part.x_ndim, xs)
    store = _default_store(part, carrier, xs)
    plan = make_plan(plan, store, steps, math.prod(batch))
    steps = marks._replace(inside=None)
    out, final = rule(part, plan, *vary_alike(carrier, steps, xs))
    outputs, states = out
    if isinstance(part, Transition) and marks.live is not marks.inside:
        outputs = held_outputs(marks, outputs)
    outputs, states = inside_only(marks, (outputs, states))
    return states[0] if outputs is None else outputs, states, final


def _default_store(part: Cell | Transition, carrier: Carrier, xs: Any) -> Store:
    """The cheapest `store` for the backward pass."""
    if isinstance(part, Cell):
        width = carrier.params.w_x.shape[0] + carrier.params.w_s.shape[0]
        return "activations" if width >= _WIDE else "states"
    state = sum(a.size for a in jax.tree.leaves(carrier.state))
    reads = sum(math.prod(a.shape[1:]) for a in jax.tree.leaves(xs))
    return "borders" if state >= _LARGE * reads else "states"


def _run(part, plan, carrier, marks, xs):
    """Every output and every state (None if not needed, or if one holds the other), and
    the final state."""
    states, outputs, final, _ = forward(part, plan, carrier, marks, xs)
    return _asked(part, plan, states, outputs), final


def _asked(part, plan, states, outputs):
    if isinstance(part, Cell):  # its output is h, a part of its states
        return (None, states) if plan.states else (states[0], None)
    return outputs, states if plan.states else None


_run_manual = jax.custom_vjp(_run, nondiff_argnums=(0, 1))


def _forward(part, plan, carrier, marks, xs):
    states, outputs, final, left = forward(part, plan, carrier, marks, xs)
    carrier = carrier._replace(state=None)  # already among the residuals
    out = _asked(part, plan, states, outputs)
    return (out, final), (carrier, marks, xs, left)


def _backward(part, plan, residuals, cotangents):
    (d_outputs, direct), final = cotangents
    carrier, marks, xs, left = residuals
    if isinstance(part, Cell) and not plan.states:  # an error of the exposed h alone
        direct = type(final)(d_outputs, *[None] * (len(final) - 1))
        d_outputs = None
    given = map(real_only, (direct, d_outputs, final))
    d_carrier, d_xs = backward(part, plan, carrier, marks, xs, left, *given)
    return d_carrier, None, d_xs


_run_manual.defvjp(_forward, _backward)

by_hand = partial(_scanned, _run_manual)  # a scan, its gradient derived by hand
by_jax = partial(_scanned, _run)  # the same scan, its gradient JAX's own

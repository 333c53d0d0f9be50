"""Runners: how one cell is run over time, forward in time.

    runner(plan, cell, carrier, marks, xs) -> (hs, states or None, final state)

`plan` holds the runner's own static choices. The carrier's gradient is a carrier, whose
deltas and adjoints are every δ_t and λ_t. Past a row's length hs and states are zero.
`by_hand` is the library's; `by_jax` is the same scan, differentiated by JAX. There are
more in `jaxrnn.parallel`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from jax import Array

from jaxrnn._core.backward import backward
from jaxrnn._core.chunks import Plan, make_plan
from jaxrnn._core.forward import forward
from jaxrnn._core.marks import Marks, inside_only
from jaxrnn._core.mesh import vary_alike
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier


def _scanned(
    rule: Callable[..., Any],
    plan: Plan,
    cell: Cell,
    carrier: Carrier,
    marks: Marks,
    xs: Array,
) -> tuple[Any, Any, Any]:
    plan = make_plan(plan, carrier.params, xs)
    steps = marks._replace(inside=None)
    out, final = rule(cell, plan, *vary_alike(carrier, steps, xs))
    out = inside_only(marks, out)
    return (out[0], out, final) if plan.states else (out, None, final)


def _run(cell, plan, carrier, marks, xs):
    """hs, or every state, and the final one."""
    states, final, _ = forward(cell, plan, carrier, marks, xs)
    return states if plan.states else states[0], final


_run_manual = jax.custom_vjp(_run, nondiff_argnums=(0, 1))


def _forward(cell, plan, carrier, marks, xs):
    states, final, left = forward(cell, plan, carrier, marks, xs)
    carrier = carrier._replace(state=None)  # which is in what is left
    return (states if plan.states else states[0], final), (carrier, marks, xs, left)


def _backward(cell, plan, residuals, cotangents):
    direct, final = cotangents
    carrier, marks, xs, left = residuals
    if not plan.states:  # an error of the exposed h alone
        direct = type(final)(direct, *[None] * (len(final) - 1))
    d_carrier, d_xs = backward(cell, plan, carrier, marks, xs, left, direct, final)
    return d_carrier, None, d_xs


_run_manual.defvjp(_forward, _backward)

by_hand = partial(_scanned, _run_manual)  # a scan, its gradient derived by hand
by_jax = partial(_scanned, _run)  # the same scan, its gradient JAX's own

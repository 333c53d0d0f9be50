"""The one interpreter: a layer taken apart into its cells, each run by a runner."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array

from jaxrnn._core.checks import check_features
from jaxrnn._core.marks import Marks, live_only, opposite, turn
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, CellNoise, Layer

Runner = Callable[[Cell, Carrier, Marks, Array], tuple[Any, Any, Any]]


def route(
    runner: Runner,
    layer: Layer,
    carrier: Carrier,
    marks: Marks,
    xs: Array,
    *,
    reverse: bool = False,
) -> tuple[Any, Any, Any]:
    """Run a layer: its outputs, what the runner gives as states, and the final state.

    Every array outside a cell stands in the order of its inputs, whichever way its part
    runs: only the cell's own run is turned.

    Args:
        runner: runs one cell forward in time; see `runners`.
        reverse: run from the last step to the first.
    """
    if carrier.restart is None:
        carrier = carrier._replace(restart=carrier.state)
    return _apply(runner, marks, reverse, layer, carrier, live_only(marks, xs))


def _apply(runner, marks, backward, part, carrier, xs, *, reverse=False):
    if reverse:
        marks = opposite(marks, backward=backward)
        backward = not backward
    if isinstance(part, Layer):
        return part.run(partial(_apply, runner, marks, backward), carrier, xs)
    check_features("xs", carrier.params, xs)
    run = partial(_run_cell, runner, part)
    if not backward:
        return run(carrier, marks, xs)
    hs, states, final = run(_turned(carrier), turn(marks), turn(xs))
    return turn(hs), turn(states), final


def _run_cell(runner, cell, carrier, marks, xs):
    noise = carrier.noise or CellNoise()
    if noise.weights is not None:
        w_s = carrier.params.w_s * noise.weights
        carrier = carrier._replace(params=carrier.params._replace(w_s=w_s))
    carrier = carrier._replace(
        restart=None if marks.reset is None else carrier.restart,
        noise=CellNoise(mask=noise.mask),
    )
    return runner(cell, carrier, marks._replace(hold=noise.hold), xs)


def _turned(carrier: Carrier) -> Carrier:
    """What of a cell's carrier differs by step, in the other direction of time."""
    noise = carrier.noise and carrier.noise._replace(hold=turn(carrier.noise.hold))
    deltas, adjoints = turn((carrier.deltas, carrier.adjoints))
    return carrier._replace(noise=noise, deltas=deltas, adjoints=adjoints)

"""Running a layer: it is split into its cells, each run by a runner."""

from collections.abc import Callable
from functools import partial
from typing import Any

from jax import Array

from jaxrnn._core.checks import check_array
from jaxrnn._core.inputs import check_features
from jaxrnn._core.marks import Marks, inside_only, live_only, opposite, turn
from jaxrnn.cell import Cell, Params
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
    """Run a layer; return its outputs, the runner's states, and the final state.

    Every array outside a cell is in the order of the inputs, in whichever direction its
    part runs: only the cell's own run is reversed.

    Args:
        runner: runs one cell forward in time; see `runners`.
        reverse: run from the last step to the first.
    """
    apply = partial(_apply, runner, marks, reverse)
    hs, states, final = layer.run(apply, carrier, live_only(marks, xs))
    return inside_only(marks, hs), states, final


def _apply(runner, marks, backward, part, carrier, xs, *, reverse=False):
    """Run a part of a layer, against the direction of the rest if `reverse`."""
    if reverse:
        marks = opposite(marks, backward=backward)
        backward = not backward
    if isinstance(part, Layer):
        return part.run(partial(_apply, runner, marks, backward), carrier, xs)
    carrier = carrier if marks.reset is not None else carrier._replace(restart=None)
    if isinstance(part, Cell):
        check_features("xs", part, carrier.params, xs)
        carrier, marks = _at_a_cell(part, carrier, marks)
    if not backward:
        return runner(part, carrier, marks, xs)
    deltas, adjoints = turn((carrier.deltas, carrier.adjoints))
    carrier = carrier._replace(deltas=deltas, adjoints=adjoints)
    hs, states, final = runner(part, carrier, turn(marks), turn(xs))
    return turn(hs), turn(states), final


def _at_a_cell(cell: Cell, carrier: Carrier, marks: Marks) -> tuple[Carrier, Marks]:
    """The carrier and the marks for a runner: W_s masked, and in the marks what differs
    by step."""
    noise = carrier.noise or CellNoise()
    params = carrier.params
    _check_noise(noise, params, carrier.state[cell.recurrent])
    if noise.weights is not None:
        params = params._replace(w_s=params.w_s * noise.weights)
    mask = CellNoise(mask=noise.mask)
    carrier = carrier._replace(params=params, noise=mask)
    return carrier, marks._replace(hold=noise.hold, add=noise.add)


def _check_noise(noise: CellNoise, params: Params, h: Array) -> None:
    """Raise unless each part of a cell's noise has the shape of what it multiplies."""
    dtype = params.w_s.dtype
    if noise.weights is not None:
        check_array("noise.weights", noise.weights, params.w_s.shape, dtype)
    if noise.mask is not None:
        check_array("noise.mask", noise.mask, h.shape, dtype)

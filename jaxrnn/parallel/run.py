"""A layer run with every cell parallel in time, one cell after the other."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Layer
from jaxrnn.marks import turn
from jaxrnn.parallel.newton import Method, Newton, Run, solve_run
from jaxrnn.run import Start, map_starts


def run_layer(
    layer: Cell | Layer, method: Method | None, params: Any, xs: Array, starts: Any
) -> tuple[Any, Any, Any]:
    """The outputs, each cell's `Run` where its state would be, and the final state.

    A stack's cells are solved in turn, so that their Jacobians stay as small as theirs
    alone, and a linear cell's diagonal.

    Args:
        starts: a state with a `Start` for each part.
    """
    return _apply(method, layer, params, xs, starts)


def _apply(method, part, params, xs, starts, noise=None, *, reverse=False):
    if reverse:
        starts = map_starts(lambda s: s._replace(probe=turn(s.probe)), starts)
        hs, runs, final = _apply(method, part, params, turn(xs), starts, noise)
        return turn(hs), runs, final
    if isinstance(part, Layer):
        return part.run(partial(_apply, method), params, xs, starts, noise)
    if noise is not None and noise.hold is not None:
        raise ValueError(
            "cell: expected one that keeps no share of the state before (zoneout), "
            "which a run parallel in time does not take"
        )
    state, probe = (
        map_starts(lambda s, name=name: getattr(s, name), starts)
        for name in ("now", "probe")
    )
    run = solve_run(part, method, params, xs, state, probe)
    return run.states[0], run, run.final


def start_from(state: Any, probes: Any = None) -> Any:
    """A state with a `Start` for each part."""
    if probes is None:
        return jax.tree.map(lambda s: Start(s, None, None), state)
    return jax.tree.map(lambda s, p: Start(s, None, p), state, probes)


def worst(runs: Any) -> Newton:
    """How the cells' runs ended, the worst of each."""
    found = jax.tree.leaves(runs, is_leaf=lambda r: isinstance(r, Run))
    parts = zip(*(run.newton for run in found), strict=True)
    iterations, residual, converged = (jnp.stack(part) for part in parts)
    return Newton(iterations.max(), residual.max(), converged.all())

"""The forward pass parallel in time, its gradient exact."""

import math
from functools import partial
from typing import Any

import jax
from jax import Array

from jaxrnn.cell import Cell, Layer
from jaxrnn.parallel.newton import Method, Newton
from jaxrnn.parallel.run import run_layer, start_from, worst
from jaxrnn.run import check_run


def unroll(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    *,
    max_iterations: int | None = None,
    tolerance: float | None = None,
) -> tuple[Array, Any, Newton]:
    """TODO"""
    xs, state, _ = check_run(cell, params, xs, state, None, None)
    _check_method(max_iterations, tolerance)
    return _compiled(cell, Method(max_iterations, tolerance), params, xs, state)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(layer, method, params, xs, state):
    hs, runs, final = run_layer(layer, method, params, xs, start_from(state))
    return hs, final, worst(runs)


def _check_method(max_iterations: Any, tolerance: Any) -> None:
    if max_iterations is not None and (
        isinstance(max_iterations, bool)
        or not isinstance(max_iterations, int)
        or max_iterations < 1
    ):
        raise ValueError(
            "max_iterations: expected a positive integer or None, "
            f"got {max_iterations!r}"
        )
    if tolerance is not None and not (
        isinstance(tolerance, float) and math.isfinite(tolerance) and tolerance > 0
    ):
        raise ValueError(
            f"tolerance: expected a positive float or None, got {tolerance!r}"
        )

"""The forward pass parallel in time, its gradient exact."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
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
    """Run a cell or a layer over a sequence, all steps at once; compiled.

    Math:    r_t = f_t(s_{t-1}) - s_t = 0 for all t, by Newton's method: from a guess of
             every state, δ_t = J_t δ_{t-1} + r_t and s_t <- s_t + δ_t, until every
             |r_t| is within the tolerance. A linear cell (minGRU, the LRU) is solved
             at once, h_t = A_t h_{t-1} + b_t, with A_t diagonal and known.
    Shapes:  xs [T, ..., D], state parts [..., H] -> hs [T, ..., H], final state parts
             [..., H], `Newton` of three scalars.
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers`, whose cells run one after the
            other, each parallel in time; without zoneout.
        state: the state before the first step; its default is `jaxrnn.unroll`'s.
        max_iterations: of Newton's method; T by default, which is always enough but
            for rounding, since every sweep makes at least one step more exact.
        tolerance: of the residual |r_t| relative to the largest |s_t|, or to 1 where
            that is smaller; by default 64 times the rounding error of the dtype. What
            it leaves of an error in the states is up to the dynamics, as with any
            rounding: a network that forgets forgets it, a chaotic one makes it grow.
    Returns: hs, the final state, and how Newton's method ended. Where it did not
             converge, hs and the final state of that cell, all it feeds and their
             gradients are NaN: never a wrong number. A layer's `iterations` is the
             most of its cells; a linear cell's is 0.
    Raises:  ValueError or TypeError, at trace time, as `jaxrnn.unroll` does, for an
             option that is no positive number, a layer with zoneout, or a dtype
             narrower than float32.
    Gradient: exact at the solution and in reverse mode: `parallel.bptt`'s scan over
             the true Jacobians, not what autodiff makes of the iteration. Reverse mode
             can be taken again.
    Memory:  O(T B N²), N the numbers in one cell's state; O(T B N) for a linear cell.
    Cost:    a sweep is O(T B N³) work in O(log T) dependent rounds, where the loop has
             O(T B N²) in T. Measured on two CPU cores (`experiments.parallel`, float32,
             B = 1, 4 to 5 sweeps): slower than the loop at every size tried, forward by
             6 to 60 times for Elman and 2 to 25 for an LSTM of 4 or 16 units and T of
             100 to 10,000, by 1.5 to 6 for minGRU and the LRU of 64. By its arithmetic
             it wants a wide accelerator, a long sequence and a small N, a linear cell
             above all, and dynamics that forget: where they are chaotic the sweeps grow
             towards T. None was measured. Products in reduced precision (TF32) may keep
             it from its tolerance: run under `jax.default_matmul_precision("highest")`.
    Source:  Lim, Zhu, Selfridge & Kasim (2024), arXiv 2309.12252, §3 (DEER); linear:
             Blelloch (1990), "Prefix sums and their applications", §1.4; Martin & Cundy
             (2018), arXiv 1709.04057.
    Edge:    T = 0 gives empty outputs, the initial state and zero gradients.
    """
    xs, state, _ = check_run(cell, params, xs, state, None, None)
    _check_method(max_iterations, tolerance)
    if jnp.finfo(xs.dtype).bits < 32:
        raise TypeError(f"xs: expected float32 or float64, got {xs.dtype}")
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

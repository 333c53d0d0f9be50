"""The forward pass parallel in time, with an exact gradient."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import check_flag, check_positive
from jaxrnn._core.door import UNSAID, as_layer, enter
from jaxrnn._core.numerics import is_real
from jaxrnn._core.route import route
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.parallel.newton import Method, Newton, Run, by_newton


def unroll(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    resets: Any = None,
    reset_to: Any = None,
    reverse: bool = False,
    noise: Any = UNSAID,
    max_iterations: int | None = None,
    tolerance: float | None = None,
) -> tuple[Array, Any, Newton]:
    """Run a cell or a layer over a sequence, all steps at once; compiled.

    Math:    r_t = f_t(s_{t-1}) - s_t = 0 for all t, by Newton's method: from a guess of
             every state, δ_t = J_t δ_{t-1} + r_t and s_t <- s_t + δ_t, until every
             |r_t| is within the tolerance. A linear cell (minGRU, the LRU) is solved
             directly, h_t = A_t h_{t-1} + b_t, with A_t diagonal and known.
    Shapes:  xs [T, ..., D], state parts [..., H] -> hs [T, ..., H], final state parts
             [..., H], `Newton` of three scalars.
    Args:
        cell: a `Cell`, or a layer from `jaxrnn.layers`, whose cells run one after the
            other, each parallel in time.
        params, state, lengths, mask, resets, reset_to, reverse, noise: as in
            `jaxrnn.unroll`.
        max_iterations: most sweeps of Newton's method; T by default, which is always
            enough up to rounding, since every sweep makes at least one more step exact.
        tolerance: of the residual |r_t| relative to the largest |s_t|, or to 1 where
            that is smaller; by default 64 times the rounding error of the dtype. As
            with any rounding, the dynamics decide what becomes of this error: it fades
            in a network that forgets and grows in a chaotic one.
    Returns: hs, the final state, and a `Newton`. If it did not converge, hs and the
             final state of that cell, of all cells it feeds, and their gradients are
             NaN, so a wrong number is never returned. `iterations` is 0 for a linear
             cell and the largest of its cells for a layer.
    Raises:  ValueError or TypeError, at trace time, as `jaxrnn.unroll` does, for an
             option that is not a positive number, a clipped cell, or a dtype narrower
             than float32.
    Gradient: exact at the solution, in reverse mode: `parallel.bptt`'s scan over the
             true Jacobians, not autodiff through the iteration. Reverse mode can be
             taken again.
    Memory:  O(T B N²), N the size of one cell's state; O(T B N) for a linear cell.
    Cost:    O(T B N³) work per sweep in O(log T) dependent rounds; the loop does
             O(T B N²) work in T rounds. So it can pay off with a small N or a linear
             cell, a long sequence, many parallel units, as of an accelerator, and
             dynamics that forget: chaotic ones need up to T sweeps.
             `python -m experiments.parallel` measures it. Reduced precision (TF32) can
             prevent convergence: use `jax.default_matmul_precision("highest")`.
    Source:  Lim, Zhu, Selfridge & Kasim (2024), arXiv 2309.12252, §3 (DEER); linear:
             Blelloch (1990), "Prefix sums and their applications", §1.4; Martin & Cundy
             (2018), arXiv 1709.04057.
    Edge:    T = 0 gives empty outputs, the initial state and zero gradients.
    """
    check_flag("reverse", reverse)
    check_positive("max_iterations", max_iterations, optional=True)
    if tolerance is not None and not (
        isinstance(tolerance, float) and math.isfinite(tolerance) and tolerance > 0
    ):
        raise ValueError(
            f"tolerance: expected a positive float or None, got {tolerance!r}"
        )
    layer, method = as_layer(cell), Method(max_iterations, tolerance)
    edges = {"lengths": lengths, "mask": mask}
    edges |= {"resets": resets, "reset_to": reset_to}
    carrier, marks, xs = enter(layer, params, xs, state, noise=noise, **edges)
    for part in jax.tree.leaves(carrier.state):
        if not is_real(part) or jnp.finfo(part.dtype).bits < 32:
            raise TypeError(
                f"state: expected float32 or float64, got {part.dtype}, which Newton's "
                "method cannot move"
            )
    return _compiled(layer, method, reverse, carrier, marks, xs)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _compiled(layer, method, reverse, carrier, marks, xs):
    runner = partial(by_newton, method)
    hs, runs, final = route(runner, layer, carrier, marks, xs, reverse=reverse)
    return hs, final, _worst(runs)


def _worst(runs: Any) -> Newton:
    """Combine the cells' `Newton` records, taking the worst of each field."""
    found = jax.tree.leaves(runs, is_leaf=lambda r: isinstance(r, Run))
    parts = zip(*(run.newton for run in found), strict=True)
    iterations, residual, converged = (jnp.stack(part) for part in parts)
    return Newton(iterations.max(), residual.max(), converged.all())

"""Every instrument, on one run."""

import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrnn._core.door import as_layer
from jaxrnn._core.folded import size_of
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import real_only
from jaxrnn.cell import Cell
from jaxrnn.gradient_flow.decay import decay_rate, effective_horizon
from jaxrnn.gradient_flow.health import Fault, LayerHealth, plain
from jaxrnn.gradient_flow.lags import bias_and_adjoints
from jaxrnn.gradient_flow.lyapunov import lyapunov_spectrum
from jaxrnn.gradient_flow.nonfinite import first_nonfinite
from jaxrnn.gradient_flow.parts import Part, Run
from jaxrnn.gradient_flow.vitals import vitals
from jaxrnn.layer import Transition

_EXPONENTS, _ROWS = 3, 4  # how many exponents, and the rows that they are means over
_vitals = jax.jit(vitals, static_argnums=0, static_argnames="max_norm")


class Measure(NamedTuple):
    """What is measured, under which name; `clips`: whether it is made of cells."""

    name: str
    cell: Any
    run: Run
    clips: bool


def to_measure(
    cell: Any, parts: list[Part], whole: Run, backward: bool
) -> tuple[list[Measure], list[str]]:
    """What is measured, each part and the whole; and what is not, with reasons.

    Args:
        backward: whether any part runs backward in time.
    """
    found: list[Measure] = []
    left_out: list[str] = []
    for part in parts:
        name = part.name or "cell"
        if part.run is None:
            left_out.append(f"{name}: {part.why}")
        else:
            clips = isinstance(part.cell, Cell)
            found.append(Measure(name, part.cell, part.run, clips))
    if len(parts) == 1 and found:
        return found, left_out
    if backward:
        left_out.append("whole: a part runs backward, so no state follows from another")
    elif _has_gradient(parts, whole):
        clips = not any(isinstance(part.cell, Transition) for part in parts)
        found.append(Measure("whole", cell, whole, clips))
    return found, left_out


def _has_gradient(parts: list[Part], whole: Run) -> bool:
    """Whether something goes back through all of it, and as the gradient."""
    exact = (not isinstance(part.cell, Cell) or part.cell.exact for part in parts)
    return all(exact) and bool(jax.tree.leaves(real_only(whole.state)))


def measured(
    measure: Measure, lags: int, max_norm: float | None, left_out: list[str]
) -> LayerHealth:
    """Every instrument on one run; what cannot be had is added to `left_out`."""
    name, cell, run, clips = measure
    given = run.params, run.xs, run.state, run.cotangents
    errors = {"final": run.final, "lengths": run.lengths, "resets": run.resets}
    bias, adjoints = bias_and_adjoints(cell, *given, lags=lags, **errors)
    if max_norm is not None and not clips:
        left_out.append(f"{name}: clipped: only a cell's adjoints are clipped")
        max_norm = None
    found = _vitals(cell, *given, max_norm=max_norm, **errors)
    exponents = _exponents(cell, run)
    if exponents is None:
        left_out.append(f"{name}: exponents: all rows of full length have resets")
    rate = None
    if lags >= 3:
        fit = decay_rate(adjoints)
        rate = float(fit.rate), float(fit.low), float(fit.high)
    known = {
        key: None if math.isnan(value) else value
        for key, value in {
            "saturated": float(found.saturated),
            "dead": float(found.dead),
            "angle": float(found.angle),
        }.items()
    }
    deltas = plain(found.deltas)
    return LayerHealth(
        name,
        f"{cell!r:.60}",
        int(effective_horizon(adjoints)),
        rate,
        plain(adjoints),
        exponents,
        plain(bias.relative_error),
        float(found.gradient),
        None if known["dead"] is None else deltas,
        plain(found.adjoints),
        **known,
    )


def _exponents(cell: Any, run: Run) -> tuple[float, ...] | None:
    """The mean of the largest exponents over the first of the longest rows."""
    axes = axes_of(as_layer(cell).x_ndim, run.xs)
    steps, rows = axes[0], math.prod(axes[1:])
    xs = jax.tree.map(lambda a: a.reshape(steps, rows, *a.shape[len(axes) :]), run.xs)
    state = jax.tree.map(
        lambda a: a.reshape(rows, *a.shape[len(axes) - 1 :]), run.state
    )
    whole = np.ones(rows, bool)
    if run.lengths is not None:
        lengths = np.asarray(run.lengths).reshape(rows)
        steps = max(1, int(lengths.max()))
        whole = lengths == steps
    if run.resets is not None:
        resets = np.asarray(run.resets).reshape(axes[0], rows)
        whole = whole & ~resets.any(0)
    picked = np.flatnonzero(whole)[:_ROWS]
    if not len(picked):
        return None
    found = lyapunov_spectrum(
        cell,
        run.params,
        jax.tree.map(lambda a: a[:steps, picked], xs),
        jax.tree.map(lambda a: a[picked], state),
        count=min(_EXPONENTS, size_of(state, 1)),
        warmup=steps // 4,
    )
    return plain(found.mean(0))


def first_faults(cell: Any, run: Run) -> tuple[Fault, ...]:
    """Where the run and its backward pass first have NaN or inf."""
    errors = {"final": run.final, "lengths": run.lengths, "resets": run.resets}
    given = run.params, run.xs, run.state, run.cotangents
    found = first_nonfinite(cell, *given, **errors)
    paths = jax.tree_util.tree_leaves_with_path(run.state)
    names = [jax.tree_util.keystr(p, simple=True, separator=".") for p, _ in paths]
    return tuple(
        Fault(during, int(at.step), names[int(at.part)], int(at.row))
        for during, at in found._asdict().items()
        if at.step >= 0
    )

"""The gradient's health in a few numbers, inside a compiled training loop."""

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import as_array, check_number
from jaxrnn._core.door import as_layer, check_forward, enter
from jaxrnn._core.equations import Deltas
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.marks import Marks, over_time, states_before, where_live, where_reset
from jaxrnn._core.numerics import global_norm
from jaxrnn.backprop import bptt
from jaxrnn.cell import Cell
from jaxrnn.cells.clipped import clipped
from jaxrnn.gradient_flow.alignment import alignment
from jaxrnn.gradient_flow.decay import effective_horizon
from jaxrnn.gradient_flow.saturation import saturated
from jaxrnn.layer import LayerLike, Transition
from jaxrnn.model import unroll


class Vitals(NamedTuple):
    """A few numbers about one backward pass; NaN for what is not known.

    horizon: how many steps back the error at the last step is felt, an int32 scalar.
    gradient: ‖∂E/∂params‖, a scalar.
    deltas, adjoints: ‖δ_t‖ and ‖λ_t‖ at every step, over rows and units, [T].
    saturated: the share of activations, every tanh and logistic function of the step,
        that lie in their flat ends: |tanh| > 0.8, σ < 0.1 or σ > 0.9.
    dead: the share of pre-activations whose δ is zero at every step of every row, so
        that their weights do not learn; NaN without a cell.
    angle: between the gradient and the one with every λ_t clipped, in degrees; NaN
        without `max_norm`.
    """

    horizon: Array
    gradient: Array
    deltas: Array
    adjoints: Array
    saturated: Array
    dead: Array
    angle: Array


def vitals(
    cell: LayerLike,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
    max_norm: float | None = None,
    lengths: Any = None,
    resets: Any = None,
) -> Vitals:
    """Take a few numbers about the gradient, cheaply: the part of `report` for a loop.

    It works inside `jit`, `scan` and `cond`; what is not read is not computed. Noise is
    off.

        every = jax.lax.cond(step % 100 == 0, measure, keep_the_last, params, xs)

    Shapes:  xs [T, ..., D], state parts [..., H] -> scalars, and norms [T].
    Args:
        cell, params: as in `unroll`.
        cotangents, final: the errors, as in `lag_norms`.
        max_norm: θ of `clipped`, the largest norm of a row's λ_t, for the angle. By
            step, since a clip of the whole gradient's norm turns it nowhere.
        lengths, resets: as in `unroll`.
    Returns: `Vitals`. The horizon is of the error at the last step, or at each row's
             length, alone: for that one backward pass is enough.
    Cost:    a run, two backward passes, and a third with `max_norm`.
    Raises:  ValueError or TypeError, at trace time, as `lag_norms` does; for a max_norm
             that is not a positive number, or with a transition, which is not clipped.
    Source:  saturation: Karpathy, Johnson & Li (2015), arXiv 1506.02078, §4.2; for the
             others see `lag_norms`, `effective_horizon` and `clipped`.
    """
    layer = as_layer(cell)
    check_forward(layer)
    if max_norm is not None:
        check_number("max_norm", max_norm, low=0)
    if cotangents is None and final is None:
        raise ValueError("cotangents and final: expected one of them, got neither")
    edges = {"lengths": lengths, "resets": resets, "noise": None}
    carrier, marks, xs = enter(layer, params, xs, state, **edges)
    axes = axes_of(layer.x_ndim, xs)
    if axes[0] == 0:
        raise ValueError("xs: expected at least one step, got none")
    back = partial(bptt, params=params, xs=xs, state=state, final=final, **edges)
    d = back(cell, cotangents=cotangents)
    last = d if cotangents is None else back(cell, cotangents=_last(marks, cotangents))
    states, _ = unroll(cell, params, xs, state, return_states=True, **edges)
    before = states_before(carrier.state, states)
    if carrier.restart is not None:
        before = where_reset(marks, over_time(carrier.restart, before), before)
    angle = jnp.full((), jnp.nan)
    if max_norm is not None:
        turned = back(_clipped(cell, float(max_norm)), cotangents=cotangents)
        cosine = alignment(turned.params, d.params).cosine
        angle = jnp.degrees(jnp.arccos(jnp.clip(cosine, -1, 1)))
    return Vitals(
        effective_horizon(_by_lag(marks, axes, last.adjoints)),
        global_norm(d.params),
        _over_time(axes[0], d.deltas),
        _over_time(axes[0], d.adjoints),
        saturated(cell, params, xs, before, marks.live, len(axes)),
        _dead(d.deltas),
        angle,
    )


def _last(marks: Marks, cotangents: Any) -> Any:
    """The errors of each row's last step alone."""

    def only(a):
        a = as_array("cotangents", a)
        if marks.live is None:
            return jnp.zeros_like(a).at[-1].set(a[-1])
        ends = marks.live & ~jnp.concatenate([marks.live[1:], marks.live[:1] & False])
        return where_live(Marks(ends), a, jnp.zeros_like(a))

    return jax.tree.map(only, cotangents)


def _by_lag(marks: Marks, axes: tuple[int, ...], adjoints: Any) -> Array:
    """‖λ‖ over all rows by the steps before each row's last one, [T]."""
    steps = axes[0]

    def by_row(a):
        return a.reshape(steps, -1, *a.shape[len(axes) :])

    norms = jax.vmap(jax.vmap(global_norm))(jax.tree.map(by_row, adjoints))
    lags = jnp.arange(steps).reshape(-1, 1)
    ends = jnp.full((1, norms.shape[1]), steps)
    if marks.live is not None:
        ends = marks.live.reshape(norms.shape).sum(0, keepdims=True)
    at = ends - 1 - lags
    norms = jnp.take_along_axis(norms, jnp.maximum(at, 0), axis=0)
    return jax.vmap(global_norm)(jnp.where(at >= 0, norms, 0))


def _over_time(steps: int, values: Any) -> Array:
    """The norm at every step, [T]; NaN if there are no values."""
    if not jax.tree.leaves(values):
        return jnp.full(steps, jnp.nan)
    return jax.vmap(global_norm)(values)


def _dead(deltas: Any) -> Array:
    """The share of the columns of δz that are zero everywhere."""
    found = jax.tree.leaves(deltas, is_leaf=lambda d: isinstance(d, Deltas))
    if not found:
        return jnp.full((), jnp.nan)
    zero = [(d.z == 0).all(tuple(range(d.z.ndim - 1))) for d in found]
    return jnp.concatenate(zero).mean()


@cache
def _clipped(part: LayerLike, max_norm: float) -> LayerLike:
    """A layer whose cells are all clipped."""
    if isinstance(part, Cell):
        return clipped(part, max_norm)
    if isinstance(part, Transition):
        raise TypeError(
            "max_norm: expected None, since only cells are clipped, and this is, or "
            f"holds, a transition; got {max_norm}"
        )

    def run(apply, carrier, xs):
        def clip(inner, carrier, xs, **options):
            return apply(_clipped(inner, max_norm), carrier, xs, **options)

        return part.run(clip, carrier, xs)

    return part._replace(run=run)

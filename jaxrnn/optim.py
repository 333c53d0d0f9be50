"""Updates for recurrent networks: accumulate M gradients, clip their mean; on Optax.

    δ_ij = (1/M) Σ_{k=1..M} δ_ij_k                                    (61)
    if ‖g‖ ≥ threshold:  g ← (threshold / ‖g‖) g                      Algorithm 1

The mean is clipped, not its parts. Source: the seed's equation 61; Pascanu, Mikolov &
Bengio (2013), arXiv 1211.5063, Algorithm 1.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxrnn._core.checks import as_arrays, check_flag, check_number, check_positive
from jaxrnn._core.numerics import global_norm as _norm
from jaxrnn._core.numerics import sum_dtype, widen
from jaxrnn._core.updates import (
    check_optimizer,
    check_state,
    read_flush,
    read_gradients,
    read_weight,
)


class ClipState(NamedTuple):
    """`norm` before clipping (float32), updates `clipped` and `seen` (int32)."""

    norm: Array
    clipped: Array
    seen: Array


class AccumulateState(NamedTuple):
    """A window of gradients.

    `mean` is the weighted mean so far, float32 or better; `weight` its total weight;
    `count` the gradients in it; `updates` and `skipped` count over the whole run.
    """

    mean: Any
    weight: Array
    count: Array
    updates: Array
    skipped: Array
    inner: Any


def _count() -> Array:
    return jnp.zeros((), jnp.int32)  # one buffer each: a shared one cannot be donated


def _one(condition: Array) -> Array:
    return condition.astype(jnp.int32)


def global_norm(tree: Any) -> Array:
    """The 2-norm over all leaves, in float32 or better whatever their dtypes.

    Scaled by the largest element, so that no square over- or underflows. NaN or inf
    in any leaf gives NaN or inf.

    Raises:  TypeError or ValueError for a leaf that is no floating array.
    """
    return _norm(as_arrays("tree", tree, floats=True))


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """Algorithm 1, with the norm that it saw kept in its state.

    Math:    g ← g · threshold/‖g‖ if ‖g‖ ≥ threshold
    Raises:  TypeError unless the threshold is a number, ValueError unless positive;
             `update`, for updates that are no floating arrays, or another's state.
    Edge:    the norm is taken in float32 whatever the leaves, so that float16 neither
             overflows to a zero update nor underflows; a non-finite norm makes every
             leaf non-finite (`accumulate` skips such gradients before they come here).
    Source:  Pascanu et al. (2013), Algorithm 1. Unlike `optax.clip_by_global_norm`,
             it holds the norm, and takes it in float32.
    """
    check_number("threshold", threshold, low=0)

    def init(params):
        del params
        return ClipState(jnp.zeros((), jnp.float32), _count(), _count())

    def update(updates, state, params=None):
        del params
        check_state(state, ClipState)
        updates = as_arrays("updates", updates, floats=True)
        norm = _norm(updates)
        clips = ~(norm < threshold)  # so that NaN is not taken for small
        ratio = threshold / norm
        # A ratio of 0, from a norm of inf, would be a silent zero update.
        scale = jnp.where(clips, jnp.where(ratio > 0, ratio, jnp.nan), 1)
        updates = jax.tree.map(
            lambda g: (widen(g) * scale.astype(sum_dtype(g.dtype))).astype(g.dtype),
            updates,
        )
        return updates, ClipState(
            norm.astype(jnp.float32), state.clipped + _one(clips), state.seen + 1
        )

    return optax.GradientTransformation(init, update)


def accumulate(
    optimizer: optax.GradientTransformation, steps: int, *, skip_nonfinite: bool = True
) -> optax.GradientTransformationExtraArgs:
    """Average `steps` gradients before one update of `optimizer`.

    Math:    (61) g = (1/M) Σ_k g_k; with weights, g = Σ_k w_k g_k / Σ_k w_k

    `update(gradients, state, params, *, weight=1.0, flush=False)` gives zeros until the
    window is full. `weight` is how many terms the gradient is a mean over (its tokens,
    its rows), so that the mean of unequal parts is the mean of the whole. `flush=True`
    closes the window early: the last, partial one. Both may be traced.

    Args:
        skip_nonfinite: leave everything untouched when a gradient or weight holds NaN
            or inf, when the mean with it or that mean's norm overflows, or when the
            weight is negative; count it in `skipped`, and go on with the window.
    Raises:  ValueError unless `steps` is a positive integer, TypeError for another
             optimizer or flag; `update`, for gradients that are not as the params, a
             weight that is no number or is known to be negative, a flush that is no
             boolean, or another's state.
    Edge:    a window whose weights are all zero makes no update.
    Source:  the seed's equation 61. `optax.MultiSteps` has no weights and no flush, and
             runs the optimiser at every step on a mean rounded to the gradients' dtype;
             here the mean stays in float32 and the optimiser runs once a window.
    """
    check_positive("steps", steps)
    check_flag("skip_nonfinite", skip_nonfinite)
    check_optimizer(optimizer)
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params):
        return AccumulateState(
            mean=jax.tree.map(lambda p: jnp.zeros_like(widen(p)), params),
            weight=jnp.zeros((), jnp.float32),
            count=_count(),
            updates=_count(),
            skipped=_count(),
            inner=optimizer.init(params),
        )

    def update(updates, state, params=None, *, weight=1.0, flush=False, **extra):
        weight, flush = read_weight(weight), read_flush(flush)
        check_state(state, AccumulateState)
        updates = read_gradients(updates, state.mean)
        total = state.weight + weight

        def add(mean, g):  # the running mean: m + (g - m) w/Σw
            share = weight.astype(mean.dtype) / total.astype(mean.dtype)
            moved = mean + (widen(g) - mean) * share
            return jnp.where(total > 0, moved, mean)

        moved = jax.tree.map(add, state.mean, updates)
        accept = jnp.array(True)
        if skip_nonfinite:
            leaves = [total, _norm(moved), *jax.tree.leaves(updates)]
            finite = jnp.stack([jnp.isfinite(a).all() for a in leaves]).all()
            accept = finite & (weight >= 0)
        mean = jax.tree.map(partial(jnp.where, accept), moved, state.mean)
        total = jnp.where(accept, total, state.weight)
        count = state.count + _one(accept)
        closes = (count == steps) | (flush & (count > 0))

        def apply(_):
            gradient = _like(mean, updates)
            out, inner = optimizer.update(gradient, state.inner, params, **extra)
            return _like(out, updates), inner

        def wait(_):
            return jax.tree.map(jnp.zeros_like, updates), state.inner

        emits = closes & (total > 0)
        out, inner = lax.cond(emits, apply, wait, None)
        keep = ~closes
        return out, AccumulateState(
            mean=jax.tree.map(lambda m: jnp.where(keep, m, 0), mean),
            weight=jnp.where(keep, total, 0),
            count=jnp.where(keep, count, 0),
            updates=state.updates + _one(emits),
            skipped=state.skipped + _one(~accept),
            inner=inner,
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _like(tree: Any, reference: Any) -> Any:
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, reference)


def flush(
    optimizer: optax.GradientTransformationExtraArgs, state: Any, params: Any
) -> tuple[Any, Any]:
    """Close the partial window that is left when the data ends: (updates, state).

    Zeros where the window is empty.

    Raises:  TypeError unless the optimizer is one of `accumulate` or `recurrent`.
    """
    if not isinstance(state, AccumulateState):
        raise TypeError(
            "state: expected that of accumulate(...) or recurrent(...), which alone "
            f"have a window to close, got {type(state).__name__}"
        )
    check_optimizer(optimizer)
    if not isinstance(jax.eval_shape(optimizer.init, params), AccumulateState):
        raise TypeError(
            "optimizer: expected that of accumulate(...) or recurrent(...), got one "
            "without a window"
        )
    zeros = jax.tree.map(jnp.zeros_like, params)
    return optimizer.update(zeros, state, params, weight=0.0, flush=True)


def recurrent(
    optimizer: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    clip_norm: float | None = None,
    skip_nonfinite: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """The whole chain in the right order: accumulate, clip the mean, update.

    Args:
        optimizer: any Optax optimiser.
        accumulate: M of equation 61.
        clip_norm: the threshold of Algorithm 1, or None for no clipping.
        skip_nonfinite: as in `accumulate`.
    Raises:  as `accumulate` and `clip_by_global_norm`.
    """
    check_optimizer(optimizer)
    check_positive("accumulate", accumulate)
    inner = optimizer
    if clip_norm is not None:
        check_number("clip_norm", clip_norm, low=0)
        inner = optax.chain(clip_by_global_norm(clip_norm), optimizer)
    return _accumulate(inner, accumulate, skip_nonfinite=skip_nonfinite)


_accumulate = accumulate  # `recurrent` has an argument of that name

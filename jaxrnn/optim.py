"""Optax updates for recurrent networks: accumulate M gradients, clip their mean.

    δ_ij = (1/M) Σ_{k=1..M} δ_ij_k                                    (61)
    if ‖g‖ ≥ threshold:  g ← (threshold / ‖g‖) g                      Algorithm 1

The mean is clipped, not each gradient. Source: the seed's equation 61; Pascanu, Mikolov
& Bengio (2013), arXiv 1211.5063, Algorithm 1.
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
    """Three scalars: the last `norm` before clipping, updates `clipped` and `seen`."""

    norm: Array
    clipped: Array
    seen: Array


class AccumulateState(NamedTuple):
    """A window of gradients.

    mean: the weighted mean so far, in float32 or better.
    weight, count: scalars, its total weight and the number of gradients in it.
    updates, skipped: scalars, counts over the whole run.
    inner: the optimiser's state.
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
    """The 2-norm over all leaves, in float32 or better for any dtype.

    It is scaled by the largest element, so that no square over- or underflows. NaN or
    inf in any leaf gives NaN or inf.

    Args:
        tree: a pytree of floating arrays [...].
    Returns: a scalar.
    Raises:  TypeError or ValueError if a leaf is not a floating array.
    """
    return _norm(as_arrays("tree", tree, floats=True))


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """Clip by the global norm, as in Algorithm 1, and keep the norm in the state.

    Math:    g ← g · threshold/‖g‖ if ‖g‖ ≥ threshold
    Returns: an Optax transformation with a `ClipState`.
    Raises:  TypeError if the threshold is not a number, ValueError if not positive;
             `update`, if updates are not floating arrays, or the state is another's.
    Edge:    the norm is taken in float32 for any dtype, so that float16 neither
             overflows to a zero update nor underflows; a non-finite norm makes every
             leaf non-finite (`accumulate` skips such gradients before).
    Source:  Pascanu et al. (2013), Algorithm 1. Unlike `optax.clip_by_global_norm`,
             it keeps the norm, and takes it in float32.
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

    `update(gradients, state, params, *, weight=1.0, flush=False)` returns zeros until
    the window is full. `weight` is the number of terms that the gradient averages
    (tokens, rows), so that the mean of unequal parts is the mean of the whole.
    `flush=True` closes the window early. Both may be traced.

    Args:
        optimizer: any Optax optimiser.
        steps: M.
        skip_nonfinite: ignore a gradient if it or its weight is NaN or inf, if the
            mean with it or that mean's norm overflows, or if the weight is negative;
            it is counted in `skipped`, and the window goes on.
    Returns: an Optax transformation with an `AccumulateState`.
    Raises:  ValueError unless `steps` is a positive integer, TypeError for an invalid
             optimizer or flag; `update`, for gradients that are not like the params, a
             weight that is not a number or is known to be negative, a flush that is not
             a boolean, or a state of another optimiser.
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
    """Close the partial window that is left when the data ends.

    Args:
        optimizer, state: from `accumulate` or `recurrent`.
        params: the parameters, a pytree of arrays [...].
    Returns: (updates, state); the updates are zeros if the window is empty.
    Raises:  TypeError if the state is not one of `accumulate` or `recurrent`.
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
    """Chain the steps in the right order: accumulate, clip the mean, update.

    Args:
        optimizer: any Optax optimiser.
        accumulate: M of equation 61.
        clip_norm: the threshold of Algorithm 1; None does not clip.
        skip_nonfinite: as in `accumulate`.
    Returns: an Optax transformation, whose `update` is that of `accumulate`.
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

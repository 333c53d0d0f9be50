"""Error functions: their values, their slopes by hand, and each step's share."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.core import Tracer

from jaxrnn._core.checks import as_array, as_arrays, check_array, check_shape
from jaxrnn._core.marks import Marks, live_only


class Error(NamedTuple):
    """The error of one step."""

    value: Callable[[Array, Array], Array]  # ys [..., O], targets -> [...]
    slope: Callable[[Array, Array], Array]  # ∂/∂ys of it, [..., O]
    integer_targets: bool = False
    any_targets: bool = False
    high: Callable[[int], int] | None = None  # of O outputs: targets are in 0..high


def _one_hot(labels: Array, ys: Array) -> Array:
    return jax.nn.one_hot(labels, ys.shape[-1], dtype=ys.dtype)


ERRORS = {
    # E = Σ_o (d - y)², without the ½                       ∂E/∂y = 2(y - d)
    "squared": Error(
        lambda ys, d: optax.losses.squared_error(ys, d).sum(-1),
        lambda ys, d: 2 * (ys - d),
    ),
    # E = -log softmax(y)_d                                 ∂E/∂y = softmax(y) - 1_d
    "softmax_cross_entropy": Error(
        optax.losses.softmax_cross_entropy_with_integer_labels,
        lambda ys, d: jax.nn.softmax(ys) - _one_hot(d, ys),
        integer_targets=True,
        high=lambda outputs: outputs - 1,
    ),
    # E = -Σ_o d log σ(y) + (1-d) log(1-σ(y))               ∂E/∂y = σ(y) - d
    "sigmoid_cross_entropy": Error(
        lambda ys, d: optax.losses.sigmoid_binary_cross_entropy(ys, d).sum(-1),
        lambda ys, d: jax.nn.sigmoid(ys) - d,
        high=lambda outputs: 1,
    ),
}


def by_function(f: Callable[[Array, Array], Array]) -> Error:
    """The error of one step by the caller's function, differentiated by JAX."""

    def value(ys, d):
        found = f(ys, d)
        if jnp.shape(found) != ys.shape[:-1]:
            raise ValueError(
                f"error: expected a function of ys {ys.shape} and targets that gives "
                f"one number a step, shape {ys.shape[:-1]}, got {jnp.shape(found)}"
            )
        return found

    def slope(ys, d):
        found, pull = jax.vjp(lambda ys: value(ys, d), ys)
        return pull(jnp.ones_like(found))[0]

    return Error(value, slope, any_targets=True)


def read_targets(
    error: Error, ys: Any, targets: Any, weights: Any, marks: Marks
) -> tuple[Any, Array]:
    """The targets, zero past each row's length, and each step's share of E, [T, ...].

    ys: an array, or its shape and dtype. A share is w / Σw, and zero where all weights
    are; NaN where a label that counts is outside its range.

    Raises:  TypeError or ValueError for targets or weights of another kind, shape or
             dtype; ValueError for labels, or targets of the sigmoid, that are known,
             count and are out of range.
    """
    read = _targets(error, ys, targets)
    shares = shares_of(ys, weights, marks)
    _check_range(error, ys.shape[-1], targets, weights, marks)
    if error.integer_targets:
        wide = jnp.int64 if read.dtype.itemsize == 8 else jnp.int32
        labels = read.astype(wide)
        wrong = (labels < 0) | (labels >= ys.shape[-1])
        shares = jnp.where(wrong & (shares != 0), jnp.nan, shares)
        read = jnp.where(wrong, 0, labels)
    return live_only(Marks(marks.live), read), shares


def _targets(error: Error, ys: Any, targets: Any) -> Any:
    """The targets as arrays, unless they are wrong whatever their values."""
    steps = ys.shape[:-1]
    if error.any_targets:
        targets = as_arrays("targets", targets)
        for leaf in jax.tree.leaves(targets):
            if leaf.shape[: len(steps)] != steps:
                raise ValueError(
                    f"targets: expected shape {steps} + ..., got {leaf.shape}"
                )
        return targets
    targets = as_array("targets", targets)
    if not error.integer_targets:
        check_array("targets", targets, ys.shape, ys.dtype)
    else:
        check_shape("targets", targets, steps)
        if not jnp.issubdtype(targets.dtype, jnp.integer):
            raise TypeError(f"targets: expected integer labels, got {targets.dtype}")
    return targets


def _check_range(
    error: Error, size: int, targets: Any, weights: Any, marks: Marks
) -> None:
    """Raise for targets that are known, count, and are out of range."""
    known = not any(isinstance(a, Tracer) for a in (targets, weights, marks.live))
    if error.high is None or not known or not targets.size:
        return
    values = np.asarray(targets)
    counts = np.ones(values.shape, bool)
    for mask in (weights, marks.live):
        if mask is not None:
            mask = np.asarray(mask) != 0
            counts &= mask.reshape(mask.shape + (1,) * (values.ndim - mask.ndim))
    high = error.high(size)
    if (counts & ((values < 0) | (values > high))).any():
        least, most = values[counts].min(), values[counts].max()
        raise ValueError(
            f"targets: expected values in 0..{high} wherever a step counts (its weight "
            f"is not 0), got {least}..{most}"
        )


def shares_of(ys: Any, weights: Any, marks: Marks) -> Array:
    """Each step's share of E, [T, ...]: w / Σw, and zero where all weights are."""
    shape = ys.shape[:-1]
    if weights is None and marks.live is None:
        return jnp.full(shape, 1 / max(1, math.prod(shape)), ys.dtype)
    weights = jnp.ones(shape, ys.dtype) if weights is None else weights
    weights = as_array("weights", weights)
    if jnp.issubdtype(weights.dtype, jnp.integer) or weights.dtype == bool:
        weights = weights.astype(ys.dtype)  # such as a mask
    check_array("weights", weights, shape, ys.dtype)
    inside = live_only(marks, weights[..., None])[..., 0]
    total = inside.sum()
    return inside / jnp.where(total == 0, 1, total)

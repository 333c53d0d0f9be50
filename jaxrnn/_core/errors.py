"""Errors of a network: their values, their slopes by hand, and each step's share."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn._core.marks import Marks, live_only


class Error(NamedTuple):
    """The error of one step."""

    value: Callable[[Array, Array], Array]  # ys [..., O], targets -> [...]
    slope: Callable[[Array, Array], Array]  # ∂/∂ys of it, [..., O]
    integer_targets: bool = False


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
    ),
    # E = -Σ_o d log σ(y) + (1-d) log(1-σ(y))               ∂E/∂y = σ(y) - d
    "sigmoid_cross_entropy": Error(
        lambda ys, d: optax.losses.sigmoid_binary_cross_entropy(ys, d).sum(-1),
        lambda ys, d: jax.nn.sigmoid(ys) - d,
    ),
}


def read_targets(error: Error, ys: Array, targets: Array, marks: Marks) -> Array:
    """The targets, zero past each row's length, whatever stood there; or an error."""
    shape = ys.shape[:-1] if error.integer_targets else ys.shape
    if targets.shape != shape:
        raise ValueError(f"targets: expected shape {shape}, got {targets.shape}")
    if error.integer_targets and not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets: expected integer labels, got {targets.dtype}")
    if not error.integer_targets and targets.dtype != ys.dtype:
        raise TypeError(f"targets: expected {ys.dtype}, got {targets.dtype}")
    if error.integer_targets:
        return live_only(marks, targets[..., None])[..., 0]
    return live_only(marks, targets)


def shares_of(ys: Array, weights: Array | None, marks: Marks) -> Array:
    """Each step's share of E, [T, ...]: w / Σw, and zero where all weights are."""
    shape = ys.shape[:-1]
    if weights is None and marks.live is None:
        return jnp.full(shape, 1 / max(1, ys[..., 0].size), ys.dtype)
    if weights is None:
        weights = jnp.ones(shape, ys.dtype)
    if weights.shape != shape:
        raise ValueError(f"weights: expected shape {shape}, got {weights.shape}")
    if weights.dtype != ys.dtype:
        raise TypeError(f"weights: expected {ys.dtype}, got {weights.dtype}")
    inside = live_only(marks, weights[..., None])[..., 0]
    total = inside.sum()
    return inside / jnp.where(total == 0, 1, total)

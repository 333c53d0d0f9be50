"""The output map, equation 57: y_t = s_t W_y, or y_t = σ(s_t W_y)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn.numerics import add_bias


class ReadoutParams(NamedTuple):
    """w_y [H, O], b_y [O] or None."""

    w_y: Array
    b_y: Array | None = None


class _Output(NamedTuple):
    sigma: Callable[[Array], Array]  # σ(a)
    slope: Callable[[Array], Array]  # σ'(a), in terms of y = σ(a)


_OUTPUTS = {
    None: _Output(lambda a: a, jnp.ones_like),
    "sigmoid": _Output(jax.nn.sigmoid, lambda y: y * (1 - y)),
    "tanh": _Output(jnp.tanh, lambda y: 1 - y * y),
}


def check_output(name: str, activation: str | None) -> None:
    """Raise ValueError, naming the argument, for an unknown σ."""
    if activation not in _OUTPUTS:
        raise ValueError(
            f"{name}: expected None, 'sigmoid' or 'tanh', got {activation!r}"
        )


def init_readout(
    key: Array,
    hidden_size: int,
    output_size: int,
    *,
    bias: bool = True,
    dtype: DTypeLike = jnp.float32,
) -> ReadoutParams:
    """Draw W_y by variance scaling (LeCun et al. 1998, §4.6); the bias is zeros."""
    if output_size < 1:
        raise ValueError(f"output_size: expected a positive integer, got {output_size}")
    draw = jax.nn.initializers.lecun_normal()
    w_y = draw(key, (hidden_size, output_size), jnp.float32).astype(dtype)
    return ReadoutParams(w_y, jnp.zeros(output_size, dtype) if bias else None)


def readout(params: ReadoutParams, hs: Array, activation: str | None = None) -> Array:
    """The output of every step.

    Math:    (57) y_t = s_t W_y (+ b_y), or y_t = σ(s_t W_y (+ b_y))
    Shapes:  hs [..., H] -> ys [..., O].
    Args:
        activation: None (linear), "sigmoid" or "tanh".
    Raises:  ValueError for another activation or if hs has not W_y's H features.
    """
    check_output("activation", activation)
    if hs.ndim < 1 or hs.shape[-1] != params.w_y.shape[0]:
        raise ValueError(
            f"hs: expected shape [..., {params.w_y.shape[0]}], got {hs.shape}"
        )
    return _OUTPUTS[activation].sigma(add_bias(hs @ params.w_y, params.b_y))


def output_slope(ys: Array, activation: str | None) -> Array:
    """σ'(a) of every output, in terms of y = σ(a)."""
    return _OUTPUTS[activation].slope(ys)

"""What chance does to a layer, drawn before the run; and what is a layer at all."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from jaxrnn.cell import Cell, Layer


def draw_noise(
    key: Array, layer: Cell | Layer, params: Any, xs: Array | jax.ShapeDtypeStruct
) -> Any:
    """Draw what chance does in one run over inputs like xs, for `unroll(noise=...)`.

    Shapes:  xs [T, ..., D], of which the shape and dtype are read.
    Returns: a pytree of masks, or None for what has no chance in it, as a cell.
    """
    return None if isinstance(layer, Cell) else layer.noise(key, params, xs)


def draw_mask(key: Array, rate: float, shape: Sequence[int], like: Array) -> Any:
    """A mask of zeros and 1/(1-rate), so that the mean is 1; None at rate 0."""
    if rate == 0:
        return None
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return keep.astype(like.dtype) / (1 - rate)


def check_rate(name: str, rate: Any) -> None:
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"{name}: expected a rate in [0, 1), got {rate!r}")


def check_layer(name: str, layer: Any) -> None:
    if not isinstance(layer, Cell | Layer):
        raise TypeError(
            f"{name}: expected a Cell or a Layer, such as lstm() or stack(lstm(), "
            f"lstm()), got {type(layer).__name__}"
        )


def check_parts(name: str, value: Any, wanted: type, parts: int) -> None:
    if not isinstance(value, wanted) or len(value) != parts:
        got = f"{type(value).__name__}"
        got += f" of {len(value)}" if isinstance(value, tuple) else ""
        raise TypeError(f"{name}: expected a {wanted.__name__} of {parts}, got {got}")

"""Drawing a layer's noise before a run."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import Array

from jaxrnn._core.door import as_layer
from jaxrnn._core.inputs import axes_of, read_inputs
from jaxrnn._core.sizes import check_key
from jaxrnn.layer import LayerLike


def draw_noise(
    key: Array, layer: LayerLike, params: Any, xs: Array | jax.ShapeDtypeStruct
) -> Any:
    """Draw the noise of one run over inputs like xs, for `unroll(noise=...)`.

    Args:
        key: a random key.
        layer, params: a layer, such as `noisy(lstm(), state=0.1)`, and its params.
        xs: inputs [T, ..., D], or a pytree of arrays; only shapes and dtypes are read.
    Returns: a pytree of masks; None for a layer without noise, such as a cell.
    Raises:  ValueError or TypeError for an invalid key, or params or xs that do not fit
             the layer.
    """
    check_key(key)
    layer = as_layer(layer, "layer")
    if any(isinstance(a, jax.ShapeDtypeStruct) for a in jax.tree.leaves(xs)):
        axes = axes_of(layer.x_ndim, xs)
    else:
        xs, axes = read_inputs(layer.x_ndim, xs)
    if not axes:
        raise ValueError(
            "xs: expected the inputs of a run, [T, ..., D], got one step's"
        )
    jax.eval_shape(lambda: layer.initial_state(params, axes[1:]))
    return layer.noise(key, params, xs)


def draw_mask(key: Array, rate: float, shape: Sequence[int], like: Array) -> Any:
    """Draw a mask of zeros and 1/(1-rate), whose mean is 1; None at rate 0."""
    if rate == 0:
        return None
    keep = jax.random.bernoulli(key, 1 - rate, shape)
    return keep.astype(like.dtype) / (1 - rate)


def check_rate(name: str, rate: Any) -> None:
    if not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ValueError(f"{name}: expected a rate in [0, 1), got {rate!r}")

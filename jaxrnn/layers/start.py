"""A layer whose initial state is learned."""

from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, Layer, output_features
from jaxrnn.layers.noise import check_layer, check_parts, draw_noise


class Learned(NamedTuple):
    """A layer's parameters, and its learned initial state, parts [H]."""

    layer: Any
    start: Any


@lru_cache(typed=True)
def learned_start(layer: Cell | Layer) -> Layer:
    """A layer whose initial state is learned: its params are `Learned(layer, start)`.

    The start is the layer's own at first (zeros for a cell), one for all rows; it is
    what a run without a given state begins with, and its gradient is the rows' sum.
    """
    check_layer("layer", layer)

    def init(key, input_size, hidden_size, **options):
        params = layer.init(key, input_size, hidden_size, **options)
        return Learned(params, layer.initial_state(params))

    def initial_state(params, batch_shape=()):
        check_parts("params", params, Learned, 2)
        return jax.tree.map(
            lambda s: jnp.broadcast_to(s, (*batch_shape, *s.shape)), params.start
        )

    def noise(key, params, xs):
        return draw_noise(key, layer, params.layer, xs)

    def run(apply, params, xs, state, noise):
        return apply(layer, params.layer, xs, state, noise)

    def output_size(params):
        return output_features(layer, params.layer)

    return Layer(init, initial_state, output_size, noise, run)

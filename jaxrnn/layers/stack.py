"""Layers one above the other."""

from functools import lru_cache
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn.cell import Cell, Layer, output_features
from jaxrnn.layers.noise import (
    check_layer,
    check_parts,
    check_rate,
    draw_mask,
    draw_noise,
)

Skip = Literal["residual", "input"]


class StackNoise(NamedTuple):
    """Of each layer of a stack, and the masks [T, ..., H] between them."""

    layers: tuple
    between: tuple


@lru_cache(typed=True)
def stack(
    *layers: Cell | Layer, skip: Skip | None = None, dropout: float = 0.0
) -> Layer:
    """Layers one above the other, each reading the outputs of the one below.

    Its params and its state are tuples of the layers'; all have `hidden_size` units.

    Args:
        layers: cells or layers, the one that reads xs first.
        skip: "residual", to every layer's outputs but the first one's its inputs are
            added; "input", every layer but the first reads xs beside the outputs
            below; None.
        dropout: the rate at which outputs are dropped between the layers, at every
            step anew, in a run with noise.
    Raises:  TypeError or ValueError for what is no layer, none at all, an unknown skip
             or a rate outside [0, 1).
    Source:  "input": Graves (2013), arXiv 1308.0850, §2; dropout: Zaremba, Sutskever &
             Vinyals (2014), arXiv 1409.2329, equation 4ff.
    """
    if not layers:
        raise ValueError("layers: expected one or more, got none")
    for i, layer in enumerate(layers):
        check_layer(f"layers[{i}]", layer)
    if skip not in (None, "residual", "input"):
        raise ValueError(f"skip: expected 'residual', 'input' or None, got {skip!r}")
    check_rate("dropout", dropout)
    count = len(layers)

    def init(key, input_size, hidden_size, **options):
        params, width = [], input_size
        for layer, k in zip(layers, jax.random.split(key, count), strict=True):
            below = width + input_size if params and skip == "input" else width
            params.append(layer.init(k, below, hidden_size, **options))
            width = output_features(layer, params[-1])
        return tuple(params)

    def initial_state(params, batch_shape=()):
        check_parts("params", params, tuple, count)
        pairs = zip(layers, params, strict=True)
        return tuple(layer.initial_state(p, batch_shape) for layer, p in pairs)

    def noise(key, params, xs):
        inside, between, below = [], [], xs
        for i, layer in enumerate(layers):
            k_inside, k_between = jax.random.split(jax.random.fold_in(key, i))
            inside.append(draw_noise(k_inside, layer, params[i], below))
            width = output_features(layer, params[i])
            shape = (*xs.shape[:-1], width)
            if i + 1 < count:
                between.append(draw_mask(k_between, dropout, shape, xs))
                reads = width + xs.shape[-1] * (skip == "input")
                below = jax.ShapeDtypeStruct((*xs.shape[:-1], reads), xs.dtype)
        return StackNoise(tuple(inside), tuple(between))

    def run(apply, params, xs, state, noise):
        inside, between = noise or StackNoise((None,) * count, (None,) * (count - 1))
        hs, states, finals = xs, [], []
        for i, layer in enumerate(layers):
            below = hs
            if i > 0 and between[i - 1] is not None:
                below = hs * between[i - 1]
            if i > 0 and skip == "input":
                below = jnp.concatenate([xs, below], axis=-1)
            hs, layer_states, final = apply(
                layer, params[i], below, state[i], inside[i]
            )
            if i > 0 and skip == "residual":
                hs = hs + below
            states.append(layer_states)
            finals.append(final)
        return hs, tuple(states), tuple(finals)

    def output_size(params):
        return output_features(layers[-1], params[-1])

    return Layer(init, initial_state, output_size, noise, run)

"""Layers that run backward in time: beside one that runs forward, or alone."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, Layer, output_features
from jaxrnn.layers.noise import check_layer, check_parts, draw_noise

Merge = Literal["concat", "sum", "product", "mean"]


class Directions(NamedTuple):
    """Of the part that runs forward in time and of the one that runs backward."""

    forward: Any
    backward: Any


_MERGES: dict[str | None, Callable[[Array, Array], Any]] = {
    "concat": lambda a, b: jnp.concatenate([a, b], axis=-1),
    "sum": jnp.add,
    "product": jnp.multiply,
    "mean": lambda a, b: (a + b) / 2,
    None: Directions,
}


@lru_cache(typed=True)
def bidirectional(
    layer: Cell | Layer,
    backward: Cell | Layer | None = None,
    *,
    merge: Merge | None = "concat",
) -> Layer:
    """A layer that runs forward in time beside one that runs backward.

    Its params and its state are `Directions`. With lengths, the backward part starts
    at each row's last step. A reset separates two steps in both directions.

    Args:
        layer: what runs forward.
        backward: what runs backward; the same by default, with parameters of its own.
        merge: "concat" (on the last axis, forward first), "sum", "product" or "mean"
            of the outputs; or None, which gives `Directions` of both.
    Raises:  TypeError or ValueError for what is no layer or an unknown merge.
    Source:  Schuster & Paliwal (1997), IEEE Trans. Signal Processing 45, 2673-2681.
    """
    check_layer("layer", layer)
    if backward is not None:
        check_layer("backward", backward)
    if merge not in _MERGES:
        named = [m for m in _MERGES if m]
        raise ValueError(f"merge: expected one of {named} or None, got {merge!r}")
    parts = Directions(layer, layer if backward is None else backward)

    def each(f, *trees):
        return Directions(*map(f, parts, *trees))

    def init(key, input_size, hidden_size, **options):
        def one(part, k):
            return part.init(k, input_size, hidden_size, **options)

        return each(one, jax.random.split(key))

    def initial_state(params, batch_shape=()):
        check_parts("params", params, Directions, 2)
        return each(lambda part, p: part.initial_state(p, batch_shape), params)

    def noise(key, params, xs):
        keys = jax.random.split(key)
        return each(lambda part, k, p: draw_noise(k, part, p, xs), keys, params)

    def run(apply, params, xs, state, noise):
        noise = noise or (None, None)
        ahead = apply(parts[0], params[0], xs, state[0], noise[0])
        back = apply(parts[1], params[1], xs, state[1], noise[1], reverse=True)
        _, states, finals = map(Directions, ahead, back)
        return _MERGES[merge](ahead[0], back[0]), states, finals

    def output_size(params):
        widths = [
            output_features(part, p) for part, p in zip(parts, params, strict=True)
        ]
        return sum(widths) if merge == "concat" else widths[0]

    return Layer(init, initial_state, output_size, noise, run)


@lru_cache
def backward_only(layer: Cell | Layer) -> Layer:
    """A layer that runs from the last step to the first; params and state are its own.

    With lengths it starts at each row's last step; outputs stay beside their inputs.
    A run of it with `reverse=True` goes forward.

    Raises:  TypeError for what is no layer.
    """
    check_layer("layer", layer)

    def noise(key, params, xs):
        return draw_noise(key, layer, params, xs)

    def run(apply, params, xs, state, noise):
        return apply(layer, params, xs, state, noise, reverse=True)

    def output_size(params):
        return output_features(layer, params)

    return Layer(layer.init, layer.initial_state, output_size, noise, run)

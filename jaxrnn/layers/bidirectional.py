"""Layers that run backward in time: beside one that runs forward, or alone."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.door import as_layer, check_parts
from jaxrnn._core.inputs import axes_of, check_vectors, read_inputs
from jaxrnn._core.sizes import check_key
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer

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


@by_value
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
    Raises:  TypeError or ValueError for what is no layer or an unknown merge; at trace
             time for outputs of different sizes that are to be merged by element, for
             those that are no single array, and for parts that read different inputs.
    Source:  Schuster & Paliwal (1997), IEEE Trans. Signal Processing 45, 2673-2681.
    """
    parts = Directions(
        as_layer(layer, "layer"),
        as_layer(layer if backward is None else backward, "backward"),
    )
    if merge not in _MERGES:
        named = [m for m in _MERGES if m]
        raise ValueError(f"merge: expected one of {named} or None, got {merge!r}")
    x_ndim = parts.forward.x_ndim

    def each(f, *trees):
        return Directions(*map(f, parts, *trees))

    def init(key, input_size, hidden_size, **options):
        def one(part, k):
            return part.init(k, input_size, hidden_size, **options)

        check_key(key)
        params = each(one, jax.random.split(key))
        output_size(params)
        return params

    def initial_state(params, batch_shape=()):
        check_parts("params", params, Directions, 2)
        return each(lambda part, p: part.initial_state(p, batch_shape), params)

    def noise(key, params, xs):
        keys = jax.random.split(key)
        return each(lambda part, k, p: part.noise(k, p, xs), keys, params)

    def run(apply, carrier, xs):
        def one(side):
            noise = carrier.noise and carrier.noise[side]
            on = carrier.part(itemgetter(side), itemgetter(side), noise)
            return apply(parts[side], on, xs, reverse=side == 1)

        axes = axes_of(x_ndim, xs)
        if read_inputs(parts.backward.x_ndim, xs)[1] != axes:
            raise ValueError(
                f"backward: expected a layer that reads inputs as the other does, with "
                f"x_ndim={x_ndim}, got x_ndim={parts.backward.x_ndim}"
            )
        output_size(carrier.params)
        ahead, back = one(0), one(1)
        _, states, finals = map(Directions, ahead, back)
        if merge is not None:
            for hs in (ahead[0], back[0]):
                why = "to be merged; merge=None gives both directions"
                check_vectors("layer", hs, axes, why)
        return _MERGES[merge](ahead[0], back[0]), states, finals

    def output_size(params):
        widths = each(lambda part, p: part.output_size(p), params)
        if merge == "concat":
            return sum(widths)
        if merge is not None and widths.forward != widths.backward:
            raise ValueError(
                f"merge: {merge!r} wants outputs of one size, got {widths.forward} "
                f'forward and {widths.backward} backward; merge="concat" takes both'
            )
        return widths.forward

    return Layer(init, initial_state, output_size, noise, run, True, x_ndim)


@by_value
def backward_only(layer: Cell | Layer) -> Layer:
    """A layer that runs from the last step to the first; params and state are its own.

    With lengths it starts at each row's last step; outputs stay beside their inputs.
    A run of it with `reverse=True` goes forward.

    Raises:  TypeError for what is no layer.
    """
    part = as_layer(layer, "layer")

    def run(apply, carrier, xs):
        return apply(part, carrier, xs, reverse=True)

    return part._replace(run=run, runs_backward=True)

"""Layers that run backward in time, alone or beside one that runs forward."""

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
    """Anything of the `forward` part and of the `backward` part, such as params."""

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
        layer: the cell or layer that runs forward.
        backward: the one that runs backward; by default the same, with separate params.
        merge: how the outputs are merged: "concat" (forward first) to [T, ..., 2H],
            "sum", "product" or "mean" to [T, ..., H], or None, which gives
            `Directions` of both.
    Returns: a `Layer`.
    Raises:  TypeError or ValueError if a part is not a layer or merge is unknown; at
             trace time for a merge by element of outputs of different sizes, a merge of
             outputs that are not single arrays, or parts that read different inputs.
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
    """A layer run from the last step to the first, with the same params and state.

    With lengths it starts at each row's last step; outputs stay beside their inputs.
    With `reverse=True` it runs forward.

    Args:
        layer: a cell or a layer.
    Returns: a `Layer`.
    Raises:  TypeError if `layer` is not a layer.
    """
    part = as_layer(layer, "layer")

    def run(apply, carrier, xs):
        return apply(part, carrier, xs, reverse=True)

    return part._replace(run=run, runs_backward=True)

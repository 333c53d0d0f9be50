"""A layer whose initial state is learned."""

from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_alike
from jaxrnn._core.door import as_layer, check_parts
from jaxrnn._core.numerics import joined, real_only
from jaxrnn._core.sizes import batch_axes
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer


class Learned(NamedTuple):
    """A layer's parameters and its learned initial state, parts [H]."""

    layer: Any
    start: Any


@by_value
def learned_start(layer: Cell | Layer) -> Layer:
    """A layer with a learned initial state: its params are `Learned(layer, start)`.

    `start`, parts [H], is one state for all rows; `init` sets it to the layer's own
    initial state (zeros for a cell). A run starts from it unless a state is given, and
    its gradient is summed over rows. Parts without a gradient, such as a counter, are
    None in `start` and stay the layer's own.

    Args:
        layer: a cell or a layer.
    Returns: a `Layer`.
    Raises:  TypeError if `layer` is not a layer.
    """
    inner = as_layer(layer, "layer")

    def init(key, input_size, hidden_size, **options):
        params = inner.init(key, input_size, hidden_size, **options)
        return Learned(params, real_only(inner.initial_state(params)))

    def initial_state(params, batch_shape=()):
        check_parts("params", params, Learned, 2)
        own = inner.initial_state(params.layer)
        check_alike("params.start", params.start, real_only(own))
        axes = batch_axes(batch_shape)
        return jax.tree.map(
            lambda s: jnp.broadcast_to(s, (*axes, *s.shape)), joined(params.start, own)
        )

    def noise(key, params, xs):
        return inner.noise(key, params.layer, xs)

    def run(apply, carrier, xs):
        on = carrier.part(attrgetter("layer"), lambda state: state, carrier.noise)
        return apply(inner, on, xs)

    def output_size(params):
        return inner.output_size(params.layer)

    return inner._replace(
        init=init,
        initial_state=initial_state,
        output_size=output_size,
        noise=noise,
        run=run,
    )

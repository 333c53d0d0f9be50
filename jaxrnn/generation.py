"""A layer fed with its own outputs: a decoder."""

from collections.abc import Callable
from typing import Any

import jax

from jaxrnn._core.checks import check_flag, check_positive, read_alike
from jaxrnn._core.door import as_layer, check_forward
from jaxrnn._core.inputs import read_inputs
from jaxrnn._core.sizes import check_key
from jaxrnn._core.trees import describe
from jaxrnn.layer import LayerLike
from jaxrnn.model import step
from jaxrnn.scanning import scan


def generate(
    cell: LayerLike,
    params: Any,
    x: Any,
    feed: Callable[..., Any],
    *,
    length: int,
    key: Any,
    state: Any = None,
    layer_params: Callable[[Any], Any] | None = None,
    checkpoint: bool = False,
) -> tuple[Any, Any, Any]:
    """Run a layer on its own outputs: each output makes the next step's input.

    The gradient is that of `scan`, and also passes through the fed inputs wherever
    `feed` can be differentiated.

    Math:    (s_t, h_t) = step(params, s_{t-1}, x_t), x_{t+1} = feed(params, h_t, key)
    Shapes:  x [..., D], state parts [..., H] -> hs [T, ..., H], xs [T, ..., D] (the fed
             inputs, x_2 to x_{T+1}), and the final state.
    Args:
        cell: a cell or a layer that runs forward in time.
        params: the layer's, or any pytree that holds them beside what `feed` reads,
            such as a readout's; `layer_params` then picks the layer's.
        x: the first input.
        feed: `feed(params, h, key) -> x`, for the whole batch; its x has the shape and
            dtype of the first.
        length: T.
        key: split into one key per step, for sampling; None passes None to `feed`.
        state: the state before the first step; the layer's initial state by default.
        layer_params: `layer_params(params) -> the layer's params`, such as
            `lambda p: p.cell` for a network.
        checkpoint: as in `scan`.
    Returns: (hs, xs, final state).
    Raises:  TypeError or ValueError, at trace time, as `step` does, for a layer that
             runs backward in time, or if a fed x is not like the first.
    """
    layer = as_layer(cell)
    check_forward(layer)
    check_positive("length", length)
    check_flag("checkpoint", checkpoint)
    for name, f in (("feed", feed), ("layer_params", layer_params)):
        if not callable(f) and not (name == "layer_params" and f is None):
            raise TypeError(f"{name}: expected a function, got {describe(f)}")
    pick = layer_params or (lambda params: params)
    x, batch = read_inputs(layer.x_ndim, x, name="x", over_time=False)
    start = layer.initial_state(pick(params), batch)
    state = start if state is None else read_alike("state", state, start)
    keys = None
    if key is not None:
        check_key(key)
        keys = jax.random.split(key, length)

    def feeding(params, carry, key):
        state, x = carry
        state, h = step(cell, pick(params), state, x)
        fed = read_alike("feed", feed(params, h, key), x)
        return (state, fed), (h, fed)

    (state, _), (hs, xs) = scan(
        feeding, params, (state, x), keys, length=length, checkpoint=checkpoint
    )
    return hs, xs, state

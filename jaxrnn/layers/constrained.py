"""A layer whose parameters are a function of the trained ones."""

from collections.abc import Callable
from typing import Any

from jaxrnn._core.by_value import by_value
from jaxrnn._core.door import as_layer
from jaxrnn.layer import Layer, LayerLike


@by_value
def constrained(
    layer: LayerLike,
    constrain: Callable[[Any], Any],
    *,
    raw: Callable[[Any], Any] | None = None,
) -> Layer:
    """A layer that runs on `constrain(params)` wherever it is used.

    Runs, checks and optimisers all take the raw parameters, which are the trained
    ones; gradients are with respect to them.

        signs = jnp.where(jnp.arange(64) < 51, 1.0, -1.0)     # Dale's law

        def dale(params):
            return params._replace(w_s=jnp.abs(params.w_s) * signs[:, None])

        layer = constrained(elman(), dale)

    Args:
        layer: a cell or a layer.
        constrain: `constrain(raw params) -> params` of the layer, pure and
            differentiable: a mask, a product of two factors, the matrix exponential of
            an antisymmetric matrix.
        raw: `raw(params) -> raw params`, applied after the layer's `init`; by default
            the identity.
    Returns: a `Layer`.
    Raises:  TypeError if `layer` is not a layer or an argument not a function; at trace
             time if the constrained parameters do not fit the layer.
    """
    inner = as_layer(layer, "layer")
    for name, f in (("constrain", constrain), ("raw", raw)):
        if not callable(f) and not (name == "raw" and f is None):
            raise TypeError(f"{name}: expected a function, got {type(f).__name__}")

    def init(key, input_size, hidden_size, **options):
        params = inner.init(key, input_size, hidden_size, **options)
        return params if raw is None else raw(params)

    def initial_state(params, batch_shape=()):
        return inner.initial_state(constrain(params), batch_shape)

    def output_size(params):
        return inner.output_size(constrain(params))

    def noise(key, params, xs):
        return inner.noise(key, constrain(params), xs)

    def run(apply, carrier, xs):
        return apply(inner, carrier._replace(params=constrain(carrier.params)), xs)

    return inner._replace(
        init=init,
        initial_state=initial_state,
        output_size=output_size,
        noise=noise,
        run=run,
    )

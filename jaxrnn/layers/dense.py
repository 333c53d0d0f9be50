"""A layer without memory: an affine map and an activation at every step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.activations import ACTIVATIONS
from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_choice, check_flag, check_positive, check_shape
from jaxrnn._core.numerics import add_bias
from jaxrnn._core.sizes import check_key, float_dtype
from jaxrnn.layer import Layer


class DenseParams(NamedTuple):
    """w [D, N], b [N] or None."""

    w: Array
    b: Array | None = None


@by_value
def dense(activation: str = "identity") -> Layer:
    """An affine map of every step's input, as a layer of a stack.

    Math:    y_t = φ(x_t W (+ b))
    Shapes:  xs [T, ..., D] -> [T, ..., N]; its state is empty, (). `init`'s
             `hidden_size` is N: `stack(lstm(), dense("relu"), gru()).init(key, 3,
             (128, 64, 32))`.
    Args:
        activation: "identity", "tanh", "sigmoid", "relu" or another of `elman`'s.
    Returns: a `Layer`.
    Raises:  ValueError for an unknown activation; at trace time if xs has not W's D
             features.
    """
    check_choice("activation", activation, sorted(ACTIVATIONS))
    phi = ACTIVATIONS[activation].phi

    def init(key, input_size, hidden_size, *, bias=True, dtype=None):
        check_key(key)
        check_positive("input_size", input_size)
        check_positive("hidden_size", hidden_size)
        check_flag("bias", bias)
        dtype = float_dtype(dtype)
        draw = jax.nn.initializers.lecun_normal()
        w = draw(key, (input_size, hidden_size), jnp.float32).astype(dtype)
        return DenseParams(w, jnp.zeros(hidden_size, dtype) if bias else None)

    def initial_state(params, batch_shape=()):
        del params, batch_shape
        return ()

    def noise(key, params, xs):
        del key, params, xs

    def run(apply, carrier, xs):
        del apply  # nothing runs over time
        w, b = carrier.params
        check_shape("xs", xs, (*xs.shape[:-1], w.shape[0]))
        return phi(add_bias(xs @ w, b)), (), ()

    return Layer(init, initial_state, lambda p: p.w.shape[1], noise, run)

"""Keras on its JAX backend, in float32; lengths become its mask."""

import os
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.peers.record import Peer, Sizes, random_like
from jaxrnn import convert


def keras(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`keras.layers.SimpleRNN`, `LSTM` or `GRU`, or two LSTMs in `Bidirectional`.

    Raises:  RuntimeError if keras was imported before with another backend.
    """
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    import keras  # pyright: ignore[reportMissingImports]

    if (backend := keras.backend.backend()) != "jax":
        raise RuntimeError(f"keras: expected the backend 'jax', got {backend!r}")
    layers = {
        "elman": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "bidirectional lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,
        "gru, reset before": partial(keras.layers.GRU, reset_after=False),
    }
    # keras 3.15.1 takes a float64's tanh in float32 on JAX: nothing to compare there
    if kind not in layers or dtype != "float32":
        return None
    zeros = dict.fromkeys(("kernel_initializer", "recurrent_initializer"), "zeros")
    states = {"return_sequences": True, "return_state": True}
    layer = layers[kind](sizes.h, use_bias=bias, dtype=dtype, **states, **zeros)
    both = kind.startswith("bidirectional")
    if both:
        layer = keras.layers.Bidirectional(layer, dtype=dtype)
    layer.build((None, None, sizes.d))
    every, trained = layer.weights, layer.trainable_variables
    assert [v.path for v in every] == [v.path for v in trained]

    def run(weights, xs, state=None, lengths=None):
        rest = [v.value for v in layer.non_trainable_variables]
        steps = jnp.arange(xs.shape[1])[None]
        mask = None if lengths is None else steps < lengths[:, None]
        given = {"initial_state": state and list(state), "mask": mask}
        with jax.numpy_rank_promotion("allow"):  # it adds its biases so
            found: Any = layer.stateless_call(weights, rest, xs, **given)
        hs, *final = found[0]
        return hs, tuple(final)

    cell = kind.split(",")[0].split()[-1]
    options = {"reset_after": "before" not in kind, "bidirectional": both}
    return Peer(
        partial(convert.to_keras, kind=cell),
        run,
        batch_first=True,
        read=partial(convert.from_keras, kind=cell, **options),
        weights=random_like([v.value for v in every], dtype),
    )

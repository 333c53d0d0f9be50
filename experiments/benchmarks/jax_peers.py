"""The library's cells in other libraries, on the same weights.

A JAX peer is a pair of functions: `convert(params) -> weights` in its own layout, and
`run(weights, xs) -> hs`. What a library does not have, it is not asked for: equinox has
no Elman cell; haiku's is relu alone and its GRU resets before the product. The GRU's
`b_s` is held in full by Keras, for the gate n alone by linen and equinox, not by nnx.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn import Params
from jaxrnn.convert import to_equinox, to_flax, to_haiku, to_keras, to_nnx


class Peer(NamedTuple):
    """Another library's network over time.

    Shapes:  `run` takes xs [T, B, D] and gives hs [T, B, H]; if `batch_first`, it takes
             [B, T, D] and gives [B, T, H].
    """

    convert: Callable[[Params], Any]
    run: Callable[[Any, Array], Array]
    batch_first: bool = False


def flax_linen(cell: str, hidden: int) -> Peer:
    """`flax.linen.RNN` over SimpleCell, OptimizedLSTMCell or GRUCell."""
    import flax.linen as nn  # pyright: ignore[reportMissingImports]

    cells = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(cells[cell](hidden), time_major=True)

    def convert(params):
        return {"params": {"cell": to_flax(params, cell)}}

    def run(weights, xs):
        hs = layer.apply(weights, xs)
        assert isinstance(hs, Array)  # and no carry beside it
        return hs

    return Peer(convert, run)


def flax_nnx(cell: str, hidden: int) -> Peer:
    """`flax.nnx.RNN` over SimpleCell, OptimizedLSTMCell or GRUCell."""
    from flax import nnx  # pyright: ignore[reportMissingImports]

    cells = {"elman": nnx.SimpleCell, "lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell}

    @lru_cache
    def parts(d):
        with jax.ensure_compile_time_eval():  # the first call may be under a trace
            rnn = nnx.RNN(cells[cell](d, hidden, rngs=nnx.Rngs(0)), time_major=True)
            graph, _, rest = nnx.split(rnn, nnx.Param, ...)
        return graph, rest

    def convert(params):
        kind = "optimized_lstm" if cell == "lstm" else cell
        return nnx.State({"cell": to_nnx(params._replace(b_s=None), kind)})

    def run(weights, xs):
        graph, rest = parts(xs.shape[-1])
        # A call counts its random draws in `rest`, hence the copy.
        hs = nnx.merge(graph, weights, rest, copy=True)(xs)
        assert isinstance(hs, Array)  # and no carry beside it
        return hs

    return Peer(convert, run)


def equinox(cell: str, hidden: int) -> Peer | None:
    """`equinox.nn.LSTMCell` or `GRUCell`, mapped over the batch, under `lax.scan`."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    if cell == "elman":
        return None

    def convert(params):
        make = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[cell]
        made = make(params.w_x.shape[0], hidden, key=jax.random.key(0))
        fields = to_equinox(params, cell)
        return eqx.tree_at(
            lambda c: [getattr(c, n) for n in fields], made, list(fields.values())
        )

    def run(weights, xs):
        zeros = jnp.zeros((xs.shape[1], hidden), xs.dtype)

        def step(state, x):
            state = jax.vmap(weights)(x, state)
            return state, state[0] if cell == "lstm" else state

        return lax.scan(step, (zeros, zeros) if cell == "lstm" else zeros, xs)[1]

    return Peer(convert, run)


def haiku(cell: str, hidden: int) -> Peer | None:
    """`haiku.LSTM` under `haiku.dynamic_unroll`."""
    import haiku as hk  # pyright: ignore[reportMissingImports]

    if cell != "lstm":
        return None

    def network(xs):
        core = hk.LSTM(hidden)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    apply = hk.without_apply_rng(hk.transform(network)).apply

    def convert(params):
        return to_haiku(params, cell)

    return Peer(convert, apply)


def keras(cell: str, hidden: int) -> Peer:
    """`keras.layers.SimpleRNN`, `LSTM` or `GRU` on Keras's JAX backend.

    Raises:  RuntimeError if keras was imported before with another backend.
    """
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    import keras  # pyright: ignore[reportMissingImports]

    if (backend := keras.backend.backend()) != "jax":
        raise RuntimeError(f"keras: expected the backend 'jax', got {backend!r}")
    layers = {
        "elman": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": keras.layers.GRU,  # reset after the product, by default
    }

    @lru_cache
    def built(d):
        zeros = dict.fromkeys(("kernel_initializer", "recurrent_initializer"), "zeros")
        with jax.ensure_compile_time_eval():  # the first call may be under a trace
            layer = layers[cell](hidden, return_sequences=True, **zeros)
            layer.build((None, None, d))
        return layer

    def convert(params):
        return to_keras(params, cell)

    def run(weights, xs):
        layer = built(xs.shape[-1])
        rest = [v.value for v in layer.non_trainable_variables]
        with jax.numpy_rank_promotion("allow"):  # it adds its biases so
            return layer.stateless_call(weights, rest, xs)[0]

    return Peer(convert, run, batch_first=True)


JAX_PEERS = {
    "flax linen": flax_linen,
    "flax nnx": flax_nnx,
    "equinox": equinox,
    "haiku": haiku,
    "keras": keras,
}
_MODULES = {
    "flax linen": "flax",
    "flax nnx": "flax",
    "equinox": "equinox",
    "haiku": "haiku",
    "keras": "keras",
}


def jax_peers(cell: str, hidden: int) -> dict[str, Peer]:
    """The peers that are installed and have this cell."""
    found = {
        name: build(cell, hidden)
        for name, build in JAX_PEERS.items()
        if find_spec(_MODULES[name])
    }
    return {name: peer for name, peer in found.items() if peer is not None}

"""Haiku: its cores under `dynamic_unroll`; it takes no lengths."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.peers.record import Peer, Sizes, parts, random_like
from jaxrnn import convert


def haiku(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`VanillaRNN`, which is relu, `LSTM` or `GRU`, which resets before the product.

    They always have a bias; the second one of `VanillaRNN` is optional.
    """
    import haiku as hk  # pyright: ignore[reportMissingImports]

    cores = {
        "elman": partial(hk.VanillaRNN, double_bias=bias),
        "lstm": hk.LSTM,
        "gru, reset before": hk.GRU,
    }
    if kind not in cores or not (bias or kind == "elman"):
        return None

    def network(xs, state=None):
        core = cores[kind](sizes.h)
        if state is None:
            start = core.initial_state(xs.shape[1])
        else:
            start = hk.LSTMState(*state) if kind == "lstm" else state[0]
        return hk.dynamic_unroll(core, xs, start)

    transformed = hk.without_apply_rng(hk.transform(network))
    xs = np.zeros((1, 1, sizes.d), "float32")
    zeros = (np.zeros((1, sizes.h), "float32"),) * 2
    made = jax.eval_shape(transformed.init, jax.random.key(0), xs, zeros)

    def run(weights, xs, state=None, lengths=None):
        del lengths
        hs, final = transformed.apply(weights, xs, state)
        return hs, parts(final)

    return Peer(
        partial(convert.to_haiku, kind=kind.split(",")[0]),
        run,
        read=partial(convert.from_haiku, kind=kind.split(",")[0]),
        weights=random_like(made, dtype),
        lengths=False,
    )

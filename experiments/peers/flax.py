"""Flax linen and nnx: `RNN` over its cells, which always have a bias."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.peers.record import Peer, Sizes, bare, parts, random_like
from jaxrnn import convert

_CELLS = {"elman": "SimpleCell", "lstm": "LSTMCell", "gru": "GRUCell"}
_CELLS |= {"optimized lstm": "OptimizedLSTMCell"}


def flax_linen(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """A network of `flax.linen`."""
    import flax.linen as nn  # pyright: ignore[reportMissingImports]

    if kind not in _CELLS or not bias:
        return None
    cell = getattr(nn, _CELLS[kind])(sizes.h)
    layer = nn.RNN(cell, time_major=True, return_carry=True)
    xs = np.zeros((1, 1, sizes.d), "float32")
    made = jax.eval_shape(layer.init, jax.random.key(0), xs)["params"]["cell"]

    def run(weights, xs, state=None, lengths=None):
        rnn = partial(layer.apply, {"params": {"cell": weights}})
        return _call(rnn, xs, state, lengths)

    ours = kind.split()[-1]
    write, read = (partial(f, kind=ours) for f in (convert.to_flax, convert.from_flax))
    return Peer(write, run, read=read, weights=random_like(made, dtype))


def flax_nnx(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """A network of `flax.nnx`."""
    from flax import nnx  # pyright: ignore[reportMissingImports]

    if kind not in _CELLS or not bias:
        return None
    options = {"dtype": dtype, "param_dtype": dtype, "rngs": nnx.Rngs(0)}
    cell = getattr(nnx, _CELLS[kind])(*sizes, **options)
    made = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    layer = nnx.RNN(cell, time_major=True, return_carry=True)
    graph, _, rest = nnx.split(layer, nnx.Param, ...)
    ours = kind.replace(" ", "_")

    def run(weights, xs, state=None, lengths=None):
        # A call counts its random draws in `rest`, hence the copy.
        rnn = nnx.merge(graph, nnx.State({"cell": weights}), rest, copy=True)
        return _call(rnn, xs, state, lengths)

    def write(params):  # traced zeros for b_s are refused
        return convert.to_nnx(params._replace(b_s=None), ours)

    read = partial(convert.from_nnx, kind=ours)
    return Peer(write, run, read=read, weights=random_like(made, dtype))


def _call(rnn: Any, xs: Any, state: Any, lengths: Any) -> tuple[Any, Any]:
    """As `Peer.run`; flax's own state is (c, h), or h."""
    start = bare(state and state[::-1])
    final, hs = rnn(xs, initial_carry=start, seq_lengths=lengths)
    return hs, parts(final)[::-1]

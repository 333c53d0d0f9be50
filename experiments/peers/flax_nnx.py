"""Flax nnx: `flax.nnx.RNN`, whose cells always have a bias, and one alone."""

from functools import partial
from typing import Any

from experiments.peers.flax_linen import carry, parts
from experiments.peers.record import Peer, Sizes, random_like
from jaxrnn import convert


def flax_nnx(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`RNN` over SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell."""
    from flax import nnx  # pyright: ignore[reportMissingImports]

    cells = {
        "elman": nnx.SimpleCell,
        "lstm": nnx.LSTMCell,
        "optimized lstm": nnx.OptimizedLSTMCell,
        "gru": nnx.GRUCell,
    }
    if kind not in cells or not bias:
        return None
    cell = cells[kind](*sizes, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0))
    made = nnx.to_pure_dict(nnx.state(cell, nnx.Param))
    rnn = nnx.RNN(cell, time_major=True, return_carry=True)
    graph, _, rest = nnx.split(rnn, nnx.Param, ...)
    ours = kind.replace(" ", "_")

    def run(weights, xs, state=None, lengths=None):
        # A call counts its random draws in `rest`, hence the copy.
        rnn = nnx.merge(graph, nnx.State({"cell": weights}), rest, copy=True)
        found: Any = rnn(xs, initial_carry=carry(state), seq_lengths=lengths)
        return found[1], parts(found[0])

    def write(params):  # traced zeros for b_s are refused
        return convert.to_nnx(params._replace(b_s=None), ours)

    read = partial(convert.from_nnx, kind=ours)
    return Peer(write, run, read=read, weights=random_like(made, dtype))

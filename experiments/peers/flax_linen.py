"""Flax linen: `flax.linen.RNN`, whose cells always have a bias."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from experiments.peers.record import Peer, Sizes, random_like
from jaxrnn import convert


def flax_linen(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`RNN` over SimpleCell, LSTMCell, OptimizedLSTMCell or GRUCell."""
    import flax.linen as nn  # pyright: ignore[reportMissingImports]

    cells = {
        "elman": nn.SimpleCell,
        "lstm": nn.LSTMCell,
        "optimized lstm": nn.OptimizedLSTMCell,
        "gru": nn.GRUCell,
    }
    if kind not in cells or not bias:
        return None
    layer = nn.RNN(cells[kind](sizes.h), time_major=True, return_carry=True)
    made = jax.eval_shape(
        layer.init, jax.random.key(0), jnp.zeros((1, 1, sizes.d), "float32")
    )
    ours = kind.split()[-1]

    def run(weights, xs, state=None, lengths=None):
        found: Any = layer.apply(
            {"params": {"cell": weights}},
            xs,
            initial_carry=carry(state),
            seq_lengths=lengths,
        )
        return found[1], parts(found[0])

    return Peer(
        partial(convert.to_flax, kind=ours),
        run,
        read=partial(convert.from_flax, kind=ours),
        weights=random_like(made["params"]["cell"], dtype),
    )


def carry(state: Any) -> Any:
    """Flax's: (c, h), or h alone."""
    if state is None:
        return None
    return state[::-1] if len(state) > 1 else state[0]


def parts(carry: Any) -> tuple[Any, ...]:
    return (carry,) if isinstance(carry, Array) else tuple(carry)[::-1]

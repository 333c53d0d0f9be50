"""Equinox: its cells, mapped over the batch, under `lax.scan`; it takes no lengths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.peers.record import Peer, Sizes, random_like
from jaxrnn import convert


def equinox(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`equinox.nn.LSTMCell` or `GRUCell`."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    cells = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if kind not in cells:
        return None
    made = cells[kind](*sizes, use_bias=bias, key=jax.random.key(0))
    names = ["weight_ih", "weight_hh", "bias"] + ["bias_n"] * (kind == "gru")
    fields = {name: getattr(made, name) for name in names}

    def run(weights, xs, state=None, lengths=None):
        del lengths
        if state is None:
            state = (jnp.zeros((xs.shape[1], sizes.h), xs.dtype),) * 2
        given = [n for n in names if weights[n] is not None]
        cell = eqx.tree_at(
            lambda c: [getattr(c, n) for n in given], made, [weights[n] for n in given]
        )

        def step(state, x):
            state = jax.vmap(cell)(x, state)
            return state, state[0] if kind == "lstm" else state

        final, hs = lax.scan(step, state if kind == "lstm" else state[0], xs)
        return hs, final if kind == "lstm" else (final,)

    return Peer(
        partial(convert.to_equinox, kind=kind),
        run,
        read=lambda weights: convert.from_equinox(**weights, kind=kind),
        weights=random_like(fields, dtype),
        lengths=False,
    )

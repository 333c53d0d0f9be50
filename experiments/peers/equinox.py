"""Equinox: its cells, mapped over the batch, under `lax.scan`; it takes no lengths."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from experiments.peers.record import Peer, Sizes, bare, parts, random_like
from jaxrnn import convert


def equinox(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Peer | None:
    """`equinox.nn.LSTMCell` or `GRUCell`."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    cells = {"lstm": (eqx.nn.LSTMCell, 2), "gru": (eqx.nn.GRUCell, 1)}
    if kind not in cells:
        return None
    build, count = cells[kind]
    made = build(*sizes, use_bias=bias, key=jax.random.key(0))
    names = ["weight_ih", "weight_hh", "bias"] + ["bias_n"] * (kind == "gru")
    fields = {name: getattr(made, name) for name in names}

    def run(weights, xs, state=None, lengths=None):
        del lengths
        zeros = (jnp.zeros((xs.shape[1], sizes.h), xs.dtype),) * count
        given = {n: w for n, w in weights.items() if w is not None}
        own = lambda cell: [getattr(cell, name) for name in given]  # noqa: E731
        cell = eqx.tree_at(own, made, list(given.values()))

        def step(state, x):
            state = jax.vmap(cell)(x, state)
            return state, parts(state)[0]

        final, hs = jax.lax.scan(step, bare(state or zeros), xs)
        return hs, parts(final)

    return Peer(
        partial(convert.to_equinox, kind=kind),
        run,
        read=lambda weights: convert.from_equinox(**weights, kind=kind),
        weights=random_like(fields, dtype),
        lengths=False,
    )

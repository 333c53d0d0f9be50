"""The library's cells in other libraries, on the same weights.

A JAX peer is a pair of functions: `convert(params) -> weights` in its own layout, and
`run(weights, xs) -> hs`. What a library does not have, it is not asked for: equinox has
no Elman cell; haiku's is relu alone and its GRU resets before the product.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxrnn import Params


class Peer(NamedTuple):
    """Another library's network over time."""

    convert: Callable[[Params], Any]
    run: Callable[[Any, Array], Array]


def flax_linen(cell: str, hidden: int) -> Peer:
    """`flax.linen.RNN` over SimpleCell, OptimizedLSTMCell or GRUCell."""
    import flax.linen as nn  # pyright: ignore[reportMissingImports]

    cells = {"elman": nn.SimpleCell, "lstm": nn.OptimizedLSTMCell, "gru": nn.GRUCell}
    layer = nn.RNN(cells[cell](hidden), time_major=True)
    gates = {"elman": ("",), "lstm": "ifgo", "gru": "rzn"}[cell]

    def convert(params):
        weights = {}
        for k, gate in enumerate(gates):
            part = np.s_[k * hidden : (k + 1) * hidden]
            on_x = {"kernel": params.w_x[:, part]}
            on_h = {"kernel": params.w_s[:, part]}
            if cell == "lstm":
                on_h["bias"] = params.b[part]
            else:
                on_x["bias"] = params.b[part]
            if gate == "n":
                on_h["bias"] = params.b_s[part]
            weights |= {f"i{gate}": on_x, f"h{gate}": on_h}
        return {"params": {"cell": weights}}

    def run(weights, xs):
        hs = layer.apply(weights, xs)
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
        leaves = [params.w_x.T, params.w_s.T, params.b]
        if cell == "gru":
            leaves.append(params.b_s[-hidden:])
        names = ("weight_ih", "weight_hh", "bias", "bias_n")[: len(leaves)]
        return eqx.tree_at(lambda c: [getattr(c, n) for n in names], made, leaves)

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
        def igfo(a):  # haiku's order of gates
            i, f, g, o = jnp.split(a, 4, axis=-1)
            return jnp.concatenate([i, g, f, o], axis=-1)

        # haiku adds 1 to the forget gate when it runs
        b = params.b - jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), hidden)
        w = igfo(jnp.concatenate([params.w_x, params.w_s]))
        return {"lstm/linear": {"w": w, "b": igfo(b)}}

    return Peer(convert, apply)


JAX_PEERS = {"flax linen": flax_linen, "equinox": equinox, "haiku": haiku}
_MODULES = {"flax linen": "flax", "equinox": "equinox", "haiku": "haiku"}


def jax_peers(cell: str, hidden: int) -> dict[str, Peer]:
    """The peers that are installed and have this cell."""
    found = {
        name: build(cell, hidden)
        for name, build in JAX_PEERS.items()
        if find_spec(_MODULES[name])
    }
    return {name: peer for name, peer in found.items() if peer is not None}


def torch_gradient(cell: str, params: Params, xs: Any, w: Any):
    """`torch.nn` on the CPU: a function that gives E = Σ w·h and its gradient.

    The gradient comes as (w_ih, w_hh, b_ih) in torch's layout, one row a gate's unit.
    """
    import torch  # pyright: ignore[reportMissingImports]

    modules = {"elman": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
    d, wide = params.w_x.shape
    layer = modules[cell](d, params.w_s.shape[0])
    b_s = np.zeros(wide) if params.b_s is None else params.b_s
    given = (params.w_x.T, params.w_s.T, params.b, b_s)
    with torch.no_grad():
        for own, value in zip(layer.parameters(), given, strict=True):
            own.copy_(torch.from_numpy(np.array(value, np.float32)))
    xs, w = (torch.from_numpy(np.array(a)) for a in (xs, w))

    def run():
        layer.zero_grad(set_to_none=True)
        error = (layer(xs)[0] * w).sum()
        error.backward()
        grads = [p.grad.numpy() for p in list(layer.parameters())[:3]]
        return error.item(), grads

    return run

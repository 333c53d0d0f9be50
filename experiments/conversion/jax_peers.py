"""Flax's, Equinox's and Haiku's networks on random weights of their own."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from experiments.conversion.sides import Other, Sizes, by_jax, random_like
from jaxrnn import convert


def flax_linen(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """`flax.linen.RNN`, whose cells always have a bias."""
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

    def run(weights, xs, state, lengths):
        carry = _carry(state)
        variables = {"params": {"cell": weights}}
        found: Any = layer.apply(
            variables, xs, initial_carry=carry, seq_lengths=lengths
        )
        return found[1], _parts(found[0])

    return Other(
        random_like(made["params"]["cell"], dtype),
        partial(convert.from_flax, kind=ours),
        partial(convert.to_flax, kind=ours),
        by_jax(run),
    )


def _carry(state: Any) -> Any:
    """Flax's: (c, h), or h alone."""
    return state[::-1] if len(state) > 1 else state[0]


def _parts(carry: Any) -> tuple[Any, ...]:
    return (carry,) if isinstance(carry, Array) else tuple(carry)[::-1]


def flax_nnx(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """`flax.nnx.RNN`, whose cells always have a bias."""
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
    made = nnx.state(cell, nnx.Param).to_pure_dict()
    rnn = nnx.RNN(cell, time_major=True, return_carry=True)
    graph, _, rest = nnx.split(rnn, nnx.Param, ...)
    ours = kind.replace(" ", "_")

    def run(weights, xs, state, lengths):
        rnn = nnx.merge(graph, nnx.State({"cell": weights}), rest, copy=True)
        found: Any = rnn(xs, initial_carry=_carry(state), seq_lengths=lengths)
        return found[1], _parts(found[0])

    return Other(
        random_like(made, dtype),
        partial(convert.from_nnx, kind=ours),
        partial(convert.to_nnx, kind=ours),
        by_jax(run),
    )


def equinox(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """`equinox.nn.LSTMCell` or `GRUCell` under `lax.scan`; it takes no lengths."""
    import equinox as eqx  # pyright: ignore[reportMissingImports]

    cells = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if kind not in cells:
        return None
    made = cells[kind](*sizes, use_bias=bias, key=jax.random.key(0))
    names = ["weight_ih", "weight_hh", "bias"] + ["bias_n"] * (kind == "gru")
    fields = {name: getattr(made, name) for name in names}

    def run(weights, xs, state, lengths):
        del lengths
        given = [n for n in names if weights[n] is not None]
        cell = eqx.tree_at(
            lambda c: [getattr(c, n) for n in given], made, [weights[n] for n in given]
        )

        def step(state, x):
            state = jax.vmap(cell)(x, state)
            return state, state[0] if kind == "lstm" else state

        final, hs = lax.scan(step, state if kind == "lstm" else state[0], xs)
        return hs, final if kind == "lstm" else (final,)

    return Other(
        random_like(fields, dtype),
        lambda weights: convert.from_equinox(**weights, kind=kind),
        partial(convert.to_equinox, kind=kind),
        by_jax(run),
        lengths=False,
    )


def haiku(kind: str, sizes: Sizes, bias: bool, dtype: Any) -> Other | None:
    """`haiku.dynamic_unroll`; it takes no lengths, and VanillaRNN's is the one option.

    Without its second bias, that is; the others always have one.
    """
    import haiku as hk  # pyright: ignore[reportMissingImports]

    cores = {
        "elman": lambda: hk.VanillaRNN(sizes.h, double_bias=bias),
        "lstm": lambda: hk.LSTM(sizes.h),
        "gru, reset before": lambda: hk.GRU(sizes.h),
    }
    if kind not in cores or not (bias or kind == "elman"):
        return None

    def network(xs, state):
        start = hk.LSTMState(*state) if kind == "lstm" else state[0]
        return hk.dynamic_unroll(cores[kind](), xs, start)

    transformed = hk.without_apply_rng(hk.transform(network))
    zeros = jnp.zeros((1, sizes.h), "float32")
    made = jax.eval_shape(
        transformed.init,
        jax.random.key(0),
        jnp.zeros((1, 1, sizes.d), "float32"),
        (zeros, zeros),
    )
    ours = kind.split(",")[0]

    def run(weights, xs, state, lengths):
        del lengths
        hs, final = transformed.apply(weights, xs, state)
        return hs, tuple(final) if kind == "lstm" else (final,)

    return Other(
        random_like(made, dtype),
        partial(convert.from_haiku, kind=ours),
        partial(convert.to_haiku, kind=ours),
        by_jax(run),
        lengths=False,
    )

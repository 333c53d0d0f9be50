"""A network in another library, and the results of both sides of a comparison."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("elman", "lstm", "optimized lstm", "gru", "gru, reset before")
KINDS += ("bidirectional lstm",)


class Sizes(NamedTuple):
    """The numbers of inputs and units."""

    d: int
    h: int


class Sample(NamedTuple):
    """The inputs of a comparison, and the derivatives of E by the outputs.

    Shapes:  xs [T, B, D], d_hs [T, B, ·], lengths [B] or None; parts of a state [B, H],
             in the library's order: h, c, and forward before backward.
    """

    xs: Any
    state: tuple[Any, ...]
    lengths: Any
    d_hs: Any
    d_final: tuple[Any, ...]


class Results(NamedTuple):
    """Outputs, zero past the lengths, and E's gradient."""

    hs: Any
    final: tuple[Any, ...]
    d_weights: Any
    d_xs: Any
    d_state: tuple[Any, ...]


class Peer(NamedTuple):
    """A network in another library.

    write(params) -> weights in its own layout, by jaxrnn.convert
    run(weights, xs, state=None, lengths=None) -> (hs, final), traced by JAX; None if
        the library is not JAX. A state has the parts of `Sample`; None is zeros.
    batch_first: whether xs and hs of `run` are [B, T, ...] instead of [T, B, ...].
    read(weights) -> (cell or layer, params), by jaxrnn.convert
    weights: random ones; no bias is zero.
    results(weights, sample) -> Results, if the library is not JAX.
    lengths: whether it takes them.
    """

    write: Callable[[Any], Any]
    run: Any  # Callable[..., tuple[Any, Any]] | None
    batch_first: bool = False
    read: Any = None  # Callable[[Any], tuple[Any, Any]] | None
    weights: Any = None
    results: Callable[[Any, Sample], Results] | None = None
    lengths: bool = True


def stacked(peers: Sequence[Peer]) -> Peer:
    """Stack networks, each fed with the outputs of the one below."""

    def write(params):
        return [p.write(own) for p, own in zip(peers, params, strict=True)]

    def run(weights, xs):
        for peer, own in zip(peers, weights, strict=True):
            xs, final = peer.run(own, xs)
        return xs, final

    return Peer(write, run, peers[0].batch_first)


def results_of(peer: Peer, sample: Sample) -> Results:
    """The peer's results on its own weights."""
    if peer.results is not None:
        return peer.results(peer.weights, sample)
    turn = partial(jnp.swapaxes, axis1=0, axis2=1) if peer.batch_first else jnp.asarray

    def run(weights, xs, state, lengths):
        hs, final = peer.run(weights, turn(xs), state, lengths)
        return turn(hs), final

    return by_jax(run, peer.weights, sample)


def by_jax(run: Any, weights: Any, sample: Sample) -> Results:
    """Results of `run(weights, xs, state, lengths) -> (hs, final)`, traced by JAX."""

    def error(weights, xs, state):
        hs, final = run(weights, xs, state, sample.lengths)
        if sample.lengths is not None:
            inside = jnp.arange(len(hs))[:, None] < sample.lengths[None]
            hs = jnp.where(inside[..., None], hs, jnp.zeros_like(hs))
        pulls = zip((hs, *final), (sample.d_hs, *sample.d_final), strict=True)
        return sum(jnp.vdot(a, b) for a, b in pulls), (hs, tuple(final))

    gradient = jax.jit(jax.grad(error, (0, 1, 2), has_aux=True))
    grads, (hs, final) = gradient(weights, sample.xs, sample.state)
    return Results(hs, final, *grads)


def bare(state: Any) -> Any:
    """A state in the libraries' form: h alone is not a tuple; None stays."""
    return state[0] if state is not None and len(state) == 1 else state


def parts(state: Any) -> tuple[Any, ...]:
    """A library's state, in the form of `Sample`."""
    return (state,) if isinstance(state, jax.Array) else tuple(state)


def random_like(tree: Any, dtype: Any) -> Any:
    """Random numbers in the tree's shapes."""
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda a: rng.normal(0, 0.5, a.shape).astype(dtype), tree)

"""Character models: their sizes, their error on text, and sampling from them."""

import math
from bisect import bisect_left
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import jaxrnn
from experiments.char_lm.text import Corpus, streams, window, windows
from jaxrnn import gradient_flow
from jaxrnn.model import Gradient
from jaxrnn.training import Outcome

CELLS = {"elman": jaxrnn.elman, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}


class Model(NamedTuple):
    """One network with its sizes and its loss."""

    name: str
    network: jaxrnn.Network
    cell: jaxrnn.Cell
    hidden: int
    symbols: int

    def init(self, seed: int) -> jaxrnn.NetworkParams:
        key = jax.random.key(seed)
        return self.network.init(key, self.symbols, self.hidden, self.symbols)

    def size(self) -> int:
        """The number of parameters."""
        shapes = jax.eval_shape(lambda: self.init(0))
        return sum(math.prod(a.shape) for a in jax.tree.leaves(shapes))

    def encode(self, indices: jax.Array) -> jax.Array:
        """One-hot vectors times √symbols, so that their mean square is 1.

        The initialiser of W_x assumes this of its inputs.
        """
        return jax.nn.one_hot(indices, self.symbols) * math.sqrt(self.symbols)

    def error(self, params, state, batch, gradient: Gradient = "manual"):
        """Mean cross-entropy of a window [T, B], in nats, and the state after it."""
        inputs, targets = batch
        error, state = self.network.error(
            params,
            self.encode(inputs),
            targets,
            state,
            gradient=gradient,
            return_state=True,
        )
        return error, Outcome(state, targets.size)


def build(cell: str, hidden: int, symbols: int) -> Model:
    """A model of this cell with these units."""
    record = CELLS[cell]()
    network = jaxrnn.network(record, "softmax_cross_entropy")
    return Model(cell, network, record, hidden, symbols)


def build_equal(cell: str, lstm_hidden: int, symbols: int) -> Model:
    """A model with nearly as many parameters as an LSTM of that size."""
    wanted = build("lstm", lstm_hidden, symbols).size()
    sizes = range(1, 5 * lstm_hidden)
    at = bisect_left(sizes, wanted, key=lambda h: build(cell, h, symbols).size())
    near = (build(cell, h, symbols) for h in sizes[max(0, at - 1) : at + 1])
    return min(near, key=lambda model: abs(model.size() - wanted))


def validate(model: Model, params: Any, corpus: Corpus, size: int = 500) -> float:
    """Bits per character over the whole held-out text, in 64 streams.

    It runs in windows of `size` characters and carries the state between them.
    """
    stream = streams(corpus.held_out, 64)
    state = model.cell.initial_state(params.cell, (stream.shape[1],))
    size = min(size, len(stream) - 1)
    total = 0.0
    count = windows(stream, size)
    for i in range(count):
        error, outcome = _evaluate(model, params, state, window(stream, size, i))
        state, total = outcome.state, total + float(error)
    return total / count / math.log(2)


@partial(jax.jit, static_argnums=0)
def _evaluate(model, params, state, batch):
    return model.error(params, state, batch)


@partial(jax.jit, static_argnums=0)
def horizon(model: Model, params: Any, state: Any, batch: Any) -> jax.Array:
    """How many steps back the error at a window's last character is felt."""
    inputs, targets = batch
    xs = model.encode(inputs)
    _, d_hs = model.network.cotangents(params, xs, targets, state)
    of = model.cell, params.cell, xs, state
    return gradient_flow.vitals(*of, d_hs).horizon


def health(
    model: Model, params: Any, corpus: Corpus, size: int
) -> gradient_flow.HealthReport:
    """The health of the gradient on held-out text, in 8 streams of two windows."""
    stream = streams(corpus.held_out, 8)
    length = min(2 * size, len(stream) - 1)
    inputs, targets = window(stream, length, 0)
    return gradient_flow.report(
        model.network,
        params,
        model.encode(jnp.asarray(inputs)),
        jnp.asarray(targets),
        window=min(size, length),
    )


@partial(jax.jit, static_argnums=(0, 3))
def sample(model: Model, params: Any, key: jax.Array, length: int) -> jax.Array:
    """Sample text from the model, one step at a time, at temperature 1."""

    def draw_one(carry, key):
        state, symbol = carry
        state, h = jaxrnn.step(model.cell, params.cell, state, model.encode(symbol))
        symbol = jax.random.categorical(key, jaxrnn.readout(params.readout, h))
        return (state, symbol), symbol

    start = (model.cell.initial_state(params.cell), jnp.zeros((), jnp.int32))
    return jax.lax.scan(draw_one, start, jax.random.split(key, length))[1]

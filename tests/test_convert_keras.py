"""Keras's activations: against its equations in NumPy, and against Keras itself."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import sigmoid
from table import assert_alike, assert_equal, relative_errors

from jaxrnn import LSTMState, State, elman, gru, lstm, unroll
from jaxrnn.convert import from_keras, to_keras

T, ROWS, D, H = 5, 3, 2, 4
GATES = {"elman": 1, "lstm": 4, "gru": 3, "gru-before": 3}
ACTIVATIONS = {
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "relu": lambda a: np.maximum(a, 0),
    "hard_sigmoid": lambda a: np.minimum(np.maximum(a + 3, 0), 6) / 6,
    "linear": lambda a: a,
    "leaky_relu": lambda a: np.where(a > 0, a, 0.2 * a),
    "elu": lambda a: np.where(a > 0, a, np.exp(np.minimum(a, 0)) - 1),
    "softsign": lambda a: a / (1 + np.abs(a)),
    "softplus": lambda a: np.log(1 + np.exp(a)),
}
# every activation in both places, and every kind of cell with some that differ
CASES = [("elman", name, "sigmoid") for name in ACTIVATIONS]
CASES += [("lstm", "tanh", name) for name in ACTIVATIONS]
CASES += [("gru", name, "hard_sigmoid") for name in ("tanh", "relu", "softsign")]
CASES += [("gru-before", name, "hard_sigmoid") for name in ("tanh", "elu")]
CASES += [("lstm", "softsign", "hard_sigmoid"), ("gru-before", "tanh", "sigmoid")]
each_case = pytest.mark.parametrize("kind, activation, recurrent", CASES)

pytestmark = pytest.mark.usefixtures("compile_fast")


def draw(kind, dtype=np.float64, seed=0):
    """Weights in Keras's form, and xs [T, B, D]; wide, for the hard sigmoid."""
    rng = np.random.default_rng(seed)
    wide = GATES[kind] * H
    shapes = [(D, wide), (H, wide), (2, wide) if kind == "gru" else (wide,)]
    *weights, xs = (
        (1.2 * rng.standard_normal(s)).astype(dtype) for s in [*shapes, (T, ROWS, D)]
    )
    return weights, xs


def options_of(kind, activation, recurrent):
    options: dict[str, Any] = {"activation": activation}
    if kind != "elman":
        options["recurrent_activation"] = recurrent
    return options | ({"reset_after": False} if kind == "gru-before" else {})


def read(weights, kind, *activations):
    return from_keras(
        weights, kind.removesuffix("-before"), **options_of(kind, *activations)
    )


def run_numpy(kind, weights, xs, act, rec):
    """Outputs [T, B, H], as Keras's layers compute them."""
    w, u, b = weights
    h = c = np.zeros((ROWS, H))
    hs = []
    for x in xs:
        if kind == "elman":
            h = act(x @ w + h @ u + b)
        elif kind == "lstm":
            i, f, g, o = np.split(x @ w + h @ u + b, 4, axis=-1)
            c = rec(f) * c + rec(i) * act(g)
            h = rec(o) * act(c)
        elif kind == "gru":
            z, r, n = np.split(x @ w + b[0], 3, axis=-1)
            u_z, u_r, u_n = np.split(h @ u + b[1], 3, axis=-1)
            z, r = rec(z + u_z), rec(r + u_r)
            h = z * h + (1 - z) * act(n + r * u_n)
        else:
            z, r, n = np.split(x @ w + b, 3, axis=-1)
            u_z, u_r, u_n = np.split(u, 3, axis=-1)
            z, r = rec(z + h @ u_z), rec(r + h @ u_r)
            h = z * h + (1 - z) * act(n + (r * h) @ u_n)
        hs.append(h)
    return np.stack(hs)


@each_case
def test_outputs_are_those_of_keras_equations(kind, activation, recurrent, x64):
    weights, xs = draw(kind)
    cell, params = read(weights, kind, activation, recurrent)
    hs, _ = unroll(cell, params, xs)
    names = activation, recurrent
    wanted = run_numpy(kind, weights, xs, *(ACTIVATIONS[name] for name in names))
    assert_alike(hs, wanted, 1e-13)
    if recurrent != "sigmoid":  # control: the usual gates are found
        usual, _ = unroll(read(weights, kind, activation, "sigmoid")[0], params, xs)
        assert relative_errors(usual, wanted)[""] > 1e-2


@each_case
def test_manual_gradient_equals_autodiff(kind, activation, recurrent, x64):
    weights, xs = draw(kind)
    cell, params = read(weights, kind, activation, recurrent)

    def error(params, xs, gradient):
        hs, _ = unroll(cell, params, xs, gradient=gradient, chunk_size=2)
        return jnp.sin(hs).sum()

    params = jax.tree.map(jnp.asarray, params)
    manual, auto = (
        jax.jit(jax.grad(error, (0, 1)), static_argnums=2)(params, xs, gradient)
        for gradient in ("manual", "autodiff")
    )
    assert_alike(manual, auto, 1e-10)


@each_case
def test_weights_come_back_whatever_the_activations(kind, activation, recurrent):
    weights, _ = draw(kind, np.float32)
    cell, params = read(weights, kind, activation, recurrent)
    assert_equal(to_keras(params, kind.removesuffix("-before")), weights)
    assert read(weights, kind, activation, recurrent)[0] is cell  # compiles once


@pytest.fixture
def as_keras():
    """JAX's own promotion rules, which Keras's layers need, and its backend."""
    os.environ["KERAS_BACKEND"] = "jax"  # read once, when keras is first imported
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield pytest.importorskip("keras")


@each_case
def test_outputs_and_gradients_are_those_of_keras(
    as_keras, kind, activation, recurrent
):
    layers = as_keras.layers
    makers = {"elman": layers.SimpleRNN, "lstm": layers.LSTM}
    options = options_of(kind, activation, recurrent)
    layer = makers.get(kind, layers.GRU)(H, return_sequences=True, **options)
    layer.build((ROWS, T, D))

    def theirs(weights, xs):
        others = [v.value for v in layer.non_trainable_variables]
        hs, _ = layer.stateless_call(weights, others, jnp.swapaxes(xs, 0, 1))
        return jnp.swapaxes(hs, 0, 1)

    def ours(weights, xs):
        return unroll(*read(weights, kind, activation, recurrent), xs)[0]

    def results(run):
        def error(*args):
            hs = run(*args)
            return jnp.sin(hs).sum(), hs

        inputs = jax.tree.map(jnp.asarray, draw(kind, np.float32))
        return jax.grad(error, (0, 1), has_aux=True)(*inputs)

    assert_alike(results(ours), results(theirs), 2e-5)


@pytest.mark.parametrize(
    "kind, activations, wanted",
    [
        ("elman", ("tanh", "sigmoid"), elman()),
        ("elman", ("relu", "sigmoid"), elman("relu")),
        ("elman", ("linear", "sigmoid"), elman("identity")),
        ("elman", (jnp.sin, "sigmoid"), elman(jnp.sin)),
        ("lstm", ("tanh", "sigmoid"), lstm()),
        ("gru", ("tanh", "sigmoid"), gru()),
        ("gru-before", ("tanh", "sigmoid"), gru(reset_after=False)),
    ],
)
def test_the_usual_activations_are_the_librarys_own_cells(kind, activations, wanted):
    assert read(draw(kind)[0], kind, *activations)[0] is wanted


@pytest.mark.parametrize("kind, state", [("lstm", LSTMState), ("gru", State)])
def test_states_are_those_of_every_such_cell(kind, state):
    cell, params = read(draw(kind, np.float32)[0], kind, "relu", "hard_sigmoid")
    assert type(cell.initial_state(params)) is state


@pytest.mark.parametrize(
    "kind, options, error, match",
    [
        ("lstm", {"activation": "swish"}, ValueError, r"activation: .*'tanh'.*'swish'"),
        ("lstm", {"activation": jnp.tanh}, ValueError, r"activation: expected one of"),
        ("gru", {"recurrent_activation": None}, ValueError, r"recurrent_.* got None"),
        ("elman", {"recurrent_activation": "relu"}, ValueError, r"recurrent_.*'elman'"),
        (
            "gru",
            {"reset_after": 0},
            TypeError,
            r"reset_after: expected True or Fal.* 0",
        ),
        ("gru", {"bidirectional": 1}, TypeError, r"bidirectional: expected True or F"),
    ],
)
def test_wrong_options_are_named(kind, options, error, match):
    with pytest.raises(error, match=match):
        from_keras(draw(kind)[0], kind, **options)

"""Wrong calls raise, at trace time, errors that name the argument, wanted and given.

One table over the public functions. No call in it gives a number.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import MORE_CELLS, draw

from jaxrnn import (
    bidirectional,
    bptt,
    check_gradients,
    elman,
    gru,
    layer_norm,
    lru,
    lstm,
    network,
    optim,
    readout,
    stack,
    step,
    unroll,
)
from jaxrnn.layers import draw_noise, learned_start, noisy

LSTM = draw(lstm(), dtype=np.float32)  # xs [5, 2, 2], 3 units
P, XS, STATE = LSTM.inputs
STACK = stack(lstm(), gru())
S = draw(STACK, dtype=np.float32)
NET = network(lstm())


def key():
    return jax.random.key(0)


def net_params():
    return NET.init(key(), 2, 3, 4)


def lstm_run(**changes):
    """`unroll` and `bptt` of an LSTM, with some argument changed."""
    for call in (unroll, bptt):
        with pytest.raises((TypeError, ValueError)) as first:
            call(**{"cell": lstm(), "params": P, "xs": XS, "state": STATE} | changes)
    raise first.value


def net_run(**changes):
    given = {"params": net_params(), "xs": XS, "targets": np.zeros((5, 2, 4), "f4")}
    return NET.gradients(**given | changes)


def two_outputs():
    net = network(bidirectional(gru(), merge=None))
    return net.apply(net.init(key(), 2, 3, 4), XS)


def in_jit(lengths):
    return jax.jit(lambda xs: unroll(lstm(), P, xs, lengths=lengths))(XS)


def zone_run():
    xs = S.xs[..., [0, 0, 0]]
    return unroll(noisy(gru(), zoneout=(0.1, 0.2)), S.params[1], xs)


# what is called; what it raises; words that the message holds
WRONG = {
    # the arrays of a run
    "xs a list": (lambda: lstm_run(xs=[[1.0]]), TypeError, "xs: expected an array"),
    "xs without time": (
        lambda: lstm_run(xs=XS[0, 0]),
        ValueError,
        "xs: expected an array [T, ..., D]",
    ),
    "xs of other features": (lambda: lstm_run(xs=XS[..., :1]), ValueError, "2 rows"),
    "xs of integers": (
        lambda: lstm_run(xs=np.ones((5, 2, 2), int)),
        TypeError,
        "xs: expected float32 as the parameters, got int",
    ),
    "state an array": (
        lambda: lstm_run(state=XS),
        TypeError,
        "expected LSTMState(h, c)",
    ),
    "state of another batch": (
        lambda: lstm_run(state=jax.tree.map(lambda s: s[:1], STATE)),
        ValueError,
        "state.h",
    ),
    "state of another dtype": (
        lambda: lstm_run(state=jax.tree.map(lambda s: s.astype("f2"), STATE)),
        TypeError,
        "state.h: expected float32, got float16",
    ),
    "reset_to another state": (
        lambda: lstm_run(reset_to=STATE.h),
        TypeError,
        "reset_to: expected LSTMState",
    ),
    # parameters
    "params a tuple": (lambda: lstm_run(params=(1, 2)), TypeError, "jaxrnn.Params"),
    "params of another cell": (
        lambda: lstm_run(params=draw(gru(), dtype="f4").params),
        ValueError,
        "params.w_x",
    ),
    "w_x a vector": (
        lambda: lstm_run(params=P._replace(w_x=P.b)),
        ValueError,
        "matric",
    ),
    "w_s of other rows": (
        lambda: lstm_run(params=P._replace(w_s=P.w_s[:2])),
        ValueError,
        "params.w_s",
    ),
    "w_s of integers": (
        lambda: lstm_run(params=P._replace(w_s=P.w_s.astype(int))),
        TypeError,
        "params.w_s: expected a floating dtype",
    ),
    "b too short": (
        lambda: lstm_run(params=P._replace(b=P.b[:-1])),
        ValueError,
        "params.b",
    ),
    "b_s a column": (
        lambda: lstm_run(params=P._replace(b_s=P.b[:, None])),
        ValueError,
        "params.b_s",
    ),
    "own where none is": (
        lambda: lstm_run(params=P._replace(own=P.b)),
        TypeError,
        "params.own: expected None",
    ),
    "own missing": (
        lambda: lstm_run(cell=lstm(peepholes=True)),
        TypeError,
        "params.own: expected Parts(",
    ),
    "float64 without x64": (
        lambda: lstm_run(params=draw(lstm()).params),
        TypeError,
        "params.w_s: got float64, which JAX narrows",
    ),
    # options of a run
    "cell not called": (
        lambda: lstm_run(cell=lstm),
        TypeError,
        "got the function lstm: call it",
    ),
    "cell a name": (lambda: lstm_run(cell="lstm"), TypeError, "got str"),
    "chunk_size zero": (lambda: lstm_run(chunk_size=0), ValueError, "chunk_size"),
    "chunk_size a float": (lambda: lstm_run(chunk_size=2.0), ValueError, "got 2.0"),
    "store unknown": (lambda: lstm_run(store="all"), ValueError, "store: expected"),
    "reverse a number": (lambda: lstm_run(reverse=1), TypeError, "reverse: expected"),
    "return_states a word": (
        lambda: unroll(lstm(), P, XS, return_states="yes"),
        TypeError,
        "return_states: expected True or False",
    ),
    "gradient unknown": (
        lambda: unroll(lstm(), P, XS, gradient="auto"),
        ValueError,
        "gradient: expected 'manual' or 'autodiff'",
    ),
    "noise for a cell": (
        lambda: lstm_run(noise=3),
        TypeError,
        "noise: expected a key",
    ),
    # lengths and resets
    "length too long": (
        lambda: lstm_run(lengths=[1, 6]),
        ValueError,
        "lengths: expected values in 0..5",
    ),
    "length negative": (lambda: lstm_run(lengths=[-1, 2]), ValueError, "got -1..2"),
    "length too long, known inside jit": (
        lambda: in_jit([1, 7]),
        ValueError,
        "got 1..7",
    ),
    "length of an array too long inside jit": (
        lambda: in_jit(jnp.array([8, 0])),
        ValueError,
        "got 0..8",
    ),
    "lengths floats": (lambda: lstm_run(lengths=[1.0, 2.0]), TypeError, "integers [2]"),
    "lengths booleans": (lambda: lstm_run(lengths=[True, False]), TypeError, "bool"),
    "lengths one number": (lambda: lstm_run(lengths=3), ValueError, "lengths"),
    "lengths of other rows": (
        lambda: lstm_run(lengths=[1, 2, 3]),
        ValueError,
        "lengths",
    ),
    "resets numbers": (
        lambda: lstm_run(resets=np.full((5, 2), 0.5)),
        ValueError,
        "resets: expected booleans, or numbers that are 0 or 1",
    ),
    "resets without rows": (
        lambda: lstm_run(resets=np.zeros(5, bool)),
        ValueError,
        "resets",
    ),
    "resets batch first": (
        lambda: lstm_run(resets=np.zeros((2, 5), bool)),
        ValueError,
        "resets",
    ),
    # the backward pass by hand
    "cotangents too long": (
        lambda: bptt(lstm(), P, XS, cotangents=np.zeros((6, 2, 3), "f4")),
        ValueError,
        "cotangents.h",
    ),
    "cotangents of one part": (
        lambda: bptt(lstm(), P, XS, cotangents=(None,)),
        ValueError,
        "cotangents: expected 2 parts as LSTMState has, got 1",
    ),
    "final an array": (
        lambda: bptt(lstm(), P, XS, final=STATE.h),
        TypeError,
        "final: expected LSTMState",
    ),
    "cotangents of a stack's inputs": (
        lambda: bptt(STACK, *S.inputs, S.xs),
        ValueError,
        "cotangents",
    ),
    # one step
    "step without a state": (lambda: step(lstm(), P, None, XS[0]), TypeError, "state"),
    "step of a sequence": (lambda: step(lstm(), P, STATE, XS), ValueError, "state.h"),
    "step of other features": (
        lambda: step(lstm(), P, STATE, XS[0, :, :1]),
        ValueError,
        "x: expected shape [..., 2]",
    ),
    "step of a stack without features": (
        lambda: step(STACK, S.params, S.state, 1.0),
        TypeError,
        "x: expected an array, got float",
    ),
    # cells
    "activation unknown": (lambda: elman("swish"), ValueError, "got 'swish'"),
    "recurrent unknown": (
        lambda: elman(recurrent="eye"),
        ValueError,
        "recurrent: expec",
    ),
    "reset_after a number": (
        lambda: gru(reset_after=0),
        TypeError,
        "reset_after: expec",
    ),
    "peepholes a number": (lambda: lstm(peepholes=1), TypeError, "peepholes: expected"),
    "coupled a word": (lambda: lstm(coupled="f"), TypeError, "coupled: expected True"),
    "projection zero": (lambda: lstm(projection=0), ValueError, "projection: expected"),
    "projection true": (lambda: lstm(projection=True), ValueError, "got True"),
    "layer_norm of a function": (lambda: layer_norm(lstm), TypeError, "cell: expected"),
    "layer_norm of no product": (
        lambda: layer_norm(MORE_CELLS["mingru"]).init(key(), 2, 3),
        ValueError,
        "cell: expected one with a recurrent product",
    ),
    "ring inside out": (
        lambda: lru(r_min=0.9, r_max=0.5),
        ValueError,
        "r_min and r_max: expected",
    ),
    "phase above 2π": (lambda: lru(max_phase=7), ValueError, "max_phase: expected"),
    "odd complex units": (
        lambda: lru().init(key(), 2, 3),
        ValueError,
        "hidden_size: expected an even number",
    ),
    "no inputs": (
        lambda: gru().init(key(), 0, 3),
        ValueError,
        "input_size: expected",
    ),
    "no units": (
        lambda: lstm().init(key(), 2, 0),
        ValueError,
        "hidden_size: expected",
    ),
    "integer parameters": (
        lambda: gru().init(key(), 2, 3, dtype=jnp.int32),
        TypeError,
        "dtype: expected a floating dtype, got int32",
    ),
    # layers
    "empty stack": (lambda: stack(), ValueError, "layers: expected one or more"),
    "stack of functions": (
        lambda: stack(lstm),
        TypeError,
        "layers[0]: expected a Cell",
    ),
    "stack of names": (lambda: stack(lstm(), "gru"), TypeError, "layers[1]"),
    "skip unknown": (lambda: stack(lstm(), skip="dense"), ValueError, "got 'dense'"),
    "dropout of all": (
        lambda: stack(lstm(), dropout=1.0),
        ValueError,
        "[0, 1), got 1.0",
    ),
    "bidirectional name": (lambda: bidirectional("gru"), TypeError, "layer: expected"),
    "backward a number": (
        lambda: bidirectional(gru(), 3),
        TypeError,
        "backward: expec",
    ),
    "merge unknown": (lambda: bidirectional(gru(), merge="add"), ValueError, "'add'"),
    "noisy stack": (
        lambda: noisy(STACK),
        TypeError,
        "cell: expected a Cell, such as elman(), got a Layer: give the cells",
    ),
    "noisy uncalled": (lambda: noisy(lstm), TypeError, "call it, lstm()"),
    "no zoneout": (lambda: noisy(gru(), zoneout=()), ValueError, "zoneout: expected"),
    "rate negative": (
        lambda: noisy(gru(), inputs=-0.1),
        ValueError,
        "inputs: expected",
    ),
    "rate a word": (lambda: noisy(gru(), weights="a"), ValueError, "got 'a'"),
    "zoneout above 1": (lambda: noisy(gru(), zoneout=(0.1, 2)), ValueError, "zoneout"),
    "zoneout of two parts": (zone_run, ValueError, "zoneout: expected 1 rates"),
    "learned number": (lambda: learned_start(3), TypeError, "layer: expected a Cell"),
    "stack's params of one": (
        lambda: unroll(STACK, S.params[:1], S.xs),
        TypeError,
        "params: expected a tuple of 2, got tuple of 1",
    ),
    "stack's params turned": (
        lambda: unroll(STACK, S.params[::-1], S.xs),
        ValueError,
        "params.w_x",
    ),
    "stack's state of one": (
        lambda: unroll(STACK, S.params, S.xs, S.state[0]),
        TypeError,
        "state: expected a tuple of 2",
    ),
    "stack's xs a list": (
        lambda: unroll(STACK, S.params, [1.0]),
        TypeError,
        "got list",
    ),
    "stack's noise": (lambda: unroll(STACK, *S.inputs, noise=3), TypeError, "noise"),
    "noise for other inputs": (
        lambda: unroll(
            stack(lstm(), gru(), dropout=0.5),
            *S.inputs,
            noise=draw_noise(
                key(), stack(lstm(), gru(), dropout=0.5), S.params, S.xs[:3]
            ),
        ),
        ValueError,
        "noise.between",
    ),
    "bidirectional params a tuple": (
        lambda: unroll(bidirectional(lstm()), (P, P), XS),
        TypeError,
        "params: expected a Directions of 2",
    ),
    # networks
    "error unknown": (
        lambda: network(lstm(), "hinge"),
        ValueError,
        "error: expected 'sigmoid_cross",
    ),
    "output unknown": (
        lambda: network(lstm(), output="relu"),
        ValueError,
        "got 'relu'",
    ),
    "σ twice": (
        lambda: network(lstm(), "sigmoid_cross_entropy", "sigmoid"),
        ValueError,
        "output: expected None with error=",
    ),
    "no outputs": (
        lambda: NET.init(key(), 2, 3, 0),
        ValueError,
        "output_size: expected",
    ),
    "targets of other outputs": (
        lambda: net_run(targets=np.zeros((5, 2, 3), "f4")),
        ValueError,
        "targets: expected shape [5, 2, 4]",
    ),
    "targets of integers": (
        lambda: net_run(targets=np.zeros((5, 2, 4), int)),
        TypeError,
        "targets: expected float32, got int",
    ),
    "weights of rows": (
        lambda: net_run(weights=np.ones(2, "f4")),
        ValueError,
        "weights: expected shape [5, 2]",
    ),
    "outputs in two parts to read from": (
        two_outputs,
        TypeError,
        "multiplies by W_y; got Directions(forward, backward)",
    ),
    "params of a cell for a network": (
        lambda: net_run(params=P),
        TypeError,
        "params: expected NetworkParams, got Params(",
    ),
    "return_state a number": (
        lambda: NET.error(net_params(), XS, XS, return_state=1),
        TypeError,
        "return_state: expected True or False, got 1",
    ),
    "network's key a number": (
        lambda: NET.init(0, 2, 3, 4),
        TypeError,
        "key: expected a random key",
    ),
    "network's bias a word": (
        lambda: NET.init(key(), 2, 3, 4, bias="no"),
        TypeError,
        "bias: expected True or False, got 'no'",
    ),
    "network's xs": (lambda: net_run(xs=XS[..., :1]), ValueError, "xs: expected shape"),
    "network's lengths": (
        lambda: net_run(lengths=[9, 1]),
        ValueError,
        "lengths: expec",
    ),
    "readout of other units": (
        lambda: readout(net_params().readout, XS),
        ValueError,
        "params.w_y: expected shape [2, O], since hs",
    ),
    # gradients checked, accumulated, clipped
    "nothing to check": (
        lambda: check_gradients(3, P),
        TypeError,
        "f_or_network: expec",
    ),
    "check in integers": (
        lambda: check_gradients(NET, net_params(), XS, XS, dtype="int32"),
        ValueError,
        "dtype: expected one of ('float64', 'float32', 'bfloat16', 'float16'), got 'in",
    ),
    "check against the derivations of a network": (
        lambda: check_gradients(lambda p: p.w_x.sum(), P, against=("rtrl",)),
        ValueError,
        "against: expected some of ('compiled', 'forward', 'differences'), got",
    ),
    "check of a gradient's name": (
        lambda: check_gradients(NET, net_params(), XS, XS, gradient="manual"),
        TypeError,
        "gradient: expected a function of (params, *batch) that gives ∂E/∂params",
    ),
    "check within less than nothing": (
        lambda: check_gradients(NET, net_params(), XS, XS, tolerance=-1.0),
        ValueError,
        "tolerance: expected a number of 0 or more, or math.inf",
    ),
    "no threshold": (lambda: optim.clip_by_global_norm(0), ValueError, "threshold"),
    "steps without a name": (
        lambda: optim.recurrent(optax.sgd(1.0), 2),
        TypeError,
        "takes 1 positional argument but 2 were given",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_say_what_was_expected_and_what_came(name):
    call, error, words = WRONG[name]
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)


def test_control_right_calls_raise_nothing():
    unroll(lstm(), P, XS, STATE, lengths=[0, 5], resets=np.zeros((5, 2), bool))
    unroll(STACK, *S.inputs, reset_to=S.state, noise=None)
    step(lstm(), P, STATE, XS[0])
    net_run()

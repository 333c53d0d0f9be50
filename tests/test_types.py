"""Types: pyright flags wrong calls, line by line, and only those."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None,
    reason="pyright is not installed: pip install 'jaxrnn[dev]'",
)

HEADER = """
from typing import assert_type

import jax
from jax import Array
from jaxrnn import (
    LSTMState, NetworkParams, State, bidirectional, elman, gru, indrnn, layer_norm, lru,
    lstm, network, noisy, stack, unroll
)
key = jax.random.key(0)
cell = lstm()
p = cell.init(key, input_size=3, hidden_size=4)
xs = jax.numpy.ones((5, 3))
net = network(cell)
q = net.init(key, 3, 4, 2)
"""
WRONG = [
    'elman("Tanh")',
    "elman(32)",
    "gru(32)",
    "lstm(32)",
    "lstm(forgetbias=1.0)",
    "cell.init(key, inputsize=3, hidden_size=4)",
    "cell.init(key, 3, 4.0)",
    "cell.init(key, 3, (4, 5))",
    "unroll(cell, p, xs, lenghts=3)",
    'unroll(cell, p, xs, gradient="auto")',
    'stack(lstm(), skip="res")',
    "stack([lstm(), gru()])",
    'bidirectional(gru(), merge="add")',
    'elman(recurrent="eye")',
    "layer_norm(lstm)",
    "noisy(stack(lstm()))",
    "stack(lstm()).init(key, inputsize=3, hidden_size=4)",
    'network(cell, "mse")',
    "net.init(key, 3, 4)",
    "net.apply(q, xs, chunksize=3)",
    "net.error(q, xs, xs, lenghts=3)",
    'net.error(q, xs, xs, gradient="auto")',
    "net.gradients(q, xs, xs, return_state=True)",
    "net.gradients(p, xs, xs)",
    "net.cotangents(q, xs)",
    "assert_type(unroll(elman(), p, xs), tuple[Array, LSTMState])",
]
RIGHT = [
    'elman("tanh")',
    "elman(jax.numpy.sin)",
    'indrnn("relu")',
    "gru(reset_after=False)",
    "lstm(forget_bias=1, projection=3)",
    "lru(r_min=0.5)",
    "cell.init(key, 3, 4, bias=False, dtype=jax.numpy.bfloat16)",
    'cell.init(key, 3, 4, dtype="float32").w_x.shape',
    "cell.initial_state(p, 8)",
    "cell.initial_state(p, (8, 2))",
    "unroll(cell, p, xs, lengths=3)",
    'stack(lstm(), gru(), skip="residual").init(key, 3, 4)',
    "stack(lstm(), gru()).init(key, 3, (4, 5))",
    'bidirectional(gru(), merge="sum")',
    "bidirectional(gru(), merge=None)",
    "noisy(layer_norm(lstm()), zoneout=(0.1, 0.2))",
    'network(stack(lstm(), gru()), "squared", "tanh").init(key, 3, (4, 5), 2)',
    "network(gru(), lambda ys, targets: (ys - targets).sum(-1))",
    "unroll(cell, p, jax.device_get(xs))",
    "unroll(stack(gru()), p, xs, return_states=True, noise=None)",
    "net.error(q, jax.device_get(xs), xs, lengths=3, weights=xs, noise=None)",
    "assert_type(unroll(elman(), p, xs, lengths=3), tuple[Array, State])",
    "assert_type(unroll(layer_norm(cell), p, xs, p), tuple[Array, LSTMState])",
    "assert_type(unroll(gru(), p, xs, return_states=True), tuple[State, State])",
    "assert_type(net.error(q, xs, xs, reverse=True), Array)",
    "assert_type(net.error(q, xs, xs, return_state=True)[0], Array)",
    "assert_type(net.gradients(q, xs, xs), tuple[Array, NetworkParams])",
    "assert_type(net.cotangents(q, xs, xs, store='states'), tuple[Array, Array])",
]


@pytest.fixture(scope="module")
def errors(tmp_path_factory) -> dict[int, str]:
    """What pyright says of each line of one file: right calls, then wrong ones."""
    folder = tmp_path_factory.mktemp("types")
    file = folder / "calls.py"
    file.write_text("\n".join([HEADER, *RIGHT, *WRONG]))
    root = Path(__file__).parent.parent
    config = {"extraPaths": [str(root)], "reportUnusedExpression": False}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    options = ["--outputjson", "--pythonpath", sys.executable, "--project", str(folder)]
    run = [sys.executable, "-m", "pyright", *options]
    done = subprocess.run(run, capture_output=True, text=True, cwd=folder)
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not start: {done.stderr.strip()[-200:]}")
    said = json.loads(done.stdout)["generalDiagnostics"]
    return {
        d["range"]["start"]["line"]: d["message"]
        for d in said
        if d["severity"] == "error"
    }


def line_of(call: str) -> int:
    return HEADER.count("\n") + 1 + (RIGHT + WRONG).index(call)


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_call_is_flagged(call, errors):
    assert line_of(call) in errors


@pytest.mark.parametrize("call", RIGHT)
def test_a_right_call_is_not(call, errors):
    assert line_of(call) not in errors, errors[line_of(call)]


def test_nothing_else_is_flagged(errors):
    assert set(errors) <= {line_of(call) for call in WRONG}

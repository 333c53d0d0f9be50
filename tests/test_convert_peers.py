"""Converted networks against the real ones: outputs, gradients, lengths, states."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, assert_equal

from experiments import conversion
from experiments.conversion import compare, differences, largest, sample_for
from experiments.conversion_peers import LIBRARIES, other
from experiments.conversion_sides import KINDS, Sizes
from jaxrnn import gru, unroll

SIZES, STEPS, ROWS = Sizes(3, 4), 5, 3
LIMITS = {"float32": 5e-6, "float64": 1e-13}
# The gates of each kind in the library's own order
GATES = {"elman": 1, "lstm": 4, "optimized lstm": 4, "gru": 3, "gru, reset before": 3}

pytestmark = [
    pytest.mark.usefixtures("compile_fast"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture(params=LIBRARIES)
def library(request):
    """The name of another library."""
    return request.param


@pytest.fixture(params=KINDS)
def kind(request):
    """The name of a kind of network."""
    return request.param


@cache  # what is compiled for one test serves the next
def made(library, kind, bias, dtype):
    if "before" in kind:
        try:
            gru(reset_after=False)
        except ValueError:
            pytest.skip("gru(reset_after=False) is not there yet")
    return other(library, kind, SIZES, bias, dtype)


def network_or_skip(library, kind, bias=True, dtype="float32"):
    found = made(library, kind, bias, dtype)
    if found is None:
        pytest.skip(f"{library} is not installed, or has no such {kind}")
    return found


def test_outputs_and_gradients_with_lengths_in_float32(library, kind):
    network = network_or_skip(library, kind)
    found = compare(network, STEPS, ROWS, lengths=network.lengths)
    assert max(found.values()) < LIMITS["float32"], found


def test_outputs_and_gradients_in_float64_and_without_a_bias(library, kind):
    # Keras in float32; with a bias where the library always has one.
    dtype = "float32" if library == "keras" else "float64"
    with jax.enable_x64(dtype == "float64"):
        bias = made(library, kind, False, dtype) is None
        network = network_or_skip(library, kind, bias, dtype)
        found = compare(network, STEPS, ROWS, lengths=False)
    if library == "onnx":  # its gradient is central differences
        outputs, gradients = largest(found)
        assert outputs < LIMITS[dtype] and gradients < 1e-8, found
        return
    assert max(found.values()) < LIMITS[dtype], found


def test_control_two_gates_swapped_are_found(library, kind):
    network = network_or_skip(library, kind)
    gates = GATES.get(kind)
    if gates is None:
        pytest.skip("its directions are cells of the other kinds")

    def swapped(a):
        first, second, *rest = jnp.split(a, max(gates, 2), axis=-1)
        return jnp.concatenate([second, first, *rest], axis=-1)

    layer, params = network.read(network.weights)
    sample = sample_for(params, layer, STEPS, ROWS, network.lengths)
    start = type(layer.initial_state(params, (ROWS,)))(*sample.state)
    wrong = params._replace(w_x=swapped(jnp.asarray(params.w_x)))
    hs, _ = unroll(layer, wrong, sample.xs, start, lengths=sample.lengths)
    wanted = network.results(network.weights, sample).hs
    assert differences(hs, wanted)[""] > 1e-2


@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no-bias"])
def test_weights_come_back(library, kind, bias):
    if library == "onnx":
        pytest.skip("it has files of its own")
    network = network_or_skip(library, kind, bias)
    params = network.read(network.weights)[1]
    back = network.write(params)
    if library == "haiku" and kind == "lstm":
        # Its b_f plus 1 has fewer digits than b_f; a second time, nothing is lost.
        assert_alike(back, network.weights, 1e-6)
        assert_equal(network.write(network.read(back)[1]), back)
    else:
        assert_equal(back, network.weights)
    assert all(isinstance(a, np.ndarray) for a in jax.tree.leaves((params, back)))


def test_the_table_is_printed_and_written(tmp_path, capsys, monkeypatch):
    pytest.importorskip("equinox")
    found = {".hs": 1e-7, ".final[0]": 2e-7, ".d_xs": 3e-7, ".d_weights['bias']": 1e-9}
    monkeypatch.setattr(conversion, "compare", lambda *_, **__: found)
    out = tmp_path / "table.md"
    config = conversion.Config(("equinox",), ("elman", "gru"), 4, 2, 2, 3, out)
    assert conversion.main(config) == {("equinox", "gru"): [2e-7, 3e-7] * 2}
    assert "float64" in capsys.readouterr().out
    last = "| equinox | gru | 2.0e-07 | 3.0e-07 | 2.0e-07 | 3.0e-07 |\n"
    assert out.read_text().endswith(last) and out.read_text().count("\n") == 3

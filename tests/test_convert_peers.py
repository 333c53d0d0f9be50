"""Converted networks against the originals: outputs, gradients, lengths, states."""

from functools import cache
from itertools import product
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, assert_equal

from experiments import conversion
from experiments.conversion import compare, largest, sample_for
from experiments.peers import LIBRARIES, installed, peer_of
from experiments.peers.record import KINDS, Sizes, results_of
from jaxrnn import unroll
from jaxrnn.gradcheck import relative_errors

SIZES, STEPS, ROWS = Sizes(3, 4), 5, 3
LIMITS = {"float32": 5e-6, "float64": 1e-13}
# The gates of each kind in the library's own order; two directions have no order.
GATES = {"elman": 1, "lstm": 4, "optimized lstm": 4, "gru": 3, "gru, reset before": 3}

# The networks that each library has: with a bias, and without.
FLAX = ("elman", "lstm", "optimized lstm", "gru")
FIVE = ("elman", "lstm", "gru", "gru, reset before", "bidirectional lstm")
FOUR = ("elman", "lstm", "gru", "bidirectional lstm")
NETWORKS = {
    "keras": (FIVE, FIVE),
    "flax linen": (FLAX, ()),
    "flax nnx": (FLAX, ()),
    "haiku": (("elman", "lstm", "gru, reset before"), ("elman",)),
    "equinox": (("lstm", "gru"), ("lstm", "gru")),
    "torch": (FOUR, FOUR),
    "onnx": (FIVE, FIVE),
}
PAIRS = [(library, kind) for library, (kinds, _) in NETWORKS.items() for kind in kinds]
each_pair = pytest.mark.parametrize("library, kind", PAIRS)

pytestmark = [
    pytest.mark.usefixtures("compile_fast"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

made = cache(peer_of)  # what is compiled for one test serves the next


def need(library):
    """Skip a test of a library that is not installed."""
    if not installed(library):
        pytest.skip(f"{library} is not installed")


def network_of(library, kind, bias=True, dtype="float32"):
    need(library)
    found = made(library, kind, SIZES, bias, dtype)
    assert found is not None, f"{library} has no such {kind}"
    return found


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_network_of_a_library_is_among_the_tested_ones(library):
    need(library)
    for bias, kinds in zip((True, False), NETWORKS[library], strict=True):
        found = {kind: made(library, kind, SIZES, bias, "float32") for kind in KINDS}
        assert {kind for kind in KINDS if found[kind] is not None} == set(kinds)


def test_every_library_is_tested():
    assert set(NETWORKS) == set(LIBRARIES)


@each_pair
def test_outputs_and_gradients_with_lengths_in_float32(library, kind):
    network = network_of(library, kind)
    found = compare(network, STEPS, ROWS, lengths=network.lengths)
    assert max(found.values()) < LIMITS["float32"], found


@each_pair
def test_outputs_and_gradients_in_float64_and_without_a_bias(library, kind):
    # Keras in float32; with a bias where the library always has one.
    dtype = "float32" if library == "keras" else "float64"
    bias = kind not in NETWORKS[library][1]
    with jax.enable_x64(dtype == "float64"):
        network = network_of(library, kind, bias, dtype)
        found = compare(network, STEPS, ROWS, lengths=False)
    if library == "onnx":  # its gradient is central differences
        outputs, gradients = largest(found)
        assert outputs < LIMITS[dtype] and gradients < 1e-8, found
        return
    assert max(found.values()) < LIMITS[dtype], found


@pytest.mark.parametrize("library, kind", [p for p in PAIRS if p[1] in GATES])
def test_control_two_gates_swapped_are_found(library, kind):
    network = network_of(library, kind)

    def swapped(a):  # an only gate's two halves
        first, second, *rest = jnp.split(a, max(GATES[kind], 2), axis=-1)
        return jnp.concatenate([second, first, *rest], axis=-1)

    layer, params = network.read(network.weights)
    sample = sample_for(params, layer, STEPS, ROWS, network.lengths)
    start = type(layer.initial_state(params, (ROWS,)))(*sample.state)
    wrong = params._replace(w_x=swapped(jnp.asarray(params.w_x)))
    hs, _ = unroll(layer, wrong, sample.xs, start, lengths=sample.lengths)
    wanted = results_of(network, sample).hs
    assert relative_errors(hs, wanted)[""] > 1e-2


# ONNX has files of its own: nothing is written.
COMING_BACK = [
    (library, kind, bias)
    for (library, kind), bias in product(PAIRS, (True, False))
    if library != "onnx" and (bias or kind in NETWORKS[library][1])
]


@pytest.mark.parametrize("library, kind, bias", COMING_BACK)
def test_weights_come_back(library, kind, bias):
    network = network_of(library, kind, bias)
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
    def has(library, kind, *_):
        return SimpleNamespace(lengths=True) if kind == "gru" else None

    found = {"hs": 1e-7, "final.0": 2e-7, "d_xs": 3e-7, "d_weights.bias": 1e-9}
    monkeypatch.setattr(conversion, "peer_of", has)
    monkeypatch.setattr(conversion, "compare", lambda *_, **__: found)
    config = conversion.Config(("equinox",), ("elman", "gru"), tmp_path)
    assert conversion.main(config) == {"equinox": {"gru": [2e-7, 3e-7] * 2}}
    assert "float64" in capsys.readouterr().out
    last = "| equinox | gru | 2.0e-07 | 3.0e-07 | 2.0e-07 | 3.0e-07 |\n"
    page = (tmp_path / "page.md").read_text()
    assert page.endswith(last) and page.count("| equinox |") == 1

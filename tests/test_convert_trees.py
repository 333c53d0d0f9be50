"""Conversions without the other libraries: they are exact, with clear errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import assert_alike, assert_equal

from jaxrnn import Params, State, convert, elman, gru, lstm
from jaxrnn.layers import Directions, bidirectional

SIDES = {
    "keras": (convert.from_keras, convert.to_keras),
    "flax": (convert.from_flax, convert.to_flax),
    "nnx": (convert.from_nnx, convert.to_nnx),
    "haiku": (convert.from_haiku, convert.to_haiku),
    "equinox": (
        lambda fields, kind: convert.from_equinox(**fields, kind=kind),
        convert.to_equinox,
    ),
}
KINDS = {
    "keras": {"elman": 1, "lstm": 4, "gru": 3},
    "flax": {"elman": 1, "lstm": 4, "gru": 3},
    "nnx": {"elman": 1, "lstm": 4, "optimized_lstm": 4, "gru": 3},
    "haiku": {"elman": 1, "lstm": 4},
    "equinox": {"lstm": 4, "gru": 3},
}
CELLS = {
    "simple_rnn": elman(),
    "elman": elman(),
    "lstm": lstm(),
    "optimized_lstm": lstm(),
    "gru": gru(),
}
CASES = [(library, kind) for library, kinds in KINDS.items() for kind in kinds]
RELU = ("haiku", "elman")
each_case = pytest.mark.parametrize("library, kind", CASES)


def random_params(gates, d, h, b=True, b_s=False, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    w = gates * h
    return Params(
        draw(d, w), draw(h, w), draw(w) if b else None, draw(w) if b_s else None
    )


def holds(library, kind):
    """How much of the GRU's second bias there is: all of it, the gate n's, or none."""
    return {"keras": 3, "flax": 1, "equinox": 1}.get(library, 0) if kind == "gru" else 0


@each_case
@given(
    d=st.integers(1, 4),
    h=st.integers(1, 4),
    bias=st.booleans(),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([np.float32, np.float64, np.float16]),
)
def test_weights_go_there_and_back_exactly(library, kind, d, h, bias, seed, dtype):
    read, write = SIDES[library]
    held = holds(library, kind)
    params = random_params(
        KINDS[library][kind], d, h, bias, bias and held > 0, seed, dtype
    )
    if library == "haiku" and bias:  # so that 1 more or less is exact
        params = params._replace(b=np.round(params.b * 64) / dtype(64))
    if bias and held == 1:
        params.b_s[: 2 * h] = 0
    weights = write(params, kind)
    cell, back = read(weights, kind=kind)
    if bias or library in ("keras", "equinox"):
        assert_equal(back, params)
    assert_equal(write(back, kind), weights)
    assert cell is (elman("relu") if (library, kind) == RELU else CELLS[kind])
    assert all(isinstance(a, np.ndarray) for a in jax.tree.leaves((weights, back)))


# Keras's GRU alone has two.
@pytest.mark.parametrize("library, kind", [c for c in CASES if c != ("keras", "gru")])
def test_two_biases_become_one_where_there_is_one(library, kind):
    read, write = SIDES[library]
    params = random_params(KINDS[library][kind], 2, 3, b_s=True)
    if library == "nnx" and kind == "gru":
        params.b_s[6:] = 0
    back = read(write(params, kind), kind=kind)[1]
    total = back.b if back.b_s is None else back.b + back.b_s
    assert_alike(total, params.b + params.b_s, 1e-6)
    if kind == "gru" and library != "nnx":
        assert_equal(back.b_s[6:], params.b_s[6:])


@each_case
def test_a_conversion_can_be_traced_and_differentiated(library, kind):
    read, write = SIDES[library]
    params = jax.tree.map(jnp.asarray, random_params(KINDS[library][kind], 2, 3))

    def error(params):
        back = read(write(params, kind), kind=kind)[1]
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(back))

    wanted = jax.tree.map(jnp.cos, params)
    assert_alike(jax.jit(jax.grad(error))(params), wanted, 1e-5)


def test_keras_activation_is_the_cells():
    weights = convert.to_keras(random_params(1, 2, 3), "elman")
    relu = convert.from_keras(weights, "elman", activation="relu")[0]
    assert relu is elman("relu")


def test_both_directions_of_keras():
    both = Directions(random_params(4, 2, 3), random_params(4, 2, 3, seed=1))
    weights = convert.to_keras(both, "lstm")
    assert len(weights) == 6
    layer, back = convert.from_keras(weights, "lstm", bidirectional=True)
    assert layer is bidirectional(lstm())
    assert_equal(back, both)


def test_modules_of_haiku_have_any_name():
    params = random_params(4, 2, 3)
    weights = convert.to_haiku(params, "lstm", name="model/core")
    assert list(weights) == ["model/core/linear"]
    assert_alike(convert.from_haiku(weights, "lstm")[1], params, 1e-6)


def test_a_bias_that_nnx_cannot_hold_is_refused():
    params = random_params(3, 2, 3, b_s=True)
    with pytest.raises(ValueError, match=r"params\.b_s: expected zeros for the gate n"):
        convert.to_nnx(params, "gru")
    with pytest.raises(TypeError, match=r"params\.b_s: .* got a traced array"):
        jax.jit(lambda p: convert.to_nnx(p, "gru"))(params)


# Arrays ---------------------------------------------------------------------------

ALL_SIDES = SIDES | {
    "torch": (convert.from_torch, convert.to_torch),
    "onnx": (
        lambda arrays, kind: convert.from_onnx(*arrays, kind=kind, hidden_size=3),
        lambda params, kind: convert.to_onnx(params, kind=kind),
    ),
}
each_library = pytest.mark.parametrize("library", ALL_SIDES)
each_way = pytest.mark.parametrize("way", ["in", "out"])


def one_way(library, way):
    """A function from or to another library, and a tree of arrays for it."""
    read, write = ALL_SIDES[library]
    params = random_params(4, 2, 3)
    if way == "out":
        return (lambda tree: write(tree, kind="lstm")), params
    return (lambda tree: read(tree, kind="lstm")[1]), write(params, kind="lstm")


def with_a_leaf(tree, edit):
    """The tree with its largest array changed by `edit`."""
    leaves, structure = jax.tree.flatten(tree)
    largest = max(range(len(leaves)), key=lambda k: leaves[k].size)
    leaves[largest] = edit(leaves[largest])
    return structure.unflatten(leaves)


@each_way
@each_library
def test_masked_arrays_are_refused_by_name(library, way):
    call, tree = one_way(library, way)
    masked = with_a_leaf(tree, lambda a: np.ma.masked_array(a, a > 0))
    with pytest.raises(TypeError, match=r"^\w+.*: expected .* masked one, .*filled"):
        call(masked)


@each_way
@each_library
def test_deleted_arrays_are_refused_by_name(library, way):
    call, tree = one_way(library, way)
    gone = jnp.ones(3)
    gone.delete()
    with pytest.raises(ValueError, match=r"^\w+.*: .* deleted or donated"):
        call(with_a_leaf(tree, lambda a: gone))


@each_library
def test_a_record_in_a_biass_place_is_refused_by_name(library):
    call, params = one_way(library, "out")
    with pytest.raises(TypeError, match=r"params\.b: expected .* array, got State"):
        call(params._replace(b=State(params.b)))


@each_way
@each_library
def test_other_byte_orders_become_the_machines(library, way):
    call, tree = one_way(library, way)
    swapped = jax.tree.map(lambda a: a.astype(a.dtype.newbyteorder("S")), tree)
    assert_equal(call(swapped), call(tree))
    one = with_a_leaf(tree, lambda a: a.astype(a.dtype.newbyteorder("S")))
    assert_equal(call(one), call(tree))
    assert all(a.dtype.isnative for a in jax.tree.leaves(call(swapped)))


@each_way
@each_library
def test_shapes_are_looked_at_before_anything_is_copied(library, way):
    call, tree = one_way(library, way)
    huge = np.broadcast_to(np.float32(1), (2**20, 2**21))  # 8 TiB, it says
    with pytest.raises(ValueError, match=r"^\w+.*: expected shape"):
        call(with_a_leaf(tree, lambda a: huge))


@each_way
@each_library
def test_nothing_that_is_given_is_shared(library, way):
    call, tree = one_way(library, way)
    for leaf in jax.tree.leaves(call(tree)):
        assert not any(np.shares_memory(leaf, a) for a in jax.tree.leaves(tree))


def test_nothing_that_is_given_is_shared_where_there_is_one_gate_or_a_part_of_its_own():
    rng = np.random.default_rng(0)
    elman_weights = convert.to_keras(random_params(1, 2, 3), "elman")
    peepholes = [rng.standard_normal(shape) for shape in ((1, 12, 2), (1, 12, 3))]
    peepholes += [None, rng.standard_normal((1, 9))]
    projected = convert.to_torch(random_params(4, 2, 3))
    projected["weight_hh_l0"] = projected["weight_hh_l0"][:, :2]
    projected["weight_hr_l0"] = np.ones((2, 3), np.float32)
    for weights, (_, params) in (
        (elman_weights, convert.from_keras(elman_weights, "elman")),
        (peepholes, convert.from_onnx(*peepholes, kind="lstm", hidden_size=3)),
        (projected, convert.from_torch(projected)),
    ):
        for leaf in jax.tree.leaves(params):
            assert not any(np.shares_memory(leaf, a) for a in jax.tree.leaves(weights))


@each_way
@each_library
def test_none_in_the_place_of_an_array_is_refused_by_name(library, way):
    call, tree = one_way(library, way)
    for wrong in (None, with_a_leaf(tree, lambda a: None)):
        if library == "onnx" and way == "in":
            wrong = [None] * 3 if wrong is None else wrong
        if library == "equinox" and way == "in" and wrong is None:
            wrong = {"weight_ih": None, "weight_hh": None}
        with pytest.raises(TypeError, match=r"^\w+.*: expected .*got NoneType"):
            call(wrong)


@each_library
def test_matrices_without_rows_are_refused(library):
    call, params = one_way(library, "out")
    for name in ("w_x", "w_s"):
        empty = params._replace(**{name: getattr(params, name)[:0]})
        with pytest.raises(ValueError, match=rf"params\.{name}.*: expected shape"):
            call(empty)


K = np.zeros((2, 12), np.float32)
R = np.zeros((3, 12), np.float32)
B = np.zeros(12, np.float32)
LSTM = Params(K, R, B)
WRONG = {
    "kind": (
        lambda: convert.from_keras([K, R, B], "rnn"),
        ValueError,
        "kind: expected",
    ),
    "no list": (
        lambda: convert.from_keras({"a": K}),
        TypeError,
        "weights: .* got dict",
    ),
    "count": (lambda: convert.from_keras([K]), ValueError, "expected 3 arrays.* got 1"),
    "both": (
        lambda: convert.from_keras([K, R, B], bidirectional=True),
        ValueError,
        "6",
    ),
    "kernel": (lambda: convert.from_keras([K.T, R, B]), ValueError, r"weights\[0\]"),
    "recurrent": (
        lambda: convert.from_keras([K, R.T, B]),
        ValueError,
        r"\[H, 4·H\]|any, 48",
    ),
    "bias": (
        lambda: convert.from_keras([K, R, B[:5]]),
        ValueError,
        r"weights\[2\]: .*\[12\], got \[5\]",
    ),
    "after": (
        lambda: convert.from_keras([K[:, :9], R[:, :9], B[:9]], "gru"),
        ValueError,
        r"weights\[2\] \(reset_after=True\): expected shape \[2, 9\], got \[9\]",
    ),
    "before": (
        lambda: convert.from_keras([K, R], reset_after=False),
        ValueError,
        "reset_after",
    ),
    "activation": (
        lambda: convert.from_flax(convert.to_flax(LSTM), activation="relu"),
        ValueError,
        "activation",
    ),
    "dtype": (
        lambda: convert.from_keras([K, R, B.astype(int)]),
        TypeError,
        r"\[2\]: expected a floating",
    ),
    "two dtypes": (
        lambda: convert.from_keras([K, R, B.astype(np.float64)]),
        TypeError,
        "expected float32",
    ),
    "no array": (
        lambda: convert.from_keras([K, R, "b"]),
        TypeError,
        r"\[2\]: expected a NumPy or JAX array, got str",
    ),
    "no params": (
        lambda: convert.to_keras([K, R, B]),
        TypeError,
        "params: expected jaxrnn.Params, got list",
    ),
    "other cell": (lambda: convert.to_keras(LSTM, "gru"), ValueError, r"params\.w_s"),
    "own": (
        lambda: convert.to_flax(LSTM._replace(own=(B,))),
        ValueError,
        "params.own: expected None",
    ),
    "no tree": (lambda: convert.from_flax([K]), TypeError, "params: .* got list"),
    "no gate": (
        lambda: convert.from_flax({"ii": {"kernel": K}}),
        ValueError,
        "got .'ii'",
    ),
    "no kernel": (
        lambda: convert.from_nnx({"dense_i": {}, "dense_h": {}}, "gru"),
        ValueError,
        "kernel",
    ),
    "wrong gru": (
        lambda: convert.to_haiku(Params(K[:, :9], R[:, :9]), "gru"),
        ValueError,
        "reset_after=False",
    ),
    "modules": (
        lambda: convert.from_haiku({"lstm": {"w": K}}),
        ValueError,
        "lstm/linear",
    ),
    "concat": (
        lambda: convert.from_haiku({"linear": {"w": K, "b": B}}),
        ValueError,
        r"\[D \+ H, 4·H\]",
    ),
    "no weight": (
        lambda: convert.from_equinox(None, R.T, kind="lstm"),
        TypeError,
        "weight_ih",
    ),
    "one bias": (
        lambda: convert.from_equinox(K.T[:9], R.T[:9], B[:9], kind="gru"),
        ValueError,
        "bias_n",
    ),
    "bias_n": (
        lambda: convert.from_equinox(K.T, R.T, B, B[:3], kind="lstm"),
        ValueError,
        "bias_n: expected None",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()

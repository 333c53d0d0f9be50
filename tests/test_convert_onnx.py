"""ONNX's operators against a slow oracle and, where it can, ONNX's own evaluator."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx_oracle import ACTIVATIONS, run_operator
from table import assert_alike, assert_equal, relative_errors

from jaxrnn import LSTMState, State, bidirectional, elman, gru, lstm, unroll
from jaxrnn.convert import from_onnx, to_onnx
from jaxrnn.layers import Directions, backward_only

T, ROWS, D, H = 5, 3, 2, 4
LENGTHS = np.array([3, 5, 0])
GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}
COUNT = {"forward": 1, "reverse": 1, "bidirectional": 2}
KINDS = {"RNN": "elman", "LSTM": "lstm", "GRU": "gru"}
BOTH = {"direction": "bidirectional"}
TOLERANCE = 1e-12

pytestmark = pytest.mark.usefixtures("compile_fast")


class Inputs(NamedTuple):
    """The operator's inputs, layout 0."""

    x: Any
    w: Any
    r: Any
    b: Any
    p: Any
    initial_h: Any
    initial_c: Any


def draw(op, direction="forward", p=False, b=True, dtype=np.float64, seed=0) -> Inputs:
    rng = np.random.default_rng(seed)
    count, wide = COUNT[direction], GATES[op] * H

    def normal(*shape):
        return (0.8 * rng.standard_normal(shape)).astype(dtype)

    return Inputs(
        normal(T, ROWS, D),
        normal(count, wide, D),
        normal(count, wide, H),
        normal(count, 2 * wide) if b else None,
        normal(count, 3 * H) if p else None,
        normal(count, ROWS, H),
        normal(count, ROWS, H),
    )


def convert(op, inputs, **options):
    return from_onnx(*inputs[1:5], kind=KINDS[op], hidden_size=H, **options)


def start_of(op, inputs):
    """The layer's state, from ONNX's [directions, B, H]."""
    kind = {"RNN": State, "LSTM": LSTMState, "GRU": State}[op]

    parts = [inputs.initial_h, inputs.initial_c][: len(kind._fields)]
    sides = [kind(*(part[d] for part in parts)) for d in range(len(parts[0]))]
    return Directions(*sides) if len(sides) == 2 else sides[0]


def run_ours(op, layer, params, inputs, lengths):
    """Y, Y_h and, for the LSTM, Y_c, in ONNX's layout."""
    count = len(inputs.w)
    hs, final = unroll(layer, params, inputs.x, start_of(op, inputs), lengths=lengths)
    y = np.asarray(hs).reshape(T, ROWS, count, -1).swapaxes(1, 2)
    sides = final if isinstance(final, Directions) else (final,)
    return [y, *(np.stack(part) for part in zip(*sides, strict=True))]


def compare(op, lengths=LENGTHS, edit=lambda p: p, p=False, b=True, **options):
    inputs = draw(op, options.get("direction", "forward"), p, b)
    layer, params = convert(op, inputs, **options)
    ours = run_ours(op, layer, edit(params), inputs, lengths)
    theirs = list(run_operator(op, *inputs, lengths, **options))
    return relative_errors(ours, theirs[: len(ours)])


HARD = {
    "activations": ["HardSigmoid", "Elu", "ScaledTanh"],
    "activation_alpha": [0.3, 0.7, 0.8],
    "activation_beta": [0.4, 1.2],
}
TWICE = {
    "direction": "bidirectional",
    "activations": ["HardSigmoid", "Softsign", "Sigmoid", "LeakyRelu"],
    "activation_alpha": [0.3, 0.2],
    "activation_beta": [0.4],
}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {}),
    "rnn-reverse": ("RNN", {"direction": "reverse"}),
    "rnn-clip": ("RNN", {"clip": 0.4}),
    "rnn-both-clip": ("RNN", {**BOTH, "clip": 0.4}),
    "rnn-both-two": ("RNN", {**BOTH, "activations": ["Relu", "Softplus"]}),
    "lstm": ("LSTM", {}),
    "lstm-no-bias": ("LSTM", {"b": False}),
    "lstm-both": ("LSTM", BOTH),
    "lstm-reverse": ("LSTM", {"direction": "reverse"}),
    "lstm-clip": ("LSTM", {"clip": 0.4}),
    "lstm-coupled": ("LSTM", {"input_forget": 1}),
    "lstm-coupled-p": ("LSTM", {"p": True, "input_forget": 1}),
    "lstm-peepholes": ("LSTM", {"p": True}),
    "lstm-activations": ("LSTM", HARD),
    "lstm-all": ("LSTM", {**HARD, "p": True, "clip": 0.9, "direction": "reverse"}),
    "lstm-all-coupled": ("LSTM", {**BOTH, "p": True, "input_forget": 1, "clip": 0.9}),
    "gru": ("GRU", {}),
    "gru-no-bias": ("GRU", {"b": False}),
    "gru-both": ("GRU", BOTH),
    "gru-clip": ("GRU", {"clip": 0.4, "activations": ["HardSigmoid", "Softsign"]}),
    "gru-reverse-clip": ("GRU", {"direction": "reverse", "clip": 0.4}),
    "gru-after": ("GRU", {"linear_before_reset": 1}),
    "gru-after-both": ("GRU", {**BOTH, "linear_before_reset": 1}),
    "gru-after-clip": ("GRU", {"clip": 0.4, "linear_before_reset": 1}),
    "gru-activations": ("GRU", TWICE),
}
CONSTANTS = {"Affine": ([0.7], [0.2]), "ScaledTanh": ([0.7], [1.3])}
CONSTANTS |= {"ThresholdedRelu": ([0.2], []), "HardSigmoid": ([0.4], [0.3])}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_the_oracles(name, x64):
    op, options = OPTIONS[name]
    errors = compare(op, **options)
    assert max(errors.values()) < TOLERANCE, errors


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_oracles(name, x64):
    alpha, beta = CONSTANTS.get(name, (None, None))
    options = {"activation_alpha": alpha, "activation_beta": beta}
    errors = compare("RNN", activations=[name], **options)
    assert max(errors.values()) < TOLERANCE, errors


GENERAL = (
    "rnn-clip",
    "lstm-all",
    "lstm-coupled-p",
    "gru",
    "gru-after-clip",
    "gru-clip",
)


@pytest.mark.parametrize("name", GENERAL)  # where the cell is not the library's own
def test_manual_gradient_equals_autodiff(name, x64):
    op, options = OPTIONS[name]
    options = dict(options)
    inputs = draw(op, p=options.pop("p", False))
    layer, params = convert(op, inputs, **options)
    start = start_of(op, inputs)

    @jax.jit
    def both(params, xs, start):
        def error(gradient, *args):
            hs, final = unroll(
                layer, *args, lengths=LENGTHS, gradient=gradient, chunk_size=3
            )
            ends = sum(jnp.cos(1.3 * s).sum() for s in jax.tree.leaves(final))
            return jnp.sin(hs).sum() + ends

        return [
            jax.grad(error, (1, 2, 3))(gradient, params, xs, start)
            for gradient in ("manual", "autodiff")
        ]

    params = jax.tree.map(jnp.asarray, params)
    manual, autodiff = both(params, inputs.x, start)
    assert_alike(manual, autodiff, 1e-10)


# ONNX's own evaluator -------------------------------------------------------------


def run_reference(op, inputs, **options):
    """onnx.reference knows directions, peepholes, the initial state, linear_before."""
    onnx = pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    given = {"X": inputs.x, "W": inputs.w, "R": inputs.r, "B": inputs.b}
    given |= {"sequence_lens": np.full(ROWS, T, np.int32)}
    given |= {"initial_h": inputs.initial_h}
    given |= {"initial_c": inputs.initial_c} if op == "LSTM" else {}
    given |= {} if inputs.p is None else {"P": inputs.p}
    made = ["Y", "Y_h", "Y_c"] if op == "LSTM" else ["Y", "Y_h"]
    node = onnx.helper.make_node(op, list(given), made, hidden_size=H, **options)

    def info(name, value=None):
        integer = value is not None and value.dtype == np.int32
        kind = onnx.TensorProto.INT32 if integer else onnx.TensorProto.DOUBLE
        return onnx.helper.make_tensor_value_info(name, kind, None)

    sides = [info(*pair) for pair in given.items()], [info(name) for name in made]
    graph = onnx.helper.make_graph([node], op, *sides)
    opset = onnx.helper.make_opsetid("", 22)
    model = onnx.helper.make_model(graph, opset_imports=[opset])
    return ReferenceEvaluator(model).run(None, given)


@pytest.mark.parametrize("direction", COUNT)
@pytest.mark.parametrize(
    "op, p, options",
    [
        ("RNN", False, {}),
        ("LSTM", False, {}),
        ("LSTM", True, {}),
        ("GRU", False, {}),
        ("GRU", False, {"linear_before_reset": 1}),
    ],
)
def test_onnxs_own_evaluator_agrees(op, p, options, direction, x64):
    inputs = draw(op, direction, p)
    options = {**options, "direction": direction}
    if op == "RNN":  # which its evaluator does not double by itself
        options["activations"] = ["Tanh"] * COUNT[direction]
    layer, params = convert(op, inputs, **options)
    ours = run_ours(op, layer, params, inputs, None)
    assert_alike(ours, run_reference(op, inputs, **options), TOLERANCE)


def test_batch_major_data_is_transposed_by_the_caller(x64):
    inputs = draw("GRU", "bidirectional")
    layer, params = convert("GRU", inputs, **BOTH)
    batch_major = inputs._replace(
        x=inputs.x.swapaxes(0, 1), initial_h=inputs.initial_h.swapaxes(0, 1)
    )
    y, _ = run_reference("GRU", batch_major, layout=1, **BOTH)
    starts = (State(batch_major.initial_h[:, d]) for d in (0, 1))
    hs, _ = unroll(layer, params, batch_major.x.swapaxes(0, 1), Directions(*starts))
    wanted = y.transpose(1, 0, 2, 3).reshape(T, ROWS, 2 * H)
    assert_alike(hs, wanted, TOLERANCE)


# Controls -------------------------------------------------------------------------


def swap_gates(params):
    def swapped(a):
        first, second, *rest = np.split(a, a.shape[-1] // H, axis=-1)
        return np.concatenate([second, first, *rest], axis=-1)

    bias = {name: swapped(getattr(params, name)) for name in ("b", "b_s")}
    return params._replace(w_x=swapped(params.w_x), w_s=swapped(params.w_s), **bias)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru-after", "lstm-clip"])
def test_control_two_gates_swapped_are_found(name, x64):
    op, options = OPTIONS[name]
    errors = compare(op, edit=swap_gates, **options)
    assert min(errors.values()) > 1e-2, errors


def test_control_peepholes_in_another_order_are_found(x64):
    def edit(params):
        own = params.own
        return params._replace(own=own._replace(p_f=own.p_o, p_o=own.p_f))

    assert min(compare("LSTM", edit=edit, p=True).values()) > 1e-2


@pytest.mark.parametrize(
    "op, right, wrong",
    [
        ("GRU", {"linear_before_reset": 0}, {"linear_before_reset": 1}),
        ("LSTM", {"input_forget": 1}, {"input_forget": 0}),
        ("LSTM", {"clip": 0.4}, {}),
        ("RNN", {"direction": "reverse"}, {}),
        ("RNN", {"activations": ["Elu"]}, {"activations": ["Relu"]}),
    ],
)
def test_control_an_attribute_left_out_is_found(op, right, wrong, x64):
    inputs = draw(op)
    theirs = list(run_operator(op, *inputs, None, **right))
    ours = run_ours(op, *convert(op, inputs, **wrong), inputs, None)
    assert min(relative_errors(ours, theirs[: len(ours)]).values()) > 1e-2


# Round trips ----------------------------------------------------------------------


@given(
    op=st.sampled_from(sorted(GATES)),
    direction=st.sampled_from(sorted(COUNT)),
    bias=st.booleans(),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 9),
)
def test_there_and_back_is_exact(op, direction, bias, dtype, seed):
    inputs = draw(op, direction, b=bias, dtype=dtype, seed=seed)
    options = {"linear_before_reset": 1} if op == "GRU" else {}
    _, params = convert(op, inputs, direction=direction, **options)
    assert_equal(to_onnx(params, kind=KINDS[op]), inputs[1:4])


def test_a_gru_with_reset_before_comes_back_with_one_candidate_bias():
    inputs = draw("GRU", "bidirectional")
    layer, params = convert("GRU", inputs, **BOTH)
    w, r, b = to_onnx(params, kind="gru")
    assert_equal((w, r), inputs[1:3])
    given, last = inputs.b, slice(5 * H, 6 * H)
    assert_equal(b[:, last], np.zeros((2, H)))
    assert_equal(b[:, 2 * H : 3 * H], given[:, 2 * H : 3 * H] + given[:, last])
    assert_equal(b[:, : 2 * H], given[:, : 2 * H])
    assert_equal(b[:, 3 * H : 5 * H], given[:, 3 * H : 5 * H])
    back = from_onnx(w, r, b, kind="gru", hidden_size=H, **BOTH)
    assert back[0] is layer
    assert_equal(back[1], params)


def test_a_missing_bias_becomes_zeros():
    inputs = draw("LSTM")
    _, params = convert("LSTM", inputs)
    b = to_onnx(params._replace(b_s=None), kind="lstm")[2]
    assert_equal(b[:, : 4 * H], inputs.b[:, : 4 * H])
    assert_equal(b[:, 4 * H :], np.zeros((1, 4 * H)))


@pytest.mark.parametrize(
    "op, options, wanted",
    [
        ("RNN", {}, elman()),
        ("RNN", {"activations": ["Relu"]}, elman("relu")),
        ("RNN", {"activations": ["Sigmoid"]}, elman("sigmoid")),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Tanh"]}, lstm()),
        ("GRU", {"linear_before_reset": 1}, gru()),
        ("LSTM", {"direction": "reverse"}, backward_only(lstm())),
        ("LSTM", BOTH, bidirectional(lstm(), lstm())),
    ],
)
def test_plain_operators_are_the_librarys_own_cells(op, options, wanted):
    inputs = draw(op, options.get("direction", "forward"))
    assert convert(op, inputs, **options)[0] is wanted


@pytest.mark.parametrize("case", [str.lower, str.upper])
@pytest.mark.parametrize("name", ["lstm", "lstm-activations", "gru-activations"])
def test_activations_are_named_in_any_case(name, case):
    op, options = OPTIONS[name]
    usual = ["Sigmoid", "Tanh", "Tanh"]
    options = {"activations": usual, **options}
    given = options | {"activations": [case(a) for a in options["activations"]]}
    inputs = draw(op, options.get("direction", "forward"))
    assert convert(op, inputs, **given)[0] is convert(op, inputs, **options)[0]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_same_options_are_the_same_cell_and_fit_its_own_init(name, key):
    op, options = OPTIONS[name]
    options = dict(options)
    direction = options.get("direction", "forward")
    p, b = options.pop("p", False), options.pop("b", True)
    inputs = draw(op, direction, p, b, np.float32)
    layer, params = convert(op, inputs, **options)
    assert convert(op, inputs, **options)[0] is layer
    drawn = jax.eval_shape(lambda: layer.init(key, D, H))
    pairs = [(params, drawn)]
    if isinstance(params, Directions):
        pairs = zip(params, drawn, strict=True)
    for mine, its in pairs:
        assert jax.tree.map(np.shape, mine.own) == jax.tree.map(np.shape, its.own)
        assert mine.w_x.shape == its.w_x.shape and mine.w_s.shape == its.w_s.shape


# Wrong calls ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind, given, options, error, match",
    [
        ("Lstm", {}, {}, ValueError, r"kind: expected one of .*'lstm'.* got 'Lstm'"),
        ("lstm", {}, {"direction": "both"}, ValueError, r"direction: .* got 'both'"),
        (
            "gru",
            {},
            {"linear_before_reset": True},
            ValueError,
            r"reset .*\[0, 1\], got True",
        ),
        (
            "lstm",
            {},
            {"hidden_size": 3},
            ValueError,
            r"w .*\[1, 12, any\], got \[1, 16",
        ),
        ("lstm", {}, {"hidden_size": 0}, ValueError, r"hidden_size: expected a posi"),
        ("lstm", {}, BOTH, ValueError, r"w .*bidirectional.*\[2, 16, any\]"),
        ("lstm", {"r": np.ones((1, 16, 3))}, {}, ValueError, r"r .*\[1, 16, 4\], got "),
        (
            "lstm",
            {"b": np.ones((1, 16))},
            {},
            ValueError,
            r"b .*\[1, 32\], got \[1, 16",
        ),
        (
            "lstm",
            {"p": np.ones((1, 8))},
            {},
            ValueError,
            r"p .*\[1, 12\], got \[1, 8\]",
        ),
        ("lstm", {"w": None}, {}, TypeError, r"w .*: expected an array, got None"),
        (
            "lstm",
            {"b": [0.0]},
            {},
            TypeError,
            r"b: expected .* got list",
        ),
        ("lstm", {"b": np.ones((1, 32), int)}, {}, TypeError, r"b: .*floating dtype"),
        (
            "lstm",
            {"b": np.ones((1, 32), np.float32)},
            {},
            TypeError,
            r"b: expected float64 as w, got float32",
        ),
        (
            "gru",
            {"p": np.ones((1, 12))},
            {},
            ValueError,
            r"p: expected None for kind='gr",
        ),
        (
            "gru",
            {},
            {"input_forget": 1},
            ValueError,
            r"input_forget .*'gru'.*\[0\], got 1",
        ),
        (
            "gru",
            {},
            {"input_forget": 2},
            ValueError,
            r"input_forget .*\[0\], got 2",
        ),
        (
            "elman",
            {},
            {"linear_before_reset": 1},
            ValueError,
            r"linear_before_reset .*'elman'",
        ),
        ("elman", {}, {"clip": 0.0}, ValueError, r"clip: expected a positive number"),
        ("elman", {}, {"clip": "1"}, TypeError, r"clip: expected a positive number"),
        ("elman", {"b": (1,)}, {}, TypeError, r"b: expected a NumPy or JAX array"),
        ("elman", {}, {"activations": 3}, ValueError, r"activations: .* got 3"),
        (
            "elman",
            {},
            {"activation_alpha": 1.0},
            TypeError,
            r"activation_alpha: expected a list of numbers, got float",
        ),
        (
            "elman",
            {},
            {"activations": ["swish"]},
            ValueError,
            r"activations: expected one of .*'Tanh'.* got 'swish'",
        ),
        (
            "lstm",
            {},
            {"activations": ["Tanh"]},
            ValueError,
            r"a list of 3, one in",
        ),
        (
            "elman",
            {},
            {"activations": "T"},
            ValueError,
            r"activations: .*list of 1.*'T'",
        ),
        (
            "elman",
            {},
            {"activation_alpha": [1.0]},
            ValueError,
            r"activation_alpha: .* 1 to",
        ),
        (
            "elman",
            {},
            {"activation_beta": ["a"]},
            TypeError,
            r"activation_beta: .* 'a'",
        ),
        ("elman", {}, {"activations": ["Affine"]}, ValueError, r"alpha: .*for Affine"),
        ("elman", {}, {"activations": [None]}, ValueError, r"activations: .* got None"),
        (
            "elman",
            {},
            {"activations": ["Elu"], "activation_alpha": [np.nan]},
            ValueError,
            r"activation_alpha: expected a number, got nan",
        ),
    ],
)
def test_wrong_operators_are_refused(kind, given, options, error, match):
    names = {word: op for op, word in KINDS.items()}
    inputs = draw(names.get(kind, "LSTM"))
    arrays = {name: getattr(inputs, name) for name in "wrbp"} | given
    with pytest.raises(error, match=match):
        from_onnx(**arrays, **{"kind": kind, "hidden_size": H, **options})


def test_directions_that_reset_at_different_places_are_refused():
    _, before = convert("GRU", draw("GRU"))
    _, after = convert("GRU", draw("GRU"), linear_before_reset=1)
    with pytest.raises(ValueError, match="expected one linear_before_reset in both"):
        to_onnx(Directions(before, after), kind="gru")


def test_wrong_parameters_are_refused():
    _, plain = convert("LSTM", draw("LSTM"))
    _, seen = convert("LSTM", draw("LSTM", p=True))
    for wrong, kind, error, match in [
        (plain, "LSTM", ValueError, r"kind: expected one of"),
        ((plain,), "lstm", TypeError, r"params: expected jaxrnn.Params, got tuple"),
        (seen, "lstm", ValueError, r"params.own: expected None .* Parts"),
        (plain, "gru", ValueError, r"params.w_s .*\[any, 12\], got \[4, 16\]"),
        (plain, "elman", ValueError, r"params.w_s .*\[any, 4\], got \[4, 16\]"),
        (Directions(plain, 3), "lstm", TypeError, r"params.backward: expected jaxrnn"),
        (plain._replace(b=plain.b[:3]), "lstm", ValueError, r"params.b .*\[16\]"),
        (
            Directions(plain, plain._replace(w_x=plain.w_x[:1])),
            "lstm",
            ValueError,
            r"params: expected equal w_x shapes, got \[\(2, 16\), \(1, 16\)\]",
        ),
    ]:
        with pytest.raises(error, match=match):
            to_onnx(wrong, kind=kind)

"""torch.nn's RNN, LSTM and GRU: equal outputs and gradients on equal weights."""

import itertools
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from table import assert_alike, assert_equal, relative_errors

from jaxrnn import bidirectional, elman, gru, lstm, stack, unroll
from jaxrnn.cell import Params
from jaxrnn.convert import from_torch, to_torch
from jaxrnn.layers import Directions

T, ROWS, D, H = 5, 3, 2, 4
LENGTHS = [3, 5, 1]
GATES = {"elman": 1, "elman relu": 1, "lstm": 4, "gru": 3}
MODULES = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}
CELLS = {
    "elman": elman(),
    "elman relu": elman("relu"),
    "lstm": lstm(),
    "gru": gru(),
}
# layers, directions, biases: every two of them together
SHAPES = [(1, 1, True), (2, 2, True), (2, 1, False), (1, 2, False)]
CASES = [(name, *shape) for name in CELLS for shape in SHAPES]
TOLERANCE = {np.float32: 5e-6, np.float64: 1e-13}


def dict_of(name, layers=1, sides=1, bias=True, dtype=np.float64, proj=0, seed=0):
    """A random state dict like nn's, without torch."""
    rng = np.random.default_rng(seed)
    wide, exposed, found = GATES[name] * H, proj or H, {}
    for k, end in itertools.product(range(layers), ("", "_reverse")[:sides]):
        shapes = {"weight_ih": (wide, D if k == 0 else sides * exposed)}
        shapes |= {"weight_hh": (wide, exposed)}
        shapes |= {"bias_ih": (wide,), "bias_hh": (wide,)} if bias else {}
        shapes |= {"weight_hr": (proj, H)} if proj else {}
        for part, shape in shapes.items():
            drawn = 0.6 * rng.standard_normal(shape)
            found[f"{part}_l{k}{end}"] = drawn.astype(dtype)
    return found


def words(name):
    """The kind, and the Elman cell's activation or None."""
    kind, *activation = name.split()
    return kind, activation[0] if activation else None


def read(state_dict, name):
    kind, activation = words(name)
    return from_torch(state_dict, kind, activation=activation)


class Run(NamedTuple):
    """Outputs, final states, and ∂E/∂ weights, inputs and initial state."""

    hs: np.ndarray
    ends: list
    weights: dict
    xs: np.ndarray
    state: list


def draws(layers, sides, parts, dtype, sizes, seed=1):
    """xs, the initial state in torch's layout, and cotangents of hs and the ends."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.standard_normal(shape).astype(dtype)

    state = [normal(layers * sides, ROWS, size) for size in sizes[:parts]]
    ends = [normal(*part.shape) for part in state]
    return normal(T, ROWS, D), state, normal(T, ROWS, sides * sizes[0]), ends


def run_torch(state_dict, name, layers, sides, bias, proj, inputs, lengths) -> Run:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    xs, state, d_hs, d_ends = jax.tree.map(torch.from_numpy, inputs)
    options = {"num_layers": layers, "bidirectional": sides == 2, "bias": bias}
    options |= {"proj_size": proj} if proj else {}
    kind, activation = words(name)
    options |= {"nonlinearity": activation or "tanh"} if kind == "elman" else {}
    module = getattr(torch.nn, MODULES[kind])(D, H, **options)
    module.to(xs.dtype).load_state_dict(
        {name: torch.from_numpy(a) for name, a in state_dict.items()}
    )
    xs.requires_grad_()
    state = [s.requires_grad_() for s in state]
    start = tuple(state) if kind == "lstm" else state[0]
    if lengths is None:
        hs, ends = module(xs, start)
    else:
        packed = pack_padded_sequence(xs, torch.tensor(lengths), enforce_sorted=False)
        hs, ends = module(packed, start)
        hs, _ = pad_packed_sequence(hs, total_length=T)
    ends = list(ends) if kind == "lstm" else [ends]
    error = (hs * d_hs).sum()
    for end, d_end in zip(ends, d_ends, strict=True):
        error = error + (end * d_end).sum()
    error.backward()
    weights = {name: p.grad.numpy() for name, p in module.named_parameters()}
    return Run(
        hs.detach().numpy(),
        [end.detach().numpy() for end in ends],
        weights,
        xs.grad.numpy(),
        [s.grad.numpy() for s in state],
    )


def nested(parts, layer, params, layers, sides):
    """torch's [layers·directions, B, H] of each part, nested as the params."""
    like = jax.eval_shape(partial(layer.initial_state, batch_shape=(ROWS,)), params)
    leaves = [
        part[k * sides + side]
        for k in range(layers)
        for side in range(sides)
        for part in parts
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def flat(state, parts):
    leaves = jax.tree.leaves(state)
    return [np.stack([np.asarray(a) for a in leaves[k::parts]]) for k in range(parts)]


def run_ours(layer, params, name, layers, sides, inputs, lengths) -> Run:
    xs, state, d_hs, d_ends = inputs
    start = nested(state, layer, params, layers, sides)
    pulls = d_hs, nested(d_ends, layer, params, layers, sides)

    @jax.jit
    def run(params, xs, start):
        outputs, pull = jax.vjp(
            lambda *args: unroll(layer, *args, lengths=lengths), params, xs, start
        )
        return outputs, pull(pulls)

    params = jax.tree.map(jnp.asarray, params)
    (hs, ends), (d_params, d_xs, d_start) = run(params, xs, start)
    parts = len(state)
    grads = to_torch(d_params, words(name)[0])
    return Run(
        np.asarray(hs), flat(ends, parts), grads, np.asarray(d_xs), flat(d_start, parts)
    )


def compare(name, layers, sides, bias, dtype, proj=0, edit=lambda p: p, edges=True):
    """Largest relative error of every array, ours against torch's."""
    state_dict = dict_of(name, layers, sides, bias, dtype, proj)
    layer, params = read(state_dict, name)
    sizes = proj or H, H
    inputs = draws(layers, sides, 2 if name == "lstm" else 1, dtype, sizes)
    lengths = np.array(LENGTHS) if edges else None
    shared = name, layers, sides
    theirs = run_torch(state_dict, *shared, bias, proj, inputs, lengths)
    ours = run_ours(layer, edit(params), *shared, inputs, lengths)
    return relative_errors(ours, theirs)


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("name, layers, sides, bias", CASES)
def test_outputs_and_gradients_are_those_of_torch(
    torch, compile_fast, x64, name, layers, sides, bias
):
    errors = compare(name, layers, sides, bias, np.float64)
    assert max(errors.values()) < TOLERANCE[np.float64], errors


@pytest.mark.parametrize("name", CELLS)
def test_in_float32(torch, compile_fast, name):
    errors = compare(name, 1, 2, True, np.float32, edges=name != "lstm")
    assert max(errors.values()) < TOLERANCE[np.float32], errors


@pytest.mark.parametrize("layers, sides, bias", [(1, 1, True), (2, 2, False)])
def test_a_projection(torch, compile_fast, x64, layers, sides, bias):
    errors = compare("lstm", layers, sides, bias, np.float64, proj=3)
    assert max(errors.values()) < TOLERANCE[np.float64], errors


def swap_gates(params):
    def swapped(a):
        first, second, *rest = jnp.split(a, a.shape[-1] // H, axis=-1)
        return jnp.concatenate([second, first, *rest], axis=-1)

    return jax.tree.map(swapped, params)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_control_two_gates_swapped_are_found(torch, compile_fast, x64, name):
    errors = compare(name, 1, 1, True, np.float64, edit=swap_gates)
    assert errors["hs"] > 1e-2 and errors["xs"] > 1e-2


def test_control_directions_swapped_are_found(torch, compile_fast, x64):
    def edit(params):
        return Directions(params.backward, params.forward)

    errors = compare("gru", 1, 2, True, np.float64, edit=edit)
    assert errors["hs"] > 1e-2


def test_control_the_two_biases_of_a_gru_swapped_are_found(torch, compile_fast, x64):
    def edit(params):
        return params._replace(b=params.b_s, b_s=params.b)

    assert compare("gru", 1, 1, True, np.float64, edit=edit)["hs"] > 1e-3


def test_a_modules_own_state_dict_is_read_and_copied(torch):
    module = torch.nn.GRU(D, H, num_layers=2, bidirectional=True)
    _, params = from_torch(module.state_dict(), "gru")
    given = {name: a.numpy().copy() for name, a in module.state_dict().items()}
    back = to_torch(params, "gru")
    assert list(back) == list(given)  # in torch's own order
    assert_equal(back, given)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    assert_equal(to_torch(params, "gru"), given)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in back.items()})
    half = module.to(torch.bfloat16).state_dict()
    with pytest.raises(TypeError, match=r"expected float16.* got torch.bfloat16"):
        from_torch(half, "gru")


# Round trips ----------------------------------------------------------------------


@given(
    name=st.sampled_from(sorted(GATES)),
    layers=st.integers(1, 3),
    sides=st.integers(1, 2),
    bias=st.booleans(),
    dtype=st.sampled_from([np.float16, np.float32, np.float64]),
    seed=st.integers(0, 9),
)
def test_there_and_back_is_exact(name, layers, sides, bias, dtype, seed):
    state_dict = dict_of(name, layers, sides, bias, dtype, seed=seed)
    kind, _ = words(name)
    layer, params = read(state_dict, name)
    assert_equal(to_torch(params, kind), state_dict)
    again, twice = read(to_torch(params, kind), name)
    assert again is layer  # one static value for jit
    assert_equal(twice, params)


def test_a_projection_there_and_back_is_exact():
    state_dict = dict_of("lstm", 2, 2, proj=3)
    _, params = from_torch(state_dict)
    assert_equal(to_torch(params), state_dict)


def test_what_the_keys_say():
    one, both = lstm(), bidirectional(lstm())
    assert from_torch(dict_of("lstm"))[0] is one
    assert from_torch(dict_of("lstm", sides=2))[0] is both
    assert from_torch(dict_of("lstm", layers=2))[0] is stack(one, one)
    assert from_torch(dict_of("lstm", layers=2, sides=2))[0] is stack(both, both)
    assert from_torch(dict_of("elman"), "elman")[0] is elman()
    rectified = from_torch(dict_of("elman"), "elman", activation="relu")[0]
    assert rectified is elman("relu")
    params = from_torch(dict_of("lstm", bias=False))[1]
    assert params.b is None and params.b_s is None


def test_a_missing_bias_becomes_zeros():
    params = from_torch(dict_of("lstm"))[1]
    found = to_torch(params._replace(b_s=None))
    assert_equal(found["bias_hh_l0"], np.zeros(4 * H))
    assert_equal(found["bias_ih_l0"], params.b)
    found = to_torch(params._replace(b=None))
    assert_equal(found["bias_ih_l0"], np.zeros(4 * H))


def test_drawn_parameters_go_to_torch(key):
    params = bidirectional(gru()).init(key, D, H)
    assert_alike(from_torch(to_torch(params, "gru"), "gru")[1], params, 0)


@pytest.mark.parametrize("name", CELLS)
def test_a_conversion_can_be_traced_and_differentiated(name, x64):
    state_dict = jax.tree.map(jnp.asarray, dict_of(name, 2, 2))

    def error(state_dict):
        leaves = jax.tree.leaves(read(state_dict, name)[1])
        return sum(jnp.sin(a).sum() for a in leaves)

    wanted = jax.tree.map(jnp.cos, state_dict)
    assert_alike(jax.jit(jax.grad(error))(state_dict), wanted, 1e-12)


# Modules, and whole models --------------------------------------------------------


def module_of(name, state_dict, **attributes):
    """What `from_torch` reads of a module: its class's name and its state dict."""
    attributes |= {"state_dict": lambda self: state_dict}
    return type(name, (), attributes)()


def cell_dict(name):
    """An LSTMCell state dict or the like: the same arrays, shorter names."""
    return {part.removesuffix("_l0"): a for part, a in dict_of(name).items()}


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("end", ["", "Cell"])
def test_a_module_says_what_it_is(name, end):
    kind, activation = words(name)
    weights = cell_dict(name) if end else dict_of(name)
    elman_only = {"nonlinearity": activation or "tanh"} if kind == "elman" else {}
    module = module_of(MODULES[kind] + end, weights, **elman_only)
    cell, params = from_torch(module)
    assert cell is CELLS[name]
    assert_equal(params, read(dict_of(name), name)[1])
    assert from_torch(module, kind, activation=activation)[0] is cell


def test_a_subclass_is_what_its_base_is():
    class GRU:
        def state_dict(self):
            return dict_of("gru", layers=2)

    class Mine(GRU):
        pass

    assert from_torch(Mine())[0] is stack(gru(), gru())


def test_a_models_dict_is_read_under_a_prefix():
    weights = dict_of("gru", 2, 2)
    model = {f"encoder.rnn.{name}": a for name, a in weights.items()}
    model |= {"head.weight": np.ones(3)}
    layer, params = from_torch(model, "gru", prefix="encoder.rnn.")
    assert layer is stack(*[bidirectional(gru())] * 2)
    assert_equal(to_torch(params, "gru"), weights)
    assert from_torch({"a." + k: v for k, v in cell_dict("lstm").items()}, prefix="a.")


def test_a_prefix_that_is_missing_is_named():
    model = {f"rnn.{name}": a for name, a in dict_of("lstm").items()}
    for prefix in ("", "rnn", "lstm."):
        with pytest.raises(ValueError, match=r"found under 'rnn.': give prefix='rnn.'"):
            from_torch(model, prefix=prefix)
    two = model | {f"dec.{name}": a for name, a in cell_dict("lstm").items()}
    with pytest.raises(ValueError, match=r"found under 'dec.' and 'rnn.': give pref"):
        from_torch(two)
    with pytest.raises(TypeError, match=r"prefix: expected a string, got int"):
        from_torch(model, prefix=3)


def test_modules_that_are_something_else_are_refused():
    model = module_of("Model", dict_of("lstm"))
    with pytest.raises(
        TypeError, match=r"source: expected one of nn's .* got Model: g"
    ):
        from_torch(model)
    lstm_module = module_of("LSTM", dict_of("lstm"))
    with pytest.raises(ValueError, match=r"kind: expected 'lstm' as .* got 'gru'"):
        from_torch(lstm_module, "gru")
    rectified = module_of("RNN", dict_of("elman"), nonlinearity="relu")
    with pytest.raises(ValueError, match=r"activation: expected 'relu' .* got 'tanh'"):
        from_torch(rectified, activation="tanh")


@pytest.mark.parametrize(
    "name", ["RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"]
)
@pytest.mark.parametrize("bias", [True, False])
def test_torchs_own_modules_are_read(torch, compile_fast, name, bias):
    options = {"nonlinearity": "relu"} if name.startswith("RNN") else {}
    module = getattr(torch.nn, name)(D, H, bias=bias, **options)
    model = torch.nn.ModuleDict({"rnn": module, "head": torch.nn.Linear(H, 2)})
    cell, params = from_torch(module)
    kind = {"R": "elman", "L": "lstm", "G": "gru"}[name[0]]
    said = {"activation": "relu" if kind == "elman" else None, "prefix": "rnn."}
    again = from_torch(model.state_dict(), kind, **said)
    assert again[0] is cell
    assert_equal(again[1], params)
    with pytest.raises(TypeError, match="got ModuleDict: give the module inside it"):
        from_torch(model)
    x = np.random.default_rng(0).standard_normal((1, ROWS, D)).astype(np.float32)
    given = torch.from_numpy(x)
    wanted = module(given[0] if name.endswith("Cell") else given)
    if name not in ("GRUCell", "RNNCell"):
        wanted = wanted[0]
    wanted = wanted.detach().numpy().reshape(1, ROWS, H)
    params = jax.tree.map(jnp.asarray, params)
    assert_alike(unroll(cell, params, jnp.asarray(x))[0], wanted, 5e-6)


# Wrong calls ----------------------------------------------------------------------


def without(key):
    return {k: v for k, v in dict_of("lstm", 2, 2).items() if k != key}


def with_entry(key, value, **options):
    return dict_of("lstm", **options) | {key: value}


@pytest.mark.parametrize(
    "given, kind, error, match",
    [
        (dict_of("lstm"), "LSTM", ValueError, r"kind: expected one of .* got 'LSTM'"),
        ([1], "lstm", TypeError, r"source: expected a module or a dict.* got list"),
        ({}, "lstm", ValueError, r"state_dict: expected the keys \['weight_ih_l0'"),
        (without("bias_hh_l1"), "lstm", ValueError, r"missing \['bias_hh_l1'\]"),
        (without("weight_ih_l0"), "lstm", ValueError, r"missing \['weight_ih_l0'\]"),
        (
            without("weight_hh_l1_reverse"),
            "lstm",
            ValueError,
            r"missing \['weight_hh_l1_reverse'\]",
        ),
        (
            with_entry("rnn.bias", np.ones(2)),
            "lstm",
            ValueError,
            r"unknown \['rnn.bias'\]",
        ),
        (
            with_entry("bias_hh_l0", np.ones(3)),
            "lstm",
            ValueError,
            r"bias_hh_l0 .*: expected shape \[16\], got \[3\]",
        ),
        (dict_of("lstm"), "gru", ValueError, r"3 gates of 4 .* got 4: an LSTM\? give"),
        (
            dict_of("gru"),
            "lstm",
            ValueError,
            r"^weight_hh_l0 .*'lstm'.*4 gates of 4 units, got 3: a GRU\? .*kind='gru'",
        ),
        (dict_of("elman"), "lstm", ValueError, r"got 1: an RNN\? give kind='elman'"),
        (
            with_entry("weight_hh_l0", np.ones((20, 4))),
            "lstm",
            ValueError,
            r"weight_hh_l0 .*: expected shape \[16, 4\], got \[20, 4\]",
        ),
        ({3: np.ones(3)}, "lstm", ValueError, r"got \['3'\]: missing .* unknown \['3'"),
        (
            with_entry("weight_ih_l1", np.ones((16, 3)), layers=2),
            "lstm",
            ValueError,
            r"weight_ih_l1 .*: expected shape \[16, 4\], got \[16, 3\]",
        ),
        (
            with_entry("weight_hh_l0", np.ones(16)),
            "lstm",
            ValueError,
            r"weight_hh_l0: expected shape \[any, any\], got \[16\]",
        ),
        (
            with_entry("weight_hr_l0", np.ones((2, H))),
            "gru",
            ValueError,
            r"weight_hr_l0: expected only with kind='lstm', got 'gru'",
        ),
        (
            with_entry("bias_hh_l0", np.ones(16, np.float32)),
            "lstm",
            TypeError,
            r"bias_hh_l0: expected float64 as weight_ih_l0, got float32",
        ),
        (
            with_entry("bias_hh_l0", np.ones(16, np.int32)),
            "lstm",
            TypeError,
            r"bias_hh_l0: expected a floating dtype, got int32",
        ),
        (
            with_entry("bias_hh_l0", [0.0] * 16),
            "lstm",
            TypeError,
            r"bias_hh_l0\[0\]: expected a NumPy or JAX array, got float",
        ),
    ],
)
def test_wrong_state_dicts_are_refused(given, kind, error, match):
    with pytest.raises(error, match=match):
        from_torch(given, kind)


def drawn(cell):
    return cell.init(jax.random.key(0), D, H)


def test_wrong_parameters_are_refused():
    plain = drawn(lstm())
    for wrong, kind, error, match in [
        (plain, "LSTM", ValueError, r"kind: expected one of"),
        (3, "lstm", TypeError, r"params: expected Params.* got int"),
        ((), "lstm", TypeError, r"params: expected Params.* got tuple"),
        (
            (plain, 3),
            "lstm",
            TypeError,
            r"params\[1\]: expected jaxrnn.Params, got int",
        ),
        ((plain, Directions(plain, plain)), "lstm", ValueError, r"params\[1\]: expect"),
        (plain, "gru", ValueError, r"params.w_s .*\[any, 12\], got \[4, 16\]"),
        (drawn(elman()), "lstm", ValueError, r"params.w_s .*\[any, 16\], got \[4, 4\]"),
        (
            plain._replace(own=[1.0]),
            "lstm",
            ValueError,
            r"params.own: .* got list",
        ),
        (plain._replace(b=plain.b[:3]), "lstm", ValueError, r"params.b .*\[16\]"),
        (Directions(plain, None), "lstm", TypeError, r"params.backward: expected"),
        (
            Params(plain.w_x, None),
            "lstm",
            TypeError,
            r"params.w_s: expected a NumPy or JAX array",
        ),
    ]:
        with pytest.raises(error, match=match):
            to_torch(wrong, kind)

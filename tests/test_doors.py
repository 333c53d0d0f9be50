"""How cells and layers are made, printed, pickled and sized."""

import copy
import inspect
import pickle
import pydoc
import subprocess
import sys
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array

import jaxrnn
from jaxrnn import (
    Params,
    State,
    bidirectional,
    custom_cell,
    draw_noise,
    elman,
    gru,
    indrnn,
    layer_norm,
    layers,
    learned_start,
    lru,
    lstm,
    mgu,
    mingru,
    network,
    noisy,
    stack,
    summary,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast")

KEY = jax.random.key(0)
XS = np.ones((5, 4, 3), "f4")


def my_gate(own, z, r, state_prev):
    del own
    a, b = jnp.split(z + r, 2, axis=-1)
    return State(jnp.tanh(a) * state_prev.h + b)


# Options by name ------------------------------------------------------------------


@pytest.mark.parametrize("make", [lstm, gru, mgu, mingru, lru, elman, indrnn])
def test_a_size_given_to_a_factory_is_sent_to_init(make):
    line = f"{make.__name__}().init(key, input_size=3, hidden_size=32)"
    for args, options in [((32,), {}), ((3, 32), {}), ((), {"hidden_size": 32})]:
        with pytest.raises(TypeError) as raised:
            make(*args, **options)
        assert str(raised.value) == f"{make.__name__}: sizes go to init: {line}"
    params = eval(f"jaxrnn.{line}", {"jaxrnn": jaxrnn, "key": KEY})
    assert params.w_x.shape[0] == 3


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: gru(True), "gru: too many positional arguments; expected gru(*, res"),
        (lambda: lstm(2.0), "lstm: too many positional arguments; expected lstm(*, f"),
        (lambda: gru(resetafter=True), "'resetafter'; expected gru(*, reset_after=Tr"),
        (lambda: stack([lstm(), gru()]), "layers: expected them one by one"),
        (lambda: stack((lstm(), gru())), "write stack(*layers)"),
        (lambda: unroll(lstm, None, XS), "call it, lstm()"),
        (lambda: unroll(network(lstm()), None, XS), "give net.cell and params.cell"),
        (lambda: stack(network(lstm())), "layers[0]: expected a Cell or a Layer"),
    ],
)
def test_a_wrong_call_says_what_to_write(call, words):
    with pytest.raises(TypeError) as raised:
        call()
    assert words in str(raised.value)


@pytest.mark.parametrize("make", [lstm, gru, lru, mgu, mingru])
def test_these_take_keywords_alone(make):
    kinds = {p.kind for p in inspect.signature(make).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}


# As written -----------------------------------------------------------------------

WRITTEN = [
    "lstm()",
    "lstm(forget_bias=2.0, projection=4)",
    "gru(reset_after=False)",
    "elman()",
    "elman('relu', recurrent='identity')",
    "indrnn('tanh')",
    "lru(r_min=0.5)",
    "mgu()",
    "mingru()",
    "clipped(gru(), 1.0)",
    "layer_norm(lstm(memory_norm=True))",
    "custom_cell(my_gate, gates=2)",
    "stack(lstm(), gru())",
    "stack(lstm(), stack(gru(), skip='residual'), dropout=0.5)",
    "bidirectional(gru(), merge='sum')",
    "bidirectional(gru(), lstm())",
    "backward_only(gru())",
    "learned_start(noisy(lstm(), zoneout=(0.1, 0.2)))",
    "network(stack(lstm(), gru()))",
    "network(lstm(), output='tanh')",
]


@pytest.mark.parametrize("line", WRITTEN)
def test_a_record_prints_as_it_is_written_and_comes_back_from_a_pickle(line):
    record = eval(line, vars(jaxrnn) | {"my_gate": my_gate})
    assert repr(record) == str(record) == line
    assert pickle.loads(pickle.dumps(record)) is record
    assert copy.deepcopy(record) is copy.copy(record) is record


def test_what_is_left_at_its_default_is_not_printed():
    assert repr(lstm(forget_bias=1, peepholes=False)) == "lstm()"
    assert repr(stack(elman(activation="tanh"), skip=None)) == "stack(elman())"
    assert repr(bidirectional(gru(), backward=None)) == "bidirectional(gru())"


def test_a_pickle_is_read_by_another_process():
    data = pickle.dumps(stack(lstm(), gru(reset_after=False)))
    program = f"import pickle; print(pickle.loads({data!r}))"
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True)
    assert shown.stdout.decode().strip() == "stack(lstm(), gru(reset_after=False))"


def my_init(key, input_size, hidden_size, *, bias=True, dtype=None):
    return lstm().init(key, input_size, hidden_size, bias=bias, dtype=dtype)


def test_a_changed_record_does_not_pass_for_the_original():
    changed = lstm()._replace(init=my_init)
    assert repr(changed).startswith("Cell(init=my_init, initial_state=")
    assert changed != lstm()
    assert repr(stack(changed)).startswith("stack(Cell(init=my_init, ")
    # by its fields, where each of them can be pickled
    fields = [my_init] * 5
    own = jaxrnn.Cell(*fields, gates=3)
    back = pickle.loads(pickle.dumps(own))
    assert back == own and back is not own


def test_records_are_static_values_of_jit():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def run(params, xs):
        return unroll(pickle.loads(pickle.dumps(lstm())), params, xs)[0]

    params = lstm().init(KEY, 3, 2)
    run(params, XS)
    run(params, XS)
    static = jax.jit(lambda cell, p, xs: unroll(cell, p, xs)[0], static_argnums=0)
    np.testing.assert_allclose(
        static(gru(), gru().init(KEY, 3, 2), XS).shape, (5, 4, 2)
    )
    assert {lstm(): 1, gru(): 2}[lstm()] == 1


# Sizes, keys, dtypes --------------------------------------------------------------


def test_a_stack_takes_one_size_or_one_for_each_layer():
    layer = stack(lstm(), bidirectional(gru()), stack(elman(), gru()))
    params = jax.eval_shape(lambda: layer.init(KEY, 3, (8, 4, (5, 2))))
    assert params[0].w_s.shape == (8, 32)
    assert params[1].backward.w_x.shape == (8, 12)
    assert [p.w_s.shape[0] for p in params[2]] == [5, 2]
    hs, _ = jax.eval_shape(lambda p: unroll(layer, p, XS), params)
    assert hs.shape == (5, 4, 2)
    same = stack(lstm(), gru())
    one, two = same.init(KEY, 3, 4), same.init(KEY, 3, [4, 4])
    jax.tree.map(np.testing.assert_array_equal, one, two)


def test_eight_rows_are_a_batch_shape():
    for layer in [lstm(), lstm(projection=2), learned_start(stack(lstm(), gru()))]:
        params = layer.init(KEY, 3, 4)
        one, two = (layer.initial_state(params, shape) for shape in (8, (8,)))
        jax.tree.map(np.testing.assert_array_equal, one, two)
        assert jax.tree.leaves(one)[0].shape[0] == 8


SIZES = {
    "key an int": (lambda: lstm().init(0, 3, 16), "key: expected a random key"),
    "a stack's": (lambda: stack(lstm()).init(0, 3, 16), "jax.random.key(0), got 0"),
    "directions'": (lambda: bidirectional(gru()).init(0, 3, 16), "key: expected"),
    "noise's": (lambda: draw_noise(0, noisy(gru()), None, XS), "key: expected"),
    "many keys": (lambda: lstm().init(jax.random.split(KEY), 3, 2), "shape (2,)"),
    "no raw key": (
        lambda: lstm().init(np.zeros(3, np.uint32), 3, 2),
        "key: expected a random key, such as jax.random.key(0), got uint32 of shape",
    ),
    "bias a number": (lambda: lstm().init(KEY, 3, 2, bias=1), "bias: expected True or"),
    "stack's bias": (lambda: stack(gru()).init(KEY, 3, 2, bias=None), "got None"),
    "no dtype": (
        lambda: lstm().init(KEY, 3, 2, dtype="float3"),
        "dtype: expected a floating dtype, got float3",
    ),
    "size a float": (lambda: lstm().init(KEY, 3, 16.0), "hidden_size: expected"),
    "sizes of a cell": (
        lambda: lstm().init(KEY, 3, (2, 3)),
        "hidden_size: expected a positive integer, got (2, 3)",
    ),
    "too many sizes": (
        lambda: stack(lstm(), gru()).init(KEY, 3, (2, 3, 4)),
        "hidden_size: expected one size or 2, one for each layer, got (2, 3, 4)",
    ),
    "no params": (
        lambda: gru().initial_state((8,)),
        "cell.initial_state(params, (8,))",
    ),
    "batch of floats": (
        lambda: gru().initial_state(gru().init(KEY, 3, 2), (8.0,)),
        "batch_shape: expected a number of rows or a tuple such as (8,), got (8.0,)",
    ),
    "batch below 0": (
        lambda: gru().initial_state(gru().init(KEY, 3, 2), -1),
        "batch_shape: expected no negative number, got (-1,)",
    ),
}


@pytest.mark.parametrize("call, words", SIZES.values(), ids=SIZES)
def test_what_init_cannot_take_is_named(call, words):
    with pytest.raises((TypeError, ValueError)) as raised:
        call()
    assert words in str(raised.value)


def test_a_raw_key_is_a_key():
    assert lstm().init(jax.random.PRNGKey(0), 3, 2).w_x.shape == (3, 8)


@pytest.mark.parametrize(
    "layer", [elman(), gru(), lru(), layer_norm(lstm()), stack(lstm(), gru())]
)
def test_parameters_are_drawn_in_jaxs_own_float_unless_said(layer):
    def dtypes(**options):
        shapes = jax.eval_shape(lambda: layer.init(KEY, 3, 4, **options))
        return {a.dtype for a in jax.tree.leaves(shapes)}

    assert dtypes() == {jnp.dtype("float32")}
    assert dtypes(dtype="bfloat16") == {jnp.dtype("bfloat16")}
    with jax.enable_x64(True):
        assert dtypes() == {jnp.dtype("float64")}
        assert dtypes(dtype=jnp.float32) == {jnp.dtype("float32")}


# Widths that do not fit -----------------------------------------------------------


@pytest.mark.parametrize("merge", ["product", "sum", "mean"])
def test_directions_of_other_widths_are_not_merged_by_element(merge):
    layer = bidirectional(lstm(), lstm(projection=1), merge=merge)
    params = bidirectional(lstm(), lstm(projection=1)).init(KEY, 3, 4)
    for call in (
        lambda: layer.init(KEY, 3, 4),
        lambda: unroll(layer, params, XS),
        lambda: layer.output_size(params),
    ):
        with pytest.raises(ValueError, match=r"merge: .* got 4 forward and 1 backward"):
            call()
    assert unroll(bidirectional(lstm(), lstm(projection=1)), params, XS)[0].shape == (
        *XS.shape[:2],
        5,
    )


def test_a_residual_stack_of_other_widths_is_refused():
    layer, plain = (stack(lstm(), gru(), skip=s) for s in ("residual", None))
    sizes = (4, 1)
    for call in (
        lambda: layer.init(KEY, 3, sizes),
        lambda: unroll(layer, plain.init(KEY, 3, sizes), XS),
    ):
        with pytest.raises(
            ValueError, match=r"skip: .* layers\[1\] that reads 4 and gives 1"
        ):
            call()
    assert unroll(layer, layer.init(KEY, 3, 4), XS)[0].shape == (5, 4, 4)


def test_two_outputs_that_are_not_merged_end_a_stack():
    both = bidirectional(gru(), merge=None)
    params = stack(both, lstm()).init(KEY, 3, 4)
    with pytest.raises(TypeError, match=r"layers\[0\]: .* got Directions"):
        unroll(stack(both, lstm()), params, XS)


# A gate map -----------------------------------------------------------------------


class Two(NamedTuple):
    h: Array
    m: Array


GATES = {
    "an array": (lambda z, s: jnp.tanh(z), "got an array [4, 2] float32"),
    "a dict": (lambda z, s: {"h": z}, "got dict"),
    "None": (lambda z, s: None, "got NoneType"),
    "another state": (lambda z, s: Two(z, z), "got Two(h [4, 2] float32, m [4, 2]"),
    "wider": (lambda z, s: State(jnp.concatenate([z, z], -1)), "got State(h [4, 4] fl"),
    "another dtype": (
        lambda z, s: State(z.astype("f2")),
        "got State(h [4, 2] float16)",
    ),
    "a number": (lambda z, s: State(0.5), "got State(h float)"),
}


@pytest.mark.parametrize("gate, words", GATES.values(), ids=GATES)
@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_a_gate_map_that_gives_another_state_is_told(gate, words, gradient):
    cell = custom_cell(lambda own, z, r, state: gate(z + r, state))
    params = cell.init(KEY, 3, 2)
    with pytest.raises(TypeError) as raised:
        unroll(cell, params, XS, gradient=gradient)
    wanted = "gate: expected State(h [4, 2] float32) like the state before, got "
    assert str(raised.value).startswith(wanted) and words in str(raised.value)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"state": dict}, "state: expected a NamedTuple class, such as State"),
        ({"state": tuple}, "got tuple"),
        ({"state": State(1)}, "state: expected a NamedTuple class"),  # pyright: ignore
        ({"gates": 0}, "gates: expected a positive integer, got 0"),
        ({"independent": 1}, "independent: expected True or False, got 1"),
        ({"gate": "tanh"}, "gate: expected a function (own, z, r, state_prev)"),
    ],
)
def test_custom_cell_names_what_it_cannot_take(options, words):
    with pytest.raises((TypeError, ValueError)) as raised:
        custom_cell(**{"gate": my_gate} | options)
    assert words in str(raised.value)


# At one door ----------------------------------------------------------------------


def test_help_lists_every_public_name_and_no_other():
    text = pydoc.plain(pydoc.render_doc(jaxrnn))
    functions = [n for n in jaxrnn.__all__ if inspect.isfunction(getattr(jaxrnn, n))]
    assert len(functions) > 20
    assert all(f"    {name}(" in text for name in functions)
    assert set(jaxrnn.__all__) <= set(dir(jaxrnn))
    private = {"record", "backprop", "cell", "cells", "layer", "model", "networks"}
    assert not private & set(jaxrnn.__all__)


def test_every_layer_stands_at_the_door():
    from_layers = {n for n in vars(layers) if inspect.isfunction(getattr(layers, n))}
    assert from_layers <= set(jaxrnn.__all__)
    assert all(f"`{name}`" in jaxrnn.__doc__ for name in from_layers)


@pytest.mark.parametrize(
    "cell, order, count",
    [
        (lstm(), "i, f, g, o", lambda d, h: 4 * (d * h + h * h + h)),
        (gru(), "r, z, n", lambda d, h: 3 * (d * h + h * h + 2 * h)),
        (gru(reset_after=False), "r, z, n", lambda d, h: 3 * (d * h + h * h + h)),
        (
            lstm(projection=2, peepholes=True, memory_norm=True),
            "i, f, g, o",
            lambda d, h: 4 * (d * h + 2 * h + h) + h * 2 + 3 * h + 2 * h,
        ),
        (
            lstm(coupled=True, peepholes=True),
            "i, f, g, o",
            lambda d, h: 3 * (d * h + h * h + h) + 2 * h,
        ),
    ],
)
def test_the_number_of_parameters_is_as_documented(cell, order, count):
    make = lstm if "lstm" in repr(cell) else gru
    assert order in make.__doc__
    assert summary(cell.init(KEY, 3, 5)).count == count(3, 5)


# The table ------------------------------------------------------------------------


def test_summary_prints_leaf_shape_dtype_and_count():
    net = network(stack(lstm(), gru()))
    found = summary(net.init(KEY, 3, 4, 2))
    assert str(found).splitlines() == [
        "leaf         shape    dtype    count",
        "cell.0.w_x   [3, 16]  float32     48",
        "cell.0.w_s   [4, 16]  float32     64",
        "cell.0.b     [16]     float32     16",
        "cell.1.w_x   [4, 12]  float32     48",
        "cell.1.w_s   [4, 12]  float32     48",
        "cell.1.b     [12]     float32     12",
        "cell.1.b_s   [12]     float32     12",
        "readout.w_y  [4, 2]   float32      8",
        "readout.b_y  [2]      float32      2",
        "total                            258",
    ]
    assert found.count == sum(leaf.count for leaf in found.leaves) == 258


def test_summary_reads_shapes_alone():
    shapes = jax.eval_shape(lambda: lstm().init(KEY, 1000, 1000))
    assert summary(shapes).count == 8_004_000
    with pytest.raises(TypeError, match=r"params\.w_x: expected an array, got int"):
        summary(Params(1, XS))

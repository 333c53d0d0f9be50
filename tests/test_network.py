"""Equations 56-60 of a whole network, by number, and its error."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from table import assert_alike, draw, relative_errors

from jaxrnn import (
    NetworkParams,
    Params,
    ReadoutParams,
    State,
    elman,
    gru,
    lstm,
    network,
    readout,
    step,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B, D, H, O = 4, 2, 2, 3, 2  # noqa: E741 - the shapes' letters
ALL_STEPS = np.ones((T, B))
LAST_STEP = np.concatenate([np.zeros((T - 1, B)), np.ones((1, B))])


def seed_network(activation="tanh", bias=False, cell=None):
    """A network and its batch: params, xs, targets; without bias, as in the seed."""
    cell = elman(activation) if cell is None else cell
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H, bias=bias)
    rng = np.random.default_rng(7)
    w_y = 0.7 * rng.standard_normal((H, O))
    b_y = rng.standard_normal(O) if bias else None
    params = NetworkParams(case.params, ReadoutParams(w_y, b_y))
    return params, case.xs, rng.standard_normal((T, B, O))


def matrices(params):
    return params.cell.w_x, params.cell.w_s, params.readout.w_y


def as_network(w_x, w_s, w_y):
    return NetworkParams(Params(w_x, w_s), ReadoutParams(w_y))


@jax.jit
def seed_gradients(params, xs, targets, weights):
    return network(elman()).gradients(params, xs, targets, weights=weights)


# Equations 56-60 ------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
def test_56_states_of_the_seeds_network(activation):
    params, xs, _ = seed_network(activation)
    hs, _ = unroll(elman(activation), params.cell, xs)
    phi, _ = oracles.ACTIVATIONS[activation]
    s = np.zeros((B, H))
    for t in range(T):
        s = phi(xs[t] @ params.cell.w_x + s @ params.cell.w_s)
        np.testing.assert_allclose(hs[t], s, rtol=0, atol=1e-14)


def test_56_the_folded_model():
    params, xs, _ = seed_network()
    s = np.full((B, H), 0.3)
    after, output = step(elman(), params.cell, State(s), xs[0])
    wanted = np.tanh(xs[0] @ params.cell.w_x + s @ params.cell.w_s)
    np.testing.assert_allclose(after.h, wanted, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(output, after.h)


@pytest.mark.parametrize(
    "output, sigma",
    [
        (None, lambda a: a),
        ("sigmoid", oracles.sigmoid),
        ("tanh", np.tanh),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_57_outputs(output, sigma, bias):
    params, xs, _ = seed_network(bias=bias)
    ys, final = network(elman(), output=output).apply(params, xs)
    hs, last = unroll(elman(), params.cell, xs)
    w_y, b_y = params.readout
    wanted = sigma(np.asarray(hs) @ w_y + (b_y if bias else 0))
    np.testing.assert_allclose(ys, wanted, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(final.h, last.h)
    one = readout(params.readout, hs[-1, 0], output)  # no batch, no time
    np.testing.assert_allclose(one, wanted[-1, 0], rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    "weights", [ALL_STEPS, LAST_STEP], ids=["every E_N", "last E_N"]
)
def test_58_59_60_gradients_equal_the_printed_double_sum(weights):
    params, xs, targets = seed_network()
    value, d = seed_gradients(params, xs, targets, weights)
    # the seed's network has no bias: three matrices and nothing else
    assert len(jax.tree.leaves(d)) == 3
    sums = oracles.double_sum(matrices(params), xs, targets, weights)
    assert_alike(d, as_network(*sums), 1e-10)
    ys, _ = network(elman()).apply(params, xs)
    squares = ((targets - np.asarray(ys)) ** 2).sum(-1)  # (d - y)², without the ½
    assert value == pytest.approx((squares * weights).sum() / weights.sum(), rel=1e-13)


def test_58_59_60_with_each_step_weighted():
    params, xs, targets = seed_network()
    weights = np.random.default_rng(3).uniform(0, 2, (T, B))
    _, d = seed_gradients(params, xs, targets, weights)
    sums = oracles.double_sum(matrices(params), xs, targets, weights)
    assert_alike(d, as_network(*sums), 1e-10)


def three_steps():
    """The printed three-step case: one row, E_3 alone, and every factor of it."""
    params, xs, targets = seed_network()
    xs, targets = xs[:3, :1], targets[:3, :1]
    w_x, w_s, w_y = matrices(params)
    net = oracles.unfold(w_x, w_s, w_y, xs[:, 0], np.zeros(H))
    _, d = network(elman()).gradients(
        params, xs, targets, weights=np.array([[0.0], [0.0], [1.0]])
    )
    e_3 = 2 * (net.y[3] - targets[2, 0])  # ∂E_3/∂y_3
    return d, net, e_3, w_y.T  # ∂y_3/∂s_3 = W_yᵀ


def test_58_of_the_third_step():
    d, net, e_3, _ = three_steps()
    assert_alike(d.readout.w_y, np.outer(net.s[3], e_3), 1e-10)


def test_59_of_three_steps_is_the_three_printed_terms():
    d, net, e_3, y_s = three_steps()

    def term(row, s_w_s):
        return np.einsum("h,hkl->kl", row, s_w_s)

    printed = (
        term(e_3 @ y_s, net.s_w_s[3])
        + term(e_3 @ y_s @ net.s_s[3], net.s_w_s[2])
        + term(e_3 @ y_s @ net.s_s[3] @ net.s_s[2], net.s_w_s[1])
    )
    assert_alike(d.cell.w_s, printed, 1e-10)


def test_60_of_three_steps_is_the_three_printed_terms():
    d, net, e_3, y_s = three_steps()

    def term(row, s_w_x):
        return np.einsum("h,hkl->kl", row, s_w_x)

    printed = (
        term(e_3 @ y_s, net.s_w_x[3])
        + term(e_3 @ y_s @ net.s_s[3], net.s_w_x[2])
        + term(e_3 @ y_s @ net.s_s[3] @ net.s_s[2], net.s_w_x[1])
    )
    assert_alike(d.cell.w_x, printed, 1e-10)
    # Control: without the oldest term it is another gradient.
    short = printed - term(e_3 @ y_s @ net.s_s[3] @ net.s_s[2], net.s_w_x[1])
    assert relative_errors(d.cell.w_x, short)[""] > 1e-3


def test_control_59_60_total_derivatives_in_place_of_immediate_count_double():
    params, xs, targets = seed_network()
    _, d = seed_gradients(params, xs, targets, LAST_STEP)
    wrong = oracles.double_sum(matrices(params), xs, targets, LAST_STEP, total=True)
    errors = relative_errors(d, as_network(*wrong))
    assert errors["readout.w_y"] < 1e-10  # (58) has no sum over time
    assert errors["cell.w_s"] > 1e-2 and errors["cell.w_x"] > 1e-2


# By hand against autodiff ---------------------------------------------------------


def batch_of(error, bias=True, cell=None):
    params, xs, targets = seed_network(bias=bias, cell=cell)
    if error == "softmax_cross_entropy":
        targets = np.array([[0, 1], [1, 1], [1, 0], [0, 0]])
    if error == "sigmoid_cross_entropy":
        targets = oracles.sigmoid(targets)  # in 0..1
    return params, xs, targets


def both_gradients(net, batch, state=None, weights=None, **options):
    @jax.jit
    def both(params, xs, targets, state, weights):
        def error(params):
            return net.error(
                params, xs, targets, state, weights=weights, gradient="autodiff"
            )

        return (
            net.gradients(params, xs, targets, state, weights=weights, **options),
            jax.value_and_grad(error)(params),
        )

    return both(*batch, state, weights)


@pytest.mark.parametrize(
    "error, output, weighted, with_state",
    [
        ("squared", None, False, False),
        ("squared", "sigmoid", True, True),
        ("squared", "tanh", True, False),
        ("softmax_cross_entropy", None, False, True),
        ("softmax_cross_entropy", None, True, False),
        ("sigmoid_cross_entropy", None, True, True),
    ],
)
def test_58_59_60_by_hand_equal_autodiff(error, output, weighted, with_state):
    net = network(elman(), error, output)
    weights = np.random.default_rng(3).uniform(0, 2, (T, B)) if weighted else None
    state = draw(elman(), units=H, batch=(B,)).state if with_state else None
    ours, theirs = both_gradients(net, batch_of(error), state, weights, chunk_size=3)
    assert_alike(ours, theirs, 1e-10)


@pytest.mark.parametrize("cell", [lstm(), gru()], ids=["lstm", "gru"])
def test_58_59_60_by_hand_equal_autodiff_for_gated_cells(cell):
    error = "softmax_cross_entropy"
    state = draw(cell, units=H, batch=(B,)).state
    ours, theirs = both_gradients(
        network(cell, error), batch_of(error, cell=cell), state
    )
    assert_alike(ours, theirs, 1e-10)


def test_control_a_readout_without_its_slope_differs():
    params, xs, targets = seed_network(bias=True)
    linear = network(elman(), "squared", None).gradients(params, xs, targets)[1]
    sloped = network(elman(), "squared", "tanh").gradients(params, xs, targets)[1]
    assert min(relative_errors(linear, sloped).values()) > 1e-2


def test_weights_that_are_all_zero_give_no_error_and_no_gradient():
    params, xs, targets = seed_network()
    value, d = seed_gradients(params, xs, targets, np.zeros((T, B)))
    assert value == 0
    for g in jax.tree.leaves(d):
        np.testing.assert_array_equal(g, 0)  # and so not NaN


def test_a_step_without_weight_reaches_nothing():
    params, xs, targets = seed_network()
    weights = np.ones((T, B))
    weights[-1, 0] = 0
    changed = targets.copy()
    changed[-1, 0] = 1e6
    for a, b in zip(
        jax.tree.leaves(seed_gradients(params, xs, targets, weights)),
        jax.tree.leaves(seed_gradients(params, xs, changed, weights)),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_no_steps_give_no_error_and_no_gradient():
    params, xs, targets = seed_network()
    value, d = network(elman()).gradients(params, xs[:0], targets[:0])
    assert value == 0
    for g in jax.tree.leaves(d):
        np.testing.assert_array_equal(g, 0)


def test_float32_stays_float32_and_bfloat16_bfloat16():
    for dtype in (jnp.float32, jnp.bfloat16):
        params, xs, targets = jax.tree.map(
            lambda a, dtype=dtype: a.astype(dtype), seed_network(bias=True)
        )
        value, d = jax.eval_shape(network(elman()).gradients, params, xs, targets)
        assert value.dtype == dtype
        assert {g.dtype for g in jax.tree.leaves(d)} == {jnp.dtype(dtype)}


# Errors ---------------------------------------------------------------------------


def numpy_error(error, ys, d):
    if error == "squared":
        return ((d - ys) ** 2).sum(-1)
    if error == "softmax_cross_entropy":
        p = np.exp(ys) / np.exp(ys).sum(-1, keepdims=True)
        return -np.log(np.take_along_axis(p, d[..., None], -1)[..., 0])
    p = oracles.sigmoid(ys)
    return -(d * np.log(p) + (1 - d) * np.log(1 - p)).sum(-1)


OPTAX = {
    "squared": lambda ys, d: optax.losses.squared_error(ys, d).sum(-1),
    "softmax_cross_entropy": (optax.losses.softmax_cross_entropy_with_integer_labels),
    "sigmoid_cross_entropy": lambda ys, d: optax.losses.sigmoid_binary_cross_entropy(
        ys, d
    ).sum(-1),
}


@pytest.mark.parametrize("error", OPTAX)
def test_error_values_equal_numpys_and_optaxs(error):
    params, xs, targets = batch_of(error)
    net = network(elman(), error)
    ys, last = net.apply(params, xs)
    weights = np.random.default_rng(3).uniform(0, 2, (T, B))
    terms = numpy_error(error, np.asarray(ys), targets)
    np.testing.assert_allclose(
        terms, OPTAX[error](ys, jnp.asarray(targets)), rtol=1e-13
    )

    mean = net.error(params, xs, targets)
    assert mean == pytest.approx(terms.mean(), rel=1e-13)
    weighted, final = net.error(
        params, xs, targets, weights=weights, return_state=True, chunk_size=3
    )
    wanted = (terms * weights).sum() / weights.sum()
    assert weighted == pytest.approx(wanted, rel=1e-13)
    np.testing.assert_allclose(final.h, last.h, rtol=0, atol=1e-15)


def test_parameters_are_drawn_with_and_without_biases(key):
    net = network(lstm())
    shapes = jax.eval_shape(partial(net.init, key, D, H, O, dtype=jnp.bfloat16))
    assert shapes.readout.w_y.shape == (H, O) and shapes.readout.b_y.shape == (O,)
    assert shapes.cell.w_x.shape == (D, 4 * H)
    assert {a.dtype for a in jax.tree.leaves(shapes)} == {jnp.dtype(jnp.bfloat16)}
    bare = jax.eval_shape(partial(net.init, key, D, H, O, bias=False))
    assert len(jax.tree.leaves(bare)) == 3


def test_the_same_options_give_the_same_record():
    assert network(elman()) is network(elman())
    assert network(elman()) is not network(elman(), output="tanh")


# Wrong calls ----------------------------------------------------------------------


@pytest.mark.parametrize("call", ["error", "gradients"])
@pytest.mark.parametrize(
    "error, change, raised, words",
    [
        (
            "squared",
            {"targets": np.zeros((T, B))},
            ValueError,
            "targets: expected shape",
        ),
        ("squared", {"targets": np.zeros((T, B, O + 1))}, ValueError, "[4, 2, 2]"),
        ("squared", {"targets": np.zeros((T, B, O), "f4")}, TypeError, "got float32"),
        ("squared", {"targets": np.zeros((T, B, O), int)}, TypeError, "targets"),
        (
            "softmax_cross_entropy",
            {"targets": np.zeros((T, B, O), int)},
            ValueError,
            "targets: expected shape [4, 2]",
        ),
        (
            "softmax_cross_entropy",
            {"targets": np.zeros((T, B))},
            TypeError,
            "targets: expected integer labels, got float64",
        ),
        (
            "sigmoid_cross_entropy",
            {"targets": np.zeros((T, B), int)},
            ValueError,
            "targets: expected shape [4, 2, 2]",
        ),
        (
            "squared",
            {"weights": np.ones(T)},
            ValueError,
            "weights: expected shape [4, 2]",
        ),
        (
            "squared",
            {"weights": np.ones((T, B), "f4")},
            TypeError,
            "weights: expected float64, got float32",
        ),
        ("squared", {"xs": np.ones((T, B, D + 1))}, ValueError, "xs: expected shape"),
        ("squared", {"xs": np.ones((T, B, D), int)}, TypeError, "xs: expected float64"),
        ("squared", {"state": np.ones((B, H))}, TypeError, "state: expected"),
        ("squared", {"chunk_size": -1}, ValueError, "chunk_size: expected a positive"),
    ],
)
def test_wrong_calls_are_named(call, error, change, raised, words):
    params, xs, targets = batch_of(error)
    arguments = {"params": params, "xs": xs, "targets": targets, **change}
    with pytest.raises(raised) as info:
        getattr(network(elman(), error), call)(**arguments)
    assert words in str(info.value)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"error": "absolute"}, "error: expected 'sigmoid_cross"),
        ({"error": "softmax_cross_entropy", "output": "tanh"}, "output: expected None"),
        ({"error": "sigmoid_cross_entropy", "output": "sigmoid"}, "got 'sigmoid'"),
    ],
)
def test_options_that_do_not_fit_are_named(options, words):
    with pytest.raises(ValueError) as info:
        network(elman(), **options)
    assert words in str(info.value)


def test_an_unknown_output_is_named_at_once():
    with pytest.raises(
        ValueError, match="expected None, 'sigmoid' or 'tanh', got 'relu'"
    ):
        network(elman(), output="relu")


def test_readouts_wrong_calls_are_named(key):
    params = ReadoutParams(np.ones((H, O)))
    for wrong, words in (
        (np.ones((2, 4)), r"w_y: expected shape \[4, O\], since hs is \[2, 4\]"),
        (np.ones((2, 3), "f4"), "w_y: expected float32, got float64"),
        (np.ones((2, 3), int), "hs: expected a floating dtype, got int64"),
    ):
        with pytest.raises((ValueError, TypeError), match=words):
            readout(params, wrong)
    with pytest.raises(TypeError, match="params: expected ReadoutParams, got a tuple"):
        readout((np.ones((H, O)), None), np.ones((2, 3)))
    with pytest.raises(ValueError, match="activation: expected None"):
        readout(params, np.ones((2, 3)), "softmax")
    with pytest.raises(ValueError, match="output_size: expected a positive"):
        network(elman()).init(key, 2, 3, 0)


# ∂E/∂hs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weights, lengths",
    [(ALL_STEPS, None), (LAST_STEP, None), (None, [T, 2]), (LAST_STEP, [T, 2])],
    ids=["every E_N", "last E_N", "lengths", "last E_N and lengths"],
)
def test_cotangents_are_the_errors_derivative_by_the_states(weights, lengths):
    params, xs, targets = seed_network(bias=True)
    net = network(elman(), output="tanh")
    value, d_hs = net.cotangents(params, xs, targets, weights=weights, lengths=lengths)
    inside = np.arange(T)[:, None] < np.array(lengths or [T, T])
    shares = inside * (ALL_STEPS if weights is None else weights)
    shares = shares / shares.sum()

    def error(hs):
        ys = readout(params.readout, hs, "tanh")
        return (((ys - targets) ** 2).sum(-1) * shares).sum()

    hs, _ = unroll(elman(), params.cell, xs, lengths=lengths)
    wanted_value, wanted = jax.value_and_grad(error)(hs)
    np.testing.assert_allclose(value, wanted_value, rtol=1e-13)
    assert_alike(d_hs, wanted, 1e-13)
    assert net.cell is elman()


# The first parameters -------------------------------------------------------------


def test_a_readout_starts_with_variance_one_over_units_and_no_bias(key):
    w_y, b_y = network(elman()).init(key, 2, 200, 50).readout
    # 10,000 draws: the variance is known to 1.4 %; over 50 outputs it would be four
    # times as large
    assert np.var(w_y) * 200 == pytest.approx(1, abs=0.06)
    assert abs(np.mean(w_y)) * 200**0.5 < 0.04
    np.testing.assert_array_equal(b_y, np.zeros(50))


# Targets out of range, other kinds of arrays, an error of one's own ----------------


def softmax_case(label, dtype=np.int32):
    net = network(elman(), "softmax_cross_entropy")
    params, xs, targets = batch_of("softmax_cross_entropy")
    targets = np.asarray(targets).astype(dtype)
    targets[1, 0] = label
    return net, params, xs, targets


@pytest.mark.parametrize("label", [-1, O, 2**31 - 1])
def test_a_traced_label_out_of_range_is_nan_by_hand_as_by_autodiff(label):
    net, params, xs, targets = softmax_case(label)
    value, ours = jax.jit(net.gradients)(params, xs, targets)
    error = partial(net.error, gradient="autodiff")
    expected, theirs = jax.jit(jax.value_and_grad(error))(params, xs, targets)
    assert np.isnan(value) and np.isnan(expected)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    assert np.isnan(ours.readout.b_y).all()
    # where it does not count, it reaches nothing
    weights = np.ones((T, B))
    weights[1, 0] = 0
    other = np.where(weights == 0, 0, targets)
    run = jax.jit(lambda y: net.gradients(params, xs, y, weights=weights))
    assert_alike(run(targets), run(other), 0.0)


@pytest.mark.parametrize("call", ["error", "gradients", "cotangents"])
@pytest.mark.parametrize(
    "label, dtype", [(-1, np.int32), (O, np.int32), (200, np.uint8), (2**40, np.int64)]
)
def test_a_known_label_out_of_range_is_refused(call, label, dtype):
    net, params, xs, targets = softmax_case(label, dtype)
    with pytest.raises(ValueError, match=f"targets: expected values in 0..{O - 1} "):
        getattr(net, call)(params, xs, targets)
    weights = np.arange(T * B).reshape(T, B) != 2  # all but that step
    getattr(net, call)(params, xs, targets, weights=weights)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int64])
def test_labels_of_any_integer_kind_are_the_same_labels(dtype):
    net, params, xs, targets = softmax_case(1)
    assert_alike(
        net.gradients(params, xs, targets.astype(dtype)),
        net.gradients(params, xs, targets),
        0.0,
    )


def test_weights_of_booleans_and_integers_are_cast():
    params, xs, targets = batch_of("squared")
    net, keep = network(elman()), np.arange(T * B).reshape(T, B) % 3 > 0
    wanted = net.gradients(params, xs, targets, weights=keep.astype(float))
    for weights in (keep, keep.astype(int), jnp.asarray(keep)):
        assert_alike(net.gradients(params, xs, targets, weights=weights), wanted, 0.0)


def huber(ys, targets):
    return optax.losses.huber_loss(ys, targets).sum(-1)


@pytest.mark.parametrize("output", [None, "tanh"])
def test_an_error_of_ones_own_by_hand_equals_autodiff(output):
    net = network(elman(), huber, output)
    params, xs, targets = batch_of("squared")
    options = {"lengths": [2, 4], "weights": np.ones((T, B)) * [1.0, 2.0]}
    value, ours = net.gradients(params, xs, targets, **options)
    error = partial(net.error, gradient="autodiff", **options)
    expected, theirs = jax.value_and_grad(error)(params, xs, targets)
    assert float(value) == pytest.approx(float(expected), rel=1e-14)
    assert_alike(ours, theirs, 1e-12)
    other = network(elman(), "squared", output)  # control: another error differs
    with pytest.raises(AssertionError):
        assert_alike(other.gradients(params, xs, targets, **options)[1], theirs, 1e-3)


def test_squared_as_a_function_is_squared_by_name():
    params, xs, targets = batch_of("squared")
    by_name = network(elman()).gradients(params, xs, targets)
    by_function = network(elman(), lambda y, d: ((d - y) ** 2).sum(-1))
    assert_alike(by_function.gradients(params, xs, targets), by_name, 1e-14)


@pytest.mark.parametrize("call", ["error", "gradients", "cotangents"])
@pytest.mark.parametrize(
    "error, change, raised, words",
    [
        ("squared", {"targets": None}, TypeError, "targets: expected an array, got No"),
        ("squared", {"targets": [[0.0]]}, TypeError, "targets: expected an array, got"),
        ("squared", {"weights": [1.0]}, TypeError, "weights: expected an array, got l"),
        ("squared", {"params": ()}, TypeError, "params: expected NetworkParams, got "),
        (
            "squared",
            {"targets": np.ma.zeros((T, B, O))},
            TypeError,
            "targets: expected a plain array, got a masked one, whose mask would be",
        ),
        (
            "sigmoid_cross_entropy",
            {"targets": np.full((T, B, O), 5.0)},
            ValueError,
            "targets: expected values in 0..1 wherever a step counts",
        ),
        (
            lambda y, d: (d - y) ** 2,
            {"targets": np.zeros((T, B, O))},
            ValueError,
            "error: expected a function of ys",
        ),
    ],
)
def test_what_all_of_a_networks_functions_refuse(call, error, change, raised, words):
    params, xs, targets = batch_of(error if isinstance(error, str) else "squared")
    arguments = {"params": params, "xs": xs, "targets": targets, **change}
    with pytest.raises(raised) as info:
        getattr(network(elman(), error), call)(**arguments)
    assert words in str(info.value)


@pytest.mark.parametrize("call", ["error", "gradients", "cotangents"])
def test_targets_and_weights_are_read_in_any_byte_order(call):
    params, xs, targets = batch_of("squared")
    function = getattr(network(elman()), call)
    weights = np.arange(1.0, 1 + T * B).reshape(T, B)
    swapped = targets.astype(">f8"), weights.astype(">f8")
    found = function(params, xs, swapped[0], weights=swapped[1])
    assert_alike(found, function(params, xs, targets, weights=weights), 0)


@pytest.mark.parametrize("call", ["error", "gradients", "cotangents"])
@pytest.mark.parametrize(
    "change, raised, words",
    [
        ({"b_y": np.zeros(1)}, ValueError, "params.readout.b_y"),
        ({"b_y": np.zeros(O, "f4")}, TypeError, "params.readout.b_y: expected float64"),
        ({"w_y": np.zeros((H + 1, O))}, ValueError, "params.readout.w_y"),
        ({"w_y": np.zeros((H, O), int)}, TypeError, "params.readout.w_y: expected flo"),
    ],
)
def test_a_readout_that_does_not_fit_is_named(call, change, raised, words):
    params, xs, targets = batch_of("squared")
    params = params._replace(readout=params.readout._replace(**change))
    with pytest.raises(raised) as info:
        getattr(network(elman()), call)(params, xs, targets)
    assert words in str(info.value)


def test_several_heads_are_one_readout_and_targets_that_nest(x64):
    """The caller's error splits the outputs; its targets are any pytree."""

    def two_heads(ys, targets):
        log_p = jax.nn.log_softmax(ys[..., :3])
        chosen = jnp.take_along_axis(log_p, targets["label"][..., None], -1)[..., 0]
        return (ys[..., 3] - targets["value"]) ** 2 - chosen

    net = network(gru(), two_heads)
    params = net.init(jax.random.key(0), 2, 5, 4, dtype=jnp.float64)
    keys = jax.random.split(jax.random.key(1), 3)
    xs = jax.random.normal(keys[0], (6, 3, 2))
    targets = {
        "label": jax.random.randint(keys[1], (6, 3), 0, 3),
        "value": jax.random.normal(keys[2], (6, 3)),
    }
    lengths = np.array([6, 2, 4])

    def by_rows(params):
        hs, _ = unroll(net.cell, params.cell, xs, gradient="autodiff")
        ys = hs @ params.readout.w_y + params.readout.b_y[None, None]
        each = two_heads(ys, targets)
        rows = [each[:n, row] for row, n in enumerate(lengths)]
        return jnp.concatenate(rows).mean()

    given = net.gradients(params, xs, targets, lengths=lengths)
    assert_alike(given, jax.value_and_grad(by_rows)(params), 1e-12)
    with pytest.raises(ValueError, match=r"targets: expected shape \(6, 3\)"):
        net.error(params, xs, targets | {"value": jnp.ones(6)})

"""The gradient check passes right gradients and catches every wrong one."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from table import draw, draw_params

from jaxrnn import (
    Network,
    State,
    bidirectional,
    check_gradients,
    elman,
    gru,
    lstm,
    mingru,
    network,
    stack,
    unroll,
)
from jaxrnn.gradcheck import derivations
from jaxrnn.gradcheck.budget import Budget, Pair
from jaxrnn.gradcheck.report import Comparison, GradientReport
from jaxrnn.layers import draw_noise

REFERENCES = ["reverse", "forward", "differences", "adjoint"]
# as the docstring has them, 1e-10 for the others
TOLERANCES = {"differences": 1e-6, "truncated 3": math.inf}
FURTHER = ["rtrl", "scan", "truncated 3"]  # of a network, three steps long


pytestmark = pytest.mark.usefixtures("compile_fast")


def check(cell_or_net, *state, **options):
    """A network, or one of this cell, on three steps of two rows."""
    given = isinstance(cell_or_net, Network)
    net = cell_or_net if given else network(cell_or_net)
    xs, targets = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    return check_gradients(net, draw_params(net), xs, targets, *state, **options)


def with_gradient(change):
    """The identity, its gradient changed."""

    @jax.custom_vjp
    def same(a):
        return a

    same.defvjp(lambda a: (a, None), lambda _, g: (change(g),))
    return same


def scaled(factor):
    """A function whose manual gradient is `factor` times the true one."""
    scale = with_gradient(lambda g: jax.tree.map(lambda a: a * factor, g))

    def f(params, xs, *, gradient):
        if gradient == "manual":
            params = scale(params)
        return jnp.sum(jnp.tanh(params["w"] * xs) + params["b"] ** 2)

    return f


PARAMS = {"w": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array([1.0, 2.0, -0.5])}
XS = jnp.array([1.0, 0.3, -0.2])


# Right gradients -----------------------------------------------------------------


@pytest.mark.parametrize("cell", [elman(), lstm(), gru()], ids=["elman", "lstm", "gru"])
def test_right_networks_pass_on_every_leaf_against_every_reference(cell):
    report = check(cell)
    report.assert_close()
    assert report.ok and report.dtype == "float64"
    bias = ["cell.b_s"] if cell is gru() else []
    leaves = ["cell.w_x", "cell.w_s", "cell.b", *bias, "readout.w_y", "readout.b_y"]
    rows = [(c.leaf, c.against) for c in report.comparisons]
    assert rows == [
        *((leaf, against) for leaf in leaves for against in REFERENCES),
        *((leaf, against) for against in FURTHER for leaf in leaves[:-2]),
    ]
    for c in report.comparisons:
        assert c.relative_error < (1e-6 if c.against == "differences" else 1e-13)
        assert c.tolerance == TOLERANCES.get(c.against, 1e-10)
        assert c.cosine == pytest.approx(1) and c.norm_ratio == pytest.approx(1)
    table = str(report).splitlines()
    assert len(table) == 3 + len(rows)  # a title, a head, the worst of the steps
    for line, row in zip(table[2:-1], rows, strict=True):
        assert " ".join(line.split()[: 1 + len(row[1].split())]) == " ".join(row)
        assert line.endswith("shown" if row[1] == "truncated 3" else "ok")
    assert [c.leaf for c in report.steps] == ["xs[0]", "xs[1]", "xs[2]"]
    assert all(c.relative_error < 1e-13 for c in report.steps)
    assert table[-1].endswith("ok, the worst of 3 steps")


def test_a_state_that_is_given_is_where_every_reference_starts():
    start = State(np.random.default_rng(2).standard_normal((2, 3)))
    report = check(elman(), start)
    report.assert_close()
    assert {c.against for c in report.comparisons} == {*REFERENCES, *FURTHER}


def test_a_leaf_without_elements_has_no_row():
    report = check(mingru())  # its W_s is [H, 0]
    report.assert_close()
    assert "cell.w_s" not in {c.leaf for c in report.comparisons}


def test_a_function_that_hands_gradient_to_unroll_passes():
    cell = elman("sigmoid")

    def f(params, xs, *, gradient):
        hs, final = unroll(cell, params, xs, gradient=gradient)
        return (hs**2).mean() + final.h.sum()

    params = draw_params(network(cell)).cell._replace(b=None)
    report = check_gradients(
        f, params, np.random.default_rng(0).standard_normal((3, 2))
    )
    report.assert_close()
    assert [c.leaf for c in report.comparisons] == ["w_x"] * 4 + ["w_s"] * 4


def test_x64_is_as_it_was_and_two_calls_agree():
    assert not jax.config.read("jax_enable_x64")
    first = check_gradients(scaled(1.0), PARAMS, XS)
    assert not jax.config.read("jax_enable_x64")
    assert first == check_gradients(scaled(1.0), PARAMS, XS)
    assert first.ok


def test_a_report_is_true_when_it_is_ok():
    assert check_gradients(scaled(1.0), PARAMS, XS)
    assert not check_gradients(scaled(1.01), PARAMS, XS)


def options_of(cell):
    """Every option of `gradients` that this cell takes, on three steps of two rows."""
    state = jax.tree.map(lambda a: 0.3 + a, draw(cell, batch=(2,)).state)
    resets = np.zeros((3, 2), bool)
    resets[1, 0] = True
    return {
        "lengths": np.array([2, 3]),
        "resets": resets,
        "reset_to": state,
        "weights": np.array([[1.0, 2], [0, 1], [1, 3]]),
        "chunk_size": 2,
        "store": "borders",
    }


def test_every_option_of_gradients_reaches_every_reference():
    report = check(elman(), **options_of(elman()))
    report.assert_close()
    assert {c.against for c in report.comparisons} == {*REFERENCES, "scan"}
    assert report.left_out == (
        "rtrl: it does not take reset_to or resets",
        "truncated 3: it does not take reset_to or resets",
    )
    # Control: a derivation that did not hear of the lengths would say WRONG.
    assert not check(PLANTED["1 % scale"], **options_of(elman()))


@pytest.mark.parametrize(
    "options",
    [{"lengths": np.array([2, 3])}, {"weights": np.array([[1.0, 2], [0, 1], [1, 3]])}],
    ids=["lengths", "weights"],
)
def test_lengths_and_weights_raise_no_false_alarm(options):
    report = check(elman(), **options)
    report.assert_close()
    assert {c.against for c in report.comparisons} == {*REFERENCES, *FURTHER}
    assert report.left_out == ()


def test_a_reversed_run_is_checked():
    report = check(elman(), reverse=True, lengths=np.array([2, 3]))
    report.assert_close()
    assert [why.split(":")[0] for why in report.left_out] == ["rtrl", "truncated 3"]
    assert "scan" in {c.against for c in report.comparisons}


def test_noise_is_checked_as_it_was_drawn():
    layer = stack(elman(), elman(), dropout=0.5)
    net = network(layer)
    params = draw_params(net)
    xs, targets = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    noise = draw_noise(jax.random.key(0), layer, params.cell, jnp.asarray(xs, "f4"))
    report = check_gradients(
        net, params, xs, targets, noise=noise, against=("reverse", "scan")
    )
    report.assert_close()
    assert {c.against for c in report.comparisons} == {"reverse", "scan"}


def test_a_second_call_of_one_shape_traces_and_compiles_nothing():
    traces = []

    def f(params, xs, *, gradient, factor):
        traces.append(gradient)
        return factor * scaled(1.0)(params, xs, gradient=gradient)

    first = check_gradients(f, PARAMS, XS, factor=2.0)
    count = len(traces)
    assert check_gradients(f, PARAMS, XS + 1, factor=3.0) and len(traces) == count
    assert check_gradients(f, PARAMS, XS, factor=2.0) == first
    check_gradients(f, PARAMS, XS[:1], factor=2.0)  # another shape
    assert len(traces) > count


def test_a_function_without_a_hash_is_checked_too():
    class Scaled:
        __hash__ = None

        def __call__(self, params, xs, *, gradient):
            return scaled(1.0)(params, xs, gradient=gradient)

    assert check_gradients(Scaled(), PARAMS, XS)


def test_references_are_chosen_for_kinks_and_surrogate_gradients():
    @jax.custom_vjp
    def spike(a):
        return (a > 0).astype(a.dtype)

    spike.defvjp(lambda a: (spike(a), a), lambda a, g: (g / (1 + jnp.abs(a)) ** 2,))

    def f(params, xs, *, gradient):
        del gradient  # one derivative, the surrogate, in both
        return (spike(params["w"] * xs) * jnp.arange(3.0).astype(xs.dtype)).sum()

    report = check_gradients(f, {"w": PARAMS["w"]}, XS, against=("reverse",))
    assert report and {c.against for c in report.comparisons} == {"reverse"}
    seen = check_gradients(
        f, {"w": PARAMS["w"]}, XS, against=("reverse", "differences")
    )
    assert [c.ok for c in seen.comparisons] == [True, False]


def test_a_function_that_keeps_gradient_to_itself_is_named_at_once():
    cell = elman()

    def f(params, xs, *, gradient):
        del gradient
        return (unroll(cell, params, xs)[0] ** 2).sum()

    params = draw_params(network(cell)).cell
    with pytest.raises(ValueError, match="f: expected one that hands `gradient` on to"):
        check_gradients(f, params, np.ones((3, 2)))


def test_what_has_no_gradient_and_unknown_references_are_named():
    with pytest.raises(TypeError, match=r"params\.n: expected a floating leaf"):
        check_gradients(scaled(1.0), {**PARAMS, "n": np.arange(3)}, XS)
    with pytest.raises(ValueError, match="against: expected some of"):
        check_gradients(scaled(1.0), PARAMS, XS, against=("backward",))
    with pytest.raises(ValueError, match="against: expected some of"):
        check_gradients(scaled(1.0), PARAMS, XS, against=3)
    for seed in (-1, 1.5, True, [0]):
        with pytest.raises(ValueError, match="seed: expected an integer of 0 or more"):
            check_gradients(scaled(1.0), PARAMS, XS, seed=seed)
    for dtype in (np.int32, "flaot32", 3):
        with pytest.raises(ValueError, match="dtype: expected one of"):
            check_gradients(scaled(1.0), PARAMS, XS, dtype=dtype)
    for params in (None, {}):
        with pytest.raises(TypeError, match="params: expected arrays, got"):
            check_gradients(scaled(1.0), params, XS)
    with pytest.raises(TypeError, match=r"params\['w'\]: expected a plain array"):
        check_gradients(scaled(1.0), {"w": np.ma.ones(3)}, XS)
    with pytest.raises(ValueError, match=r"lengths: expected values in 0\.\.3"):
        check(elman(), lengths=np.array([1, 9]))


# Planted errors ------------------------------------------------------------------


def with_pullback(cell, change):
    """The cell, its pull-back's (δz, δr, s̄_{t-1}) changed."""

    def pullback(own, coefficients, adjoint):
        return change(adjoint, coefficients, *cell.pullback(own, coefficients, adjoint))

    return cell._replace(pullback=pullback)


def with_linearize(cell, change):
    """The cell, its linearize's (state_prev, state) changed."""

    def linearize(own, kept, state_prev, state):
        return cell.linearize(own, kept, *change(state_prev, state))

    return cell._replace(linearize=linearize)


def without_recurrent_delta(adjoint, slope, d_z, d_r, previous):
    return d_z, jnp.zeros_like(d_r), previous


def without_slope(adjoint, slope, d_z, d_r, previous):
    return adjoint.h, adjoint.h, previous


def one_percent_more(adjoint, slope, d_z, d_r, previous):
    return d_z * 1.01, d_r * 1.01, previous


def one_gate_negated(adjoint, slopes, d_z, d_r, previous):
    i, f, g, o = jnp.split(d_z, 4, axis=-1)
    delta = jnp.concatenate([i, f, -g, o], axis=-1)
    return delta, delta, previous


def forget_swapped_with_input(adjoint, slopes, d_z, d_r, previous):
    i, f, g, o = jnp.split(d_z, 4, axis=-1)
    delta = jnp.concatenate([f, i, g, o], axis=-1)
    return delta, delta, previous


def lost_carry(adjoint, slopes, d_z, d_r, previous):
    return d_z, d_r, previous._replace(c=jnp.zeros_like(previous.c))


def reset_left_out(adjoint, slopes, d_z, d_r, previous):
    return d_z, d_z, previous


PLANTED = {
    "no delta r": with_pullback(elman(), without_recurrent_delta),
    "slope of the step before": with_linearize(elman(), lambda prev, s: (prev, prev)),
    "no slope": with_pullback(elman(), without_slope),
    "1 % scale": with_pullback(elman(), one_percent_more),
    "sign of one gate": with_pullback(lstm(), one_gate_negated),
    "f and i swapped": with_pullback(lstm(), forget_swapped_with_input),
    "lost carry": with_pullback(lstm(), lost_carry),
    "reset left out": with_pullback(gru(), reset_left_out),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_error_in_a_cell_is_caught(name):
    report = check(PLANTED[name])
    assert not report.ok and not report.worst.ok
    with pytest.raises(AssertionError, match="manual gradient is wrong") as caught:
        report.assert_close()
    assert str(report) in str(caught.value) and "WRONG" in str(report)
    wrong = {c.leaf for c in report.comparisons if not c.ok}
    # Every reference sees it, and the readout, which is right, is not blamed. The scan
    # stands on the same derivative by hand.
    seen = {c.against for c in report.comparisons if not c.ok}
    assert seen - {"scan"} == {*REFERENCES, "rtrl"}
    assert not all(c.ok for c in report.steps)
    assert wrong <= {"cell.w_x", "cell.w_s", "cell.b", "cell.b_s"}
    if name == "reset left out":
        assert "cell.b_s" in wrong
    if name == "1 % scale":  # a step compounds it: more than 1 %, less than 1.01³
        ratios = [c.norm_ratio for c in report.comparisons if not c.ok]
        assert all(0.9 < r < 1.1 for r in ratios)


def test_gradient_that_does_not_cross_a_step_is_caught():
    # (59) without its recurrent term δ_t W_sᵀ: W_s has its immediate partial alone.
    cell = elman()

    def f(params, xs, *, gradient):
        state = State(jnp.zeros(3, xs.dtype))
        total = 0.0
        for x in xs:
            if gradient == "manual":
                state = lax.stop_gradient(state)
            hs, state = unroll(cell, params, x[None], state, gradient="autodiff")
            total = total + (hs**2).sum()
        return total

    # Three steps: over two, from a state of zeros, W_s has no partial but that one.
    xs = np.random.default_rng(0).standard_normal((3, 2))
    report = check_gradients(f, draw_params(network(cell)).cell, xs)
    assert {(c.leaf, c.ok) for c in report.comparisons} == {
        (leaf, False) for leaf in ("w_x", "w_s", "b")
    }


def test_error_in_the_gradient_of_the_inputs_alone_is_caught():
    net, double = network(elman()), with_gradient(lambda g: 2 * g)

    def error(params, xs, *rest, gradient):
        xs = double(xs) if gradient == "manual" else xs
        return net.error(params, xs, *rest, gradient=gradient)

    report = check(net._replace(error=error))
    assert all(c.ok for c in report.comparisons)
    assert [c.ok for c in report.steps] == [False] * 3
    assert not report.ok and report.worst in report.steps
    with pytest.raises(AssertionError, match="manual gradient is wrong"):
        report.assert_close()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_one_percent_is_caught_and_measured_in_both_dtypes(dtype):
    right = check_gradients(scaled(1.0), PARAMS, XS, dtype=dtype)
    right.assert_close()
    assert right.dtype == jnp.dtype(dtype).name
    wrong = check_gradients(scaled(1.01), PARAMS, XS, dtype=dtype)
    for c in wrong.comparisons:
        assert not c.ok
        assert c.relative_error == pytest.approx(0.01, rel=1e-3)
        assert c.norm_ratio == pytest.approx(1.01, rel=1e-5)
        assert c.cosine == pytest.approx(1, abs=1e-6)


# The references do not lean on one another ---------------------------------------


def test_differences_do_not_lean_on_jaxs_derivative():
    # JAX is told a derivative twice too large: what is by hand, and right, differs from
    # all that JAX derives, and agrees with the differences.
    @jax.custom_jvp
    def same(w):
        return w

    same.defjvp(lambda w, dw: (w[0], 2 * dw[0]))

    def f(params, xs, *, gradient):
        w = params["w"] if gradient == "manual" else same(params["w"])
        return jnp.sum(jnp.tanh(w * xs))

    report = check_gradients(f, {"w": PARAMS["w"]}, XS)
    assert {c.against for c in report.comparisons if c.ok} == {"differences"}
    for c in report.comparisons:
        assert c.ok or c.relative_error == pytest.approx(0.5)


def test_the_scan_does_not_lean_on_the_loop_by_hand():
    # Wrong for small adjoints alone, which the loop has and a Jacobian's rows, the
    # pull-backs of unit vectors, have not.
    def wrong_if_small(adjoint, slopes, d_z, d_r, previous):
        size = jnp.hypot(*(jnp.linalg.norm(a, axis=-1, keepdims=True) for a in adjoint))
        c = jnp.where(size < 0.99, 1.1 * previous.c, previous.c)
        return d_z, d_r, previous._replace(c=c)

    report = check(with_pullback(lstm(), wrong_if_small))
    scan = [c.ok for c in report.comparisons if c.against == "scan"]
    assert scan == [False] * 3


def test_the_adjoint_identity_sees_outputs_that_are_swapped():
    # An adjoint with equal elements would not.
    net, swap = network(elman()), with_gradient(lambda g: g[..., ::-1])

    def apply(*inputs, gradient):
        ys, final = net.apply(*inputs, gradient=gradient)
        return swap(ys) if gradient == "manual" else ys, final

    report = check(net._replace(apply=apply))
    assert {c.against for c in report.comparisons if not c.ok} == {"adjoint"}


def test_an_error_across_the_gradient_is_measured_in_every_leaf():
    # (1, 1) for (1, 0): an error of 1, at a right angle. Along eight directions the
    # measured one is the root of an F(8, 8), beyond a factor of 5 in one of 10,000;
    # along a single direction it is beyond that in one of 4.
    leaves = {f"w{k}": jnp.ones(2) for k in range(20)}
    across = with_gradient(lambda g: jax.tree.map(lambda a: a[:1] + 0 * a, g))

    def f(params, *, gradient):
        params = across(params) if gradient == "manual" else params
        return sum(w[0] for w in params.values())

    for c in check_gradients(f, leaves).comparisons:
        assert 1 / 5 < c.relative_error < 5


def test_an_error_inside_a_derivation_is_raised_and_does_not_leave_it_out():
    def gate(own, z, r, state_prev):
        raise ValueError("no gate")

    net = network(elman())
    with pytest.raises(ValueError, match="no gate"):
        check(net._replace(cell=net.cell._replace(gate=gate)))


# How an error shows ---------------------------------------------------------------


def test_flipped_and_absent_gradients_show_in_cosine_and_norm_ratio():
    for factor, cosine in ((-1.0, -1.0), (0.0, None)):
        report = check_gradients(scaled(factor), PARAMS, XS)
        for c in report.comparisons:
            assert c.relative_error == pytest.approx(1 - factor, rel=1e-5)
            assert c.norm_ratio == pytest.approx(abs(factor), abs=1e-5)
            if cosine is not None:
                assert c.cosine == pytest.approx(cosine)
        assert not report.ok and "WRONG" in str(report)


def test_truncation_is_shown_and_not_judged_and_what_is_too_large_is_said():
    net = network(lstm())
    xs, targets = np.random.default_rng(0).standard_normal((2, 12, 2, 2))
    report = check_gradients(net, draw_params(net), xs, targets)
    report.assert_close()
    shown = [c for c in report.comparisons if c.against == "truncated 10"]
    assert all(c.relative_error > 1e-9 and c.ok for c in shown) and len(shown) == 3
    assert report.left_out == ()
    small, large = derivations._LARGEST, 500
    derivations._LARGEST = large
    try:
        report = check_gradients(net, draw_params(net), xs, targets)
    finally:
        derivations._LARGEST = small
    assert [why.split(":")[0] for why in report.left_out] == ["rtrl", "scan"]
    assert "left out: rtrl: it would hold" in str(report)


def test_a_layer_with_a_backward_direction_says_what_it_has_not():
    net = network(bidirectional(elman()))
    xs, targets = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    report = check_gradients(net, draw_params(net), xs, targets)
    report.assert_close()
    assert [why.split(":")[0] for why in report.left_out] == ["rtrl", "truncated 3"]
    assert "scan" in {c.against for c in report.comparisons}


def test_a_report_goes_to_json_and_a_dataclass():
    report = check(elman())
    read = json.loads(report.to_json())
    assert read["ok"] is True and read["dtype"] == "float64"
    assert read["comparisons"][0] == dataclasses.asdict(report.comparisons[0])
    shown = next(c for c in read["comparisons"] if c["against"] == "truncated 3")
    assert shown["tolerance"] is None  # inf is no JSON
    assert len(read["steps"]) == 3


# One comparison ------------------------------------------------------------------


def _compare(leaf, dtype, against, ours, theirs):
    return Budget(np.dtype(dtype), {}, None).judge(Pair(leaf, against, ours, theirs))


def test_comparison_of_numbers_made_by_hand():
    c = _compare("w", jnp.float64, "reverse", np.array([3.0, 3.0]), np.array([3.0, 4]))
    assert c.relative_error == pytest.approx(1 / 5)
    assert c.cosine == pytest.approx(21 / (5 * math.sqrt(18)))
    assert c.norm_ratio == pytest.approx(math.sqrt(18) / 5)
    assert c.ulps == pytest.approx(2**50)  # 1 in units of 2⁻⁵⁰, the ulp of 4
    assert c.tolerance == 1e-10 and not c.ok


def test_ulps_count_last_places_of_the_largest_element():
    for dtype in (np.float64, np.float32):
        theirs = np.array([1.0, 2.0], dtype)
        ours = np.array([1.0, 2.0 + 3 * np.spacing(dtype(2.0))], dtype)
        assert _compare("w", dtype, "reverse", ours, theirs).ulps == 3


def test_two_zero_gradients_agree_and_one_alone_does_not():
    zero, one = np.zeros(2), np.ones(2)
    same = _compare("w", jnp.float64, "reverse", zero, zero)
    assert same.ok and (same.relative_error, same.cosine, same.norm_ratio) == (0, 1, 1)
    assert not _compare("w", jnp.float64, "reverse", one, zero).ok
    assert not _compare("w", jnp.float64, "reverse", zero, one).ok


def test_nan_in_a_gradient_is_wrong_and_worst():
    bad = _compare("w", jnp.float64, "reverse", np.array([math.nan]), np.ones(1))
    off = Comparison("b", "reverse", 1e3, 1.0, 1.0, 1.0, 1e-10)
    report = GradientReport("float64", (off, bad))
    assert not bad.ok and not report.ok and report.worst is bad


# What is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (lambda p, xs, gradient: p["w"] * xs, "scalar"),
        (lambda p, xs, gradient: 0 * p["w"].sum(), "depend on params"),
        (lambda p, xs, gradient: p["w"].sum() * jnp.nan, "finite scalar"),
        (lambda p, xs, gradient: lax.complex(p["w"][0], p["w"][0]), "got complex128"),
        (lambda p, xs, gradient: "E", "scalar, got str"),
    ],
    ids=["vector", "dead", "nan", "complex", "str"],
)
def test_error_that_cannot_be_checked_is_refused(f, message):
    with pytest.raises(ValueError, match=message):
        check_gradients(f, PARAMS, XS)
    assert not jax.config.read("jax_enable_x64")  # though it raised


def test_a_batch_that_the_function_does_not_take_is_named():
    for f, batch in ((scaled(1.0), ()), (lambda p: p["w"].sum(), (XS,))):
        with pytest.raises(TypeError, match=r"f_or_network: expected a function that "):
            check_gradients(f, PARAMS, *batch)
    net = network(elman())
    with pytest.raises(TypeError, match="batch: expected xs and targets, got 1 of"):
        check_gradients(net, draw_params(net), np.ones((3, 2)))


@pytest.mark.parametrize("wrong", [elman(), None, "lstm"], ids=["cell", "None", "str"])
def test_first_argument_of_another_type_is_refused(wrong):
    with pytest.raises(TypeError, match="f_or_network"):
        check_gradients(wrong, PARAMS, XS)

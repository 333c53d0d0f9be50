"""`check_gradients` of a function, a custom_vjp and a gradient of the caller's own."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import draw_params

from jaxrnn import (
    NetworkParams,
    bptt,
    check_gradients,
    elman,
    gru,
    network,
    online,
    stack,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast")

W = {"w": np.array([[0.5, -1.0], [0.8, 0.3]]), "b": np.array([0.2, -0.7])}
XS = np.random.default_rng(0).standard_normal((4, 3, 2))  # [T, B, D]


# Any function ---------------------------------------------------------------------


def plain(params, xs):
    def one_step(h, x):
        h = jnp.tanh(h @ params["w"] + x + params["b"][None])
        return h, h

    _, hs = jax.lax.scan(one_step, jnp.zeros_like(xs[0]), xs)
    return (hs**2).sum()


def by_hand(w_factor=1.0, x_factors=(1.0, 1.0, 1.0, 1.0)):
    """Σ (x_t W + b)² with a derivative by hand, right or not."""

    def outputs(params, xs):
        return xs @ params["w"] + params["b"][None, None]

    @jax.custom_vjp
    def f(params, xs):
        return (outputs(params, xs) ** 2).sum()

    def back(kept, d):
        params, xs = kept
        d_ys = 2 * d * outputs(params, xs)
        d_w = w_factor * jnp.tensordot(xs, d_ys, ((0, 1), (0, 1)))
        d_xs = d_ys @ params["w"].T * jnp.array(x_factors, xs.dtype)[:, None, None]
        return {"w": d_w, "b": d_ys.sum((0, 1))}, d_xs

    f.defvjp(lambda params, xs: (f(params, xs), (params, xs)), back)
    return f


def test_a_function_without_gradient_is_checked_by_forward_mode_and_differences():
    report = check_gradients(plain, W, XS)
    report.assert_close()
    assert [(c.leaf, c.against) for c in report.comparisons] == [
        (leaf, against) for leaf in "bw" for against in ("forward", "differences")
    ]
    assert [(c.leaf, c.against) for c in report.steps] == [
        (f"xs[{t}]", "differences") for t in range(4)
    ]
    assert report.left_out == ()


def test_a_custom_vjp_is_checked_by_differences_since_forward_mode_cannot_pass():
    report = check_gradients(by_hand(), W, XS)
    report.assert_close()
    assert {c.against for c in report.comparisons} == {"differences"}
    assert len(report.steps) == 4
    assert report.left_out == ("forward: forward mode cannot pass a jax.custom_vjp",)


def test_control_a_wrong_custom_vjp_is_caught_in_the_leaf_that_is_wrong():
    for factor in (1.001, -1.0, 0.0):
        report = check_gradients(by_hand(factor), W, XS)
        assert {c.leaf for c in report.comparisons if not c.ok} == {"w"}
        assert all(c.ok for c in report.steps)


def test_control_a_step_that_is_wrong_is_named():
    report = check_gradients(by_hand(x_factors=(1.0, 1.0, 0.9, 1.0)), W, XS)
    assert all(c.ok for c in report.comparisons)
    assert [c.leaf for c in report.steps if not c.ok] == ["xs[2]"]
    assert report.worst.norm_ratio == pytest.approx(0.9)


def test_long_sequences_show_steps_spread_evenly_from_first_to_last():
    xs = np.random.default_rng(1).standard_normal((100, 1, 2))
    report = check_gradients(plain, W, xs)
    shown = [int(c.leaf[3:-1]) for c in report.steps]
    assert len(shown) == 32 and (shown[0], shown[-1]) == (0, 99)
    assert set(np.diff(shown)) <= {3, 4} and report


def test_an_input_that_gets_no_gradient_has_no_steps_and_the_report_says_so():
    report = check_gradients(by_hand(x_factors=(0.0,) * 4), W, XS)
    assert report and report.steps == ()
    assert report.left_out[1:] == (
        "steps: the gradient of the batch's first array is 0",
    )
    labels = np.array([0, 1, 1])
    no_floats = check_gradients(lambda p, t: (p["w"][t % 2] ** 2).sum(), W, labels)
    assert no_floats and no_floats.steps == () and no_floats.left_out == ()


def test_a_function_that_takes_gradient_is_checked_by_step_too():
    cell = elman()

    def f(params, xs, factors, *, gradient):
        if gradient == "manual":  # the gradient of xs, and it alone, times the factors
            xs = factors * xs + jax.lax.stop_gradient((1 - factors) * xs)
        return (unroll(cell, params, xs, gradient=gradient)[0] ** 2).sum()

    params, factors = draw_params(network(cell)).cell, np.ones((4, 1, 1))
    given = params, XS, np.broadcast_to(factors, XS.shape)
    report = check_gradients(f, *given)
    report.assert_close()
    assert [(c.leaf, c.against) for c in report.steps] == [
        (f"xs[{t}]", "reverse") for t in range(4)
    ]
    factors[2] = 1.5
    report = check_gradients(f, *given[:2], np.broadcast_to(factors, XS.shape))
    assert all(c.ok for c in report.comparisons)
    assert [c.leaf for c in report.steps if not c.ok] == ["xs[2]"]


def test_references_that_there_are_not_are_named():
    with pytest.raises(ValueError, match=r"expected some of \('compiled', 'forward'"):
        check_gradients(plain, W, XS, against="reverse")
    with pytest.raises(ValueError, match="none is left: forward: forward mode cannot"):
        check_gradients(by_hand(), W, XS, against=("forward",))


# A gradient of one's own, layer by layer --------------------------------------------

LOWER, UPPER = elman(), gru()
NET = network(stack(LOWER, UPPER))


def layer_by_layer(method, change=lambda d_lower, d_upper: (d_lower, d_upper)):
    """Each layer's gradient by an online method; between layers, through all steps."""

    def gradient(params, xs, targets):
        lower, upper = params.cell
        batch = xs.shape[1:-1]
        hs, _ = unroll(LOWER, lower, xs)
        _, d_hs = NET.cotangents(params, xs, targets)
        start = UPPER.initial_state(upper, batch)
        d_upper = online.gradient(method(UPPER), upper, hs, start, d_hs)
        d_below = bptt(UPPER, upper, hs, None, d_hs).xs
        start = LOWER.initial_state(lower, batch)
        d_lower = online.gradient(method(LOWER), lower, xs, start, d_below)
        return NetworkParams(change(d_lower, d_upper), readout=None)

    return gradient


def check(gradient, **options):
    rng = np.random.default_rng(3)
    xs, targets = rng.standard_normal((2, 6, 2, 2))
    return check_gradients(
        NET, draw_params(NET), xs, targets, gradient=gradient, **options
    )


LEAVES = ["cell.0.w_x", "cell.0.w_s", "cell.0.b"]
LEAVES += ["cell.1.w_x", "cell.1.w_s", "cell.1.b", "cell.1.b_s"]


def test_rtrl_of_ones_own_equals_every_reference_in_every_layer():
    report = check(layer_by_layer(online.rtrl))
    report.assert_close()
    found = {(c.leaf, c.against) for c in report.comparisons}
    against = "reverse", "forward", "differences", "rtrl", "scan", "truncated 6"
    assert found == {(leaf, name) for leaf in LEAVES for name in against}
    assert report.steps == () and report.left_out == ()


def test_control_a_broken_rtrl_is_wrong_in_its_layer_alone():
    def forgetful(cell):
        """Its influence matrix is not carried from step to step."""
        method = online.rtrl(cell)

        def update(params, memory, x, cotangent):
            memory, grads = method.update(params, memory, x, cotangent)
            forgotten = jax.tree.map(jnp.zeros_like, memory.of_params)
            return memory._replace(of_params=forgotten), grads

        return method._replace(update=update) if cell is UPPER else method

    report = check(layer_by_layer(forgetful))
    wrong = {c.leaf for c in report.comparisons if not c.ok}
    assert wrong == {leaf for leaf in LEAVES if leaf.startswith("cell.1")}


def test_an_eligibility_trace_is_shown_by_its_cosine_and_not_judged():
    gradient = layer_by_layer(online.eprop)
    report = check(gradient, against="reverse", tolerance=math.inf)
    assert report.ok and str(report).count("shown") == len(LEAVES)
    cosines = [c.cosine for c in report.comparisons]
    assert all(0.5 < cosine < 0.9999 for cosine in cosines), cosines
    assert report.left_out == ()
    # Control: it is another gradient, which a tolerance between the two tells.
    assert not check(gradient, against="reverse")
    furthest = max(c.relative_error for c in report.comparisons)
    assert not check(gradient, against="reverse", tolerance=0.99 * furthest)
    assert check(gradient, against="reverse", tolerance=1.01 * furthest)


def test_a_gradient_need_not_be_jax_nor_cover_every_leaf():
    def loop(params, xs):
        """∂E/∂b of `plain` by RTRL in NumPy."""
        w, b = (np.asarray(params[name]) for name in "wb")
        d_b = np.zeros(2)
        for row in np.asarray(xs).swapaxes(0, 1):
            h, influence = np.zeros(2), np.zeros((2, 2))
            for x in row:
                h = np.tanh(h @ w + x + b)
                influence = (1 - h**2)[:, None] * (w.T @ influence + np.eye(2))
                d_b += 2 * h @ influence
        return {"w": None, "b": d_b}

    report = check_gradients(plain, W, XS, gradient=loop)
    report.assert_close()
    assert [(c.leaf, c.against) for c in report.comparisons] == [
        ("b", against) for against in ("reverse", "forward", "differences")
    ]


@pytest.mark.parametrize(
    ("gives", "error", "words"),
    [
        (None, ValueError, "gradient: expected ∂E/∂params with the leaves b, w, or"),
        ({"v": np.ones(2)}, ValueError, r"in place of some, got v"),
        (
            {"b": np.ones(3)},
            ValueError,
            r"gradient\.b: expected shape \[2\], got \[3\]",
        ),
        ({"b": np.ones(2, int)}, TypeError, r"gradient\.b: expected a floating dtype"),
    ],
    ids=["None", "another leaf", "size", "int"],
)
def test_a_gradient_unlike_params_is_refused(gives, error, words):
    with pytest.raises(error, match=words):
        check_gradients(plain, W, XS, gradient=lambda params, xs: gives)

"""The gradient check in lower precision, and against the compiler."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import draw_params

from jaxrnn import (
    check_gradients,
    elman,
    gru,
    lstm,
    mingru,
    network,
    unroll,
)
from jaxrnn.gradcheck import check as gradcheck
from jaxrnn.gradcheck import op_by_op

LOW = "float32", "bfloat16", "float16"
each_dtype = pytest.mark.parametrize("dtype", LOW)

pytestmark = pytest.mark.usefixtures("compile_fast")


def check(cell, steps=12, **options):
    net = network(cell)
    xs, targets = np.random.default_rng(0).standard_normal((2, steps, 2, 2))
    return check_gradients(net, draw_params(net), xs, targets, **options)


# Lower precision ------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize(
    "cell", [elman(), lstm(), mingru()], ids=["elman", "lstm", "mingru"]
)
def test_right_gradients_pass_in_low_precision(cell, dtype):
    eps = float(jnp.finfo(dtype).eps)
    report = check(cell, dtype=dtype)
    report.assert_close()
    assert report.dtype == dtype
    assert [why.split(":")[0] for why in report.left_out] == ["adjoint"]
    errors = [c.relative_error for c in report.comparisons]
    assert eps / 100 < max(errors)  # it is computed in this dtype
    for c in report.comparisons + report.steps:
        assert c.tolerance >= 4 * eps or c.against != "reverse"


def scaled(factors):
    """A network whose gradient by hand has each named leaf times a factor."""
    net = network(elman())

    def gradients(*inputs, **options):
        value, d = net.gradients(*inputs, **options)
        own = {name: getattr(d.cell, name) * f for name, f in factors.items()}
        return value, d._replace(cell=d.cell._replace(**own))

    return net._replace(gradients=gradients)


@each_dtype
@pytest.mark.parametrize("factor", [1.1, 1.5, -1.0, 0.0])
def test_control_a_wrong_leaf_is_caught_in_low_precision(factor, dtype):
    net = scaled({"b": factor})
    xs, targets = np.random.default_rng(0).standard_normal((2, 12, 2, 2))
    report = check_gradients(
        net, draw_params(net), xs, targets, dtype=dtype, against="reverse"
    )
    assert {c.leaf for c in report.comparisons if not c.ok} == {"cell.b"}
    assert all(c.ok for c in report.steps)


@each_dtype
def test_an_error_in_the_low_dtype_alone_is_caught(dtype):
    cell = elman()

    def f(params, xs, *, gradient):
        low = gradient == "manual" and xs.dtype == dtype
        stop = jax.lax.stop_gradient if low else lambda b: b
        params = params._replace(b=stop(params.b))
        return (unroll(cell, params, xs, gradient=gradient)[0] ** 2).sum()

    params = draw_params(network(cell)).cell
    xs = np.random.default_rng(0).standard_normal((5, 2, 2))
    assert check_gradients(f, params, xs, against=("reverse", "forward"))
    report = check_gradients(f, params, xs, against=("reverse", "forward"), dtype=dtype)
    assert {c.leaf for c in report.comparisons if not c.ok} == {"b"}


def test_the_tolerance_is_what_rounding_does_to_the_leaf():
    def f(params, xs):  # of b's angle, the last places are lost
        return (params["a"] * xs).sum() + jnp.sin(1e4 * params["b"]).sum()

    params = {"a": np.array([0.3, 0.7]), "b": np.array([0.3, 0.7])}
    report = check_gradients(f, params, np.ones(2), dtype="float32", against="forward")
    report.assert_close()
    eps = float(np.finfo(np.float32).eps)
    a, b = report.comparisons
    assert a.tolerance < 100 * eps < 1e-4 < b.tolerance < 1e-2
    assert b.relative_error > a.tolerance


def test_what_rounding_leaves_nothing_of_is_shown_and_counted():
    def f(params, xs):
        return (params["a"] * xs).sum() + jnp.sin(1e8 * params["b"]).sum()

    params = {"a": np.array([0.3, 0.7]), "b": np.array([0.3, 0.7])}
    report = check_gradients(f, params, np.ones(2), dtype="float32", against="forward")
    a, b = report.comparisons
    assert report and a.tolerance < 1e-4 and b.tolerance == np.inf
    assert report.left_out == (
        "1 of 2 comparisons are shown and not judged: rounding to float32 moves them "
        "too far",
    )
    exact = check_gradients(f, params, np.ones(2), against="forward")
    assert exact and exact.left_out == ()


def test_bfloat16_cannot_see_an_error_of_a_thousandth_and_float32_can():
    net = scaled({"w_s": 1.001})
    xs, targets = np.random.default_rng(0).standard_normal((2, 12, 2, 2))
    seen = partial(check_gradients, net, draw_params(net), xs, targets)
    assert seen(against="reverse", dtype="bfloat16")
    assert not seen(against="reverse", dtype="float32")


# Against the compiler ---------------------------------------------------------------


class Miscompiled:
    """A compiled function that computes another one than it was compiled from."""

    def __init__(self, right, factor):
        self.trace, self.right, self.factor = right.trace, right, factor

    def __call__(self, *inputs):
        value, d = self.right(*inputs)
        return value, jax.tree.map(lambda a: a * self.factor, d)


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_compiler_that_miscomputes_is_caught(factor, monkeypatch):
    programs = gradcheck.programs

    def miscompiled(*what):
        made = programs(*what)
        return made._replace(manual=Miscompiled(made.manual, factor))

    monkeypatch.setattr(gradcheck, "programs", miscompiled)
    report = check(gru(), against="compiled")
    assert report.ok == (factor == 1)
    assert {c.against for c in report.comparisons} == {"compiled"}
    assert all(c.norm_ratio == pytest.approx(factor) for c in report.comparisons)


def test_a_long_program_is_not_run_one_by_one_and_the_report_says_so(monkeypatch):
    monkeypatch.setattr(gradcheck, "_OPERATIONS", 100)
    report = check(elman(), against=("reverse", "compiled"))
    assert {c.against for c in report.comparisons} == {"reverse"}
    (why,) = report.left_out
    assert why.startswith("compiled: it would run ") and why.endswith(" one by one")


def everything(w, xs):
    """A scan either way, one inside another, a branch, a while loop, a nested jit."""

    @jax.jit
    def step(h, x):
        inner, _ = jax.lax.scan(lambda c, k: (c * 0.9 + k, None), x, h)
        return jnp.tanh(h @ w + inner.sum()), (h.sum(), x)

    h, (sums, _) = jax.lax.scan(step, w[0], xs)
    g, _ = jax.lax.scan(step, w[1], xs, reverse=True)
    branch = jax.lax.cond(sums[0] > 0, jnp.sin, jnp.cos, h)
    doubled = jax.lax.fori_loop(0, 3, lambda _, a: 2 * a, branch)
    return {"h": h, "all": (sums, g @ doubled, jax.nn.relu(h), xs.T)}


def test_operations_one_by_one_compute_what_the_program_does(x64):
    w, xs = jnp.array([[0.5, -1.0], [0.8, 0.3]]), jnp.arange(4.0)
    for f in (everything, jax.grad(lambda w, xs: everything(w, xs)["all"][1])):
        traced = jax.jit(f).trace(w, xs)
        found, wanted = op_by_op.run(traced, w, xs), f(w, xs)
        assert jax.tree.structure(found) == jax.tree.structure(wanted)
        chex.assert_trees_all_close(found, wanted, rtol=1e-11)
        with pytest.raises(AssertionError):
            other = op_by_op.run(traced, w, xs[::-1])
            chex.assert_trees_all_close(other, wanted, rtol=1e-11)


def test_operations_are_counted_as_often_as_they_run():
    def f(h, xs):
        return jax.lax.scan(lambda h, x: (jnp.sin(h) * x, None), h, xs)[0] + 1

    traced = jax.jit(f).trace(np.ones((), "f4"), np.ones(7, "f4"))
    assert op_by_op.operations(traced) == 7 * 2 + 1
    assert {"scan", "sin", "mul", "add"} <= op_by_op.primitives(traced)


def test_a_loop_that_carries_a_key_is_run_to_its_end():
    def f(key):
        return jax.lax.scan(lambda k, _: (jax.random.fold_in(k, 1), None), key, None, 3)

    key = jax.random.key(0)
    (found, _), (wanted, _) = op_by_op.run(jax.jit(f).trace(key), key), f(key)
    data = jax.random.key_data
    np.testing.assert_array_equal(data(found), data(wanted))
    assert (data(found) != data(jax.random.fold_in(key, 1))).any()  # not once

"""The measurements agree with slow derivations and with mathematics."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from table import assert_alike, assert_equal, draw

from jaxrnn import State, bptt, custom_cell, elman, gru, lstm, stack, step, unroll
from jaxrnn.gradient_flow import (
    FixedPoints,
    alignment,
    decay_rate,
    distinct,
    effective_horizon,
    first_nonfinite,
    fixed_points,
    jacobian_norms,
    jacobian_singular_values,
    lag_norms,
    lyapunov_spectrum,
    norm_preservation,
    spectral_radius,
    step_jacobians,
    truncation_bias,
    vanishing_conditions,
)

pytestmark = pytest.mark.usefixtures("compile_fast")

LAYERS = {
    "elman": elman(),
    "lstm": lstm(),
    "stack": stack(lstm(), gru(), skip="residual"),
}
each_layer = pytest.mark.parametrize("name", LAYERS)
T, B, D, H = 5, 2, 2, 3


def rows(tree, b):
    """One row of arrays [B, ...]."""
    return jax.tree.map(lambda a: a[b], tree)


def contributions(layer, case, d_hs, d_final, lengths, resets):
    """C_ℓ by JAX, row by row, with separate parameters for every step."""
    total = [jax.tree.map(np.zeros_like, case.params) for _ in range(T)]
    for b in range(B):

        def errors(copies, b=b):
            state = rows(case.state, b)
            found = []
            for t in range(lengths[b]):
                if resets[t, b]:
                    state = jax.tree.map(jnp.zeros_like, state)
                h, state = one_step(layer, copies[t], state, case.xs[t, b])
                found.append(jnp.vdot(d_hs[t, b], h))
            last = jax.tree.map(jnp.vdot, rows(d_final, b), state)
            found[-1] = found[-1] + sum(jax.tree.leaves(last))
            return found

        # by_error[t][k]: ∂E_t/∂ the parameters at step k
        by_error = jax.jit(jax.jacrev(errors))([case.params] * T)
        for t in range(lengths[b]):
            for k in range(t + 1):
                part = by_error[t][k]
                total[t - k] = jax.tree.map(np.add, total[t - k], part)
    return total


def one_step(layer, params, state, x):
    """The step by JAX alone, and the layer's output."""
    if layer is not LAYERS["stack"]:
        after, output = step(layer, params, state, x)
        return output, after
    low, _ = step(lstm(), params[0], state[0], x)
    high, _ = step(gru(), params[1], state[1], low.h)
    return low.h + high.h, (low, high)


def errors_of(layer, case, seed=3):
    """∂E/∂hs and ∂E/∂ the final state."""
    rng = np.random.default_rng(seed)
    wide = H
    d_hs = rng.standard_normal((T, B, wide))
    return d_hs, jax.tree.map(lambda s: rng.standard_normal(s.shape), case.state)


def norms(tree):
    return jax.tree.map(lambda a: np.linalg.norm(np.asarray(a)), tree)


def stacked(trees):
    return jax.tree.map(lambda *a: np.stack(a), *trees)


EDGES = {
    "whole": ([T, T], np.zeros((T, B), bool)),
    "edges": ([T, 3], np.arange(T * B).reshape(T, B) == 5),
}


# Lags ----------------------------------------------------------------------------


@pytest.mark.parametrize("edges", EDGES)
@each_layer
def test_every_lag_contributes_what_a_copy_of_the_parameters_a_step_says(
    name, edges, x64
):
    layer, (lengths, resets) = LAYERS[name], EDGES[edges]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, d_final = errors_of(layer, case)
    wanted = contributions(layer, case, d_hs, d_final, lengths, resets)
    given = {} if edges == "whole" else {"lengths": lengths, "resets": resets}
    found = lag_norms(layer, *case.inputs, d_hs, final=d_final, **given)
    assert_alike(found.params, stacked([norms(c) for c in wanted]), 1e-12)
    with pytest.raises(AssertionError):  # control: a lag off by one
        late = [norms(c) for c in (*wanted[1:], wanted[0])]
        assert_alike(found.params, stacked(late), 1e-12)

    few = lag_norms(layer, *case.inputs, d_hs, final=d_final, lags=2, **given)
    assert_alike(few.params, stacked([norms(c) for c in wanted[:2]]), 1e-12)

    whole = jax.tree.map(lambda a: a.sum(0), stacked(wanted))
    bias = truncation_bias(layer, *case.inputs, d_hs, final=d_final, **given)
    for k in range(T):
        partly = jax.tree.map(lambda a, k=k: a[: k + 1].sum(0), stacked(wanted))
        a, b = (
            np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])
            for tree in (partly, whole)
        )
        error = np.linalg.norm(a - b) / np.linalg.norm(b)
        cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        np.testing.assert_allclose(bias.relative_error[k], error, rtol=0, atol=1e-13)
        np.testing.assert_allclose(bias.cosine[k], cosine, rtol=1e-12)
    assert bias.relative_error[0] > 1e-3  # K = 1 is no gradient through time


@each_layer
def test_an_error_of_the_final_state_alone_takes_one_sweep_and_gives_the_same(
    name, x64
):
    layer = LAYERS[name]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, d_final = errors_of(layer, case)
    one = lag_norms(layer, *case.inputs, final=d_final)
    many = lag_norms(layer, *case.inputs, 0 * d_hs, final=d_final)
    assert_alike(one, many, 1e-12)
    few = lag_norms(layer, *case.inputs, final=d_final, lags=2)
    assert_alike(few, jax.tree.map(lambda a: a[:2], one), 1e-12)
    biases = [
        truncation_bias(layer, *case.inputs, d, final=d_final) for d in (None, 0 * d_hs)
    ]
    np.testing.assert_allclose(biases[0].cosine, biases[1].cosine, rtol=1e-12)
    np.testing.assert_allclose(
        biases[0].relative_error, biases[1].relative_error, atol=1e-13
    )


def test_adjoint_norms_by_lag_are_those_of_bptt_for_one_error(x64):
    case = draw(lstm(), steps=T, batch=(B,), inputs=D, units=H)
    found = lag_norms(lstm(), *case.inputs, final=case.d_final)
    adjoints = bptt(lstm(), *case.inputs, final=case.d_final).adjoints
    wanted = [
        np.sqrt(sum(np.sum(np.square(a[t])) for a in adjoints))
        for t in reversed(range(T))
    ]
    np.testing.assert_allclose(found.adjoints, wanted, rtol=1e-12)


@pytest.mark.parametrize("end", [False, True], ids=["steps", "steps-and-end"])
@pytest.mark.parametrize("name", ["elman", "lstm"])
def test_adjoint_norms_by_lag_are_those_of_every_error_alone(name, end, x64):
    cell = LAYERS[name]
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, final = errors_of(cell, case)
    final = final if end else None
    squares = np.zeros(T)
    for t in range(T):
        alone = np.zeros_like(d_hs)
        alone[t] = d_hs[t]
        last = final if t == T - 1 else None
        adjoints = bptt(cell, *case.inputs, alone, final=last).adjoints
        for lag in range(t + 1):
            squares[lag] += sum(np.sum(np.square(a[t - lag])) for a in adjoints)
    found = lag_norms(cell, *case.inputs, d_hs, final=final)
    np.testing.assert_allclose(found.adjoints, np.sqrt(squares), rtol=1e-12)


def test_at_lag_0_a_layers_outputs_count_beside_its_state(x64):
    layer = LAYERS["stack"]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    errors = errors_of(layer, case)
    found = lag_norms(layer, *case.inputs, errors[0], final=errors[1])
    squares = [np.sum(np.square(a)) for a in jax.tree.leaves(errors)]
    np.testing.assert_allclose(found.adjoints[0], np.sqrt(sum(squares)), rtol=1e-12)


# Decay ---------------------------------------------------------------------------


def test_a_geometric_series_has_its_rate_and_no_interval(x64):
    lags = np.arange(40)
    for rate in (0.5, 0.99, 1.2):
        found = decay_rate(7.0 * rate**lags)
        np.testing.assert_allclose(found, [rate] * 3, rtol=1e-12)
    two = decay_rate(np.stack([0.5**lags, 0.9**lags]))
    np.testing.assert_allclose(two.rate, [0.5, 0.9], rtol=1e-12)


def test_what_underflowed_is_left_out_of_the_rate(x64):
    norms = 0.5 ** np.arange(40.0)
    norms[20:] = 0
    norms[3] = np.inf
    np.testing.assert_allclose(decay_rate(norms).rate, 0.5, rtol=1e-12)
    np.testing.assert_allclose(
        decay_rate(norms * [*[9] * 2, *[1] * 38], skip=2).rate, 0.5
    )
    assert np.isnan(decay_rate(np.array([1.0, 0.5, 0, 0])).rate)


def newey_west(lags):
    """Weights of u_i u_j in the standard error, [lags, lags]: their equation 5."""
    reach = math.floor(4 * (lags / 100) ** (2 / 9))
    apart = np.abs(np.subtract.outer(np.arange(lags), np.arange(lags)))
    return np.maximum(0, 1 - apart / (reach + 1))


@pytest.mark.parametrize("lags", [5, 40])
def test_the_interval_is_a_regressions_with_newey_and_wests_errors(lags, x64):
    logs = np.random.default_rng(lags).standard_normal(lags)
    X = np.stack([np.ones(lags), np.arange(lags)], axis=1)
    bread = np.linalg.inv(X.T @ X)
    fit = bread @ X.T @ logs
    u = logs - X @ fit
    covariance = bread @ X.T @ (newey_west(lags) * np.outer(u, u)) @ X @ bread
    # two numbers are fitted
    error = math.sqrt(covariance[1, 1] * lags / (lags - 2))
    wanted = np.exp(fit[1] + 1.96 * error * np.array([0, -1, 1]))
    np.testing.assert_allclose(decay_rate(np.exp(logs)), wanted, rtol=1e-12)


def coverage_to_expect(lags, carried):
    """How often 1.96 standard errors hold the slope, under errors u_ℓ = carried u_{ℓ-1}
    + noise: the estimated variance is a quadratic form of them, about a χ²."""
    x = np.arange(lags) - (lags - 1) / 2
    X = np.stack([np.ones(lags), x], axis=1)
    residual = np.eye(lags) - X @ np.linalg.inv(X.T @ X) @ X.T
    apart = np.subtract.outer(np.arange(lags), np.arange(lags))
    sums = np.where(apart >= 0, float(carried) ** np.abs(apart), 0)
    noise = sums @ sums.T
    form = residual @ (newey_west(lags) * np.outer(x, x)) @ residual @ noise
    mean, variance = np.trace(form), 2 * np.trace(form @ form)
    share = mean * lags / (lags - 2) / (x @ noise @ x)  # of the true variance
    freedom = 2 * mean**2 / variance
    return 1 - 2 * scipy.stats.t.sf(1.96 * math.sqrt(share), freedom)


def covered(noise):
    """How often the interval holds the true rate; [draws, lags] of noise."""
    found = decay_rate(np.exp(-0.2 * np.arange(noise.shape[-1]) + noise))
    true = math.exp(-0.2)
    return float(np.mean((found.low < true) & (true < found.high)))


def test_the_interval_holds_the_rate_about_as_often_as_it_says(x64):
    rng = np.random.default_rng(0)
    noise = 0.3 * rng.standard_normal((2000, 100))
    # 0.92 and, of related errors, 0.86: with 100 lags the standard error is too small.
    # 2000 draws find either to 0.006 and 0.008, a standard deviation; five are allowed.
    assert covered(noise) == pytest.approx(coverage_to_expect(100, 0), abs=0.03)
    related = noise.copy()  # each lag's error half of the one before's
    for lag in range(1, 100):
        related[:, lag] += 0.5 * related[:, lag - 1]
    assert covered(related) == pytest.approx(coverage_to_expect(100, 0.5), abs=0.04)
    walk = np.cumsum(noise, axis=1)  # control: errors without end are not covered
    assert covered(walk) < 0.8


def test_the_horizon_is_where_contributions_stay_below_their_share():
    norms = np.array([1, 0.5, 0.005, 0.02, 0.009, 0.0], np.float32)
    assert effective_horizon(norms) == 4
    assert effective_horizon(norms, share=0.3) == 2
    assert effective_horizon(np.array([0.0, 0.0], np.float32)) == 0
    assert effective_horizon(np.array([1e-3, 1, 1], np.float32)) == 3  # a lower bound
    assert effective_horizon(np.array([1, np.nan, 1e-9], np.float32)) == 2
    assert effective_horizon(np.stack([norms, norms[::-1]])).shape == (2,)


def test_a_linear_network_sees_as_far_as_its_factor_says(x64):
    # 0.63^10 = 0.0098: the first lag below 1 % is the tenth
    cell = elman("identity")
    params = cell.init(jax.random.key(0), 1, 4, dtype=jnp.float64)
    params = params._replace(w_s=0.63 * jnp.eye(4))
    xs = np.ones((30, 1, 1))
    d_final = jax.tree.map(jnp.ones_like, cell.initial_state(params, (1,)))
    found = lag_norms(cell, params, xs, final=d_final)
    np.testing.assert_allclose(decay_rate(found.adjoints).rate, 0.63, rtol=1e-12)
    np.testing.assert_allclose(decay_rate(found.params.w_x).rate, 0.63, rtol=1e-12)
    assert effective_horizon(found.params.w_x) == 10


# Jacobians -----------------------------------------------------------------------


def slow_jacobians(layer, case):
    """J_t of every row by forward mode through a loop of steps."""
    found = np.zeros((T, B), object)
    for b in range(B):
        state = rows(case.state, b)
        flat, tree = jax.tree.flatten(state)
        ends = np.cumsum([len(a) for a in flat])[:-1]
        s = jnp.concatenate(flat)
        for t in range(T):

            def one(s, t=t, b=b, ends=ends, tree=tree):
                state = jax.tree.unflatten(tree, jnp.split(s, ends))
                after = one_step(layer, case.params, state, case.xs[t, b])[1]
                return jnp.concatenate(jax.tree.leaves(after))

            found[t, b] = jax.jacfwd(one)(s)
            s = one(s)
    return np.array([[np.asarray(a) for a in row] for row in found])


@each_layer
def test_step_jacobians_and_the_norms_of_their_products(name, x64):
    layer = LAYERS[name]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    wanted = slow_jacobians(layer, case)
    found = step_jacobians(layer, *case.inputs)
    assert_alike(found, wanted, 1e-13)
    with pytest.raises(AssertionError):  # control
        assert_alike(np.swapaxes(found, -1, -2), wanted, 1e-2)
    products = [np.broadcast_to(np.eye(wanted.shape[-1]), wanted.shape[1:])]
    for t in reversed(range(T)):
        products.append(products[-1] @ wanted[t])
    norms = np.linalg.norm(np.stack(products), axis=(-2, -1))
    np.testing.assert_allclose(jacobian_norms(layer, *case.inputs), norms, rtol=1e-12)


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


def test_singular_values_of_a_product_that_no_float_holds(x64):
    # Factors U_k D_k U_{k-1}ᵀ: the product's singular values are those of Π D_k.
    rng, n, w = np.random.default_rng(0), 6, 300
    logs = np.linspace(2.0, -9.0, n) + 0.1 * rng.standard_normal((w, n))
    bases = [orthogonal(rng, n) for _ in range(w + 1)]
    factors = np.stack(
        [bases[k + 1] @ np.diag(np.exp(logs[k])) @ bases[k].T for k in range(w)]
    )
    wanted = np.sort(logs.sum(0))[::-1]
    assert wanted[0] > 500 and wanted[-1] < -2000  # e^±745 is where float64 ends
    found = jacobian_singular_values(factors, window=w)
    np.testing.assert_allclose(found, wanted[None], rtol=1e-10)


def test_singular_values_of_steps_and_of_short_windows(x64):
    case = draw(lstm(), steps=7, batch=(B,), inputs=D, units=H)
    jacobians = step_jacobians(lstm(), *case.inputs)
    one = np.linalg.svd(jacobians, compute_uv=False)
    assert_alike(np.exp(jacobian_singular_values(jacobians)), one, 1e-12)
    j = np.asarray(jacobians)
    two = np.stack([j[1] @ j[0], j[3] @ j[2], j[5] @ j[4]])
    wanted = np.log(np.linalg.svd(two, compute_uv=False))
    found = jacobian_singular_values(jacobians, window=2)
    np.testing.assert_allclose(found, wanted, atol=1e-2)


def test_spectral_radius_and_the_sufficient_condition(x64):
    rng = np.random.default_rng(1)
    base = orthogonal(rng, H)
    np.testing.assert_allclose(spectral_radius(0.7 * base), 0.7)
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])  # its eigenvalues are ±i
    np.testing.assert_allclose(spectral_radius(0.8 * turn), 0.8)
    shear = np.array([[0.5, 3.0], [0.0, 0.4]])  # it may grow before it falls
    np.testing.assert_allclose(spectral_radius(np.stack([shear, shear.T])), 0.5)
    assert not vanishing_conditions(shear).vanishes
    assert vanishing_conditions(shear, slope=0.25).vanishes  # sigmoid
    np.testing.assert_allclose(
        vanishing_conditions(shear).bound, np.linalg.svd(shear)[1][0]
    )
    case = draw(elman(), steps=20, batch=(B,), inputs=D, units=H)
    params = case.params._replace(w_s=0.9 * base)
    eta = vanishing_conditions(params.w_s)
    assert eta.vanishes
    measured = jacobian_singular_values(step_jacobians(elman(), params, case.xs))
    assert (measured[..., 0] <= np.log(eta.bound) + 1e-12).all()


# Exponents -----------------------------------------------------------------------


@pytest.mark.parametrize("order", ["tangent", "adjoint"])
def test_a_linear_networks_exponents_are_its_eigenvalues(order, x64):
    rng = np.random.default_rng(2)
    values, base = np.array([1.1, 0.8, 0.5, 0.2]), rng.standard_normal((4, 4))
    w_s = base @ np.diag(values) @ np.linalg.inv(base)  # not normal
    cell = elman("identity")
    params = cell.init(jax.random.key(0), 1, 4, dtype=jnp.float64)._replace(w_s=w_s)
    xs = np.zeros((400, 1))
    options = {"warmup": 200, "order": order}
    found = lyapunov_spectrum(cell, params, xs, **options)
    np.testing.assert_allclose(found, np.log(values), atol=1e-10)
    largest = lyapunov_spectrum(cell, params, xs, count=2, **options)
    np.testing.assert_allclose(largest, np.log(values[:2]), atol=1e-10)


def test_the_logistic_map_has_the_exponent_ln_2(x64):
    # Ott (2002), "Chaos in Dynamical Systems", §2.4: at 4 x (1-x), ln 2
    cell = custom_cell(lambda own, z, r, s: State(4 * s.h * (1 - s.h)))
    params = cell.init(jax.random.key(0), 1, 1, dtype=jnp.float64)
    start = State(np.array([0.3]))
    for order in ("tangent", "adjoint"):
        found = lyapunov_spectrum(
            cell, params, np.zeros((20000, 1)), start, order=order
        )
        np.testing.assert_allclose(found, [math.log(2)], atol=3e-3)


@each_layer
def test_both_orders_agree_on_a_driven_network(name, x64):
    layer = LAYERS[name]
    case = draw(layer, steps=600, batch=(B,), inputs=D, units=H)
    params, xs, state = case.inputs
    # Each leaves out the 100 steps at the end that it comes from: of these two runs,
    # the same 400 in the middle are left.
    _, later = unroll(layer, params, xs[:100], state)
    options = {"count": 2, "warmup": 100}
    tangent = lyapunov_spectrum(layer, params, xs[:-100], state, **options)
    adjoint = lyapunov_spectrum(
        layer, params, xs[100:], later, order="adjoint", **options
    )
    # They differ by the angles between the two frames at the ends, a nat or two in
    # all, however many the steps.
    nats = 400 * np.abs(tangent - adjoint)
    assert nats.max() < 2
    # control: the other exponent is not within that
    assert 400 * np.abs(tangent[:, 1] - adjoint[:, 0]).min() > 10


# Faults --------------------------------------------------------------------------


def place(step, part, row):
    return (step, part, row)


def ints(place):
    return tuple(int(i) for i in place)


def test_the_first_fault_is_found_forward_and_backward_inside_jit():
    case = draw(lstm(), steps=6, batch=(2, 2), inputs=D, units=H, dtype=np.float32)
    d_hs = np.ones((6, 2, 2, H), np.float32)
    find = jax.jit(
        lambda xs, d_hs: first_nonfinite(lstm(), case.params, xs, case.state, d_hs)
    )
    nowhere = place(-1, -1, -1)
    found = find(case.xs, d_hs)
    assert ints(found.forward) == ints(found.backward) == nowhere
    bad = case.xs.copy()
    bad[3, 1, 0, 1] = np.nan
    bad[4, 0, 0, 0] = np.nan  # later
    assert ints(find(bad, d_hs).forward)[0::2] == (3, 2)
    wrong = d_hs.copy()
    wrong[2, 0, 1, 0] = np.nan
    wrong[1, 1, 1, 0] = np.nan  # going back, it comes after
    found = find(case.xs, wrong)
    assert ints(found.forward) == nowhere and ints(found.backward) == place(2, 0, 1)


def test_a_fault_in_a_part_of_a_deep_state_is_named_and_padding_is_not_looked_at():
    layer = stack(lstm(), gru())
    case = draw(layer, steps=4, batch=(B,), inputs=D, units=H, dtype=np.float32)
    state = jax.tree.map(np.copy, case.state)
    state[1].h[1, 0] = np.nan  # the upper layer's
    found = first_nonfinite(layer, case.params, case.xs, state)
    assert ints(found.forward) == place(0, 2, 1)
    bad = case.xs.copy()
    bad[2:, 0] = np.nan
    found = first_nonfinite(layer, case.params, bad, lengths=[2, 4])
    assert ints(found.forward) == place(-1, -1, -1)
    found = first_nonfinite(layer, case.params, bad, lengths=[3, 4])
    assert ints(found.forward)[0::2] == (2, 0)


def test_the_backward_search_knows_lengths_and_resets():
    # Every step going back multiplies by 1e10: float32 ends at the fourth.
    cell = elman("identity")
    params = cell.init(jax.random.key(0), 1, 2)._replace(w_s=1e10 * jnp.eye(2))
    xs = np.zeros((6, 2, 1), np.float32)
    final = jax.tree.map(jnp.ones_like, cell.initial_state(params, (2,)))
    none, bad = np.zeros((6, 2, 2), np.float32), np.zeros((6, 2, 2), np.float32)
    bad[4:, 1] = np.nan
    never, third = np.zeros((6, 2), bool), np.zeros((6, 2), bool)
    third[3] = True

    @jax.jit
    def find(d_hs, lengths, resets):
        edges = {"lengths": lengths, "resets": resets}
        return first_nonfinite(cell, params, xs, None, d_hs, final=final, **edges)

    for d_hs, lengths, resets, wanted in (
        (none, [6, 6], never, place(1, 0, 0)),
        (none, [6, 6], third, place(-1, -1, -1)),
        (none, [3, 5], never, place(0, 0, 1)),
        (bad, [3, 4], never, place(-1, -1, -1)),
        (bad, [3, 5], never, place(4, 0, 1)),
    ):
        found = find(d_hs, np.array(lengths), resets)
        assert ints(found.backward) == wanted
        assert ints(found.forward) == place(-1, -1, -1)


def test_a_run_of_no_step_has_no_fault():
    case = draw(lstm(), steps=0, dtype=np.float32)
    found = first_nonfinite(lstm(), *case.inputs, final=case.d_final)
    assert ints(found.forward) == ints(found.backward) == place(-1, -1, -1)


def test_subnormal_numbers_are_told_from_zero_and_normal_ones():
    cell = custom_cell(lambda own, z, r, s: s)  # it holds its state
    params = cell.init(jax.random.key(0), 1, 3)
    xs = np.zeros((2, 2, 1), np.float32)
    tiny = np.finfo(np.float32).tiny
    start = np.array([[0, 1, -tiny], [1, 1, tiny]], np.float32)
    find = jax.jit(lambda s: first_nonfinite(cell, params, xs, s, subnormal=True))
    assert ints(find(State(start)).forward) == place(-1, -1, -1)
    start[1, 1] = -tiny / 2
    assert ints(find(State(start)).forward) == place(0, 0, 1)
    plain = first_nonfinite(cell, params, xs, State(start))
    assert ints(plain.forward) == place(-1, -1, -1)


# Fixed points --------------------------------------------------------------------


def test_the_fixed_points_of_one_tanh_unit_are_the_roots_of_its_equation(x64):
    # s = tanh(2 s): 0 and ±0.9575040240772687 (by bisection); slope there 2 (1 - s²)
    params = elman().init(jax.random.key(0), 1, 1, dtype=jnp.float64)
    params = params._replace(w_s=jnp.full((1, 1), 2.0))
    starts = type(elman().initial_state(params))(np.linspace(-1, 1, 21)[:, None])
    found = distinct(fixed_points(elman(), params, np.zeros(1), starts))
    order = np.argsort(found.states.h[:, 0])
    root = 0.9575040240772687
    np.testing.assert_allclose(found.states.h[order, 0], [-root, 0, root], atol=1e-9)
    slopes = np.array([2 * (1 - root**2), 2, 2 * (1 - root**2)])
    np.testing.assert_allclose(found.eigenvalues[order, 0], slopes, atol=1e-7)
    assert (found.speeds < 1e-18).all()


def test_a_network_without_a_fixed_point_has_a_slow_one(x64):
    # s → s + 0.1 + s² (h alone): q is least at s = 0, where it moves by 0.1
    cell = custom_cell(lambda own, z, r, s: State(s.h + 0.1 + s.h**2))
    params = cell.init(jax.random.key(0), 1, 1, dtype=jnp.float64)
    found = fixed_points(cell, params, np.zeros(1), State(np.array([[0.4], [-0.3]])))
    np.testing.assert_allclose(found.states.h, 0, atol=1e-4)
    np.testing.assert_allclose(found.speeds, 0.5 * 0.1**2, rtol=1e-6)
    assert len(distinct(found).speeds) == 0
    assert len(distinct(found, speed=0.1).speeds) == 1


def test_the_stillest_point_comes_first_with_its_own_speed(x64):
    case = draw(elman(), steps=8, batch=(), inputs=D, units=H)
    starts = case.d_states  # eight states, from which one step does not get far
    found = fixed_points(elman(), case.params, case.xs[0], starts, steps=1)
    after, _ = step(elman(), case.params, found.states, np.tile(case.xs[0], (8, 1)))
    speeds = 0.5 * np.square(after.h - found.states.h).sum(-1)
    np.testing.assert_allclose(found.speeds, speeds, rtol=1e-12)
    assert (np.diff(found.speeds) > 0).all()


@each_layer
def test_fixed_points_of_deeper_states_stand_still(name, x64):
    layer = LAYERS[name]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    found = fixed_points(layer, case.params, case.xs[0, 0], case.state)
    assert (found.speeds < 1e-20).all()
    for b in range(B):
        state = rows(found.states, b)
        after = one_step(layer, case.params, state, case.xs[0, 0])[1]
        assert_alike(after, state, 1e-8)


# Norm preservation, alignment ----------------------------------------------------


def omega(w_s, slopes, adjoints):
    """Ω of an Elman network: everything but W_s is held fixed."""
    carried = jnp.einsum("tbh,kh->tbk", adjoints * slopes, w_s)
    ratio = jnp.linalg.norm(carried, axis=-1) / jnp.linalg.norm(adjoints, axis=-1)
    return ((ratio - 1) ** 2).sum() / adjoints.shape[1]


def test_omega_and_its_gradient_by_hand_are_those_of_its_formula(x64):
    case = draw(elman(), steps=T, batch=(B,), inputs=D, units=H)
    found = norm_preservation(elman(), *case.inputs, case.d_states, final=case.d_final)
    d = bptt(elman(), *case.inputs, case.d_states, final=case.d_final)
    states = []
    state = case.state
    for t in range(T):
        state, _ = step(elman(), case.params, state, case.xs[t])
        states.append(state.h)
    slopes = 1 - np.square(np.stack(states))
    value, w_s = jax.value_and_grad(omega)(
        jnp.asarray(case.params.w_s), slopes, d.adjoints.h
    )
    np.testing.assert_allclose(found.value, value, rtol=1e-12)
    assert_alike(found.w_s, w_s, 1e-12)
    assert_alike(found.gradient, d.params, 1e-15)
    assert_alike(found.alignment, alignment(w_s, d.params.w_s), 1e-12)


def test_a_step_down_omega_brings_the_norms_nearer_and_a_rotation_has_none(x64):
    case = draw(elman(), steps=20, batch=(B,), inputs=D, units=H)
    params = case.params._replace(w_s=0.3 * case.params.w_s)
    first = norm_preservation(elman(), params, case.xs, None, None, final=case.d_final)
    params = params._replace(w_s=params.w_s - 1e-3 * first.w_s)
    after = norm_preservation(elman(), params, case.xs, None, None, final=case.d_final)
    assert after.value < first.value
    cell = elman("identity")
    turn = case.params._replace(w_s=orthogonal(np.random.default_rng(0), H))
    none = norm_preservation(cell, turn, case.xs, None, None, final=case.d_final)
    np.testing.assert_allclose(none.value, 0, atol=1e-25)


def test_alignment_of_gradients_made_by_hand():
    a, b = {"w": jnp.array([3.0, 0.0])}, {"w": jnp.array([3.0, 4.0])}
    np.testing.assert_allclose(alignment(a, b), [0.8, 0.6, 0.6], rtol=1e-6)
    tiny = jax.tree.map(lambda x: 1e-30 * x, (a, b))
    np.testing.assert_allclose(alignment(*tiny), [0.8, 0.6, 0.6], rtol=1e-6)


# Wrong calls ---------------------------------------------------------------------

CASE = draw(lstm(), steps=T, batch=(B,), inputs=D, units=H, dtype=np.float32)
P, XS = CASE.params, CASE.xs
POINTS = FixedPoints(CASE.state, np.zeros(B), np.zeros((B, 2 * H)))
WRONG = {
    "lags of no error": (lambda: lag_norms(lstm(), P, XS), "cotangents and final"),
    "too many lags": (
        lambda: lag_norms(lstm(), P, XS, final=CASE.d_final, lags=9),
        "lags",
    ),
    "lags True": (
        lambda: lag_norms(lstm(), P, XS, final=CASE.d_final, lags=True),
        "lags",
    ),
    "lags of no step": (lambda: lag_norms(lstm(), P, XS[:0], final=CASE.d_final), "xs"),
    "cotangents of a shape": (
        lambda: truncation_bias(lstm(), P, XS, None, XS),
        "cotang",
    ),
    "integers before cotangents": (
        lambda: lag_norms(lstm(), P, XS.astype(int), None, CASE.d_states.h),
        "xs: expected float32 as the parameters",
    ),
    "no norms": (lambda: decay_rate(np.float32(3)), "norms"),
    "integer norms": (lambda: effective_horizon(np.arange(3)), "norms"),
    "skip all": (lambda: decay_rate(np.ones(4, np.float32), skip=2), "skip"),
    "share": (lambda: effective_horizon(np.ones(4, np.float32), share=2), "share"),
    "window": (
        lambda: jacobian_singular_values(np.ones((2, 3, 3)), window=3),
        "window",
    ),
    "window of none": (
        lambda: jacobian_singular_values(np.ones((2, 3, 3)), window=0),
        "window: expected a positive integer",
    ),
    "not square": (lambda: jacobian_singular_values(np.ones((2, 3, 4))), "jacobians"),
    "radius": (lambda: spectral_radius(np.ones((2, 3))), "matrices"),
    "lists": (lambda: spectral_radius([[1.0, 2.0], [3.0]]), "matrices: expected an"),
    "gates": (lambda: vanishing_conditions(P.w_s), r"w_s: expected shape \[H, H\], a"),
    "masked w_s": (
        lambda: vanishing_conditions(np.ma.masked_array(np.eye(2), np.eye(2))),
        "w_s: expected a plain array",
    ),
    "slope": (lambda: vanishing_conditions(np.eye(2), slope=0), "slope"),
    "count": (lambda: lyapunov_spectrum(lstm(), P, XS, count=7), "count"),
    "warmup": (lambda: lyapunov_spectrum(lstm(), P, XS, warmup=T), "warmup"),
    "warmup below 0": (lambda: lyapunov_spectrum(lstm(), P, XS, warmup=-1), "warmup"),
    "order": (lambda: lyapunov_spectrum(lstm(), P, XS, order="up"), "order"),
    "starts": (
        lambda: fixed_points(lstm(), P, XS[0, 0], rows(CASE.state, 0)),
        "states",
    ),
    "steps": (lambda: fixed_points(lstm(), P, XS[0, 0], CASE.state, steps=0), "steps"),
    "omega of a layer": (lambda: norm_preservation(stack(lstm()), (P,), XS), "cell"),
    "subnormal": (lambda: first_nonfinite(lstm(), P, XS, subnormal=1), "subnormal"),
    "structures": (lambda: alignment({"a": P.b}, [P.b]), "gradient"),
    "a part less": (
        lambda: alignment({"a": P}, {"a": P._replace(b=None)}),
        r"gradient: expected none there, got arrays at \['a'\]\.b$",
    ),
    "shapes": (lambda: alignment(P.b, P.w_x), "gradient"),
    "shapes of a leaf": (
        lambda: alignment(P, P._replace(b=P.b[:2])),
        r"gradient\.b: expected shape \[2\], got",
    ),
    "masked": (
        lambda: alignment(P, P._replace(b=np.ma.masked_array(P.b, P.b > 0))),
        r"reference\.b: expected a plain array",
    ),
    "integers": (lambda: alignment(np.ones(2, int), np.ones(2)), "gradient: expected"),
    "complex": (lambda: alignment(np.ones(2), 1j * np.ones(2)), "reference: expected"),
    "jacobians of integers": (
        lambda: jacobian_singular_values(np.ones((2, 3, 3), int)),
        "jacobians: expected a floating dtype",
    ),
    "complex jacobians": (
        lambda: jacobian_singular_values(1j * np.ones((2, 3, 3))),
        "jacobians: expected a floating dtype",
    ),
    "slope a word": (lambda: vanishing_conditions(np.eye(2), slope="1"), "slope: exp"),
    "share a word": (lambda: effective_horizon(np.ones(3), "1"), "share: expected a"),
    "skip a word": (lambda: decay_rate(np.ones(5), skip="1"), "skip: expected an int"),
    "cell a word": (lambda: fixed_points("lstm", P, XS[0, 0], CASE.state), "cell: exp"),
    "no points": (lambda: distinct(CASE.state), "points: expected FixedPoints"),
    "speed": (lambda: distinct(POINTS, speed=np.nan), "speed: expected a positive num"),
    "apart": (lambda: distinct(POINTS, apart=-1.0), "apart: expected a positive num"),
    "spectrum of no step": (lambda: lyapunov_spectrum(lstm(), P, XS[:0]), "xs: exp"),
    "a number held": (
        lambda: fixed_points(lstm(), P, np.float32(1), CASE.state),
        r"x: expected an array \[\.\.\., D\]",
    ),
    "no params": (
        lambda: fixed_points(lstm(), None, XS[0, 0], CASE.state),
        "params: expected jaxrnn.Params",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_call_names_its_argument(name):
    call, argument = WRONG[name]
    with pytest.raises((ValueError, TypeError), match=rf"(^|\b){argument}"):
        call()


def test_numpys_integers_are_integers():
    two, norms = np.int64(2), jnp.asarray(0.5 ** np.arange(8))
    assert_equal(decay_rate(norms, skip=two), decay_rate(norms, skip=2))
    found = lyapunov_spectrum(lstm(), P, XS, count=two, warmup=np.int32(1))
    assert_equal(found, lyapunov_spectrum(lstm(), P, XS, count=2, warmup=1))
    found = lag_norms(lstm(), P, XS, final=CASE.d_final, lags=two)
    assert_equal(found, lag_norms(lstm(), P, XS, final=CASE.d_final, lags=2))

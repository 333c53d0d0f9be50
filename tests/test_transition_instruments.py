"""Transitions wherever a cell goes: layers, networks, every instrument of gradients.

Each is compared with what the step itself gives: its Jacobians by JAX's forward mode in
a Python loop, or `jax.jacrev` of a plain scan.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike
from transitions import NAMES, D, H, case

import jaxrnn
from jaxrnn import gradient_flow, online, parallel, transition
from jaxrnn.layers import Directions, learned_start

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B = 4, 2
EXACT = 1e-12
TREES = ("matrix memory", "agent")  # whose outputs are dictionaries


def each(*names):
    return pytest.mark.parametrize("name", names)


class Drawn(NamedTuple):
    layer: Any
    params: Any
    xs: Any
    state: Any
    cotangents: Any

    @property
    def inputs(self):
        return self.layer, self.params, self.xs, self.state


@lru_cache
def drawn(name):
    layer, params, draw = case(name, jnp.float64)
    xs = draw(jax.random.key(2), (T, B), jnp.float64)
    state = jax.tree.map(
        lambda a: jnp.broadcast_to(a, (B, *jnp.shape(a))), layer.initial_state(params)
    )
    _, hs = jax.eval_shape(partial(scanned, layer), params, xs, state)
    cotangents = jax.tree.map(
        lambda h: jnp.cos(jnp.arange(h.size, dtype=h.dtype)).reshape(h.shape), hs
    )
    return Drawn(layer, params, xs, state, cotangents)


def scanned(layer, params, xs, state):
    step = jax.vmap(layer.step, (None, 0, 0))
    return jax.lax.scan(lambda s, x: step(params, s, x), state, xs)


def inexact(a):
    return jnp.issubdtype(jnp.result_type(a), jnp.inexact)


def vector(tree):
    """The leaves that have a derivative, side by side."""
    leaves = [a.ravel() for a in jax.tree.leaves(tree) if inexact(a)]
    return leaves[0] if len(leaves) == 1 else jnp.concatenate(leaves)


def put(vector, tree):
    """`vector`, undone."""
    leaves, structure = jax.tree.flatten(tree)
    at, found = 0, []
    for leaf in leaves:
        size = leaf.size if inexact(leaf) else 0
        new = vector[at : at + size].reshape(leaf.shape) if size else leaf
        found, at = [*found, new], at + size
    return jax.tree.unflatten(structure, found)


def slope(layer, params):
    """The Jacobian of one row's step with respect to its state."""
    return jax.jit(
        jax.jacfwd(lambda v, s, x: vector(layer.step(params, put(v, s), x)[0]))
    )


@lru_cache
def by_loop(name):
    """Every Jacobian [T, B, N, N], one step and one row after the other."""
    layer, params, xs, state, _ = drawn(name)
    jacobian = slope(layer, params)

    @jax.jit
    def one(s, t, row):
        x = jax.tree.map(lambda a: a[t, row], xs)
        return layer.step(params, s, x)[0], jacobian(vector(s), s, x)

    found = []
    for row in range(B):
        s = jax.tree.map(lambda a: a[row], state)  # noqa: B023
        for t in range(T):
            s, slopes = one(s, t, row)
            found.append(slopes)
    n = found[0].shape
    return np.stack(found).reshape(B, T, *n).swapaxes(0, 1)


@lru_cache
def by_lag(name):
    """∂E_t/∂ the parameters of step k, leaves [T, T, ...], and ∂E_t/∂s_k, the same."""
    layer, params, xs, state, cotangents = drawn(name)
    step = jax.vmap(layer.step, (None, 0, 0))

    def errors(params, nudges):
        def one(s, inputs):
            params, nudge, x, cotangent = inputs
            s, h = step(params, s, x)
            pairs = zip(*map(jax.tree.leaves, (h, cotangent)), strict=True)
            s = jax.tree.map(lambda a, n: a + n.astype(a.dtype), s, nudge)
            return s, sum((h * c).sum() for h, c in pairs)

        return jax.lax.scan(one, state, (params, nudges, xs, cotangents))[1]

    every = jax.tree.map(lambda p: jnp.stack([p] * T), params)
    nudges = jax.tree.map(lambda s: jnp.zeros((T, *s.shape)), state)
    found = jax.jit(jax.jacrev(errors, (0, 1)))(every, nudges)
    return jax.tree.map(np.asarray, found)


def lagged(leaf, lag):
    """The steps [t, t - lag] of an array [T, T, ...]."""
    return np.stack([leaf[t, t - lag] for t in range(lag, T)])


# Layers ---------------------------------------------------------------------------


@each("leaky", "matrix memory", "attention")
def test_one_step_is_the_step_of_every_row(name):
    layer, params, xs, state, _ = drawn(name)
    x = jax.tree.map(lambda a: a[1], xs)
    given = jax.jit(partial(jaxrnn.step, layer))(params, state, x)
    assert_alike(given, jax.vmap(layer.step, (None, 0, 0))(params, state, x), EXACT)


def test_the_last_outputs_are_those_at_the_lengths():
    layer, params, xs, *_ = drawn("matrix memory")
    hs, _ = jaxrnn.unroll(layer, params, xs, lengths=[2, T])
    wanted = jax.tree.map(lambda h: jnp.stack([h[1, 0], h[T - 1, 1]]), hs)
    assert_alike(jaxrnn.last(hs, [2, T]), wanted, EXACT)
    with pytest.raises(ValueError, match="lengths: expected shape"):
        jaxrnn.last(hs, [2, T, 1])


def lstm_params(inputs):
    return jaxrnn.lstm().init(jax.random.key(3), inputs, D, dtype=jnp.float64)


def size(hs):
    """An error with a different slope in every number."""
    leaves = [h for h in jax.tree.leaves(hs) if inexact(h)]
    return sum(
        jnp.sin(h + jnp.arange(h.size, dtype=h.dtype).reshape(h.shape)).sum()
        for h in leaves
    )


@each("low rank", "attention")
def test_a_stack_over_and_under_an_lstm_is_one_layer_after_the_other(name):
    layer, params, xs, state, _ = drawn(name)
    stack = jaxrnn.stack(jaxrnn.lstm(), layer, jaxrnn.lstm())
    given = lstm_params(D), params, lstm_params(H)

    def ours(params):
        return size(jaxrnn.unroll(stack, params, xs)[0])

    def theirs(params):
        one, two, three = params
        run = partial(jaxrnn.unroll, jaxrnn.lstm(), gradient="autodiff")
        hs = scanned(layer, two, run(one, xs)[0], state)[1]
        return size(run(three, hs)[0])

    both = (jax.jit(jax.value_and_grad(f))(given) for f in (ours, theirs))
    assert_alike(*both, EXACT)


def test_a_layer_reads_the_dictionary_of_the_one_below():
    layer, params, xs, state, _ = drawn("matrix memory")

    def reads(params, h, x):
        h = jnp.tanh(x["read"] * params + x["energy"] - h)
        return h, h

    top = transition(reads, initial_state=jnp.zeros_like, x_ndim=(0, 1))
    weights = jnp.linspace(0.5, 1, H)
    stack = jaxrnn.stack(layer, top)
    hs, _ = jaxrnn.unroll(stack, (params, weights), xs)
    below = scanned(layer, params, xs, state)[1]
    assert_alike(hs, scanned(top, weights, below, jnp.zeros((B, H)))[1], EXACT)


@each("leaky", "exponential", "agent")
def test_both_directions_are_one_run_each(name):
    layer, params, xs, _, _ = drawn(name)
    merge = None if name in TREES else "concat"
    both = jaxrnn.bidirectional(layer, merge=merge)
    hs, _ = jaxrnn.unroll(both, Directions(params, params), xs)
    ahead, _ = jaxrnn.unroll(layer, params, xs)
    back, _ = jaxrnn.unroll(layer, params, xs, reverse=True)
    wanted = Directions(ahead, back)
    if merge:
        wanted = jnp.concatenate(wanted, axis=-1)
    assert_alike(hs, wanted, EXACT)


@each("matrix memory", "attention")
def test_a_learned_start_gets_the_gradient_of_every_row(name):
    layer, params, xs, _, cotangents = drawn(name)
    made = transition(
        layer.step,
        initial_state=layer.initial_state,
        init=lambda key, inputs, units: params,
        output_size=layer.output_size,
    )
    learned = learned_start(made)
    given = learned.init(jax.random.key(0), D, H)
    back = jaxrnn.bptt(learned, given, xs, cotangents=cotangents)

    def error(start):
        own = layer.initial_state(params)
        state = put(vector(start), jax.tree.map(jnp.asarray, own))
        state = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *a.shape)), state)
        hs = scanned(layer, params, xs, state)[1]
        pairs = zip(*map(jax.tree.leaves, (hs, cotangents)), strict=True)
        return sum((h * c).sum() for h, c in pairs)

    assert_alike(back.params.start, jax.grad(error)(given.start), EXACT)


# Networks -------------------------------------------------------------------------


def drawn_network(name):
    layer, params, *_ = drawn(name)
    made = layer._replace(init=lambda key, inputs, units, **options: params)
    net = jaxrnn.network(made)
    return net, net.init(jax.random.key(0), D, H, 2, dtype=jnp.float64)


def test_a_network_over_a_transition_has_the_gradient_of_its_error():
    net, params = drawn_network("attention")
    xs, targets = drawn("attention").xs, jnp.ones((T, B, 2))
    options = {"lengths": np.array([2, T])}
    value, given = net.gradients(params, xs, targets, **options)
    error = partial(net.error, gradient="autodiff", **options)
    assert_alike((value, given), jax.value_and_grad(error)(params, xs, targets), EXACT)


def test_check_gradients_goes_through_a_network_with_a_dictionary_of_inputs():
    net, params = drawn_network("leaky")
    against = "reverse", "adjoint", "rtrl", "scan", "truncated"
    inputs = drawn("leaky").xs, jnp.ones((T, B, 2))
    report = jaxrnn.check_gradients(net, params, *inputs, against=against)
    report.assert_close()
    assert len({c.against for c in report.comparisons}) == len(against)
    assert not report.left_out
    assert {c.leaf for c in report.steps} == {
        f"xs['{leaf}'][{t}]" for leaf in ("dt", "x") for t in range(T)
    }


def test_check_gradients_of_a_function_finds_what_is_wrong_by_hand_alone():
    layer, params, xs, *_ = drawn("matrix memory")

    def error(params, xs, *, gradient, wrong=None):
        if wrong is not None and gradient == "manual":
            params = params | {"k": jax.lax.stop_gradient(params["k"])}
        return size(jaxrnn.unroll(layer, params, xs, gradient=gradient)[0])

    against = ("reverse", "forward")
    assert jaxrnn.check_gradients(error, params, xs, against=against)
    assert not jaxrnn.check_gradients(error, params, xs, against=against, wrong=1.0)


# Gradient flow --------------------------------------------------------------------


@each(*NAMES)
def test_step_jacobians_are_those_of_the_step(name):
    assert_alike(
        gradient_flow.step_jacobians(*drawn(name).inputs), by_loop(name), EXACT
    )


def test_control_transposed_jacobians_differ():
    with pytest.raises(AssertionError):
        found = gradient_flow.step_jacobians(*drawn("integration").inputs)
        assert_alike(found, by_loop("integration").swapaxes(-1, -2), EXACT)


@each("leaky", "low rank", "matrix memory", "attention")
def test_jacobian_norms_are_those_of_the_products(name):
    norms = []
    for row in by_loop(name).swapaxes(0, 1):
        product = np.eye(row.shape[-1])
        products = [product]
        for j in row[::-1]:
            products.append(product := product @ j)
        norms.append(np.linalg.norm(products, axis=(1, 2)))
    found = gradient_flow.jacobian_norms(*drawn(name).inputs)
    assert_alike(found, np.stack(norms, 1), EXACT)


@each("leaky", "integration", "matrix memory")
@pytest.mark.parametrize("order", ["tangent", "adjoint"])
def test_lyapunov_exponents_add_up_to_the_growth_of_volumes(name, order):
    found = gradient_flow.lyapunov_spectrum(*drawn(name).inputs, order=order)
    volumes = np.linalg.slogdet(by_loop(name)).logabsdet.mean(0)
    assert_alike(found.sum(-1), volumes, 1e-6)  # of a frame drawn in float32


def test_lyapunov_exponents_of_a_state_with_a_counter_leave_it_out():
    found = gradient_flow.lyapunov_spectrum(*drawn("attention").inputs, count=2)
    assert found.shape == (B, 2) and found.dtype == jnp.float64
    assert gradient_flow.step_jacobians(*drawn("attention").inputs).shape[-1] == 5 * H


@each("leaky", "integration", "matrix memory")
def test_fixed_points_stand_still_and_have_the_steps_eigenvalues(name):
    layer, params, xs, state, _ = drawn(name)
    x = jax.tree.map(lambda a: a[0, 0], xs)
    found = gradient_flow.fixed_points(layer, params, x, state, steps=60)
    point = jax.tree.map(lambda a: a[0], found.states)
    assert_alike(layer.step(params, point, x)[0], point, 1e-9)
    jacobian = slope(layer, params)(vector(point), point, x)
    wanted = np.abs(np.linalg.eigvals(jacobian))
    np.testing.assert_allclose(
        np.abs(found.eigenvalues[0]), np.sort(wanted)[::-1], atol=1e-7
    )


def test_lag_norms_are_those_of_a_loop_with_parameters_of_each_step():
    for name in ("leaky", "exponential", "matrix memory", "attention"):
        *inputs, cotangents = drawn(name)
        found = gradient_flow.lag_norms(*inputs, cotangents)
        d_params, d_states = by_lag(name)
        for lag in range(T):
            norm = jax.tree.map(
                lambda d: np.linalg.norm(lagged(d, lag).sum(0)),  # noqa: B023
                d_params,
            )
            given = jax.tree.map(lambda n: n[lag], found.params)  # noqa: B023
            assert_alike(given, norm, EXACT)
            at = (
                cotangents
                if lag == 0
                else jax.tree.map(
                    lambda d: lagged(d, lag),  # noqa: B023
                    d_states,
                )
            )
            assert_alike(found.adjoints[lag], np.linalg.norm(vector(at)), EXACT)


@each("matrix memory", "attention")
def test_truncation_bias_is_the_sum_of_the_lags_that_are_left(name):
    *inputs, cotangents = drawn(name)
    found = gradient_flow.truncation_bias(*inputs, cotangents)
    d_params = by_lag(name)[0]
    shares = [
        vector(jax.tree.map(lambda d: lagged(d, lag).sum(0), d_params))  # noqa: B023
        for lag in range(T)
    ]
    sums = np.cumsum(shares, axis=0)
    norms = np.linalg.norm(sums, axis=1)
    error = np.linalg.norm(sums - sums[-1], axis=1) / norms[-1]
    np.testing.assert_allclose(found.relative_error, error, atol=EXACT)
    assert_alike(found.norm_ratio, norms / norms[-1], EXACT)
    assert_alike(found.cosine, sums @ sums[-1] / norms / norms[-1], EXACT)


@each("attention")
def test_lags_of_a_last_error_alone_add_up_to_bptt(name):
    layer, params, xs, state, _ = drawn(name)
    final = jax.tree.map(jnp.ones_like, state)
    found = gradient_flow.truncation_bias(layer, params, xs, state, final=final)
    assert found.relative_error[-1] <= EXACT < found.relative_error[0]


def counted(params, state, x):
    h = jnp.tanh(params * state["h"] + x)
    return {"count": state["count"] + 1, "h": h}, h


def test_first_nonfinite_counts_the_parts_that_cannot_be():
    layer = transition(
        counted, initial_state=lambda p: {"count": 0, "h": jnp.zeros((2, D))}, x_ndim=2
    )
    xs = jnp.ones((T, B, 2, D)).at[2, 1, 0, 0].set(jnp.nan)
    cotangents = jnp.ones_like(xs).at[3, 0, 1, 1].set(jnp.inf)
    params = jnp.ones((2, D))
    for subnormal in (False, True):
        found = gradient_flow.first_nonfinite(
            layer, params, xs, cotangents=cotangents, subnormal=subnormal
        )
        assert found.forward == (2, 1, 1)
        assert found.backward == (2, 1, 0)


# Online ---------------------------------------------------------------------------


def by_scan(name):
    """∂E/∂params of a plain scan, by JAX."""
    layer, params, xs, state, cotangents = drawn(name)
    _, pull = jax.vjp(lambda p: scanned(layer, p, xs, state)[1], params)
    return pull(cotangents)[0]


@each("leaky", "integration", "matrix memory", "attention")
def test_rtrl_and_a_window_over_all_steps_are_the_gradient(name):
    layer, params, xs, state, cotangents = drawn(name)
    for method in (online.rtrl(layer), online.truncated(layer, 1, T)):
        run = jax.jit(partial(online.gradient, method))
        found = run(params, xs, state, cotangents)
        assert_alike(found, by_scan(name), 1e-10)


def test_control_a_window_over_fewer_steps_is_not():
    layer, params, xs, state, cotangents = drawn("integration")
    method = online.truncated(layer, 1, T - 1)
    with pytest.raises(AssertionError):
        found = online.gradient(method, params, xs, state, cotangents)
        assert_alike(found, by_scan("integration"), 1e-3)


@each("leaky", "matrix memory")
def test_uoro_is_the_gradient_in_the_mean(name):
    layer, params, xs, state, cotangents = drawn(name)

    def one(key):
        method = online.uoro(key, layer)
        return vector(online.gradient(method, params, xs, state, cotangents))

    found = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 500)))
    wrong = found.mean(0) - vector(by_scan(name))
    deviation = found.std(0) / np.sqrt(len(found))
    assert (np.abs(wrong) <= 5 * deviation + 1e-12).all()
    assert deviation.max() > 1e-4


# Parallel in time -----------------------------------------------------------------


@each("leaky", "exponential", "matrix memory", "attention")
def test_the_backward_scan_is_the_backward_loop(name):
    *inputs, cotangents = drawn(name)
    options = {"resets": np.array([[0, 0], [0, 0], [0, 1], [0, 0]]), "lengths": [4, 3]}
    both = (
        bptt(*inputs, cotangents, **options) for bptt in (parallel.bptt, jaxrnn.bptt)
    )
    assert_alike(*both, 1e-10)


@each("leaky", "exponential", "matrix memory")
def test_newtons_method_finds_the_run_and_its_gradient(name):
    layer, params, xs, state, _ = drawn(name)

    def ours(params):
        hs, final, newton = parallel.unroll(layer, params, xs, state)
        return size((hs, final)), newton.converged

    def theirs(params):
        return size(scanned(layer, params, xs, state)[::-1])

    run = jax.jit(jax.value_and_grad(ours, has_aux=True))
    (value, converged), found = run(params)
    assert converged
    wanted = jax.jit(jax.value_and_grad(theirs))(params)
    assert_alike((value, found), wanted, 1e-10)


# What is refused ------------------------------------------------------------------


def refused():
    low, leaky, memory = drawn("low rank"), drawn("leaky"), drawn("matrix memory")
    tree = memory.layer, memory.params, memory.xs
    row = jnp.zeros(D)
    wide = {name: jnp.ones((H, p.shape[1])) for name, p in memory.params.items()}
    net, params = drawn_network("matrix memory")
    up = jaxrnn.stack(memory.layer, jaxrnn.lstm())
    residual = jaxrnn.stack(low.layer, memory.layer, skip="residual")
    both = jaxrnn.bidirectional(memory.layer)
    apart = jaxrnn.bidirectional(low.layer, leaky.layer)
    start = drawn("attention").state
    window = online.truncated(low.layer, 1, 2)
    noise = jax.random.key(0)
    return {
        "snap1": (lambda: online.snap1(low.layer), "cell: .* Transition: .* see rtrl"),
        "eprop": (lambda: online.eprop(low.layer), "cell: .* Transition: .* see rtrl"),
        "rflo": (lambda: online.rflo(low.layer, 0.5), "cell: .* Transition: .* rtrl"),
        "norm_preservation": (
            lambda: gradient_flow.norm_preservation(*low),
            "cell: .* Transition: Ω is of its W_s",
        ),
        "noisy": (lambda: jaxrnn.layers.noisy(low.layer), "cell: .* Transition"),
        "fixed points of a counter": (
            lambda: gradient_flow.fixed_points(
                *drawn("attention")[:2], row, start, steps=1
            ),
            "states: expected floating parts, got int",
        ),
        "fixed points of many inputs": (
            lambda: gradient_flow.fixed_points(*low[:2], low.xs[0], low.state),
            r"x: expected one row's input, got \[2\]",
        ),
        "Newton's method with a counter": (
            lambda: parallel.unroll(*drawn("attention").inputs),
            "state: expected float32 or float64, got int.* Newton",
        ),
        "a window of unknown inputs": (
            lambda: window.init(low.params, low.state),
            r"x: expected an input like those to come, .* init\(params, state, x\)",
        ),
        "a readout of a dictionary": (
            lambda: net.apply(params, memory.xs),
            r"cell: expected outputs in one array .* a dict of \['energy', 'read'\]",
        ),
        "a network without init": (
            lambda: jaxrnn.network(low.layer).init(noise, D, H, 2),
            "init: this transition was given none",
        ),
        "an lstm over a dictionary": (
            lambda: jaxrnn.unroll(up, (memory.params, lstm_params(H)), memory.xs),
            r"layers\[0\]: expected outputs in one array .* layers\[1\].* a dict",
        ),
        "a residual of a dictionary": (
            lambda: jaxrnn.unroll(residual, (low.params, wide), memory.xs),
            r"layers\[1\]: expected outputs in one array .* added",
        ),
        "inputs beside outputs, of a dictionary": (
            lambda: jaxrnn.stack(leaky.layer, low.layer, skip="input"),
            'skip: "input" .* it has x_ndim',
        ),
        "merged dictionaries": (
            lambda: jaxrnn.unroll(both, Directions(*tree[1:2] * 2), memory.xs),
            "layer: expected outputs in one array .* merge=None",
        ),
        "directions that read apart": (
            lambda: jaxrnn.unroll(apart, Directions(low[1], leaky[1]), low.xs),
            "xs: expected 3 arrays, as x_ndim",
        ),
        "cotangents of another structure": (
            lambda: gradient_flow.lag_norms(*tree, None, low.cotangents),
            r"cotangents: expected a dict of \['energy', 'read'\], got an array",
        ),
        "an online cotangent of another structure": (
            lambda: online.gradient(
                online.rtrl(memory.layer), *tree[1:], memory.state, low.cotangents
            ),
            r"cotangents: expected a dict of \['energy', 'read'\], got an array",
        ),
    }


def test_what_makes_no_sense_is_refused_by_name():
    for what, (call, message) in refused().items():
        with pytest.raises((TypeError, ValueError), match=message):
            call()
            pytest.fail(what)

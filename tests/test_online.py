"""Gradients carried forward in time: RTRL equals BPTT, the others their definitions."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree as pack
from table import CELLS, MORE_CELLS, assert_alike, draw, relative_errors

from jaxrnn import (
    State,
    bidirectional,
    bptt,
    custom_cell,
    elman,
    gru,
    indrnn,
    layer_norm,
    lru,
    lstm,
    mingru,
    network,
    online,
    stack,
    step,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B, D, H = 5, 2, 2, 4


def case_of(cell, steps=T, batch=(B,)):
    case = draw(cell, steps=steps, batch=batch, inputs=D, units=H)
    return case, case.d_states[0]


def by_bptt(cell, case, d_hs):
    return bptt(cell, *case.inputs, d_hs).params


def run(method, case, d_hs):
    return jax.jit(partial(online.gradient, method))(*case.inputs, d_hs)


# RTRL -----------------------------------------------------------------------------

EXACT = ["elman-relu", "lstm", "gru", "custom", "peephole"]
EXACT += ["lstm-all", "layer-norm-gru", "gru-before", "indrnn", "lru"]


@pytest.mark.parametrize("name", EXACT)
def test_rtrl_is_bptt(name):
    cell = {**CELLS, **MORE_CELLS}[name]
    case, d_hs = case_of(cell)
    found, wanted = run(online.rtrl(cell), case, d_hs), by_bptt(cell, case, d_hs)
    assert_alike(found, wanted, 1e-13)
    if name == "lstm":  # control: an influence that forgets is not BPTT
        forgets = online.gradient(forgetful(online.rtrl(cell)), *case.inputs, d_hs)
        with pytest.raises(AssertionError):
            assert_alike(forgets, wanted, 1e-3)


def forgetful(method):
    """RTRL that loses M_{t-1} at every step."""

    def update(params, memory, x, cotangent):
        nothing = jax.tree.map(jnp.zeros_like, memory.of_params)
        return method.update(params, memory._replace(of_params=nothing), x, cotangent)

    return method._replace(update=update)


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_rtrl_takes_any_batch_axes(batch):
    case, d_hs = case_of(gru(), batch=batch)
    found = run(online.rtrl(gru()), case, d_hs)
    assert_alike(found, by_bptt(gru(), case, d_hs), 1e-13)


def test_rtrl_takes_a_stack_that_puts_out_more_than_its_state():
    layer = stack(lstm(), gru(), skip="residual")
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs = np.random.default_rng(0).standard_normal((T, B, H))
    found = run(online.rtrl(layer), case, d_hs)
    assert_alike(found, by_bptt(layer, case, d_hs), 1e-13)


# Traces ---------------------------------------------------------------------------


def masked_rtrl(cell, case, d_hs, *, through_w_s=True):
    """Dense influences of one row by JAX, masked at every step as in SnAp-1."""
    params, state = case.params, jax.tree.map(lambda a: a[0], case.state)

    def flat(params, h, s, x):
        """A step in which W_s multiplies h, and the gate map sees s."""
        state = unpack(s)
        z, r = x @ params.w_x, h @ params.w_s
        z = z if params.b is None else z + params.b
        r = r if params.b_s is None else r + params.b_s
        return pack(cell.gate(params.own, z, r, state)[0])[0]

    like = state
    s, unpack = pack(state)
    influence = jax.tree.map(lambda p: np.zeros((len(s), *p.shape)), params)
    total = jax.tree.map(np.zeros_like, params)
    slopes = jax.jit(jax.jacrev(flat, argnums=(0, 1, 2)))
    for t in range(T):
        x = jnp.asarray(case.xs[t, 0])
        s, _ = pack(state)
        at_once, by_h, by_s = slopes(params, state[0], s, x)
        jacobian = np.array(by_s)
        if through_w_s:
            jacobian[:, : len(state[0])] += by_h

        def next_one(m, d, j=jacobian):
            # what acts at once on one part of a unit's state may act on all of them
            parts = np.reshape(d != 0, (len(like), H, *d.shape[1:]))
            unit = np.concatenate([parts.any(0)] * len(like))
            return np.where(unit, np.tensordot(j, m, 1) + d, 0)

        influence = jax.tree.map(next_one, influence, at_once)
        total = jax.tree.map(
            lambda g, m, t=t: g + np.tensordot(d_hs[t, 0], m[: d_hs.shape[-1]], 1),
            total,
            influence,
        )
        state, _ = step(cell, params, state, x)
    return total


LOCAL = {"elman": elman(), "lstm": lstm(), "gru": gru(), "peephole": CELLS["peephole"]}
LOCAL |= {"indrnn": indrnn()}


@pytest.mark.parametrize("name", LOCAL)
def test_snap1_and_eprop_are_rtrl_cut_to_a_units_own_influence(name):
    cell = LOCAL[name]
    case, d_hs = case_of(cell, batch=(1,))
    wanted = masked_rtrl(cell, case, d_hs)
    assert_alike(run(online.snap1(cell), case, d_hs), wanted, 1e-12)
    without = masked_rtrl(cell, case, d_hs, through_w_s=False)
    assert_alike(run(online.eprop(cell), case, d_hs), without, 1e-12)
    exact = by_bptt(cell, case, d_hs)
    if name == "indrnn":  # no unit acts on another: nothing is cut off
        assert_alike(wanted, exact, 1e-12)
        return
    with pytest.raises(AssertionError):  # control: neither is BPTT
        assert_alike(wanted, exact, 1e-3)
    with pytest.raises(AssertionError):
        assert_alike(without, wanted, 1e-3)


def leaky(leak):
    return custom_cell(
        lambda own, z, r, s: State((1 - leak) * s.h + leak * jnp.tanh(z + r)),
        independent=True,
    )


def test_rflo_of_a_leaky_network_is_eprop():
    cell = leaky(0.3)
    case, d_hs = case_of(cell)
    found = run(online.rflo(cell, 0.7), case, d_hs)
    assert_alike(found, run(online.eprop(cell), case, d_hs), 1e-13)
    other = run(online.rflo(cell, 0.6), case, d_hs)
    assert max(relative_errors(other, found).values()) > 1e-3


@pytest.mark.parametrize("method", [online.snap1, online.eprop, online.rtrl])
def test_one_step_is_exact_for_all(method):
    case, d_hs = case_of(lstm(), steps=1)
    found = run(method(lstm()), case, d_hs)
    assert_alike(found, by_bptt(lstm(), case, d_hs), 1e-13)


def test_cells_that_mix_units_are_refused_by_traces():
    mixing = [layer_norm(gru()), lstm(projection=2), lru(), gru(reset_after=False)]
    for cell in mixing:
        with pytest.raises(ValueError, match="cell: snap1 expected"):
            online.snap1(cell)
    for cell in (mingru(), elman("relu"), CELLS["custom"]):
        online.snap1(cell)
    with pytest.raises(TypeError, match="cell: expected a Cell"):
        online.eprop(stack(lstm()))


# Truncated BPTT -------------------------------------------------------------------


def windows(cell, case, d_hs, k1, k2):
    """Truncated BPTT by JAX: every k1 steps, the last k1 errors through k2 steps."""
    states = [case.state]
    for t in range(len(case.xs)):
        states.append(step(cell, case.params, states[-1], case.xs[t])[0])
    total = jax.tree.map(np.zeros_like, case.params)
    for end in range(k1, len(case.xs) + 1, k1):
        begin = max(0, end - k2)

        def error(params, begin=begin, end=end):
            xs = case.xs[begin:end]
            hs, _ = unroll(cell, params, xs, states[begin], gradient="autodiff")
            return (hs[-k1:] * d_hs[end - k1 : end]).sum()

        total = jax.tree.map(np.add, total, jax.grad(error)(case.params))
    return total


@pytest.mark.parametrize("k1, k2", [(1, 1), (1, 3), (2, 3), (3, 3), (2, 7)])
def test_truncated_bptt_is_the_sum_of_its_windows(k1, k2):
    case, d_hs = case_of(lstm(), steps=6)
    found = run(online.truncated(lstm(), k1, k2), case, d_hs)
    assert_alike(found, windows(lstm(), case, d_hs, k1, k2), 1e-12)
    exact = by_bptt(lstm(), case, d_hs)
    if k2 < 6:
        assert max(relative_errors(found, exact).values()) > 1e-3
    else:
        assert_alike(found, exact, 1e-12)


def test_truncated_bptt_takes_a_stack_and_every_error_waits_for_its_turn():
    layer = stack(elman(), gru())
    case = draw(layer, steps=5, batch=(B,), inputs=D, units=H)
    d_hs = np.random.default_rng(0).standard_normal((5, B, H))
    found = run(online.truncated(layer, 2, 9), case, d_hs)
    d_hs[4] = 0  # the fifth step's error has not been sent back yet
    assert_alike(found, by_bptt(layer, case, d_hs), 1e-12)


# UORO -----------------------------------------------------------------------------


class Bias(NamedTuple):
    """A test of the mean of many draws against the truth."""

    chi_squared: float  # of m independent directions, m its mean if unbiased
    directions: int
    deviation: float  # ‖mean - truth‖ / ‖truth‖
    interval: float  # 95 % bound of that for an unbiased estimate of this variance


DRAWS = 4000


def bias_of(make, cell, case, d_hs):
    """Project the draws on the leading eigenvectors of their covariance, and compare
    the means with the truth there in standard errors."""

    @jax.jit
    def draws(keys):
        def one(key):
            grads = online.gradient(make(key), *case.inputs, d_hs)
            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(grads)])

        return jax.lax.map(one, keys, batch_size=500)

    found = np.asarray(draws(jax.random.split(jax.random.key(5), DRAWS)))
    exact = by_bptt(cell, case, d_hs)
    truth = np.concatenate([np.ravel(g) for g in jax.tree.leaves(exact)])
    error = found.mean(0) - truth
    covariance = np.cov(found.T) / DRAWS
    values, vectors = np.linalg.eigh(covariance)
    used = values > 1e-6 * values[-1]
    along = (vectors[:, used].T @ error) ** 2 / values[used]
    rng = np.random.default_rng(0)
    spread = rng.standard_normal((1000, used.sum())) * np.sqrt(values[used])
    bound = np.quantile(np.linalg.norm(spread, axis=1), 0.95)
    size = np.linalg.norm(truth)
    return Bias(
        float(along.sum()),
        int(used.sum()),
        float(np.linalg.norm(error) / size),
        float(bound / size),
    )


def scaled(key, cell, factor):
    """UORO whose carried part is wrong by a factor: biased."""
    method = online.uoro(key, cell)

    def update(params, memory, x, cotangent):
        memory = memory._replace(of_state=factor * memory.of_state)
        return method.update(params, memory, x, cotangent)

    return method._replace(update=update)


def repeated(key, cell):
    """UORO with the same signs at every step: cross terms no longer cancel."""
    method = online.uoro(key, cell)

    def update(params, memory, x, cotangent):
        memory = memory._replace(key=key)
        return method.update(params, memory, x, cotangent)

    return method._replace(update=update)


def test_uoro_is_unbiased_and_the_test_finds_planted_biases():
    cell = elman()
    case = draw(cell, steps=4, batch=(), inputs=1, units=3, bias=False)
    case = case._replace(params=case.params._replace(w_s=1.5 * case.params.w_s))
    d_hs = case.d_states[0]
    # χ² of m directions: mean m, deviation √(2m); five deviations above is a false
    # alarm in less than one run of 10,000
    honest = bias_of(partial(online.uoro, cell=cell), cell, case, d_hs)
    bound = honest.directions + 5 * np.sqrt(2 * honest.directions)
    assert honest.chi_squared < bound, honest
    assert honest.deviation < 1.5 * honest.interval
    for wrong in (partial(scaled, cell=cell, factor=1.2), partial(repeated, cell=cell)):
        found = bias_of(wrong, cell, case, d_hs)
        assert found.chi_squared > 2 * bound, found


def test_uoro_of_one_step_has_no_noise_and_takes_layers_and_batches():
    layer = stack(lstm(), gru())
    case = draw(layer, steps=1, batch=(B,), inputs=D, units=H)
    d_hs = np.random.default_rng(0).standard_normal((1, B, H))
    found = run(online.uoro(jax.random.key(0), layer), case, d_hs)
    assert_alike(found, by_bptt(layer, case, d_hs), 1e-12)
    case = draw(layer, steps=4, batch=(B,), inputs=D, units=H)
    d_hs = np.random.default_rng(0).standard_normal((4, B, H))
    one, two = (run(online.uoro(jax.random.key(k), layer), case, d_hs) for k in (0, 1))
    assert max(relative_errors(one, two).values()) > 0.01


def test_uoro_keeps_both_factors_of_one_size_and_its_signs_apart():
    # What of the two sizes is whose changes no mean, but the variance.
    case, d_hs = case_of(elman(), steps=3)
    method = online.uoro(jax.random.key(0), elman())

    def moved(params, memory, x, cotangent):
        """A step, before which a factor of 100 is moved from θ̃ to s̃."""
        memory = memory._replace(
            of_state=100 * memory.of_state,
            of_params=jax.tree.map(lambda m: m / 100, memory.of_params),
        )
        return method.update(params, memory, x, cotangent)

    unmoved = run(method, case, d_hs)
    assert_alike(run(method._replace(update=moved), case, d_hs), unmoved, 1e-12)

    @jax.jit
    def one_step(params, state, x):
        start = method.init(params, state)
        return method.update(params, start, x, lambda h: jnp.zeros_like(h))[0]

    first = one_step(case.params, case.state, case.xs[0])
    signs = np.asarray(first.of_state)
    for row in range(B):
        of_row = [m[row] for m in jax.tree.leaves(first.of_params)]
        size = np.sqrt(sum(np.sum(np.square(m)) for m in of_row))
        np.testing.assert_allclose(np.linalg.norm(signs[row]), size, rtol=1e-12)
        # signs, whose squares have no variance
        np.testing.assert_allclose(np.abs(signs[row]), np.abs(signs[row, 0]))
    assert (np.sign(signs[0]) != np.sign(signs[1])).any()  # each row has its own
    # the memory of a row: one more state, and one more gradient
    assert signs.shape == (B, H)
    shapes = jax.tree.map(lambda m: m.shape, first.of_params)
    assert shapes == jax.tree.map(lambda p: (B, *p.shape), case.params)


# Learners -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rtrl", "snap1", "eprop", "uoro", "truncated"])
def test_a_learner_learns_to_echo_the_step_before(name):
    cell = gru()
    methods = {
        "rtrl": online.rtrl,
        "snap1": online.snap1,
        "eprop": online.eprop,
        "uoro": partial(online.uoro, jax.random.key(0)),
        "truncated": partial(online.truncated, k1=2, k2=4),
    }
    method = methods[name](cell)
    params = cell.init(jax.random.key(1), 1, 8, dtype=jnp.float64)
    xs = jax.random.rademacher(jax.random.key(2), (1500, 4, 1), jnp.float64)
    optimizer = optax.sgd(0.03)

    def one(carry, inputs):
        params, memory, optimizer_state = carry
        x, target = inputs

        def cotangent(h):  # E = (h_0 - target / 2)², of the first unit
            return jnp.zeros_like(h).at[:, 0].set(2 * (h[:, 0] - target / 2))

        memory, grads = method.update(params, memory, x, cotangent)
        updates, optimizer_state = optimizer.update(grads, optimizer_state)
        error = ((memory.state.h[:, 0] - target / 2) ** 2).mean()
        return (optax.apply_updates(params, updates), memory, optimizer_state), error

    targets = jnp.concatenate([jnp.zeros((1, 4)), xs[:-1, :, 0]])
    memory = method.init(params, cell.initial_state(params, (4,)))
    start = params, memory, optimizer.init(params)
    _, errors = jax.jit(partial(jax.lax.scan, one))(start, (xs, targets))
    assert errors[-100:].mean() < 0.18  # to answer 0, or without memory, leaves 1/4


def test_wrong_calls_name_their_argument():
    case, d_hs = case_of(elman())
    with pytest.raises((ValueError, TypeError), match="cotangents"):
        online.gradient(online.rtrl(elman()), *case.inputs, d_hs[:-1])
    with pytest.raises(ValueError, match="gradient: expected 'manual' or 'autodiff'"):
        online.rtrl(elman(), gradient="forward")
    with pytest.raises(ValueError, match="k2: expected at least k1 = 3"):
        online.truncated(elman(), 3, 2)
    with pytest.raises(ValueError, match="k1: expected a positive integer"):
        online.truncated(elman(), 0, 2)
    with pytest.raises(ValueError, match="decay"):
        online.rflo(elman(), 1.0)
    with pytest.raises(TypeError, match="key: expected a random key"):
        online.uoro(0, elman())
    with pytest.raises(TypeError, match=r"method: expected an Online, .* got rtrl"):
        online.gradient(online.rtrl, *case.inputs, d_hs)
    with pytest.raises(TypeError, match="xs: expected float64 as the parameters"):
        xs = case.xs.astype(int)
        online.gradient(online.rtrl(elman()), case.params, xs, case.state, d_hs)
    for make in (online.rtrl, partial(online.uoro, jax.random.key(0))):
        with pytest.raises(ValueError, match="cell: expected one that runs forward"):
            make(bidirectional(elman()))
    with pytest.raises(ValueError, match="cell: expected one that runs forward"):
        online.truncated(bidirectional(elman()), 1, 2)


METHODS = {
    "rtrl": online.rtrl,
    "snap1": online.snap1,
    "eprop": online.eprop,
    "rflo": partial(online.rflo, decay=0.5),
    "uoro": lambda cell: online.uoro(jax.random.key(0), cell),
    "truncated": lambda cell: online.truncated(cell, 1, 2),
}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_refuses_cotangents_of_another_width_and_a_network(name):
    method, (case, _) = METHODS[name](elman()), case_of(elman())
    for width in (1, 2 * H):
        with pytest.raises(ValueError, match="cotangents"):
            online.gradient(method, *case.inputs, np.ones((T, B, width)))
    online.gradient(method, *case.inputs, np.ones((T, B, H)))
    with pytest.raises(TypeError, match=r"got a Network: give net\.cell"):
        METHODS[name](network(elman()))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reads_its_arguments_at_its_door(name):
    method, (case, d_hs) = METHODS[name](elman()), case_of(elman())
    params, state, x, d_h = case.params, case.state, case.xs[0], d_hs[0]
    memory = method.init(params, state)
    other = METHODS["uoro" if name == "rtrl" else "rtrl"](elman())
    good = {"params": params, "memory": memory, "x": x, "cotangent": lambda h: d_h}
    method.update(**good)
    masked = np.ma.masked_array(x, x > 0)
    wrong = {
        "params.own": {"params": params._replace(own=params.b)},
        "memory: expected": {"memory": state},
        "memory.state.h: expected": {"memory": memory._replace(state=State(x[0]))},
        "memory: expected what this": {"memory": other.init(params, state)},
        "x: expected the batch": {"x": x[:1]},
        "x: expected shape": {"x": x[:, :1]},
        "x: expected a plain array": {"x": masked},
        "x: expected float64": {"x": x.astype(np.float32)},
        "cotangent: expected a function": {"cotangent": d_h},
        "cotangents: expected an array": {"cotangent": lambda h: None},
    }
    for said, changed in wrong.items():
        with pytest.raises((ValueError, TypeError), match=f"^{said}"):
            method.update(**{**good, **changed})
    with pytest.raises(TypeError, match=r"^params: expected jaxrnn\.Params"):
        method.init(None, state)
    with pytest.raises(TypeError, match=r"^state: expected State\(h\), got "):
        method.init(params, (*state, *state))

"""Cells whose gate map reads more than its two maps, or whose W_s reads more than h.

Each is compared with a plain `lax.scan` of the same lines, one row at a time, and
JAX's own gradient of it.
"""

from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, assert_equal

import jaxrnn
from jaxrnn import (
    CellNoise,
    State,
    check_gradients,
    clipped,
    custom_cell,
    gradient_flow,
    layer_norm,
    learned_start,
    network,
    noisy,
    online,
    parallel,
    stack,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B, D, H = 7, 3, 2, 5
EXACT = 1e-12


def leaky(own, z, r, state, extra):
    """A rate network with steps of its own length, drawn noise and an external drive.

    x_t = (1 - dt) x_{t-1} + dt tanh(z + r + drive) + 0.1 ξ.
    """
    del own
    dt = extra["dt"][..., None]
    keys = extra["key"].reshape(-1)
    xi = jax.vmap(lambda k: jax.random.normal(k, z.shape[-1:], z.dtype))(keys)
    h = (1 - dt) * state.h + dt * jnp.tanh(z + r + extra["drive"])
    return State(h + 0.1 * xi.reshape(h.shape))


class Synapses(NamedTuple):
    """Rates, and the part of them that the synapses pass on (Mongillo et al. 2008)."""

    h: Any
    u: Any
    x: Any
    syn: Any


def plastic(own, z, r, s):
    """Short-term plasticity: W_s reads h u x, the readout h."""
    del own
    h = 0.8 * s.h + 0.2 * jax.nn.sigmoid(z + r)
    u = s.u + 0.1 * (0.3 - s.u) + 0.2 * (1 - s.u) * s.h
    x = s.x + 0.1 * (1 - s.x) - 0.3 * u * s.x * s.h
    return Synapses(h, u, x, u * x * h)


# dt, drive and a key a row: leaves are in the order of their names
LEAKY = custom_cell(leaky, x_ndim=(1, 1, 0, 0), independent=True)
PLASTIC = custom_cell(plastic, state=Synapses, recurrent="syn", independent=True)
CELLS = {"leaky": LEAKY, "plastic": PLASTIC, "normed": layer_norm(LEAKY)}
each = pytest.mark.parametrize("name", CELLS)


class Case(NamedTuple):
    cell: Any
    params: Any
    xs: Any
    state: Any
    cotangents: Any


@lru_cache
def case(name):
    cell = CELLS[name]
    keys = jax.random.split(jax.random.key(3), 8)
    params = cell.init(keys[0], D, H, dtype=jnp.float64)
    params = jax.tree.map(
        lambda a: a + 0.2 * jax.random.normal(keys[1], a.shape, a.dtype), params
    )
    xs = jax.random.normal(keys[2], (T, B, D), jnp.float64)
    if cell.x_ndim is not None:
        dt = jax.random.uniform(keys[3], (T, B), jnp.float64, 0.1, 0.9)
        drive = jax.random.normal(keys[4], (T, B, H), jnp.float64)
        extra = {"drive": drive, "dt": dt, "key": jax.random.split(keys[5], (T, B))}
        xs = (xs, extra)
    state = cell.initial_state(params, B)
    state = jax.tree.map(
        lambda a: a + jax.random.uniform(keys[6], a.shape, a.dtype), state
    )
    cotangents = jax.random.normal(keys[7], (T, B, H), jnp.float64)
    return Case(cell, params, xs, state, cotangents)


def at_step(xs, t):
    return jax.tree.map(lambda a: a[t], xs)


def plain_step(cell, params, state, x):
    """One row's step, without the engine."""
    x, extra = (x, ()) if cell.x_ndim is None else (x[0], x[1:])
    z, r = x @ params.w_x + params.b, state[cell.recurrent] @ params.w_s
    if params.b_s is not None:
        r = r + params.b_s
    return cell.gate(params.own, z, r, state, *extra)[0]


def plain(cell, params, xs, state):
    """Outputs and final state of a plain scan; a key is given as one element."""

    def row(state, xs):
        def one(s, x):
            after = plain_step(cell, params, s, x)
            return after, after.h

        return jax.lax.scan(one, state, xs)

    final, hs = jax.vmap(row, (0, 1), (0, 1))(state, xs)
    return hs, final


def normed_params(params):
    """Biases as zeros, which a plain step adds."""
    return params if params.b is not None else params._replace(b=0 * params.w_x[0])


def real(tree):
    """The leaves that have a gradient."""
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def error(run, cell, cotangents, xs, params, floats, state):
    xs = (floats[0], xs[1] | floats[1]) if cell.x_ndim is not None else floats
    hs, final = run(cell, params, xs, state)
    return (hs * cotangents).sum() + sum(a.sum() for a in jax.tree.leaves(final))


def gradients(name, run):
    cell, params, xs, state, cotangents = case(name)
    floats = xs
    if cell.x_ndim is not None:
        floats = (xs[0], {k: v for k, v in xs[1].items() if k != "key"})
    of = partial(error, run, cell, cotangents, xs)
    return jax.jit(jax.grad(of, (0, 1, 2)))(params, floats, state)


def plain_with_biases(cell, params, xs, state):
    return plain(cell, normed_params(params), xs, state)


# Runs -----------------------------------------------------------------------------


@each
def test_a_run_is_a_plain_scan_of_the_gate_map(name):
    cell, params, xs, state, _ = case(name)
    hs, final = unroll(cell, params, xs, state)
    assert_alike((hs, final), plain_with_biases(cell, params, xs, state), EXACT)


@pytest.mark.parametrize("name", ["leaky", "plastic"])
@pytest.mark.parametrize("store", ["activations", "states", "borders"])
@pytest.mark.parametrize("chunk", [None, 3])
def test_its_gradient_is_that_of_the_plain_scan_that_of_extra_inputs_too(
    name, store, chunk
):
    run = partial(unroll, store=store, chunk_size=chunk)
    by_hand, wanted = gradients(name, run), gradients(name, plain_with_biases)
    assert_alike(by_hand, wanted, EXACT)


def test_a_gradient_that_forgets_the_part_that_w_s_reads_is_wrong(monkeypatch):
    """The control: λ of syn without δr W_sᵀ."""
    wanted = gradients("plastic", plain)
    broken = PLASTIC._replace(recurrent=0)
    d = jaxrnn.bptt(broken, *case("plastic")[1:]).params
    assert np.abs(d.w_s - wanted[0].w_s).max() > 1e-3


@pytest.mark.parametrize("name", ["leaky", "normed"])
def test_both_gradients_are_equal_with_lengths_resets_a_mask_and_backward(name):
    state = case(name).state
    marks = {
        "lengths": jnp.array([7, 4, 0]),
        "resets": jax.random.bernoulli(jax.random.key(1), 0.3, (T, B)),
        "mask": jax.random.bernoulli(jax.random.key(2), 0.8, (T, B)),
        "reverse": True,
        "reset_to": state,
    }
    found = []
    for gradient in ("manual", "autodiff"):
        run = partial(unroll, gradient=gradient, **marks)
        found.append(gradients(name, run))
    assert_alike(*found, EXACT)


def test_pieces_equal_the_whole_and_padding_reaches_nothing():
    cell, params, xs, state, _ = case("leaky")
    hs, final = unroll(cell, params, xs, state)
    first, then = (
        jax.tree.map(lambda a, part=part: a[part], xs)
        for part in (slice(3), slice(3, T))
    )
    h1, s = unroll(cell, params, first, state)
    h2, s = unroll(cell, params, then, s)
    assert_alike((jnp.concatenate([h1, h2]), s), (hs, final), EXACT)
    x, extra = xs
    bad = (x.at[4:, 0].set(jnp.nan), extra | {"dt": extra["dt"].at[4:, 0].set(jnp.nan)})
    lengths = jnp.array([4, T, T])
    assert_equal(
        unroll(cell, params, bad, state, lengths=lengths),
        unroll(cell, params, xs, state, lengths=lengths),
    )


def test_a_step_is_a_run_of_one_step():
    for name in CELLS:
        cell, params, xs, state, _ = case(name)
        x = jax.tree.map(lambda a: a[0], xs)
        one = jax.tree.map(lambda a: a[:1], xs)
        hs, final = unroll(cell, params, one, state)
        assert_alike(jaxrnn.step(cell, params, state, x), (final, hs[0]), EXACT)


def test_bptt_gives_the_gradient_of_every_extra_leaf_but_keys():
    cell, params, xs, state, cotangents = case("leaky")
    d = jaxrnn.bptt(cell, params, xs, state, cotangents)
    x, extra = d.xs
    assert extra["key"] is None
    assert extra["dt"].shape == (T, B) and extra["drive"].shape == (T, B, H)
    # the drive is added to z, so its gradient is δz
    assert_alike(extra["drive"], d.deltas.z, EXACT)
    assert_alike(x, d.deltas.z @ params.w_x.T, EXACT)


# Instruments ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["leaky", "plastic"])
def test_the_checker_and_the_online_and_parallel_gradients_agree(name):
    cell, params, xs, state, cotangents = case(name)
    wanted = jaxrnn.bptt(cell, params, xs, state, cotangents)
    by_scan = parallel.bptt(cell, params, xs, state, cotangents)
    assert_alike(by_scan.params, wanted.params, EXACT)
    assert_alike(real(by_scan.xs), real(wanted.xs), EXACT)
    carried = online.gradient(online.rtrl(cell), params, xs, state, cotangents)
    assert_alike(carried, wanted.params, EXACT)
    cut = online.truncated(cell, 1, T)
    carried = online.gradient(cut, params, xs, state, cotangents)
    assert_alike(carried, wanted.params, EXACT)
    net = network(cell)
    net_params = net.init(jax.random.key(0), D, H, 1, dtype=jnp.float64)
    net_params = net_params._replace(cell=params)
    report = check_gradients(net, net_params, xs, jnp.ones((T, B, 1)))
    assert report, report


@pytest.mark.parametrize("name", ["leaky", "plastic"])
def test_snap1_is_exact_for_an_elementwise_w_s(name):
    """With a diagonal W_s units do not mix, so that local traces lose nothing."""
    cell, params, xs, state, cotangents = case(name)
    params = params._replace(w_s=jnp.diag(jnp.diagonal(params.w_s)))
    wanted = jaxrnn.bptt(cell, params, xs, state, cotangents).params
    found = online.gradient(online.snap1(cell), params, xs, state, cotangents)
    wanted, found = (g._replace(w_s=jnp.diagonal(g.w_s)) for g in (wanted, found))
    assert_alike(found, wanted, EXACT)


@each
def test_jacobians_are_those_of_the_plain_step(name):
    cell, params, xs, state, _ = case(name)
    found = gradient_flow.step_jacobians(cell, params, xs, state)
    before = state
    for t in range(T):
        x = at_step(xs, t)

        def flat(v, row, x=x, before=before):
            s = type(before)(*jnp.split(v, len(before)))
            x = at_step(x, row)
            return jnp.concatenate(plain_step(cell, normed_params(params), s, x))

        for row in range(B):
            at = jnp.concatenate([a[row] for a in before])
            assert_alike(found[t][row], jax.jacobian(flat)(at, row), EXACT)
        before = jaxrnn.step(cell, params, before, x)[0]


def test_omega_is_of_the_part_that_w_s_reads():
    cell, params, xs, state, cotangents = case("plastic")
    found = gradient_flow.norm_preservation(cell, params, xs, state, cotangents)
    d = jaxrnn.bptt(cell, params, xs, state, cotangents)
    states, _ = unroll(cell, params, xs, state, return_states=True)
    before = jax.tree.map(
        lambda s, a: jnp.concatenate([s[None], a[:-1]]), state, states
    )

    def omega(w_s):
        def pull(x, s, adjoint):
            z = x @ params.w_x + params.b
            r = s.syn @ params.w_s  # Φ' is held fixed: W_s only carries δr back
            _, pull = jax.vjp(lambda r, s: cell.gate(None, z, r, s)[0], r, s)
            d_r, c = pull(adjoint)
            return c._replace(syn=c.syn + d_r @ w_s.T)

        c = jax.vmap(jax.vmap(pull))(xs, before, d.adjoints)
        size, after = (
            jnp.sqrt(sum((p * p).sum(-1) for p in tree)) for tree in (d.adjoints, c)
        )
        return ((after / size - 1) ** 2).sum() / B

    value, slope = jax.value_and_grad(omega)(params.w_s)
    assert_alike((found.value, found.w_s), (value, slope), 1e-10)


# Layers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer",
    [
        stack(LEAKY, jaxrnn.gru()),
        learned_start(LEAKY),
        noisy(LEAKY, inputs=0.3, state=0.2, zoneout=0.1, additive=0.1),
        noisy(PLASTIC, state=0.2, weights=0.2, additive=(0.1, 0.0, 0.0, 0.2)),
        clipped(LEAKY, 0.01),
    ],
    ids=str,
)
def test_layers_of_it_have_the_gradient_of_autodiff(layer):
    name = "plastic" if "plastic" in str(layer) else "leaky"
    xs = case(name).xs
    params = layer.init(jax.random.key(0), D, H, dtype=jnp.float64)
    noise = None
    if hasattr(layer, "noise"):
        noise = jaxrnn.draw_noise(jax.random.key(1), layer, params, xs)

    def loss(params, gradient):
        hs, _ = unroll(layer, params, xs, gradient=gradient, noise=noise)
        return (hs**2).sum()

    by_hand, wanted = (jax.grad(loss)(params, g) for g in ("manual", "autodiff"))
    assert_alike(by_hand, wanted, EXACT)


def test_additive_noise_is_added_after_each_step_and_left_out_of_an_evaluation():
    layer, cell = noisy(jaxrnn.lstm(), additive=(0.3, 0.2)), jaxrnn.lstm()
    params = cell.init(jax.random.key(0), D, H, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (200, B, D), jnp.float64)
    noise = jaxrnn.draw_noise(jax.random.key(2), layer, params, xs)
    added = noise.cell.add
    assert noise.cell.hold is None
    for part, deviation in zip(added, (0.3, 0.2), strict=True):
        assert abs(part.std() / deviation - 1) < 0.03 and abs(part.mean()) < 0.02
    state, states = cell.initial_state(params, B), []
    for t in range(20):
        state, _ = jaxrnn.step(cell, params, state, xs[t])
        state = jax.tree.map(lambda s, a: s + a[t], state, added)  # noqa: B023
        states.append(state)
    found, _ = unroll(layer, params, xs, noise=noise, return_states=True)
    wanted = jax.tree.map(lambda *s: jnp.stack(s), *states)
    assert_alike(jax.tree.map(lambda s: s[:20], found), wanted, EXACT)
    # the caller's own, and none
    mine = unroll(cell, params, xs, noise=CellNoise(add=added), return_states=True)[0]
    assert_equal(mine, found)
    assert_equal(unroll(layer, params, xs, noise=None), unroll(cell, params, xs))


# Errors ---------------------------------------------------------------------------


def test_wrong_extra_inputs_are_refused_by_name():
    cell, params, xs, state, _ = case("leaky")
    x, extra = xs
    run = partial(unroll, cell, params)
    with pytest.raises(ValueError, match="xs: expected 4 arrays, as x_ndim="):
        run(x)
    with pytest.raises(ValueError, match=r"xs\[1\]\['dt'\]: expected \[7, 3\]"):
        run((x, extra | {"dt": extra["dt"][:3]}))
    with pytest.raises(TypeError, match=r"xs: expected a pair \(x, extra\)"):
        run([x, extra])
    with pytest.raises(ValueError, match=r"xs: expected shape \[\.\.\., 2\]"):
        run((x[..., :1], extra))
    with pytest.raises(TypeError, match="x: expected a pair"):
        jaxrnn.step(cell, params, state, [a[0] for a in jax.tree.leaves(xs)])
    for wrong in (1, (1,), (0, 0), (1, -1), [1, 0], (1, "a")):
        with pytest.raises((ValueError, TypeError), match="x_ndim: expected"):
            custom_cell(leaky, x_ndim=wrong)
    with pytest.raises(ValueError, match="recurrent: expected 'h', 'u', 'x' or 'syn'"):
        custom_cell(plastic, state=Synapses, recurrent="r")


def test_wrong_additive_noise_is_refused_by_name():
    for wrong in (-0.1, float("nan"), "a", None, (0.1, -1.0)):
        with pytest.raises(ValueError, match="additive: expected a number of 0"):
            noisy(jaxrnn.lstm(), additive=wrong)
    with pytest.raises(ValueError, match=r"additive: expected one rate .* got \(\)"):
        noisy(jaxrnn.lstm(), additive=())
    cell, params, xs, _, _ = case("plastic")
    layer = noisy(cell, additive=(0.1, 0.2))
    with pytest.raises(ValueError, match="additive: expected 4 rates"):
        unroll(layer, params, xs, noise=jax.random.key(0))
    with pytest.raises(TypeError, match=r"noise\.add: expected Synapses"):
        unroll(cell, params, xs, noise=CellNoise(add=State(jnp.ones((T, B, H)))))
    ones = [jnp.ones((T, B, H))] * 3
    with pytest.raises(ValueError, match=r"noise\.add\.syn: expected .*\[7, 3, 5\]"):
        add = Synapses(*ones, jnp.ones((T, B, 1)))
        unroll(cell, params, xs, noise=CellNoise(add=add))

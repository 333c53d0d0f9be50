"""Cells beyond the seed's: their equations in NumPy, and their gradients by hand.

Each has its transition again as a slow NumPy step, written from the equations alone; a
run of it, and central differences of that run, are what the library is compared with.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import sigmoid
from table import MORE_CELLS, assert_alike, draw, relative_errors

from jaxrnn import LSTMState, bptt, elman, lru, lstm, unroll
from jaxrnn.layers import draw_noise, noisy

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")
each_cell = pytest.mark.parametrize("name", MORE_CELLS)
H = 4


def maps(p, x, h):
    """z and r of one row."""
    z = x @ p.w_x + (0 if p.b is None else p.b)
    return z, h @ p.w_s + (0 if p.b_s is None else p.b_s)


def gru_before(p, x, state):
    z, r = maps(p, x, state[0])
    (z_r, z_u, z_n), (r_r, r_u) = np.split(z, 3), np.split(r, 2)
    u = sigmoid(z_u + r_u)
    n = np.tanh(z_n + (sigmoid(z_r + r_r) * state[0]) @ p.own.w_n)
    return ((1 - u) * n + u * state[0],)


def standard(x, gain, shift):
    x = (x - x.mean()) / np.sqrt(x.var() + 1e-5) * gain
    return x if shift is None else x + shift


def lstm_gates(own, z, r, state, coupled, clip=np.inf):
    """From pre-activations to (h, c), with the parts that `own` has."""
    c = state[1]
    zero = np.zeros_like(c)
    p_i, p_f, p_o = (zero if p is None else p for p in own[:3])
    a_i, *a_f, a_g, a_o = np.split(z + r, 3 if coupled else 4)
    i = sigmoid(a_i + p_i * c)
    f = 1 - i if coupled else sigmoid(a_f[0] + p_f * c)
    c = np.minimum(np.maximum(f * c + i * np.tanh(a_g), -clip), clip)
    o = sigmoid(a_o + p_o * c)
    m = o * np.tanh(c if own.gain is None else standard(c, own.gain, own.shift))
    if own.w_p is None:
        return m, c
    return m @ own.w_p + (0 if own.b_p is None else own.b_p), c


def lstm_parts(p, x, state, coupled=False, **clip):
    return lstm_gates(p.own, *maps(p, x, state[0]), state, coupled, **clip)


def normed(p, x, h):
    z, r = maps(p, x, h)
    own = p.own
    return standard(z, own.gain_z, own.shift_z), standard(r, own.gain_r, own.shift_r)


def norm_lstm(p, x, state):
    return lstm_gates(p.own.own, *normed(p, x, state[0]), state, coupled=False)


def norm_gru(p, x, state):
    z, r = (np.split(a, 3) for a in normed(p, x, state[0]))
    u = sigmoid(z[1] + r[1])
    n = np.tanh(z[2] + sigmoid(z[0] + r[0]) * r[2])
    return ((1 - u) * n + u * state[0],)


def irnn(p, x, state):
    return (np.maximum(sum(maps(p, x, state[0])), 0),)


def mgu_step(p, x, state):
    z, r = maps(p, x, state[0])
    z_f, z_n = np.split(z, 2)
    f = sigmoid(z_f + r)
    return ((1 - f) * state[0] + f * np.tanh(z_n + (f * state[0]) @ p.own.w_n),)


def indrnn_step(p, x, state, phi=lambda a: np.maximum(a, 0)):
    return (phi(maps(p, x, state[0])[0] + p.own.u * state[0]),)


def mingru_step(p, x, state):
    z_u, n = np.split(maps(p, x, state[0])[0], 2)
    return ((1 - sigmoid(z_u)) * state[0] + sigmoid(z_u) * n,)


def lru_step(p, x, state):
    """In complex numbers, as in the paper."""
    units = len(p.own.nu_log)
    turn = np.exp(-np.exp(p.own.nu_log) + 1j * np.exp(p.own.theta_log))
    z = maps(p, x, state[0])[0]
    h = state[0][:units] + 1j * state[0][units:]
    h = turn * h + np.exp(p.own.gamma_log) * (z[:units] + 1j * z[units:])
    return (np.concatenate([h.real, h.imag]),)


ORACLES = {
    "gru-before": gru_before,
    "lstm-peepholes": lstm_parts,
    "lstm-coupled": partial(lstm_parts, coupled=True),
    "lstm-projection": lstm_parts,
    "lstm-projection-bias": lstm_parts,
    "lstm-memory-clip": partial(lstm_parts, clip=0.4),
    "lstm-memory-norm": lstm_parts,
    "lstm-all": partial(lstm_parts, coupled=True),
    "layer-norm-lstm": norm_lstm,
    "layer-norm-gru": norm_gru,
    "irnn": irnn,
    "mgu": mgu_step,
    "indrnn": indrnn_step,
    "indrnn-sin": partial(indrnn_step, phi=np.sin),
    "mingru": mingru_step,
    "lru": lru_step,
}


def case_of(name, **options):
    return draw(MORE_CELLS[name], **{"steps": 5, "units": H, **options})


def run_oracle(name, params, xs, state):
    """Every state, parts [T, B, ...], by loops over rows and steps."""
    rows = []
    for b in range(xs.shape[1]):
        now, over_time = tuple(part[b] for part in state), []
        for x in xs[:, b]:
            now = ORACLES[name](params, x, now)
            over_time.append(now)
        rows.append([np.stack(part) for part in zip(*over_time, strict=True)])
    return tuple(np.stack(part, 1) for part in zip(*rows, strict=True))


def value(name, case, params, xs, state):
    states = run_oracle(name, params, xs, state)
    direct = zip(states, case.d_states, strict=True)
    final = zip(states, case.d_final, strict=True)
    return sum((s * d).sum() for s, d in direct) + sum(
        (s[-1] * d).sum() for s, d in final
    )


def pulled(name, case, **options):
    d = bptt(
        MORE_CELLS[name], *case.inputs, case.d_states, final=case.d_final, **options
    )
    return d.params, d.xs, d.state


def difference_error(name, case, gradient):
    """The worst leaf's relative error to central differences of the NumPy loop."""
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(case.inputs)
    worst = 0.0
    for i, (leaf, ours) in enumerate(
        zip(leaves, jax.tree.leaves(gradient), strict=True)
    ):
        if leaf.size == 0:
            continue
        v, h = rng.standard_normal(leaf.shape), 6e-6
        moved = [
            value(
                name,
                case,
                *tree.unflatten([*leaves[:i], leaf + s * v, *leaves[i + 1 :]]),
            )
            for s in (h, -h)
        ]
        wanted = (moved[0] - moved[1]) / (2 * h)
        worst = max(worst, abs(np.vdot(ours, v) - wanted) / max(abs(wanted), 1e-3))
    return worst


@each_cell
def test_states_are_those_of_the_equations(name):
    case = case_of(name)
    states, _ = unroll(MORE_CELLS[name], *case.inputs, return_states=True)
    assert_alike(tuple(states), run_oracle(name, *case.inputs), 1e-13)


@each_cell
def test_the_gradient_is_that_of_the_equations_and_a_wrong_one_is_found(name):
    case = case_of(name)
    gradient = jax.jit(partial(pulled, name))(case)
    assert difference_error(name, case, gradient) < 1e-6
    wrong = jax.tree.map(lambda g: 1.01 * np.asarray(g), gradient)
    assert difference_error(name, case, wrong) > 5e-3


@pytest.mark.parametrize("store", ["states", "activations", "borders"])
@each_cell
def test_manual_gradient_equals_autodiff(name, store):
    cell = MORE_CELLS[name]
    case = case_of(name, batch=(3,), steps=5, bias=store != "activations")
    rng = np.random.default_rng(2)
    edges = {
        "lengths": np.array([5, 0, 3]),
        "resets": rng.random((5, 3)) < 0.3,
        "reverse": store == "borders",
    }

    @jax.jit
    def both(case):
        def pull(**options):
            run = partial(unroll, cell, return_states=True, **edges, **options)
            return jax.vjp(run, *case.inputs)[1]((case.d_states, case.d_final))

        return pull(chunk_size=2, store=store), pull(gradient="autodiff")

    assert_alike(*both(case), 1e-10)


@each_cell
def test_the_hand_derived_pullback_equals_the_gates_vjp(name):
    cell, case = MORE_CELLS[name], case_of(name, steps=1, batch=(4,))
    rng = np.random.default_rng(1)
    z, r = (rng.standard_normal((4, w.shape[1])) for w in case.params[:2])

    @jax.jit
    def both(own, state):
        after, pull, kept = jax.vjp(partial(cell.gate, own), z, r, state, has_aux=True)
        coefficients = cell.linearize(own, kept, state, after)
        ours = jax.vmap(partial(cell.pullback, own))(coefficients, case.d_final)
        return ours, pull(case.d_final)

    assert_alike(*both(case.params.own, case.state), 1e-13)


@pytest.mark.parametrize("name", ["gru-before", "lstm-all", "layer-norm-lstm", "lru"])
def test_control_another_cells_pullback_differs(name):
    cell, case = MORE_CELLS[name], case_of(name)
    wrong = cell._replace(
        pullback=lambda own, c, adjoint: cell.pullback(
            own, c, jax.tree.map(lambda a: a * jnp.abs(a), adjoint)
        )
    )
    grads = (
        bptt(c, *case.inputs, case.d_states, final=case.d_final).params
        for c in (cell, wrong)
    )
    assert max(relative_errors(*grads).values()) > 1e-2


@pytest.mark.parametrize("name", ["gru-before", "lstm-all", "layer-norm-gru", "mingru"])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float32])
def test_dtypes_stay(name, dtype):
    case = case_of(name, dtype=dtype)
    hs, final = unroll(MORE_CELLS[name], *case.inputs)
    gradient = pulled(name, case)
    assert {a.dtype for a in jax.tree.leaves((hs, final, gradient))} == {
        jnp.dtype(dtype)
    }


@settings(max_examples=8)
@given(st.sampled_from(sorted(MORE_CELLS)), st.integers(0, 4), st.integers(0, 3))
def test_empty_and_small_sizes(name, steps, rows):
    case = case_of(name, steps=steps, batch=(rows,), units=2, inputs=1)
    hs, final = unroll(MORE_CELLS[name], *case.inputs)
    assert hs.shape == (steps, rows, final[0].shape[-1])
    if steps == 0:
        assert_alike(final, case.state, 0)


# Starts ---------------------------------------------------------------------------

INPUTS, UNITS = 300, 200


@partial(jax.jit, static_argnums=0)
def starts(name):
    return MORE_CELLS[name].init(jax.random.key(3), INPUTS, UNITS)


def own_leaves(own):
    """The gate map's own parameters, by name."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(own)
    return {path[-1].name: np.float64(leaf) for path, leaf in leaves}


def assert_drawn(w, variance):
    """Draws of this variance around 0, to four standard errors."""
    assert abs(w.mean()) < 4 * (variance / w.size) ** 0.5
    assert w.var() == pytest.approx(variance, rel=4 * (2 / w.size) ** 0.5)


@each_cell
def test_input_weights_start_with_variance_one_over_inputs_gate_by_gate(name):
    w_x = np.float64(starts(name).w_x)
    # complex inputs have half of it in each of their parts
    assert_drawn(w_x, (0.5 if name == "lru" else 1) / INPUTS)
    gates = np.split(w_x, MORE_CELLS[name].gates, axis=1)
    for i, one in enumerate(gates):
        assert all(np.abs(one - other).max() > 0.01 for other in gates[:i])


@each_cell
def test_recurrent_weights_start_orthogonal_gate_by_gate(name):
    params = starts(name)
    own = own_leaves(params.own)
    rows, width = params.w_s.shape
    projected = name.startswith("lstm-projection") or name == "lstm-all"
    assert rows == (2 if projected else UNITS) and width % UNITS == 0
    blocks = np.split(np.float64(params.w_s), max(1, width // UNITS), axis=1)
    blocks = [w for w in (*blocks, own.get("w_n", blocks[0])) if w.size]
    for w in blocks:
        np.testing.assert_allclose(w @ w.T, np.eye(rows), atol=1e-5)
    assert len({w.tobytes() for w in blocks}) == width // UNITS + ("w_n" in own)


@each_cell
def test_what_a_gate_map_owns_starts_as_its_source_says(name):
    params = starts(name)
    forget = np.repeat([0.0, 1, 0, 0], UNITS)  # i, f, g, o
    for leaf, value in own_leaves(params.own).items():
        if leaf.startswith("gain"):
            np.testing.assert_array_equal(value, 1)
        elif leaf == "shift_z" and name == "layer-norm-lstm":
            np.testing.assert_array_equal(value, forget)
        elif leaf.startswith(("shift", "p_", "b_p")):
            np.testing.assert_array_equal(value, 0)
        elif leaf == "w_p":
            assert_drawn(value, 1 / UNITS)
        elif leaf == "u":  # uniform in 0..1
            assert value.min() >= 0 and value.max() <= 1
            assert_drawn(value - 0.5, 1 / 12)
        else:  # they have tests of their own
            assert leaf == "w_n" or name == "lru"


@each_cell
def test_biases_start_at_zero_but_for_the_forget_gates(name):
    params = starts(name)
    if name.startswith("layer-norm"):  # whose shifts take their place
        assert params.b is None and params.b_s is None
        return
    by_gate = np.reshape(params.b, (MORE_CELLS[name].gates, UNITS))
    coupled = name in ("lstm-coupled", "lstm-all")
    forget = {0: -1} if coupled else {1: 1} if name.startswith("lstm") else {}
    for gate, b in enumerate(by_gate):
        np.testing.assert_array_equal(b, forget.get(gate, 0))
    assert params.b_s is None


def test_an_irnn_starts_as_the_identity(key):
    params = elman("relu", recurrent="identity").init(key, 3, 5)
    np.testing.assert_array_equal(params.w_s, np.eye(5))


def test_an_lru_starts_inside_its_ring_with_inputs_scaled_to_it(key):
    own = lru(r_min=0.5, r_max=0.9, max_phase=1.0).init(key, 3, 2000).own
    size = np.exp(-np.exp(np.float64(own.nu_log)))
    assert size.min() > 0.5 and size.max() < 0.9
    # uniform over the ring's area: the mean of |λ|² is that of its limits
    assert abs((size**2).mean() - (0.25 + 0.81) / 2) < 0.02
    angle = np.exp(own.theta_log)
    assert angle.min() > 0 and angle.max() < 1
    np.testing.assert_allclose(np.exp(own.gamma_log) ** 2, 1 - size**2, rtol=1e-3)


def test_a_coupled_forget_gate_starts_where_the_plain_one_does(key):
    b = lstm(coupled=True).init(key, 2, 3).b
    np.testing.assert_allclose(1 - sigmoid(np.float64(b[:3])), sigmoid(1.0))
    assert not b[3:].any()


def test_a_memory_is_clipped_before_its_output_gate_and_no_gradient_passes():
    case = case_of("lstm-memory-clip")
    clipped, free = MORE_CELLS["lstm-memory-clip"], lstm(peepholes=True)
    states, _ = unroll(clipped, *case.inputs, return_states=True)
    held = np.abs(states.c) == 0.4
    assert 0.2 < held.mean() < 0.8  # both sides of the clip are in these tests
    assert np.abs(states.c).max() == 0.4
    # where the clip holds, the last memory's adjoint reaches nothing
    last = jax.tree.map(np.zeros_like, case.d_final)._replace(c=1.0 * held[-1])
    zeros = jax.tree.map(np.zeros_like, case.d_states)
    for cell, passes in ((clipped, False), (free, True)):
        d = bptt(cell, *case.inputs, zeros, final=last)
        assert np.asarray(d.xs).any() == passes


def test_a_memory_exactly_at_its_clip_has_slope_zero_by_hand_and_by_autodiff():
    cell = lstm(memory_clip=0.5)
    params = cell.init(jax.random.key(0), 1, 1, dtype=np.float64)
    # the gates f = 1 and i = 0 to the last digit, o = 1/2
    params = jax.tree.map(np.zeros_like, params)
    params = params._replace(b=np.array([-800.0, 800.0, 0.0, 0.0]))
    state = LSTMState(np.zeros((1, 1)), np.full((1, 1), 0.5))

    def error(state, gradient):
        hs, _ = unroll(cell, params, np.zeros((2, 1, 1)), state, gradient=gradient)
        return hs.sum()

    for gradient in ("manual", "autodiff"):
        assert error(state, gradient) == pytest.approx(np.tanh(0.5))
        assert not jax.grad(error)(state, gradient).c.any()


def test_equal_clips_are_one_cell_and_wrong_parts_are_refused():
    assert lstm(memory_clip=1) is lstm(memory_clip=1.0)
    assert lstm(memory_clip=None, projection_bias=False) is lstm()
    for options, error, message in [
        ({"projection_bias": True}, ValueError, "projection_bias: expected a proj"),
        ({"projection": 2, "projection_bias": 1}, TypeError, "projection_bias: .*True"),
        ({"memory_clip": 0}, ValueError, "memory_clip: expected a positive number"),
        ({"memory_clip": True}, TypeError, "memory_clip: .* got True"),
        ({"memory_clip": "1"}, TypeError, "memory_clip: .* got '1'"),
        ({"memory_clip": np.nan}, ValueError, "memory_clip: .* got nan"),
        ({"forget_bias": None}, TypeError, "forget_bias: expected a number, got None"),
    ]:
        with pytest.raises(error, match=message):
            lstm(**options)


def test_layers_of_these_cells_nest_and_take_noise():
    layer = noisy(lstm(projection=2), inputs=0.2, state=0.2, zoneout=0.2)
    case = draw(layer, units=H)
    noise = draw_noise(jax.random.key(0), layer, case.params, jnp.asarray(case.xs))

    def error(params, gradient):
        hs, _ = unroll(layer, params, *case.inputs[1:], gradient=gradient, noise=noise)
        return jnp.sin(hs).sum()

    manual, auto = (jax.grad(error)(case.params, g) for g in ("manual", "autodiff"))
    assert_alike(manual, auto, 1e-10)

"""Adjoints clipped at every step, by hand and by autodiff, against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, draw

from jaxrnn import bptt, clipped, elman, gru, lstm, step, unroll
from jaxrnn.gradient_flow import alignment

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B, D, H = 6, 2, 2, 3


def error(cell, gradient, params, xs, state, d_hs):
    hs, _ = unroll(cell, params, xs, state, gradient=gradient)
    return jnp.vdot(hs, d_hs)


def gradients(cell, case, d_hs, gradient):
    of = jax.grad(error, argnums=(2, 3, 4))
    return of(cell, gradient, *case.inputs, d_hs)


def clip(adjoint, threshold):
    """Rows [B, H] of every part of a state, by their norm over all parts."""
    norm = np.sqrt(sum((np.asarray(a) ** 2).sum(-1, keepdims=True) for a in adjoint))
    scale = np.where(norm > threshold, threshold / norm, 1)
    return type(adjoint)(*(a * scale for a in adjoint))


def loop(cell, case, threshold):
    """A loop over steps, pulled back by JAX and clipped by NumPy."""

    @jax.jit
    def pull(state, x, adjoint):
        def one(params, state, x):
            return step(cell, params, state, x)[0]

        return jax.vjp(one, case.params, state, x)[1](adjoint)

    states = [case.state]
    for x in case.xs:
        states.append(step(cell, case.params, states[-1], x)[0])
    params = jax.tree.map(np.zeros_like, case.params)
    carry, xs = case.d_final, np.zeros_like(case.xs)
    for t in reversed(range(T)):
        adjoint = jax.tree.map(lambda d, c, t=t: d[t] + c, case.d_states, carry)
        new, carry, xs[t] = pull(states[t], case.xs[t], clip(adjoint, threshold))
        params = jax.tree.map(np.add, params, new)
    return params, xs, carry


CELLS = [elman(), lstm(), lstm(peepholes=True, projection=2), gru()]


@pytest.mark.parametrize("cell", CELLS, ids=["elman", "lstm", "lstm-parts", "gru"])
@pytest.mark.parametrize("threshold", [0.3, 2.5])
def test_adjoints_are_clipped_row_by_row_over_all_parts_on_the_way(cell, threshold):
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d = bptt(clipped(cell, threshold), *case.inputs, case.d_states, final=case.d_final)
    assert_alike(d[:3], loop(cell, case, threshold), 1e-12)
    with pytest.raises(AssertionError):  # control
        assert_alike(d[:3], loop(cell, case, 1e3), 1e-2)


@pytest.mark.parametrize("cell", [lstm(peepholes=True), gru()], ids=["lstm", "gru"])
def test_both_gradients_clip_alike_and_a_high_threshold_changes_nothing(cell):
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d_hs = case.d_states[0]
    hs = [unroll(c, *case.inputs)[0] for c in (cell, clipped(cell, 0.1))]
    np.testing.assert_array_equal(*hs)
    by_hand, autodiff = (
        gradients(clipped(cell, 0.5), case, d_hs, g) for g in ("manual", "autodiff")
    )
    assert_alike(by_hand, autodiff, 1e-12)
    true = gradients(cell, case, d_hs, "manual")
    assert alignment(by_hand[0], true[0]).cosine < 0.999
    assert_alike(gradients(clipped(cell, 1e3), case, d_hs, "manual"), true, 1e-12)


def test_an_adjoint_that_overflows_is_clipped_to_a_direction():
    case = draw(elman(), steps=2, batch=(B,), inputs=D, units=H, dtype=np.float32)
    d_hs = np.zeros((2, B, H), np.float32)
    d_hs[-1] = 1e30  # its square is inf
    d = bptt(clipped(elman(), 2.0), *case.inputs, d_hs)
    assert np.isfinite(d.params.w_s).all() and np.abs(d.params.w_s).max() > 1e-3


def test_wrong_calls_are_refused():
    with pytest.raises(TypeError, match="cell: expected a Cell"):
        clipped(elman, 1.0)  # pyright: ignore[reportArgumentType]
    for threshold in (0, -1.0, np.inf, True, None):
        error = TypeError if threshold in (True, None) else ValueError
        with pytest.raises(error, match="threshold: expected a positive number"):
            clipped(elman(), threshold)
    assert clipped(elman(), 1.0) is clipped(elman(), 1.0)  # one record for jit
    state = elman().initial_state(elman().init(jax.random.key(0), D, H))
    params = elman().init(jax.random.key(0), D, H)
    step(clipped(elman(), 1.0), params, state, jnp.zeros(D))

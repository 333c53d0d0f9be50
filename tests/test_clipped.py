"""Adjoints clipped at every step: a NumPy loop of it, by hand and by autodiff alike."""

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
    """Rows of [B, H]."""
    norm = np.linalg.norm(adjoint, axis=-1, keepdims=True)
    return np.where(norm > threshold, adjoint * threshold / norm, adjoint)


def loop(case, d_hs, threshold):
    """An Elman network's, step by step in NumPy."""
    params, s, states = case.params, case.state.h, []
    for t in range(T):
        before, s = s, np.tanh(case.xs[t] @ params.w_x + s @ params.w_s + params.b)
        states.append((before, s))
    carry = np.zeros((B, H))
    w_x, w_s, b = (np.zeros_like(p) for p in params[:3])
    for t in reversed(range(T)):
        before, s = states[t]
        delta = clip(d_hs[t] + carry, threshold) * (1 - s * s)
        w_x += case.xs[t].T @ delta
        w_s += before.T @ delta
        b += delta.sum(0)
        carry = delta @ params.w_s.T
    return params._replace(w_x=w_x, w_s=w_s, b=b), carry


@pytest.mark.parametrize("threshold", [0.3, 1.5])
def test_adjoints_are_clipped_row_by_row_on_the_way(threshold):
    case = draw(elman(), steps=T, batch=(B,), inputs=D, units=H)
    d_hs = case.d_states.h
    d_params, _, d_state = gradients(clipped(elman(), threshold), case, d_hs, "manual")
    wanted, start = loop(case, d_hs, threshold)
    assert_alike(d_params, wanted, 1e-12)
    np.testing.assert_allclose(d_state.h, start, rtol=1e-12)
    with pytest.raises(AssertionError):  # control
        assert_alike(d_params, loop(case, d_hs, 1e3)[0], 1e-2)


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
    for threshold in (0, -1.0, True):
        with pytest.raises(ValueError, match="threshold: expected a positive number"):
            clipped(elman(), threshold)
    assert clipped(elman(), 1.0) is clipped(elman(), 1.0)  # one record for jit
    state = elman().initial_state(elman().init(jax.random.key(0), D, H))
    params = elman().init(jax.random.key(0), D, H)
    step(clipped(elman(), 1.0), params, state, jnp.zeros(D, jnp.float32))

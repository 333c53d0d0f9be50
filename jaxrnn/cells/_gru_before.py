"""The gated recurrent unit of 2014, reset before the product; in the order r, z, n.

With ρ for the reset gate and u for the update gate (r and z name the two maps here):

    ρ = σ(z_ρ + r_ρ)     u = σ(z_u + r_u)
    n = tanh(z_n + (ρ ⊙ h_{t-1}) W_n)
    h_t = (1-u) ⊙ n + u ⊙ h_{t-1}

The candidate's product needs ρ first, so W_n belongs to the gate map, and W_s [H, 2H]
holds the two gates.

Source: Cho et al. (2014), arXiv 1406.1078, equations 5-8.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, State
from jaxrnn.cells._parts import draw_candidate, make_init, zero_state


class _Gates(NamedTuple):
    reset: Array  # ρ
    update: Array  # u
    n: Array


def _gate(own, z, r, state_prev):
    both, z_n = jnp.split(z, [r.shape[-1]], axis=-1)
    t = jnp.tanh((both + r) * 0.5)  # σ(a) = ½ tanh(a/2) + ½
    reset, update = jnp.split(0.5 * t + 0.5, 2, axis=-1)
    n = jnp.tanh(z_n + (reset * state_prev.h) @ own.w_n)
    h = n + update * (state_prev.h - n)
    return State(h), _Gates(reset, update, n)


class _Coefficients(NamedTuple):
    to_reset: Array  # ∂(ρ h_{t-1})/∂a_ρ
    to_update: Array  # ∂h_t/∂a_u
    to_n: Array  # ∂h_t/∂a_n
    reset: Array
    update: Array


def _linearize(own, kept, state_prev, state):
    del own, state
    reset, update, n = kept
    return _Coefficients(
        state_prev.h * reset * (1 - reset),
        (state_prev.h - n) * update * (1 - update),
        (1 - update) * (1 - n * n),
        reset,
        update,
    )


def _pullback(own, coefficients, adjoint):
    to_reset, to_update, to_n, reset, update = coefficients
    # δ_n first: the reset gate acts through it
    d_n = adjoint.h * to_n  # δ_n = λ (1-u) (1-n²)
    d_gated = d_n @ own.w_n.T  # ∂E/∂(ρ h_{t-1}) = δ_n W_nᵀ
    d_reset = d_gated * to_reset  # δ_ρ = ∂E/∂(ρ h_{t-1}) h_{t-1} ρ (1-ρ)
    d_update = adjoint.h * to_update  # δ_u = λ (h_{t-1} - n) u (1-u)
    d_z = jnp.concatenate([d_reset, d_update, d_n], axis=-1)
    d_r = jnp.concatenate([d_reset, d_update], axis=-1)
    return d_z, d_r, State(adjoint.h * update + d_gated * reset)


def reset_before() -> Cell[State]:
    """`gru(reset_after=False)`."""
    return Cell(
        init=make_init(gates=3, recurrent_gates=2, own=draw_candidate),
        initial_state=partial(zero_state, State),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=3,
    )

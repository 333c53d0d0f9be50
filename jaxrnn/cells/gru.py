"""The gated recurrent unit, reset after the product; gates in the order r, z, n.

With ρ for the reset gate and u for the update gate (r and z name the two maps here):

    ρ = σ(z_ρ + r_ρ)     u = σ(z_u + r_u)
    n = tanh(z_n + ρ ⊙ r_n)
    h_t = (1-u) ⊙ n + u ⊙ h_{t-1}

The reset acts on the product h_{t-1} W_n + b_n, so b_s cannot be merged into b.

Source: Cho et al. (2014), arXiv 1406.1078, equations 5-8; the reset after the product:
Chung et al. (2014), arXiv 1412.3555, as cuDNN, torch and Keras have it.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_flag
from jaxrnn.cell import Cell, State
from jaxrnn.cells._gru_before import reset_before
from jaxrnn.cells._parts import make_init, zero_state


class _Gates(NamedTuple):
    reset: Array  # ρ
    update: Array  # u
    n: Array
    r_n: Array  # the product that ρ scales


def _gates(z: Array, r: Array) -> _Gates:
    z_n = jnp.split(z, 3, axis=-1)[2]
    r_n = jnp.split(r, 3, axis=-1)[2]
    both = z.shape[-1] // 3 * 2
    # σ(a) = ½ tanh(a/2) + ½: one wide tanh.
    t = jnp.tanh((z[..., :both] + r[..., :both]) * 0.5)
    reset, update = jnp.split(0.5 * t + 0.5, 2, axis=-1)
    return _Gates(reset, update, jnp.tanh(z_n + reset * r_n), r_n)


def _gate(own, z, r, state_prev):
    del own
    kept = _gates(z, r)
    # XLA's CPU backend would fuse the whole gate into one kernel that reads the
    # pre-activations at three offsets and so computes the tanhs one by one. The
    # concatenation is written to memory, which splits the kernel; both vectorise.
    *leading, units = kept.n.shape
    beside = jnp.stack([kept.n, state_prev.h], axis=-2).reshape(*leading, 2 * units)
    n, h_prev = jnp.split(beside, 2, axis=-1)
    return State(n + kept.update * (h_prev - n)), kept


class _Coefficients(NamedTuple):
    slopes: Array  # [..., 3H], ∂h_t/∂ each pre-activation
    reset: Array
    update: Array  # ∂h_t/∂h_{t-1} beside the product


def _linearize(own, kept, state_prev, state):
    del own, state
    reset, update, n, r_n = kept
    to_n = (1 - update) * (1 - n * n)  # ∂h/∂a_n
    to_u = (state_prev.h - n) * update * (1 - update)  # ∂h/∂a_u
    to_reset = to_n * r_n * reset * (1 - reset)  # ∂h/∂a_ρ, through a_n = z_n + ρ r_n
    slopes = jnp.concatenate([to_reset, to_u, to_n], axis=-1)
    return _Coefficients(slopes, reset, update)


def _pullback(own, coefficients, adjoint):
    del own
    slopes, reset, update = coefficients
    d_z = jnp.concatenate([adjoint.h] * 3, axis=-1) * slopes
    # r_n reaches a_n through ρ, the other two directly: δr = [δ_ρ, δ_u, δ_n ⊙ ρ]
    d_r = d_z * jnp.concatenate([jnp.ones_like(reset)] * 2 + [reset], axis=-1)
    return d_z, d_r, State(adjoint.h * update)


@by_value
def gru(*, reset_after: bool = True) -> Cell[State]:
    """The GRU cell; gates in the order r, z, n, with h' = (1-z) ⊙ n + z ⊙ h.

    The columns of w_x [D, 3H], w_s [H, 3H], b and b_s [3H] have that order: 3 (D H + H²
    + 2H) parameters. With `reset_after=False` there is no b_s: 3 (D H + H² + H).

    Args:
        reset_after: whether the reset gate acts after the candidate's product, as in
            cuDNN, or on the state before it, as in 2014: W_s is then [H, 2H], for r
            and z, and `own` holds `w_n` [H, H].
    Returns: a `Cell` with a `State`.
    Raises:  TypeError if `reset_after` is not True or False.
    Source:  Cho et al. (2014), equations 5-8; Chung et al. (2014), §3.2.
    """
    check_flag("reset_after", reset_after)
    if not reset_after:
        return reset_before()
    return Cell(
        init=make_init(gates=3, recurrent_bias=True),
        initial_state=partial(zero_state, State),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=3,
        independent=True,
    )

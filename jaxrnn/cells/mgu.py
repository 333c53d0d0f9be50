"""The minimal gated unit: one gate, in the order f, n.

    f = σ(z_f + r_f)
    n = tanh(z_n + (f ⊙ h_{t-1}) W_n)
    h_t = (1-f) ⊙ h_{t-1} + f ⊙ n

Source: Zhou et al. (2016), "Minimal gated unit for recurrent neural networks",
International Journal of Automation and Computing 13, 226-234, equations 8.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn.cell import Cell, State
from jaxrnn.cells._parts import draw_candidate, make_init, zero_state


class _Gates(NamedTuple):
    forget: Array  # f
    n: Array


class _Coefficients(NamedTuple):
    forget: Array
    slope: Array  # f (1-f)
    to_n: Array  # ∂h_t/∂a_n
    apart: Array  # n - h_{t-1}
    h_prev: Array


def _gate(own, z, r, state_prev):
    z_f, z_n = jnp.split(z, 2, axis=-1)
    forget = jax.nn.sigmoid(z_f + r)
    n = jnp.tanh(z_n + (forget * state_prev.h) @ own.w_n)
    h = state_prev.h + forget * (n - state_prev.h)
    return State(h), _Gates(forget, n)


def _linearize(own, kept, state_prev, state):
    del own, state
    forget, n = kept
    return _Coefficients(
        forget,
        forget * (1 - forget),
        forget * (1 - n * n),
        n - state_prev.h,
        state_prev.h,
    )


def _pullback(own, coefficients, adjoint):
    forget, slope, to_n, apart, h_prev = coefficients
    d_n = adjoint.h * to_n  # δ_n = λ f (1-n²)
    d_gated = d_n @ own.w_n.T  # ∂E/∂(f h_{t-1}) = δ_n W_nᵀ
    # f acts twice: it blends h_{t-1} with n, and it gates h_{t-1} inside n
    d_f = (adjoint.h * apart + d_gated * h_prev) * slope
    before = adjoint.h * (1 - forget) + d_gated * forget
    return jnp.concatenate([d_f, d_n], axis=-1), d_f, State(before)


@by_value
def mgu() -> Cell[State]:
    """The MGU cell: w_x [D, 2H], w_s [H, H] for the gate, `own.w_n` [H, H].

    Returns: a `Cell` with a `State`.
    Source:  Zhou et al. (2016), equations 8.
    """
    return Cell(
        init=make_init(gates=2, recurrent_gates=1, own=draw_candidate),
        initial_state=partial(zero_state, State),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=2,
    )

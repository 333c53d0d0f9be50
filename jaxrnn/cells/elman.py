"""The Elman network's transition, equation 56 of the seed.

    a_t = z_t + r_t = x_t W_x + s_{t-1} W_s (+ b)
    s_t = Φ(a_t)                                                      (56)

Source: Elman (1990), "Finding Structure in Time", Cognitive Science 14, 179-211.
"""

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax.numpy as jnp
from jax import Array

from jaxrnn._core.activations import Name, activation_of
from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_choice
from jaxrnn.cell import Cell, Params, State
from jaxrnn.cells._parts import make_init, zero_state


def _identity(params: Params) -> Params:
    return params._replace(w_s=jnp.eye(len(params.w_s), dtype=params.w_s.dtype))


@by_value
def elman(
    activation: Name | Callable[[Array], Array] = "tanh",
    *,
    recurrent: Literal["orthogonal", "identity"] = "orthogonal",
) -> Cell[State]:
    """The Elman cell, s_t = Φ(x_t W_x + s_{t-1} W_s + b).

    Args:
        activation: "tanh", "relu", "sigmoid", "identity", or an elementwise callable,
            whose derivative then comes from JAX.
        recurrent: how W_s is drawn: "orthogonal", or "identity", which makes the IRNN
            with "relu".
    Returns: a `Cell` with w_x [D, H], w_s [H, H], b [H] and a `State`.
    Raises:  ValueError if a name is unknown.
    Source:  Elman (1990), p. 179; the seed's equations 56 and 58-60. The identity: Le,
             Jaitly & Hinton (2015), arXiv 1504.00941, §2.
    """
    phi, slope, keep = activation_of(activation)
    check_choice("recurrent", recurrent, ("orthogonal", "identity"))

    def gate(own, z, r, state_prev):
        del own, state_prev
        a = z + r
        return State(phi(a)), keep(a)  # (56) s_t = Φ(x_t W_x + s_{t-1} W_s)

    def linearize(own, kept, state_prev, state):
        del own, state_prev
        return slope(kept, state.h)  # c_t = Φ'(a_t)

    def pullback(own, phi_slope, adjoint):
        del own
        delta = adjoint.h * phi_slope  # δ_t = λ_t ⊙ Φ'(a_t)
        # a_t = z_t + r_t, so ∂E/∂z_t = ∂E/∂r_t = δ_t; s_{t-1} acts through r_t alone.
        return delta, delta, State(jnp.zeros_like(delta))

    return Cell(
        init=make_init(gates=1, adjust=_identity if recurrent == "identity" else None),
        initial_state=partial(zero_state, State),
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=1,
        independent=True,
    )

"""The independently recurrent network: each unit sees only its own past.

    a_t = z_t + u ⊙ h_{t-1} = x_t W_x + b + u ⊙ h_{t-1}
    h_t = Φ(a_t)

u acts elementwise, so there is no recurrent product: W_s is [H, 0].

Source: Li et al. (2018), arXiv 1803.04831, equation 3.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.activations import Name, activation_of
from jaxrnn._core.by_value import by_value
from jaxrnn._core.numerics import spread
from jaxrnn.cell import Cell, Params, State
from jaxrnn.cells._parts import make_init, zero_state


class Recurrent(NamedTuple):
    """`u` [H], one recurrent weight per unit."""

    u: Array


def _draw_u(key: Array, params: Params) -> Recurrent:
    u = jax.random.uniform(key, (len(params.w_s),), jnp.float32)
    return Recurrent(u.astype(params.w_s.dtype))


@by_value
def indrnn(activation: Name | Callable[[Array], Array] = "relu") -> Cell[State]:
    """The IndRNN cell: w_x [D, H], w_s [H, 0], `own.u` [H], drawn from 0..1.

    Args:
        activation: as in `elman`.
    Returns: a `Cell` with a `State`.
    Raises:  ValueError if the name is unknown.
    Source:  Li et al. (2018), equation 3; the start of u: §3.2, for relu.
    """
    phi, slope, keep = activation_of(activation)

    def gate(own, z, r, state_prev):
        del r
        a = z + spread(own.u, z) * state_prev.h
        return State(phi(a)), keep(a)

    def linearize(own, kept, state_prev, state):
        del own, state_prev
        return slope(kept, state.h)  # Φ'(a_t)

    def pullback(own, phi_slope, adjoint):
        delta = adjoint.h * phi_slope  # δ_t = λ_t ⊙ Φ'(a_t)
        # ∂a_t/∂h_{t-1} = u; no column of W_s, so none of δr
        return delta, delta[..., :0], State(delta * spread(own.u, delta))

    return Cell(
        init=make_init(gates=1, recurrent_gates=0, own=_draw_u),
        initial_state=partial(zero_state, State),
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=1,
        independent=True,
    )

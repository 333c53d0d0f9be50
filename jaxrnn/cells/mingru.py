"""The minimal GRU: gate and candidate read only the input; in the order z, n.

    u = σ(z_u)     n = z_n
    h_t = (1-u) ⊙ h_{t-1} + u ⊙ n

Linear in the state, with coefficients known before the first step; W_s is [H, 0].

Source: Feng et al. (2024), "Were RNNs all we needed?", arXiv 2410.01201, §3.1.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn.cell import Cell, State
from jaxrnn.cells._parts import make_init, zero_state


class _Coefficients(NamedTuple):
    slopes: Array  # [..., 2H], ∂h_t/∂ each pre-activation
    kept: Array  # ∂h_t/∂h_{t-1} = 1-u


def _gate(own, z, r, state_prev):
    del own, r
    z_u, n = jnp.split(z, 2, axis=-1)
    update = jax.nn.sigmoid(z_u)
    return State(state_prev.h + update * (n - state_prev.h)), (update, n)


def _linearize(own, kept, state_prev, state):
    del own, state
    update, n = kept
    to_update = (n - state_prev.h) * update * (1 - update)  # ∂h/∂z_u
    return _Coefficients(jnp.concatenate([to_update, update], axis=-1), 1 - update)


def _pullback(own, coefficients, adjoint):
    del own
    d_z = jnp.concatenate([adjoint.h] * 2, axis=-1) * coefficients.slopes
    return d_z, d_z[..., :0], State(adjoint.h * coefficients.kept)


@by_value
def mingru() -> Cell[State]:
    """The minGRU cell: w_x [D, 2H], w_s [H, 0].

    Returns: a `Cell` with a `State`.
    Source:  Feng et al. (2024), §3.1.
    """
    return Cell(
        init=make_init(gates=2, recurrent_gates=0),
        initial_state=partial(zero_state, State),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=2,
        independent=True,
        linear="real",
    )

"""The Elman network's transition, equation 56 of the seed.

    a_t = z_t + r_t = x_t W_x + s_{t-1} W_s (+ b)
    s_t = Φ(a_t)                                                      (56)

Source: Elman (1990), "Finding Structure in Time", Cognitive Science 14, 179-211.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Literal, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, init_params, zero_state
from jaxrnn.cells.activations import activation_of


class ElmanState(NamedTuple):
    """`s` [..., H], the state and what it exposes."""

    s: Array


@lru_cache(typed=True)  # one record per activation, so that jit sees one static value
def elman(
    activation: str | Callable[[Array], Array] = "tanh",
    *,
    recurrent: Literal["orthogonal", "identity"] = "orthogonal",
) -> Cell:
    """The Elman cell, s_t = Φ(x_t W_x + s_{t-1} W_s + b).

    Args:
        activation: "tanh", "relu", "sigmoid", "identity", or an elementwise callable
            (then its derivative comes from JAX).
        recurrent: how W_s is drawn: "orthogonal", or "identity", which with "relu" is
            the IRNN.
    Raises:  ValueError if a name is unknown.
    Source:  Elman (1990), p. 179; the seed's equations 56 and 58-60. The identity: Le,
             Jaitly & Hinton (2015), arXiv 1504.00941, §2.
    """
    phi, slope, keep = activation_of(activation)
    if recurrent not in ("orthogonal", "identity"):
        raise ValueError(
            f"recurrent: expected 'orthogonal' or 'identity', got {recurrent!r}"
        )

    def init(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32):
        params = init_params(
            key, input_size, hidden_size, gates=1, bias=bias, dtype=dtype
        )
        if recurrent == "orthogonal":
            return params
        return params._replace(w_s=jnp.eye(hidden_size, dtype=dtype))

    def gate(own, z, r, state_prev):
        del own, state_prev
        a = z + r
        return ElmanState(phi(a)), keep(a)  # (56) s_t = Φ(x_t W_x + s_{t-1} W_s)

    def linearize(own, kept, state_prev, state):
        del own, state_prev
        return slope(kept, state.s)  # c_t = Φ'(a_t)

    def pullback(own, phi_slope, adjoint):
        del own
        # In (59) and (60), ∂E_N/∂y_N · ∂y_N/∂s_i is λ_i, and the immediate ∂s_i/∂W is
        # Φ'(a_i) times the product's other operand; δ_i is what both share.
        delta = adjoint.s * phi_slope  # δ_t = λ_t ⊙ Φ'(a_t)
        # a_t = z_t + r_t, so ∂E/∂z_t = ∂E/∂r_t = δ_t; s_{t-1} acts through r_t alone.
        return delta, delta, ElmanState(jnp.zeros_like(delta))

    return Cell(
        init=init,
        initial_state=partial(zero_state, ElmanState),
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=1,
    )

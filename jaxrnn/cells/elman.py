"""The Elman network's transition, equation 56 of the seed.

    a_t = z_t + r_t = x_t W_x + s_{t-1} W_s (+ b)
    s_t = Φ(a_t)                                                      (56)

Source: Elman (1990), "Finding Structure in Time", Cognitive Science 14, 179-211.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn.cell import Cell, init_params, zero_state


class ElmanState(NamedTuple):
    """`s` [..., H], the state and what it exposes."""

    s: Array


class _Activation(NamedTuple):
    phi: Callable[[Array], Array]  # Φ(a)
    slope: Callable[[Any, Array], Array]  # Φ'(a), given what is kept and s = Φ(a)
    keep: Callable[[Array], Any] = lambda a: None  # of a: nothing, where s tells all


def _identity(a: Array) -> Array:
    return a


_ACTIVATIONS = {
    "tanh": _Activation(jnp.tanh, lambda _, s: 1 - s * s),
    "relu": _Activation(jax.nn.relu, lambda _, s: (s > 0).astype(s.dtype)),
    "sigmoid": _Activation(jax.nn.sigmoid, lambda _, s: s * (1 - s)),
    "identity": _Activation(_identity, lambda _, s: jnp.ones_like(s)),
}


def _activation(activation: str | Callable[[Array], Array]) -> _Activation:
    if callable(activation):
        # Elementwise, so the tangent along a vector of ones is Φ' itself.
        def slope(a, s):
            return jax.jvp(activation, (a,), (jnp.ones_like(a),))[1]

        return _Activation(activation, slope, keep=_identity)
    if activation not in _ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of {sorted(_ACTIVATIONS)} or a callable, "
            f"got {activation!r}"
        )
    return _ACTIVATIONS[activation]


@lru_cache  # one record per activation, so that jit sees one static value
def elman(activation: str | Callable[[Array], Array] = "tanh") -> Cell:
    """The Elman cell, s_t = Φ(x_t W_x + s_{t-1} W_s + b).

    Args:
        activation: "tanh", "relu", "sigmoid", "identity", or an elementwise callable
            (then its derivative comes from JAX).
    Raises:  ValueError if the name is unknown.
    Source:  Elman (1990), p. 179; the seed's equations 56 and 58-60.
    """
    phi, slope, keep = _activation(activation)

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
        init=partial(init_params, gates=1),
        initial_state=partial(zero_state, ElmanState),
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=1,
    )

"""Elementwise activations and their slopes, for cells (Φ) and for readouts (σ)."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

Name = Literal["tanh", "relu", "sigmoid", "identity"]


class Activation(NamedTuple):
    """Φ, its slope, and the values that the slope needs beside s = Φ(a)."""

    phi: Callable[[Array], Array]  # Φ(a)
    slope: Callable[[Any, Array], Array]  # Φ'(a), given what is kept and s = Φ(a)
    keep: Callable[[Array], Any] = lambda a: None  # None where s is enough


def _identity(a: Array) -> Array:
    return a


ACTIVATIONS = {
    "tanh": Activation(jnp.tanh, lambda _, s: 1 - s * s),
    "relu": Activation(jax.nn.relu, lambda _, s: (s > 0).astype(s.dtype)),
    "sigmoid": Activation(jax.nn.sigmoid, lambda _, s: s * (1 - s)),
    "identity": Activation(_identity, lambda _, s: jnp.ones_like(s)),
}


def activation_of(activation: Name | Callable[[Array], Array]) -> Activation:
    """The activation of this name; the derivative of a callable comes from JAX."""
    if callable(activation):
        # Elementwise, so the tangent along a vector of ones is Φ' itself.
        def slope(a, s):
            return jax.jvp(activation, (a,), (jnp.ones_like(a),))[1]

        return Activation(activation, slope, keep=_identity)
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"activation: expected one of {sorted(ACTIVATIONS)} or a callable, "
            f"got {activation!r}"
        )
    return ACTIVATIONS[activation]

"""What is read from a network's states; equations 57 and 58.

y_t = s_t W_y   or   y_t = σ(s_t W_y)                             (57)
∂E_N/∂W_y = ∂E_N/∂y_N · ∂y_N/∂W_y                                 (58)
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn._core.activations import ACTIVATIONS
from jaxrnn._core.checks import (
    as_array,
    check_array,
    check_choice,
    check_positive,
    check_rank,
)
from jaxrnn._core.maps import outer_sum, row_sum
from jaxrnn._core.numerics import add_bias
from jaxrnn._core.trees import describe

Output = Literal["sigmoid", "tanh"]  # σ of equation 57; None for the identity


class ReadoutParams(NamedTuple):
    """A readout's parameters: w_y [H, O], b_y [O] or None."""

    w_y: Array
    b_y: Array | None = None


def check_output(name: str, activation: Any) -> None:
    check_choice(name, activation, (None, "sigmoid", "tanh"))


def init_readout(
    key: Array, hidden_size: int, output_size: int, bias: bool, dtype: DTypeLike
) -> ReadoutParams:
    """Draw W_y by variance scaling (LeCun et al. 1998, §4.6); the bias is zeros."""
    check_positive("output_size", output_size)
    draw = jax.nn.initializers.lecun_normal()
    w_y = draw(key, (hidden_size, output_size), jnp.float32).astype(dtype)
    return ReadoutParams(w_y, jnp.zeros(output_size, dtype) if bias else None)


def readout(
    params: ReadoutParams, hs: Array, activation: Output | None = None
) -> Array:
    """Map hidden states to the outputs of a network.

    Math:    (57) y_t = s_t W_y (+ b_y), or y_t = σ(s_t W_y (+ b_y))
    Shapes:  hs [..., H] -> ys [..., O].
    Args:
        params: `ReadoutParams`.
        activation: σ: None (linear), "sigmoid" or "tanh".
    Raises:  ValueError or TypeError for an unknown activation, or params and hs that do
             not fit each other or are not floating.
    Source:  the seed's equation 57.
    """
    check_output("activation", activation)
    hs = check_rank("hs", hs, "[..., H]", 1)
    params = read_readout("params", params, hs)
    sigma = ACTIVATIONS[activation or "identity"].phi
    return sigma(add_bias(hs @ params.w_y, params.b_y))


def read_readout(name: str, params: Any, hs: Any) -> ReadoutParams:
    """Return the parameters as arrays, or raise if they do not fit the states."""
    if not isinstance(params, ReadoutParams):
        raise TypeError(f"{name}: expected ReadoutParams, got {describe(params)}")
    if not isinstance(hs, Array):  # of merge=None, say
        raise TypeError(f"hs: expected one array to read from, got {describe(hs)}")
    if not jnp.issubdtype(hs.dtype, jnp.floating):
        raise TypeError(f"hs: expected a floating dtype, got {hs.dtype}")
    w_y, b_y = as_array(f"{name}.w_y", params.w_y), params.b_y
    if w_y.ndim != 2 or w_y.shape[0] != hs.shape[-1]:
        raise ValueError(
            f"{name}.w_y: expected shape [{hs.shape[-1]}, O], since hs is "
            f"{list(hs.shape)}, got {list(w_y.shape)}"
        )
    check_array(f"{name}.w_y", w_y, w_y.shape, hs.dtype)
    if b_y is not None:
        b_y = as_array(f"{name}.b_y", b_y)
        check_array(f"{name}.b_y", b_y, w_y.shape[1:], hs.dtype)
    return ReadoutParams(w_y, b_y)


def readout_gradients(
    params: ReadoutParams, hs: Array, delta_y: Array
) -> tuple[ReadoutParams, Array]:
    """Equation 58, and ∂E/∂hs, from δy, the cotangent of the pre-activations of (57).

    Shapes:  hs [..., H], delta_y [..., O] -> as params, hs [..., H].
    """
    d_params = ReadoutParams(
        outer_sum(hs, delta_y),  # (58) ∂E/∂W_y = Σ_N s_Nᵀ δy_N
        None if params.b_y is None else row_sum(delta_y),
    )
    d_params = jax.tree.map(lambda g: g.astype(hs.dtype), d_params)
    return d_params, delta_y @ params.w_y.T  # ∂E_N/∂y_N · ∂y_N/∂s_N

"""How fast contributions decay with the lag, and how far back they reach."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import as_floats, check_number, check_within


class Decay(NamedTuple):
    """The `rate` from one lag to the next, and its 95 % interval `low` to `high`.

    All are [...]. Below 1 the gradient vanishes, above 1 it explodes.
    """

    rate: Array
    low: Array
    high: Array


def decay_rate(norms: Array, *, skip: int = 0) -> Decay:
    """Fit a geometric rate to norms by lag.

    Math:    log ‖C_ℓ‖ = a + ℓ log rate + u_ℓ, by least squares. The interval is
             1.96 standard errors, with weights for u that is correlated over lags.
    Shapes:  norms [..., L] -> rate, low, high [...].
    Args:
        norms: by lag, as from `lag_norms`. Zeros and non-finite ones are left out.
        skip: the number of first lags to leave out.
    Returns: a `Decay`; NaN where fewer than three norms are left.
    Raises:  TypeError if norms is not a floating array; ValueError unless it is
             [..., L] with L of 3 or more after `skip`.
    Source:  the geometric rate: Pascanu et al. (2013), §2.1; the standard error: Newey
             & West (1987), Econometrica 55, 703-708, equation 5, with ⌊4 (L/100)^(2/9)⌋
             correlated lags.
    """
    norms = _checked(norms)
    if norms.shape[-1] < 3:
        raise ValueError(f"norms: expected three lags or more, got {list(norms.shape)}")
    check_within("skip", skip, 0, norms.shape[-1] - 3)
    norms = norms[..., skip:]
    length = norms.shape[-1]
    used = (norms > 0) & jnp.isfinite(norms)
    logs = jnp.log(jnp.where(used, norms, 1))
    weight = used.astype(norms.dtype)
    count = weight.sum(-1, keepdims=True)
    lags = jnp.broadcast_to(jnp.arange(length, dtype=norms.dtype), norms.shape)
    x = (lags - (weight * lags).sum(-1, keepdims=True) / count) * weight
    y = (logs - (weight * logs).sum(-1, keepdims=True) / count) * weight
    spread = (x * x).sum(-1)
    slope = (x * y).sum(-1) / spread
    # Σ over pairs of lags of x_i u_i x_j u_j, nearer pairs with more weight
    scores = x * (y - slope[..., None] * x)
    reach = int(4 * (length / 100) ** (2 / 9))
    middle = (scores * scores).sum(-1)
    for j in range(1, min(reach, length - 1) + 1):
        products = (scores[..., j:] * scores[..., :-j]).sum(-1)
        middle = middle + 2 * (1 - j / (reach + 1)) * products
    count = count[..., 0]
    error = jnp.sqrt(jnp.maximum(middle, 0) * count / (count - 2)) / spread
    enough = count >= 3
    rates = (slope, slope - 1.96 * error, slope + 1.96 * error)
    return Decay(*(jnp.where(enough, jnp.exp(r), jnp.nan) for r in rates))


def effective_horizon(norms: Array, share: float = 0.01) -> Array:
    """How many steps back contributions reach: the seed's "about 10".

    Math:    the smallest ℓ from which on ‖C_ℓ‖ < share · max ‖C‖.
    Shapes:  norms [..., L], as from `lag_norms` -> int32 [...].
    Returns: 0..L; L is a lower bound, since the last lag still contributes. A
             non-finite norm counts as a contribution.
    Raises:  TypeError if norms is not a floating array; ValueError unless it is
             [..., L], or unless 0 < share < 1.
    Source:  the quantity: the seed's "more than about 10 time steps"; Bengio, Simard &
             Frasconi (1994), IEEE Trans. Neural Networks 5, 157-166.
    """
    norms = _checked(norms)
    check_number("share", share, low=0, high=1)
    top = jnp.where(jnp.isfinite(norms), norms, 0).max(-1, keepdims=True)
    reaches = ~(norms < share * top) & (norms != 0)
    lags = jnp.arange(1, norms.shape[-1] + 1, dtype=jnp.int32)
    return jnp.where(reaches, jnp.broadcast_to(lags, norms.shape), 0).max(-1)


def _checked(norms: Array) -> Array:
    norms = as_floats("norms", norms)
    if not norms.ndim or norms.shape[-1] == 0:
        raise ValueError(
            f"norms: expected an array [..., L], got shape {list(norms.shape)}"
        )
    return jax.lax.stop_gradient(norms)

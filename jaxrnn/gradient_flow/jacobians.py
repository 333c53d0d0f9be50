"""The Jacobians of single steps, their products, and what they imply for the gradient.

J_t = ∂s_t/∂s_{t-1} is an [N, N] matrix per row of the batch, over all parts of the
state: J[i, j] = ∂s_t[i]/∂s_{t-1}[j]. Adjoints use its transpose,
λ_{t-1} = J_tᵀ λ_t + g_{t-1}.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import as_array, as_floats, check_number, check_positive
from jaxrnn._core.folded import pull, units_of
from jaxrnn._core.numerics import global_norm, over_batch
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import trajectory

_SWEEPS = 100  # at most; they end when no logarithm moves by more than _MOVED
_MOVED = 1e-4


class Conditions(NamedTuple):
    """What the weights alone imply for the gradient, as scalars.

    bound: η = σ_max(W_s) sup|Φ'|, so that ‖∂s_t/∂s_k‖ ≤ η^(t-k).
    vanishes: η < 1, sufficient for vanishing; otherwise the gradient may explode.
    spectral_radius: of W_s; for a linear network, below 1 is sufficient for vanishing,
        above 1 necessary for exploding.
    """

    bound: Array
    vanishes: Array
    spectral_radius: Array


def step_jacobians(
    cell: Cell | Layer, params: Any, xs: Array, state: Any = None
) -> Array:
    """The Jacobian of every step of a run.

    Math:    J_t = ∂s_t/∂s_{t-1}, row i the pull-back, by hand, of the i-th unit vector
    Shapes:  xs [T, ..., D], state parts [..., H] -> [T, ..., N, N]; N is the sum of
             the parts' sizes, in the order of `jax.tree.leaves(state)`, without those
             that have no derivative, such as integers.
    Args:
        cell, params: as in `unroll`.
    Cost:    N pull-backs of a step for every row, all steps at once.
    Raises:  ValueError or TypeError, at trace time, as `unroll` does; for a layer with
             a backward direction.
    Source:  Pascanu et al. (2013), arXiv 1211.5063, equation 5.
    """
    xs, before, axes = trajectory(cell, params, xs, state)
    return _step_jacobians(cell, len(axes), params, xs, before)


@partial(jax.jit, static_argnums=(0, 1))
def _step_jacobians(cell, axes, params, xs, before):
    def jacobian(x, state):
        return jax.vmap(partial(pull, cell, params, x, state))(units_of(state))

    return over_batch(jacobian, axes)(xs, before)  # and over time


def jacobian_norms(
    cell: Cell | Layer, params: Any, xs: Array, state: Any = None
) -> Array:
    """How strongly the last state depends on each earlier one.

    Math:    ‖∂s_T/∂s_{T-ℓ}‖ = ‖J_T J_{T-1} … J_{T-ℓ+1}‖, Frobenius
    Shapes:  xs [T, ..., D], state parts [..., H] -> [T + 1, ...], the lags 0..T.
    Args:
        cell, params: as in `unroll`.
    Cost:    one backward sweep, by hand, of N unit vectors per row side by side.
    Raises:  as `step_jacobians`.
    Source:  Pascanu et al. (2013), equation 5, its products.
    """
    xs, before, axes = trajectory(cell, params, xs, state)
    return _jacobian_norms(cell, len(axes) - 1, params, xs, before)


@partial(jax.jit, static_argnums=(0, 1))
def _jacobian_norms(cell, batch_axes, params, xs, before):
    def of_row(xs, before):
        start = units_of(before, 1)

        def one_step(product, step):
            product = jax.vmap(partial(pull, cell, params, *step))(product)
            return product, global_norm(product)

        _, norms = lax.scan(one_step, start, (xs, before), reverse=True)
        return jnp.concatenate([global_norm(start)[None], norms[::-1]])

    return over_batch(of_row, batch_axes, in_axes=1, out_axes=1)(xs, before)


def jacobian_singular_values(jacobians: Array, *, window: int = 1) -> Array:
    """Natural logarithms of the singular values of steps, or of windows of steps.

    Math:    log σ_i of J_t J_{t-1} … J_{t-w+1}. The product is never formed: with
             J_k Q_{k-1} = Q_k R_k (QR), it is Q_w (R_w … R_1), and log σ is Σ_k of the
             logarithms of R_k's diagonal once the triangular product is diagonal. It is
             made so by repeating this with its transpose; each time, the rest shrinks
             by the factor (σ_{i+1}/σ_i)².
    Shapes:  jacobians [T, ..., N, N], as from `step_jacobians` ->
             [T // window, ..., N], the largest first; windows do not overlap, and steps
             left over at the end are not used.
    Args:
        window: w, the steps of one product.
    Edge:    for a window of several steps, logarithms less than 0.01 apart are accurate
             only to that, all others to 1e-4 or better; -inf where σ is 0.
    Raises:  ValueError for a wrong shape or a window outside 1..T, TypeError if the
             dtype is not floating.
    Source:  the product in factors: Golub, Sølna & Van Dooren (2000), SIAM J. Matrix
             Anal. Appl. 22, 1-19; repeated QR: Stewart (1999), SIAM J. Sci. Comput.
             20, 1336-1348.
    """
    jacobians = as_floats("jacobians", jacobians)
    _check_square("jacobians", jacobians, "[T, ..., N, N]", 3)
    steps = len(jacobians)
    check_positive("window", window)
    if window > steps:
        raise ValueError(f"window: expected at most the {steps} steps, got {window}")
    return _log_singular_values(window, jacobians)


@partial(jax.jit, static_argnums=0)
def _log_singular_values(window, jacobians):
    if window == 1:
        return jnp.log(jnp.linalg.svd(jacobians, compute_uv=False))
    count = len(jacobians) // window
    folded = jacobians[: count * window]
    of_product = _log_singular_values_of_product
    of_product = over_batch(of_product, jacobians.ndim - 3, in_axes=1)
    return jax.vmap(of_product)(folded.reshape(count, window, *jacobians.shape[1:]))


def _log_singular_values_of_product(factors: Array) -> Array:
    """The same of the product factors[-1] … factors[0], [w, N, N]."""

    def triangular(factors):
        def one(q, factor):
            q, r = jnp.linalg.qr(factor @ q)
            return q, r

        start = jnp.eye(factors.shape[-1], dtype=factors.dtype)
        return lax.scan(one, start, factors)[1]

    def logs(factors):
        return jnp.log(jnp.abs(jnp.diagonal(factors, axis1=1, axis2=2))).sum(0)

    def unsettled(carry):
        sweep, _, moved = carry
        return (sweep < _SWEEPS) & (moved > _MOVED)

    def transposed(carry):
        sweep, factors, _ = carry
        new = triangular(jnp.swapaxes(factors[::-1], -1, -2))
        moved = jnp.abs(logs(new) - logs(factors))
        return sweep + 1, new, jnp.where(jnp.isnan(moved), 0, moved).max()

    first = triangular(factors)
    start = (0, first, jnp.asarray(jnp.inf, factors.dtype))
    _, factors, _ = lax.while_loop(unsettled, transposed, start)
    return jnp.sort(logs(factors))[::-1]


def spectral_radius(matrices: Array) -> Array:
    """The largest absolute eigenvalue.

    Shapes:  matrices [..., N, N] -> [...], such as an Elman network's W_s, one gate's
             part of W_s, or `step_jacobians`.
    Raises:  TypeError if it is not an array; ValueError if the last two axes differ.
    """
    matrices = as_array("matrices", matrices)
    _check_square("matrices", matrices, "[..., N, N]", 2)
    return jnp.abs(jnp.linalg.eigvals(matrices)).max(-1)


def vanishing_conditions(w_s: Array, slope: float = 1.0) -> Conditions:
    """What an Elman network's recurrent weights alone imply for its gradient.

    Math:    ‖∂s_t/∂s_{t-1}‖ ≤ σ_max(W_s) sup|Φ'| = η; η < 1: it vanishes
    Args:
        w_s: [H, H].
        slope: sup|Φ'|: 1 for tanh, relu and identity, 1/4 for sigmoid.
    Returns: `Conditions`.
    Raises:  TypeError if w_s is not an array; ValueError if it is not square or slope
             not positive.
    Source:  Pascanu et al. (2013), arXiv 1211.5063, §2.1: with γ = sup|Φ'|, σ_max < 1/γ
             is sufficient for vanishing; σ_max > 1/γ is necessary for exploding.
    """
    w_s = as_array("w_s", w_s)
    _check_square("w_s", w_s, "[H, H], a gate's own part of it,", 2)
    check_number("slope", slope, low=0)
    bound = slope * jnp.linalg.norm(w_s, 2, axis=(-2, -1))
    return Conditions(bound, bound < 1, spectral_radius(w_s))


def _check_square(name: str, value: Array, shape: str, rank: int) -> None:
    if value.ndim < rank or value.shape[-1] != value.shape[-2]:
        raise ValueError(f"{name}: expected shape {shape}, got {list(value.shape)}")

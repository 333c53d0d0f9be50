"""The linear recurrent unit: complex units, each rotated and shrunk at every step.

    h_t = λ ⊙ h_{t-1} + γ ⊙ (x_t B)      λ = exp(-exp(ν) + i exp(θ)), γ = exp(log γ)

N complex units are stored as 2N real ones, real parts first, so that W_x [D, 2N] is
B = [Re B, Im B], and a readout W_y [2N, O] of [Re C; -Im C] gives Re(h C). |λ| is below
1 for every ν. Linear in the state, with constant coefficients; W_s is [2N, 0].

Source: Orvieto et al. (2023), arXiv 2303.06349, §3 and appendix A.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_number
from jaxrnn._core.numerics import spread
from jaxrnn.cell import Cell, Params, State
from jaxrnn.cells._parts import make_init, zero_state


class Ring(NamedTuple):
    """[N] each: the logs of the decay, of the angle and of the input's scale."""

    nu_log: Array
    theta_log: Array
    gamma_log: Array


def _turn(own: Ring, like: Array) -> tuple[Array, Array, Array]:
    """|λ| cos, |λ| sin of the angle, and γ, each of the rank of `like`."""
    size = jnp.exp(-jnp.exp(own.nu_log))
    angle = jnp.exp(own.theta_log)
    rows = size * jnp.cos(angle), size * jnp.sin(angle), jnp.exp(own.gamma_log)
    cos, sin, gamma = (spread(row, like) for row in rows)
    return cos, sin, gamma


def _gate(own, z, r, state_prev):
    del r
    cos, sin, gamma = _turn(own, z)
    re, im = jnp.split(state_prev.h, 2, axis=-1)
    z_re, z_im = jnp.split(z, 2, axis=-1)
    new_re = cos * re - sin * im + gamma * z_re
    new_im = sin * re + cos * im + gamma * z_im
    return State(jnp.concatenate([new_re, new_im], axis=-1)), None


def _linearize(own, kept, state_prev, state):
    del own, kept, state_prev, state  # the coefficients are the same at every step


def _pullback(own, coefficients, adjoint):
    del coefficients
    cos, sin, gamma = _turn(own, adjoint.h)
    re, im = jnp.split(adjoint.h, 2, axis=-1)
    d_z = jnp.concatenate([gamma * re, gamma * im], axis=-1)
    # the transposed rotation turns back
    before = jnp.concatenate([cos * re + sin * im, cos * im - sin * re], axis=-1)
    return d_z, d_z[..., :0], State(before)


def _halve(params: Params) -> Params:
    """Give Re B and Im B half of the variance each."""
    return params._replace(w_x=params.w_x / math.sqrt(2))


@by_value
def lru(
    *, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 2 * math.pi
) -> Cell[State]:
    """The LRU cell: w_x [D, 2N], w_s [2N, 0], `own` a `Ring` [N]; hidden_size is 2N.

    Args:
        r_min, r_max: λ is drawn uniformly from the ring between these radii.
        max_phase: the largest angle of λ, in radians. γ starts as sqrt(1 - |λ|²).
    Returns: a `Cell` with a `State`.
    Raises:  TypeError if one is not a number; ValueError unless 0 <= r_min < r_max <= 1
             and 0 < max_phase <= 2π; from init, for an odd hidden_size.
    Source:  Orvieto et al. (2023), equations 4-7; the start: §3.2.2 and appendix A.
    """
    sizes = {"r_min": r_min, "r_max": r_max, "max_phase": max_phase}
    for name, size in sizes.items():
        check_number(name, size)
    if not 0 <= r_min < r_max <= 1:
        raise ValueError(
            f"r_min and r_max: expected 0 <= r_min < r_max <= 1, got {r_min}, {r_max}"
        )
    if not 0 < max_phase <= 2 * math.pi:
        raise ValueError(f"max_phase: expected it in (0, 2π], got {max_phase}")

    def own(key, params):
        units, rest = divmod(len(params.w_s), 2)
        if rest:
            raise ValueError(
                "hidden_size: expected an even number, two real units for each "
                f"complex one, got {len(params.w_s)}"
            )
        k_size, k_angle = jax.random.split(key)
        # Not up to the ring's limits, where a logarithm would be infinite.
        low, high = 1e-4, 1 - 1e-4
        area = jax.random.uniform(k_size, (units,), jnp.float32, low, high)
        turn = jax.random.uniform(k_angle, (units,), jnp.float32, low, high)
        squared = area * (r_max**2 - r_min**2) + r_min**2  # |λ|², uniform over the ring
        rows = (
            jnp.log(-0.5 * jnp.log(squared)),
            jnp.log(max_phase * turn),
            0.5 * jnp.log(1 - squared),
        )
        return Ring(*(row.astype(params.w_s.dtype) for row in rows))

    return Cell(
        init=make_init(gates=1, recurrent_gates=0, own=own, adjust=_halve),
        initial_state=partial(zero_state, State),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=1,
        linear="complex",
    )

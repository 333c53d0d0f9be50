"""Long short-term memory with a forget gate; gates in the order i, f, g, o.

    a_t = z_t + r_t = x_t W_x + h_{t-1} W_s + b = [a_i, a_f, a_g, a_o]
    i, f, o = σ(a_i), σ(a_f), σ(a_o)      g = tanh(a_g)
    c_t = f ⊙ c_{t-1} + i ⊙ g
    h_t = o ⊙ tanh(c_t)

Since σ(a) = ½ tanh(a/2) + ½, the four gates are one tanh over [..., 4H], which XLA's
CPU backend vectorises as a whole.

Source: Hochreiter & Schmidhuber (1997), Neural Computation 9, 1735-1780; the forget
gate: Gers, Schmidhuber & Cummins (2000), Neural Computation 12, equations 2-6.
"""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_flag, check_number, check_positive
from jaxrnn.cell import Cell, LSTMState, Params
from jaxrnn.cells._lstm_parts import make_cell
from jaxrnn.cells._parts import make_init, zero_state


def _wide(values: list[float], like: Array) -> Array:
    """One constant per gate, repeated over its H columns of `like` [..., 4H]."""
    row = np.repeat(values, like.shape[-1] // 4)
    return jnp.asarray(row.reshape((1,) * (like.ndim - 1) + row.shape), like.dtype)


def _split(t: Array) -> tuple[Array, ...]:
    """The gates i, f, g, o of the wide tanh."""
    t_i, t_f, g, t_o = jnp.split(t, 4, axis=-1)
    return 0.5 * t_i + 0.5, 0.5 * t_f + 0.5, g, 0.5 * t_o + 0.5


def _gate(own, z, r, state_prev):
    del own
    a = z + r
    # The wide tanh t of [a_i/2, a_f/2, a_g, a_o/2]
    t = jnp.tanh(a * _wide([0.5, 0.5, 1.0, 0.5], a))
    i, f, g, o = _split(t)
    c = f * state_prev.c + i * g
    return LSTMState(o * jnp.tanh(c), c), t


class _Coefficients(NamedTuple):
    slopes: Array  # [..., 4H], ∂c_t/∂a for i, f, g and ∂h_t/∂a for o
    h_to_c: Array  # ∂h_t/∂c_t
    c_to_c: Array  # ∂c_t/∂c_{t-1}


def _linearize(own, t, state_prev, state):
    del own
    i, f, g, o = _split(t)
    tanh_c = jnp.tanh(state.c)
    # σ' = σ(1-σ) = ¼(1-t²) where σ = ½t + ½; tanh' = 1-t².
    own_slope = (1 - t * t) * _wide([0.25, 0.25, 1.0, 0.25], t)
    # ∂c/∂i = g   ∂c/∂f = c_{t-1}   ∂c/∂g = i   ∂h/∂o = tanh(c_t)
    reach = jnp.concatenate([g, state_prev.c, i, tanh_c], axis=-1)
    return _Coefficients(own_slope * reach, o * (1 - tanh_c * tanh_c), f)


def _pullback(own, coefficients, adjoint):
    del own
    # ∂E/∂c_t = λ^c_t + λ^h_t ⊙ o ⊙ (1 - tanh²(c_t)), c_t reaching E through h_t as well
    d_c = adjoint.c + adjoint.h * coefficients.h_to_c
    # δ_i, δ_f, δ_g come through c_t, δ_o through h_t
    delta = jnp.concatenate([d_c, d_c, d_c, adjoint.h], axis=-1) * coefficients.slopes
    # c_{t-1} acts through f ⊙ c_{t-1}; h_{t-1} through r_t alone
    d_c_prev = d_c * coefficients.c_to_c
    return delta, delta, LSTMState(jnp.zeros_like(d_c), d_c_prev)


def _forget_bias(value: float, params: Params) -> Params:
    if params.b is None:
        return params
    return params._replace(b=_wide([0.0, value, 0.0, 0.0], params.b))


@by_value
def lstm(
    *,
    forget_bias: float = 1.0,
    peepholes: bool = False,
    coupled: bool = False,
    projection: int | None = None,
    projection_bias: bool = False,
    memory_clip: float | None = None,
    memory_norm: bool = False,
) -> Cell[LSTMState]:
    """The LSTM cell; gates in the order i, f, g, o.

    The columns of w_x [D, 4H], w_s [H, 4H] and b [4H] have that order: 4 (D H + H² + H)
    parameters. Coupled gates make 4 a 3; peepholes add 3 H, or 2 H if coupled; a
    projection makes it 4 (D H + P H + H) + H P; memory_norm adds 2 H.

    Args:
        forget_bias: the forget gate's bias at initialisation (with `bias=True`). At 1
            a new cell keeps σ(1) = 73 % of its memory per step; at 0, half.
        peepholes: the gates see the memory; `own.p_i`, `own.p_f`, `own.p_o` [H].
        coupled: the forget gate is 1 - i; three gates, in the order i, g, o.
        projection: h is m W_p, with P features; `own.w_p` [H, P], w_s [P, 4H].
        projection_bias: h is m W_p + b_p; `own.b_p` [P], zeros at initialisation, also
            with `bias=False`. Needs a projection.
        memory_clip: c is clipped to [-memory_clip, memory_clip] after each step, before
            the output gate sees it; no gradient passes through clipped elements.
        memory_norm: the memory is layer-normalised on its way to h; `own.gain` and
            `own.shift` [H]. `layer_norm(lstm(...))` also normalises both maps.
    Returns: a `Cell` with an `LSTMState`.
    Raises:  ValueError or TypeError for a projection that is not a positive integer, a
             projection_bias without one, a forget_bias that is not a number, a clip
             that is not positive, or a flag that is not True or False.
    Source:  Gers et al. (2000), equations 2-6; the bias of 1: Jozefowicz, Zaremba &
             Sutskever (2015), ICML, §3.2; the parts: `jaxrnn.cells._lstm_parts`.
    """
    flags = {"peepholes": peepholes, "coupled": coupled}
    flags |= {"projection_bias": projection_bias, "memory_norm": memory_norm}
    for name, flag in flags.items():
        check_flag(name, flag)
    check_positive("projection", projection, optional=True)
    if projection_bias and projection is None:
        raise ValueError(
            "projection_bias: expected a projection with it, such as projection=8, "
            "got projection=None"
        )
    check_number("forget_bias", forget_bias)
    if memory_clip is not None:
        check_number("memory_clip", memory_clip, low=0)
    sizes = {"projection": projection, "memory_clip": memory_clip}
    if any(flags.values()) or any(size is not None for size in sizes.values()):
        return make_cell(forget_bias, **flags, **sizes)
    return Cell(
        init=make_init(gates=4, adjust=partial(_forget_bias, forget_bias)),
        initial_state=partial(zero_state, LSTMState),
        gate=_gate,
        linearize=_linearize,
        pullback=_pullback,
        gates=4,
        independent=True,
    )

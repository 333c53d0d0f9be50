"""The gate maps of ONNX's RNN, LSTM and GRU with all their options.

f, g, h are the operator's activations; each sees its input clipped to ±clip:

    RNN    h_t = f(z + r)
    LSTM   i = f(a_i + P_i ⊙ c_{t-1})     f_t = f(a_f + P_f ⊙ c_{t-1}), or 1 - i
           c_t = f_t ⊙ c_{t-1} + i ⊙ g(a_g)
           o = f(a_o + P_o ⊙ c_t)         h_t = o ⊙ h(c_t)
    GRU    ρ = f(z_ρ + r_ρ)   u = f(z_u + r_u)   n = g(z_n + ρ ⊙ r_n)
           or n = g(z_n + (ρ ⊙ h_{t-1}) W_n)     h_t = (1-u) ⊙ n + u ⊙ h_{t-1}

Columns are in the library's order: i, f, g, o (i, g, o where f = 1 - i) and r, z, n.
Where the options are the usual ones, the library's own cells serve instead. The
derivative of these comes from `jax.vjp`; the same options give the same cell.

Source: ONNX operators RNN, LSTM and GRU, version 22.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.numerics import spread
from jaxrnn.cell import Cell, LSTMState, State
from jaxrnn.cells import custom_cell
from jaxrnn.cells._lstm_parts import Parts
from jaxrnn.cells._parts import draw_candidate, make_init, zero_state
from jaxrnn.convert.common import check_choice


class Activation(NamedTuple):
    """An elementwise function by its name in ONNX, and its constants."""

    name: str
    alpha: float = 0.0
    beta: float = 0.0


class Known(NamedTuple):
    """A function of (a, alpha, beta), and what it takes for them by default.

    None where it takes none; NaN where ONNX has no operator that gives a default.
    """

    function: Callable[[Array, float, float], Array]
    alpha: float | None = None
    beta: float | None = None


KNOWN = {
    "Relu": Known(lambda a, alpha, beta: jax.nn.relu(a)),
    "Tanh": Known(lambda a, alpha, beta: jnp.tanh(a)),
    "Sigmoid": Known(lambda a, alpha, beta: jax.nn.sigmoid(a)),
    "Affine": Known(lambda a, alpha, beta: alpha * a + beta, math.nan, math.nan),
    "LeakyRelu": Known(lambda a, alpha, beta: jnp.where(a >= 0, a, alpha * a), 0.01),
    "ThresholdedRelu": Known(
        lambda a, alpha, beta: jnp.where(a >= alpha, a, jnp.zeros_like(a)), 1.0
    ),
    "ScaledTanh": Known(
        lambda a, alpha, beta: alpha * jnp.tanh(beta * a), math.nan, math.nan
    ),
    "HardSigmoid": Known(
        lambda a, alpha, beta: jnp.clip(alpha * a + beta, 0.0, 1.0), 0.2, 0.5
    ),
    "Elu": Known(
        # exp only of what is below 0: beyond, it overflows and its slope is NaN
        lambda a, alpha, beta: jnp.where(
            a >= 0, a, alpha * jnp.expm1(jnp.where(a >= 0, jnp.zeros_like(a), a))
        ),
        1.0,
    ),
    "Softsign": Known(lambda a, alpha, beta: a / (1 + jnp.abs(a))),
    "Softplus": Known(lambda a, alpha, beta: jax.nn.softplus(a)),
}


def _of(activation: Activation, clip: float | None) -> Callable[[Array], Array]:
    def apply(a):
        a = a if clip is None else jnp.clip(a, -clip, clip)
        return KNOWN[activation.name].function(a, activation.alpha, activation.beta)

    return apply


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def read_activations(usual, names, alphas, betas) -> tuple[Activation, ...]:
    """The activations of every direction, each with its constants.

    Args:
        usual: the names of those by default.
        alphas, betas: consumed in order by the activations that take one.
    """
    names = usual if names is None else names
    if isinstance(names, str) or len(names) != len(usual):
        raise ValueError(
            f"activations: expected a list of {len(usual)}, one in place of each of "
            f"{list(usual)}, got {names!r}"
        )
    rest = {}
    for label, values in (("activation_alpha", alphas), ("activation_beta", betas)):
        values = [] if values is None else list(values)
        for value in values:
            if not is_number(value):
                raise TypeError(f"{label}: expected numbers, got {value!r}")
        rest[label] = [float(value) for value in values]

    def constant(name, label, default):
        if default is None:
            return 0.0
        if not rest[label] and math.isnan(default):
            raise ValueError(f"{label}: expected a value for {name}, got none")
        return rest[label].pop(0) if rest[label] else default

    found = []
    for name in names:
        check_choice("activations", name, tuple(KNOWN))
        known = KNOWN[name]
        alpha = constant(name, "activation_alpha", known.alpha)
        beta = constant(name, "activation_beta", known.beta)
        found.append(Activation(name, alpha, beta))
    for label, values in rest.items():
        if values:
            raise ValueError(
                f"{label}: expected at most one value for each activation that takes "
                f"one, in {list(names)}, got {len(values)} too many"
            )
    return tuple(found)


@lru_cache
def rnn_cell(f: Activation, clip: float | None) -> Cell:
    """ONNX's RNN."""
    act = _of(f, clip)

    def gate(own, z, r, state_prev):
        del own, state_prev
        return State(act(z + r))

    return custom_cell(gate, gates=1, state=State)


@lru_cache
def lstm_cell(
    f: Activation,
    g: Activation,
    h: Activation,
    clip: float | None,
    peepholes: bool,
    coupled: bool,
) -> Cell:
    """ONNX's LSTM; `own` is `Parts`, None without peepholes and coupling."""
    gates = 3 if coupled else 4
    f_of, g_of, h_of = (_of(activation, clip) for activation in (f, g, h))

    def seen(a, peephole, c):
        return a if peephole is None else a + spread(peephole, a) * c

    def gate(own, z, r, state_prev):
        own = own or Parts()
        a_i, *a_f, a_g, a_o = jnp.split(z + r, gates, axis=-1)
        i = f_of(seen(a_i, own.p_i, state_prev.c))
        keep = 1 - i if coupled else f_of(seen(a_f[0], own.p_f, state_prev.c))
        c = keep * state_prev.c + i * g_of(a_g)
        o = f_of(seen(a_o, own.p_o, c))
        return LSTMState(o * h_of(c), c)

    cell = custom_cell(gate, gates=gates, state=LSTMState)

    def init(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32):
        params = cell.init(key, input_size, hidden_size, bias=bias, dtype=dtype)
        zeros = jnp.zeros(hidden_size, dtype) if peepholes else None
        return params._replace(own=Parts(zeros, None if coupled else zeros, zeros))

    return cell._replace(init=init) if peepholes or coupled else cell


@lru_cache
def gru_cell(
    f: Activation, g: Activation, clip: float | None, reset_after: bool
) -> Cell:
    """ONNX's GRU; with `reset_after=False`, `own` is `Candidate` and W_s [H, 2H]."""
    f_of, g_of = _of(f, clip), _of(g, clip)
    if not reset_after:
        return _reset_before(f_of, g_of)

    def gate(own, z, r, state_prev):
        del own
        (z_r, z_u, z_n), (r_r, r_u, r_n) = (jnp.split(a, 3, axis=-1) for a in (z, r))
        n = g_of(z_n + f_of(z_r + r_r) * r_n)
        u = f_of(z_u + r_u)
        return State((1 - u) * n + u * state_prev.h)

    return custom_cell(gate, gates=3, state=State)


class _Coefficients(NamedTuple):
    gated: Any  # the pull-back of ρ ⊙ h_{t-1}
    blend: Any  # and of what follows its product with W_n


def _reset_before(f_of, g_of) -> Cell:
    # Two elementwise maps about the product, so that no step stores a W_n of its own.
    def gated(z_r, r_r, h):
        return f_of(z_r + r_r) * h

    def blend(z_u, r_u, z_n, p, h):
        u = f_of(z_u + r_u)
        return (1 - u) * g_of(z_n + p) + u * h

    def operands(z, r, h):
        z_r, z_u, z_n = jnp.split(z, 3, axis=-1)
        r_r, r_u = jnp.split(r, 2, axis=-1)
        return (z_r, r_r, h), (z_u, r_u, z_n)

    def gate(own, z, r, state_prev):
        first, second = operands(z, r, state_prev.h)
        p = gated(*first) @ own.w_n
        return State(blend(*second, p, state_prev.h)), (z, r, p)

    def linearize(own, kept, state_prev, state):
        del own, state
        z, r, p = kept
        first, second = operands(z, r, state_prev.h)
        pulls = (
            jax.vmap(lambda *step, f=f: jax.vjp(f, *step)[1]) for f in (gated, blend)
        )
        pull_gated, pull_blend = pulls
        return _Coefficients(pull_gated(*first), pull_blend(*second, p, state_prev.h))

    def pullback(own, coefficients, adjoint):
        d_zu, d_ru, d_zn, d_p, d_h = coefficients.blend(adjoint.h)
        d_zr, d_rr, d_h_gated = coefficients.gated(d_p @ own.w_n.T)
        d_z = jnp.concatenate([d_zr, d_zu, d_zn], axis=-1)
        d_r = jnp.concatenate([d_rr, d_ru], axis=-1)
        return d_z, d_r, State(d_h + d_h_gated)

    return Cell(
        init=make_init(gates=3, recurrent_gates=2, own=draw_candidate),
        initial_state=partial(zero_state, State),
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=3,
    )

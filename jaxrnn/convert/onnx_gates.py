"""The gate maps of ONNX's RNN, LSTM and GRU with all options; used for Keras as well.

f, g, h are the operator's activations, with inputs clipped to ±clip:

    RNN    h_t = f(z + r)
    LSTM   i = f(a_i + P_i ⊙ c_{t-1})     f_t = f(a_f + P_f ⊙ c_{t-1}), or 1 - i
           c_t = f_t ⊙ c_{t-1} + i ⊙ g(a_g)
           o = f(a_o + P_o ⊙ c_t)         h_t = o ⊙ h(c_t)
    GRU    ρ = f(z_ρ + r_ρ)   u = f(z_u + r_u)   n = g(z_n + ρ ⊙ r_n)
           or n = g(z_n + (ρ ⊙ h_{t-1}) W_n)     h_t = (1-u) ⊙ n + u ⊙ h_{t-1}

Columns are in the library's order: i, f, g, o (i, g, o where f = 1 - i) and r, z, n.
With the usual options, the library's own cells are used instead. The derivative of
these gate maps comes from JAX; the same options give the same cell.

Source: ONNX operators RNN, LSTM and GRU, version 22.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.checks import check_number
from jaxrnn.cell import Cell, LSTMState
from jaxrnn.cells import custom_cell, elman, gru, lstm
from jaxrnn.convert._arrays import check_choice, check_type

USUAL = {
    "elman": ("Tanh",),
    "lstm": ("Sigmoid", "Tanh", "Tanh"),
    "gru": ("Sigmoid", "Tanh"),
}
_LISTS = Sequence | np.ndarray  # types of an operator's attributes


# By name: a function of (a, alpha, beta), as many as it takes, and their defaults; None
# where ONNX has no operator of that name, and so no default.
KNOWN: dict[str, tuple[Callable[..., Array], dict[str, float | None]]] = {
    "Relu": (jax.nn.relu, {}),
    "Tanh": (jnp.tanh, {}),
    "Sigmoid": (jax.nn.sigmoid, {}),
    "Affine": (lambda a, alpha, beta: alpha * a + beta, {"alpha": None, "beta": None}),
    "LeakyRelu": (lambda a, alpha: jnp.where(a >= 0, a, alpha * a), {"alpha": 0.01}),
    "ThresholdedRelu": (
        lambda a, alpha: jnp.where(a >= alpha, a, jnp.zeros_like(a)),
        {"alpha": 1.0},
    ),
    "ScaledTanh": (
        lambda a, alpha, beta: alpha * jnp.tanh(beta * a),
        {"alpha": None, "beta": None},
    ),
    "HardSigmoid": (
        lambda a, alpha, beta: jnp.clip(alpha * a + beta, 0.0, 1.0),
        {"alpha": 0.2, "beta": 0.5},
    ),
    # exp only of values below 0: above, it overflows and its slope is NaN
    "Elu": (
        lambda a, alpha: jnp.where(
            a >= 0, a, alpha * jnp.expm1(jnp.where(a >= 0, jnp.zeros_like(a), a))
        ),
        {"alpha": 1.0},
    ),
    "Softsign": (lambda a: a / (1 + jnp.abs(a)), {}),
    "Softplus": (jax.nn.softplus, {}),
}


def read_activations(
    kind: str,
    count: int,
    names: Sequence[str] | None,
    alphas: Sequence[float] | None,
    betas: Sequence[float] | None,
) -> list[tuple[Any, ...]]:
    """Each direction's activations, each as its name and then its constants.

    Args:
        count: the number of directions.
        names: in upper or lower case, as in ONNX Runtime.
        alphas, betas: taken in order by the activations that need one.
    """
    usual = USUAL[kind] * count
    names = usual if names is None else names
    listed = isinstance(names, _LISTS) and not isinstance(names, str)
    if not listed or len(names) != len(usual):
        raise ValueError(
            f"activations: expected a list of {len(usual)}, one in place of each of "
            f"{list(usual)}, got {names!r}"
        )
    rest = {}
    for which, values in (("alpha", alphas), ("beta", betas)):
        values = () if values is None else values
        check_type(f"activation_{which}", values, _LISTS, "a list of numbers")
        for value in values:
            check_number(f"activation_{which}", value)
        rest[which] = list(values)
    found, any_case = [], {name.lower(): name for name in KNOWN}
    for given in names:
        name = any_case.get(str(given).lower(), "")
        check_choice("activations", name or given, list(KNOWN))
        constants = []
        for which, default in KNOWN[name][1].items():
            value = rest[which].pop(0) if rest[which] else default
            if value is None:
                raise ValueError(
                    f"activation_{which}: expected a value for {name}, got none"
                )
            constants.append(float(value))
        found.append((name, *constants))
    for which, values in rest.items():
        if values:
            raise ValueError(
                f"activation_{which}: expected at most one value for each activation "
                f"that takes one, in {list(names)}, got {len(values)} too many"
            )
    each = len(USUAL[kind])
    return [tuple(found[k : k + each]) for k in range(0, len(found), each)]


# Cells ----------------------------------------------------------------------------


@cache  # one record, so that jit sees one static value
def onnx_cell(
    kind: str, functions: tuple[Any, ...], clip: float | None, **parts: bool
) -> Cell:
    """The library's own cell if it is the same, else one with another gate map.

    Args:
        functions: one direction's activations, from `read_activations`.
        clip: limit of every activation's input.
        parts: options of the library's cell that differ from the defaults.
    """
    names = tuple(name for name, *_ in functions)
    if kind == "elman" and clip is None and names[0] in ("Relu", "Sigmoid"):
        return elman("relu" if names[0] == "Relu" else "sigmoid")
    makers: dict[str, Any] = {"elman": elman, "lstm": lstm, "gru": gru}
    like = makers[kind](**parts)
    if clip is None and names == USUAL[kind]:
        return like
    maps = [_elementwise(clip, *f) for f in functions]
    if kind == "elman":
        return elman(*maps)
    if "reset_after" in parts:
        return _reset_before(like, *maps)
    gate = _gru_gate(*maps) if kind == "gru" else _lstm_gate("coupled" in parts, *maps)
    cell = custom_cell(gate, gates=like.gates)
    return like._replace(
        gate=cell.gate, linearize=cell.linearize, pullback=cell.pullback
    )


def _elementwise(clip: float | None, name: str, *constants: float) -> Any:
    def apply(a):
        a = a if clip is None else jnp.clip(a, -clip, clip)
        return KNOWN[name][0](a, *constants)

    return apply


def _lstm_gate(coupled: bool, f_of, g_of, h_of) -> Callable[..., LSTMState]:
    def seen(a, own, part, c):
        peephole = getattr(own, part, None)
        return a if peephole is None else a + jnp.broadcast_to(peephole, c.shape) * c

    def gate(own, z, r, state_prev):
        c_prev = state_prev.c
        a_i, *a_f, a_g, a_o = jnp.split(z + r, 3 if coupled else 4, axis=-1)
        i = f_of(seen(a_i, own, "p_i", c_prev))
        keep = 1 - i if coupled else f_of(seen(a_f[0], own, "p_f", c_prev))
        c = keep * c_prev + i * g_of(a_g)
        o = f_of(seen(a_o, own, "p_o", c))
        return LSTMState(o * h_of(c), c)

    return gate


def _gru_gate(f_of, g_of) -> Callable[..., Any]:
    def gate(own, z, r, state_prev):
        del own
        (z_r, z_u, z_n), (r_r, r_u, r_n) = (jnp.split(a, 3, axis=-1) for a in (z, r))
        n = g_of(z_n + f_of(z_r + r_r) * r_n)
        u = f_of(z_u + r_u)
        return state_prev._replace(h=(1 - u) * n + u * state_prev.h)

    return gate


class _Coefficients(NamedTuple):
    gated: Any  # the pull-back of ρ ⊙ h_{t-1}
    blend: Any  # and of what follows its product with W_n


def _reset_before(like: Cell, f_of, g_of) -> Cell:
    # Two elementwise maps around the product, so that no step stores a copy of W_n.
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
        h = blend(*second, p, state_prev.h)
        return state_prev._replace(h=h), (z, r, p)

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
        return d_z, d_r, adjoint._replace(h=d_h + d_h_gated)

    return like._replace(gate=gate, linearize=linearize, pullback=pullback)

"""The LSTM with optional parts.

    a_t = x_t W_x + h_{t-1} W_s + b, and, with peepholes, the gates see the memory:
    i = σ(a_i + p_i ⊙ c_{t-1})     f = σ(a_f + p_f ⊙ c_{t-1})     g = tanh(a_g)
    f = 1 - i                      with the two gates coupled; columns i, g, o
    c_t = f ⊙ c_{t-1} + i ⊙ g     clipped to [-κ, κ], with a clip of the memory
    o = σ(a_o + p_o ⊙ c_t)
    m_t = o ⊙ tanh(c_t), or o ⊙ tanh(LN(c_t))
    h_t = m_t, or m_t W_p + b_p    with a projection; h [..., P], W_s [P, 4H]

Source: peepholes: Gers, Schraudolph & Schmidhuber (2002), JMLR 3, 115-143; coupled:
Greff et al. (2017), arXiv 1503.04069, "CIFG"; projection: Sak, Senior & Beaufays
(2014), arXiv 1402.1128, equations 1-6; LN(c): Ba, Kiros & Hinton (2016), equation 22;
b_p: LiteRT's LSTM, `projection_bias`; the clip, and that the gate o sees the clipped
memory: TensorFlow's LSTMCell (tf.compat.v1.nn.rnn_cell), `cell_clip`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.numerics import add_bias, spread
from jaxrnn.cell import Cell, LSTMState
from jaxrnn.cells._parts import make_init, own_params, zeros_of
from jaxrnn.cells.layer_norm import Standard, pull_standard, rescale, standardize


class Parts(NamedTuple):
    """The gate map's own parameters; None for parts that are off.

    Shapes:  p_i, p_f, p_o [H], the peepholes; w_p [H, P], b_p [P], the projection;
             gain, shift [H], of LN(c).
    """

    p_i: Array | None = None
    p_f: Array | None = None
    p_o: Array | None = None
    w_p: Array | None = None
    gain: Array | None = None
    shift: Array | None = None
    b_p: Array | None = None


class _Kept(NamedTuple):
    i: Array
    f: Array
    g: Array
    o: Array
    y: Array  # tanh(c_t) or tanh(LN(c_t))
    norm: Standard | None


class _Coefficients(NamedTuple):
    to_i: Array  # ∂c_t/∂a_i, before the clip
    to_f: Array | None  # ∂c_t/∂a_f, before the clip
    to_g: Array  # ∂c_t/∂a_g, before the clip
    to_o: Array  # ∂m_t/∂a_o
    to_c: Array  # ∂m_t/∂c_t beside o, or ∂m_t/∂LN(c_t)
    f: Array  # ∂c_t/∂c_{t-1} beside the gates, before the clip
    norm: Standard | None
    inside: Array | None  # the clip's slope: 1 for |c_t| < κ, else 0


def _seen(a: Array, peephole: Array | None, c: Array) -> Array:
    return a if peephole is None else a + spread(peephole, c) * c


def _through(d: Array, peephole: Array | None) -> Any:
    """The gradient that a gate sends to the memory through its peephole."""
    return 0.0 if peephole is None else d * spread(peephole, d)


def make_cell(
    forget_bias: float,
    peepholes: bool,
    coupled: bool,
    projection: int | None,
    projection_bias: bool,
    memory_clip: float | None,
    memory_norm: bool,
) -> Cell[LSTMState]:
    """The cell with these parts; `lstm` checks them."""
    gates = 3 if coupled else 4

    def own(key, params):
        dtype = params.w_x.dtype
        hidden_size = params.w_x.shape[1] // gates
        zeros = jnp.zeros(hidden_size, dtype)
        own = Parts()
        if peepholes:
            own = own._replace(p_i=zeros, p_f=None if coupled else zeros, p_o=zeros)
        if projection is not None:
            draw = jax.nn.initializers.lecun_normal()
            w_p = draw(key, (hidden_size, projection), jnp.float32)
            own = own._replace(w_p=w_p.astype(dtype))
        if projection_bias:
            own = own._replace(b_p=jnp.zeros(projection, dtype))
        if memory_norm:
            own = own._replace(gain=jnp.ones_like(zeros), shift=zeros)
        return own

    def forget_bias_in(params):
        if params.b is None:
            return params
        # σ(-b) = 1 - σ(b): the coupled forget gate starts like the plain one
        first = [-forget_bias, 0, 0] if coupled else [0, forget_bias, 0, 0]
        b = jnp.asarray(first, params.b.dtype)
        return params._replace(b=jnp.repeat(b, len(params.b) // gates))

    def initial_state(params, batch_shape=()):
        exposed, wide = own_params(params).w_s.shape
        return LSTMState(*zeros_of(params, batch_shape, (exposed, wide // gates)))

    def gate(own, z, r, state_prev):
        c_prev = state_prev.c
        a_i, *a_f, a_g, a_o = jnp.split(z + r, gates, axis=-1)
        i = jax.nn.sigmoid(_seen(a_i, own.p_i, c_prev))
        f = 1 - i if coupled else jax.nn.sigmoid(_seen(a_f[0], own.p_f, c_prev))
        g = jnp.tanh(a_g)
        c = f * c_prev + i * g
        if memory_clip is not None:
            limit = jnp.asarray(memory_clip, c.dtype)
            c = lax.clamp(-limit, c, limit)
        o = jax.nn.sigmoid(_seen(a_o, own.p_o, c))
        norm = standardize(c) if memory_norm else None
        y = jnp.tanh(c if norm is None else rescale(own.gain, own.shift, norm))
        m = o * y
        h = m if own.w_p is None else add_bias(m @ own.w_p, own.b_p)
        return LSTMState(h, c), _Kept(i, f, g, o, y, norm)

    def linearize(own, kept, state_prev, state):
        del own
        i, f, g, o, y, norm = kept
        c_prev, c = state_prev.c, state.c
        clip = memory_clip
        return _Coefficients(
            to_i=(g - c_prev if coupled else g) * i * (1 - i),
            to_f=None if coupled else c_prev * f * (1 - f),
            to_g=i * (1 - g * g),
            to_o=y * o * (1 - o),
            to_c=o * (1 - y * y),
            f=f,
            norm=norm,
            inside=None if clip is None else (jnp.abs(c) < clip).astype(c.dtype),
        )

    def pullback(own, k, adjoint):
        d_m = adjoint.h if own.w_p is None else adjoint.h @ own.w_p.T  # m̄ = λ_h W_pᵀ
        d_o = d_m * k.to_o
        d_c = d_m * k.to_c  # through tanh(c_t), or through tanh(LN(c_t))
        if k.norm is not None:
            d_c = pull_standard(own.gain, k.norm, d_c)
        d_c = adjoint.c + d_c + _through(d_o, own.p_o)  # the whole of ∂E/∂c_t
        if k.inside is not None:  # c_t = clip(c̃_t): ∂E/∂c̃_t = ∂E/∂c_t ⊙ clip'(c̃_t)
            d_c = d_c * k.inside
        d_i, d_g = d_c * k.to_i, d_c * k.to_g
        d_f = [] if k.to_f is None else [d_c * k.to_f]
        # c_{t-1} acts through f ⊙ c_{t-1} and the peepholes; h_{t-1} through r_t alone
        before = d_c * k.f + _through(d_i, own.p_i)
        before = before + (_through(d_f[0], own.p_f) if d_f else 0.0)
        delta = jnp.concatenate([d_i, *d_f, d_g, d_o], axis=-1)
        return delta, delta, LSTMState(jnp.zeros_like(adjoint.h), before)

    sizes = {"gates": gates, "state_size": projection}
    return Cell(
        init=make_init(own=own, adjust=forget_bias_in, **sizes),
        initial_state=initial_state,
        gate=gate,
        linearize=linearize,
        pullback=pullback,
        gates=gates,
        independent=projection is None and not memory_norm,
    )

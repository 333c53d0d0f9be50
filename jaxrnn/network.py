"""The seed's whole network: a cell, a readout and an error; equations 56-60.

    s_t = Φ(x_t W_x + s_{t-1} W_s)                                    (56)
    y_t = s_t W_y   or   y_t = σ(s_t W_y)                             (57)
    ∂E_N/∂W_y = ∂E_N/∂y_N · ∂y_N/∂W_y                                 (58)
    ∂E_N/∂W_s = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_s          (59)
    ∂E_N/∂W_x = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_x          (60)

The last factor of (59) and (60) is the immediate partial, s_{i-1} held fixed. With an
error at every step the three are summed over N as well, which one backward pass does.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxrnn.backward import outer_sum, row_sum
from jaxrnn.cell import Cell, Layer, output_features
from jaxrnn.forward import vary_alike
from jaxrnn.marks import Marks, live_only, make_marks
from jaxrnn.readout import (
    ReadoutParams,
    check_output,
    init_readout,
    output_slope,
    readout,
)
from jaxrnn.run import check_run
from jaxrnn.unroll import unroll


class NetworkParams(NamedTuple):
    """The parameters of a network: its cell's or layer's, and its readout's."""

    cell: Any
    readout: ReadoutParams


class Network(NamedTuple):
    """A record of pure functions that is a whole recurrent network.

    init(key, input_size, hidden_size, output_size, *, bias=True, dtype=float32)
        -> NetworkParams
    apply(params, xs, state=None, *, gradient="manual", **options)
        -> (ys [T, ..., O], final state)
    error(params, xs, targets, state=None, *, weights=None, return_state=False,
        gradient="manual", **options) -> E, or (E, final state)
    gradients(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, NetworkParams), equations 58-60 by hand
    cotangents(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, ∂E/∂hs [T, ..., H]), what `bptt`, `online` and `gradient_flow` start from
    cell: what was put in.

    The options are those of `unroll`: lengths, resets, reset_to, reverse, noise,
    chunk_size and store.
    """

    init: Callable[..., NetworkParams]
    apply: Callable[..., tuple[Array, Any]]
    error: Callable[..., Any]
    gradients: Callable[..., tuple[Array, NetworkParams]]
    cotangents: Callable[..., tuple[Array, Array]]
    cell: Cell | Layer


class _Error(NamedTuple):
    value: Callable[[Array, Array], Array]  # ys [..., O], targets -> [...]
    slope: Callable[[Array, Array], Array]  # ∂/∂ys of it, [..., O]
    integer_targets: bool = False


def _one_hot(labels: Array, ys: Array) -> Array:
    return jax.nn.one_hot(labels, ys.shape[-1], dtype=ys.dtype)


_ERRORS = {
    # E = Σ_o (d - y)², without the ½                       ∂E/∂y = 2(y - d)
    "squared": _Error(
        lambda ys, d: optax.losses.squared_error(ys, d).sum(-1),
        lambda ys, d: 2 * (ys - d),
    ),
    # E = -log softmax(y)_d                                 ∂E/∂y = softmax(y) - 1_d
    "softmax_cross_entropy": _Error(
        optax.losses.softmax_cross_entropy_with_integer_labels,
        lambda ys, d: jax.nn.softmax(ys) - _one_hot(d, ys),
        integer_targets=True,
    ),
    # E = -Σ_o d log σ(y) + (1-d) log(1-σ(y))               ∂E/∂y = σ(y) - d
    "sigmoid_cross_entropy": _Error(
        lambda ys, d: optax.losses.sigmoid_binary_cross_entropy(ys, d).sum(-1),
        lambda ys, d: jax.nn.sigmoid(ys) - d,
    ),
}


def _check_targets(error: _Error, ys: Array, targets: Array, marks: Marks) -> Array:
    """The targets, zero past each row's length, whatever stood there."""
    shape = ys.shape[:-1] if error.integer_targets else ys.shape
    if targets.shape != shape:
        raise ValueError(f"targets: expected shape {shape}, got {targets.shape}")
    if error.integer_targets and not jnp.issubdtype(targets.dtype, jnp.integer):
        raise TypeError(f"targets: expected integer labels, got {targets.dtype}")
    if not error.integer_targets and targets.dtype != ys.dtype:
        raise TypeError(f"targets: expected {ys.dtype}, got {targets.dtype}")
    if error.integer_targets:
        return live_only(marks, targets[..., None])[..., 0]
    return live_only(marks, targets)


def _shares(ys: Array, weights: Array | None, marks: Marks) -> Array:
    """Each step's share of E, [T, ...]: w / Σw, and zero where all weights are."""
    shape = ys.shape[:-1]
    if weights is None and marks.live is None:
        return jnp.full(shape, 1 / max(1, ys[..., 0].size), ys.dtype)
    if weights is None:
        weights = jnp.ones(shape, ys.dtype)
    if weights.shape != shape:
        raise ValueError(f"weights: expected shape {shape}, got {weights.shape}")
    if weights.dtype != ys.dtype:
        raise TypeError(f"weights: expected {ys.dtype}, got {weights.dtype}")
    inside = live_only(marks, weights[..., None])[..., 0]
    total = inside.sum()
    return inside / jnp.where(total == 0, 1, total)


@lru_cache(typed=True)
def network(
    cell: Cell | Layer, error: str = "squared", output: str | None = None
) -> Network:
    """Put a cell, a readout and an error together.

    Args:
        cell: the transition, such as `elman()`, or a layer from `jaxrnn.layers`.
        error: "squared", (d - y)² summed over outputs, targets [T, ..., O];
            "softmax_cross_entropy", y are logits, targets integer labels [T, ...];
            "sigmoid_cross_entropy", y are logits, summed over outputs, targets
            [T, ..., O] in 0..1.
        output: σ of equation 57: None (linear), "sigmoid" or "tanh". The
            cross-entropies hold their σ already and take None.

    E is the mean of the steps' errors over time and batch, or Σ w e / Σ w with
    `weights` [T, ...]: weights that are 1 at the last step alone give the seed's E_N.
    With `lengths`, steps past a row's length weigh nothing, and their outputs are zero.
    `lengths` and the other options are as in `unroll`.

    Raises:  ValueError for an unknown error or output, or a cross-entropy with an
             output; the functions raise, at trace time, for wrong shapes and dtypes.
    """
    if error not in _ERRORS:
        raise ValueError(f"error: expected one of {sorted(_ERRORS)}, got {error!r}")
    check_output("output", output)
    if error != "squared" and output is not None:
        raise ValueError(f"output: expected None with error={error!r}, got {output!r}")
    measure = _ERRORS[error]

    def init(
        key, input_size, hidden_size, output_size, *, bias=True, dtype=jnp.float32
    ):
        k_cell, k_readout = jax.random.split(key)
        own = cell.init(k_cell, input_size, hidden_size, bias=bias, dtype=dtype)
        width = output_features(cell, own)
        return NetworkParams(
            own, init_readout(k_readout, width, output_size, bias=bias, dtype=dtype)
        )

    def apply(params, xs, state=None, *, lengths=None, **options):
        hs, final = unroll(cell, params.cell, xs, state, lengths=lengths, **options)
        ys = readout(params.readout, hs, output)
        return live_only(make_marks(xs, lengths, None), ys), final

    def error_of(
        params,
        xs,
        targets,
        state=None,
        *,
        weights=None,
        lengths=None,
        return_state=False,
        **options,
    ):
        ys, final = apply(params, xs, state, lengths=lengths, **options)
        marks = make_marks(xs, lengths, None)
        targets = _check_targets(measure, ys, targets, marks)
        value = (measure.value(ys, targets) * _shares(ys, weights, marks)).sum()
        return (value, final) if return_state else value

    def gradients(
        params, xs, targets, state=None, *, weights=None, lengths=None, **options
    ):
        def run(p):  # (56)
            return unroll(cell, p, xs, state, lengths=lengths, **options)[0]

        xs, *_ = check_run(cell, params.cell, xs, state, None, None)
        params, _ = vary_alike(params, xs)
        hs, pull = jax.vjp(run, params.cell)
        marks = make_marks(xs, lengths, None)
        value, d_hs, d_readout = by_hand(params.readout, hs, marks, targets, weights)
        # (59) and (60), from every step to all steps before it
        (d_cell,) = pull(d_hs)
        return value, NetworkParams(d_cell, d_readout)

    def cotangents(
        params, xs, targets, state=None, *, weights=None, lengths=None, **options
    ):
        hs, _ = unroll(cell, params.cell, xs, state, lengths=lengths, **options)
        marks = make_marks(xs, lengths, None)
        return by_hand(params.readout, hs, marks, targets, weights)[:2]

    @jax.jit
    def by_hand(params, hs, marks, targets, weights):
        ys = readout(params, hs, output)  # (57)
        targets = _check_targets(measure, ys, targets, marks)
        shares = _shares(ys, weights, marks)
        value = (measure.value(ys, targets) * shares).sum()
        # ∂E/∂y, then through σ to the pre-activation of (57)
        d_ys = measure.slope(ys, targets) * shares[..., None]
        delta_y = d_ys * output_slope(ys, output)
        d_readout = ReadoutParams(
            outer_sum(hs, delta_y),  # (58) ∂E/∂W_y = Σ_N s_Nᵀ δy_N
            None if params.b_y is None else row_sum(delta_y),
        )
        d_readout = jax.tree.map(lambda g: g.astype(hs.dtype), d_readout)
        # ∂E_N/∂y_N · ∂y_N/∂s_N
        return value, delta_y @ params.w_y.T, d_readout

    return Network(init, apply, error_of, gradients, cotangents, cell)

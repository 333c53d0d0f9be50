"""Flax's cells, in linen and nnx, as nested dicts of arrays.

linen, and nnx's `LSTMCell` (with `if_` for `if`): one kernel per gate on each side.

    LSTMCell, OptimizedLSTMCell: ii, if, ig, io {kernel}; hi, hf, hg, ho {kernel, bias}
    GRUCell: ir, iz, in {kernel, bias}; hr, hz {kernel}; hn {kernel, bias}
    SimpleCell: i {kernel, bias}; h {kernel}

nnx's other cells: the gates side by side in dense_i and dense_h, with one bias, in
dense_h for OptimizedLSTMCell and in dense_i for GRUCell and SimpleCell. Kernels are
[in, out]; the order of gates and the sense of z are as in jaxrnn.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jax.core import Tracer

from jaxrnn.cell import Cell, Params
from jaxrnn.convert._arrays import check_choice
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    cell_of,
    gather,
    read_params,
    scatter,
    split,
    with_bias_of_n,
    with_one_bias,
)

Activation = str | Callable[[Any], Any] | None
_NNX = {"elman": "elman", "lstm": "lstm", "optimized_lstm": "lstm", "gru": "gru"}


def _linen_layout(kind: str) -> dict[str, dict[str, Block]]:
    layout = {}
    for gate in GATES[kind]:
        i, h = ("i", "h") if kind == "elman" else (f"i{gate}", f"h{gate}")
        layout[i] = {"kernel": Block("w_x", gate)}
        layout[h] = {"kernel": Block("w_s", gate)}
        layout[h if kind == "lstm" else i]["bias"] = Block("b", gate)
    if kind == "gru":
        layout["hn"]["bias"] = Block("b_s", "n")
    return layout


def _nnx_layout(kind: str) -> dict[str, dict[str, Block]]:
    if kind == "lstm":  # Python's `if` is no attribute
        linen = _linen_layout(kind)
        return {"if_" if name == "if" else name: part for name, part in linen.items()}
    gates = GATES[_NNX[kind]]
    layout = {"dense_i": {"kernel": Block("w_x", gates)}}
    layout |= {"dense_h": {"kernel": Block("w_s", gates)}}
    biased = "dense_h" if kind == "optimized_lstm" else "dense_i"
    layout[biased]["bias"] = Block("b", gates)
    return layout


def from_flax(
    params: Mapping[str, Any], kind: str = "lstm", *, activation: Activation = None
) -> tuple[Cell, Params]:
    """Make a cell and its parameters from those of a linen cell.

    Args:
        params: the cell's own tree of arrays, kernels [D, H] and [H, H]:
            `variables["params"]`, or `variables["params"]["cell"]` of an `nn.RNN`.
        kind: "lstm" (LSTMCell, OptimizedLSTMCell), "gru" or "elman" (SimpleCell).
        activation: for "elman", as `elman` takes it; tanh by default.
    Returns: (cell, Params).
    Raises:  ValueError or TypeError for wrong keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(GATES))
    layout = {"params": _linen_layout(kind)}
    return cell_of(kind, activation), gather({"params": params}, layout, kind)


def to_flax(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """Make a linen cell's tree from a cell's parameters, the inverse of `from_flax`.

    A missing bias becomes zeros. An LSTM and an Elman cell get b + b_s as their one
    bias, and so do a GRU's gates r and z; its gate n keeps both.

    Args:
        params: `Params`.
        kind: as in `from_flax`.
    Returns: a nested dict of arrays, kernels [D, H] and [H, H].
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(GATES))
    params = read_params("params", params, kind)
    params = with_bias_of_n(params) if kind == "gru" else with_one_bias(params)
    return scatter(params, _linen_layout(kind), kind)


def from_nnx(
    params: Mapping[str, Any], kind: str = "lstm", *, activation: Activation = None
) -> tuple[Cell, Params]:
    """Make a cell and its parameters from those of an nnx cell.

    Args:
        params: the cell's own arrays, `nnx.state(cell, nnx.Param).to_pure_dict()`,
            kernels [D, G·H] and [H, G·H], or one per gate for "lstm".
        kind: "lstm" (LSTMCell), "optimized_lstm" (OptimizedLSTMCell), "gru" or "elman"
            (SimpleCell).
        activation: for "elman", as `elman` takes it; tanh by default.
    Returns: (cell, Params).
    Raises:  ValueError or TypeError for wrong keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(_NNX))
    layout, ours = {"params": _nnx_layout(kind)}, _NNX[kind]
    return cell_of(ours, activation), gather({"params": params}, layout, ours)


def to_nnx(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """Make an nnx cell's tree from a cell's parameters, the inverse of `from_nnx`.

    A missing bias becomes zeros; the one bias is b + b_s. nnx's GRUCell has no bias
    in the product that its reset gate scales, so the n part of b_s must be zero.

    Args:
        params: `Params`.
        kind: as in `from_nnx`.
    Returns: a nested dict of arrays, kernels as in `from_nnx`, [D, G·H] and [H, G·H].
    Raises:  ValueError or TypeError for parameters of another kind of cell, or a GRU's
             b_s whose n part is not zero, or is traced and so unknown.
    """
    check_choice("kind", kind, list(_NNX))
    params = read_params("params", params, _NNX[kind])
    if kind == "gru" and params.b_s is not None:
        _check_zero(split(params.b_s, 3)[-1])
    return scatter(with_one_bias(params), _nnx_layout(kind), _NNX[kind])


def _check_zero(b_n: Any) -> None:
    if isinstance(b_n, Tracer):
        raise TypeError(
            "params.b_s: expected None or known numbers, since nnx.GRUCell has no bias "
            "on the recurrent side of its gate n, got a traced array"
        )
    if np.asarray(b_n != 0).any():
        raise ValueError(
            "params.b_s: expected zeros for the gate n, since nnx.GRUCell has no bias "
            f"on its recurrent side, got up to {np.abs(np.asarray(b_n)).max():.3g}"
        )

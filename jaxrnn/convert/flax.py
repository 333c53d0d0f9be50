"""Flax's cells, linen's and nnx's, as nested dicts of arrays.

linen, and nnx's `LSTMCell` with `if_` for `if`: a kernel a gate, on each side.

    LSTMCell, OptimizedLSTMCell: ii, if, ig, io {kernel}; hi, hf, hg, ho {kernel, bias}
    GRUCell: ir, iz, in {kernel, bias}; hr, hz {kernel}; hn {kernel, bias}
    SimpleCell: i {kernel, bias}; h {kernel}

nnx's others: the gates side by side in dense_i and dense_h, with one bias, on dense_h
for OptimizedLSTMCell and on dense_i for GRUCell and SimpleCell. Kernels are [in, out],
and the gates' order and the sense of z are the library's own.
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
    """A cell and its parameters from those of a linen cell.

    Args:
        params: the cell's own tree: `variables["params"]`, or of an `nn.RNN`
            `variables["params"]["cell"]`.
        kind: "lstm" (LSTMCell, OptimizedLSTMCell), "gru" or "elman" (SimpleCell).
        activation: of an "elman", as `elman` takes it; tanh by default.
    Raises:  ValueError or TypeError for other keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(GATES))
    layout = {"params": _linen_layout(kind)}
    return cell_of(kind, activation), gather({"params": params}, layout, kind)


def to_flax(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """A linen cell's tree from a cell's parameters, the inverse of `from_flax`.

    A missing bias becomes zeros. b + b_s is the one bias of an LSTM and an Elman cell,
    and of a GRU's gates r and z, whose gate n has both.

    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(GATES))
    params = read_params("params", params, kind)
    params = with_bias_of_n(params) if kind == "gru" else with_one_bias(params)
    return scatter(params, _linen_layout(kind), kind)


def from_nnx(
    params: Mapping[str, Any], kind: str = "lstm", *, activation: Activation = None
) -> tuple[Cell, Params]:
    """A cell and its parameters from those of an nnx cell.

    Args:
        params: the cell's own, `nnx.state(cell, nnx.Param).to_pure_dict()`.
        kind: "lstm" (LSTMCell), "optimized_lstm" (OptimizedLSTMCell), "gru" or "elman"
            (SimpleCell).
        activation: of an "elman", as `elman` takes it; tanh by default.
    Raises:  ValueError or TypeError for other keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(_NNX))
    layout, ours = {"params": _nnx_layout(kind)}, _NNX[kind]
    return cell_of(ours, activation), gather({"params": params}, layout, ours)


def to_nnx(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """An nnx cell's tree from a cell's parameters, the inverse of `from_nnx`.

    A missing bias becomes zeros. b + b_s is the one bias; nnx's GRUCell has no bias
    inside the product that its reset gate scales, so there b_s's n has to be zero.

    Raises:  ValueError or TypeError for parameters of another kind of cell, or a GRU's
             b_s whose n is not zero, or is traced and therefore unknown.
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

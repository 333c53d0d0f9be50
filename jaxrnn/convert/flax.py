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
from jaxrnn.convert.blocks import (
    GATES,
    bias_and_n,
    cell_of,
    check_export,
    check_kind,
    check_leaves,
    check_shape,
    concatenate,
    entries,
    one_bias,
    split,
    units_of,
    zeros,
)

Activation = str | Callable[[Any], Any] | None
_NNX = {"elman": "elman", "lstm": "lstm", "optimized_lstm": "lstm", "gru": "gru"}


def _names(kind: str) -> list[str]:
    return [""] if kind == "elman" else list(GATES[kind])


def _on_h(kind: str, gate: str) -> bool:
    """Whether linen has a bias for this gate on the recurrent side."""
    return kind == "lstm" or gate == "n"


# linen ----------------------------------------------------------------------------


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
    check_kind(kind, list(GATES))
    return cell_of(kind, activation), _from_gates(params, kind)


def _from_gates(params, kind) -> Params:
    names = _names(kind)
    tree = entries("params", params, [side + name for side in "ih" for name in names])
    parts = {}
    for side in "ih":
        for name in names:
            biased = _on_h(kind, name) if side == "h" else kind != "lstm"
            wanted = ["kernel", "bias"] if biased else ["kernel"]
            label = f"params[{side + name!r}]"
            parts[side + name] = entries(label, tree[side + name], wanted)
    check_leaves("params", params)
    units = units_of(
        f"params['h{names[0]}']['kernel']", parts[f"h{names[0]}"]["kernel"], 1
    )
    inputs = parts[f"i{names[0]}"]["kernel"].shape[0]
    for name, part in parts.items():
        rows = units if name[0] == "h" else inputs
        check_shape(f"params[{name!r}]['kernel']", part["kernel"], (rows, units))
        if "bias" in part:
            check_shape(f"params[{name!r}]['bias']", part["bias"], (units,))

    def side_by_side(side, leaf):
        return concatenate([parts[side + name][leaf] for name in names])

    b_s = None
    if kind == "gru":
        b_n = parts["hn"]["bias"]
        b_s = concatenate([zeros(b_n, 2 * units), b_n])
    b = side_by_side("h" if kind == "lstm" else "i", "bias")
    return Params(side_by_side("i", "kernel"), side_by_side("h", "kernel"), b, b_s)


def to_flax(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """A linen cell's tree from a cell's parameters, the inverse of `from_flax`.

    A missing bias becomes zeros. b + b_s is the one bias of an LSTM and an Elman cell,
    and of a GRU's gates r and z, whose gate n has both.

    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_kind(kind, list(GATES))
    units = check_export(params, kind)
    names, count = _names(kind), len(GATES[kind])
    b, b_n = bias_and_n(params) if kind == "gru" else (one_bias(params), None)
    b = zeros(params.w_x, count * units) if b is None else b
    tree = {}
    columns = zip(
        names, *(split(a, count) for a in (params.w_x, params.w_s, b)), strict=True
    )
    for name, on_x, on_h, bias in columns:
        tree[f"i{name}"], tree[f"h{name}"] = {"kernel": on_x}, {"kernel": on_h}
        tree[f"h{name}" if kind == "lstm" else f"i{name}"]["bias"] = bias
    if kind == "gru":
        tree["hn"]["bias"] = zeros(b, units) if b_n is None else b_n
    return tree


# nnx ------------------------------------------------------------------------------


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
    check_kind(kind, list(_NNX))
    cell = cell_of(_NNX[kind], activation)
    if kind == "lstm":
        wanted = [_nnx_name(side + gate) for side in "ih" for gate in GATES["lstm"]]
        entries("params", params, wanted)
        return cell, _from_gates({k.rstrip("_"): v for k, v in params.items()}, kind)
    parts = entries("params", params, ["dense_i", "dense_h"])
    biased = _biased(kind)
    for name, part in parts.items():
        keys = ["kernel", "bias"] if name == biased else ["kernel"]
        entries(f"params[{name!r}]", part, keys)
    check_leaves("params", params)
    w_x, w_s = parts["dense_i"]["kernel"], parts["dense_h"]["kernel"]
    gates = len(GATES[_NNX[kind]])
    wide = gates * units_of("params['dense_h']['kernel']", w_s, gates)
    check_shape("params['dense_i']['kernel']", w_x, (None, wide))
    b = parts[biased]["bias"]
    check_shape(f"params[{biased!r}]['bias']", b, (wide,))
    return cell, Params(w_x, w_s, b)


def to_nnx(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """An nnx cell's tree from a cell's parameters, the inverse of `from_nnx`.

    A missing bias becomes zeros. b + b_s is the one bias; nnx's GRUCell has no bias
    inside the product that its reset gate scales, so there b_s's n has to be zero.

    Raises:  ValueError or TypeError for parameters of another kind of cell, or a GRU's
             b_s whose n is not zero, or is traced and therefore unknown.
    """
    check_kind(kind, list(_NNX))
    if kind == "lstm":
        return {_nnx_name(name): part for name, part in to_flax(params, kind).items()}
    ours = _NNX[kind]
    check_export(params, ours)
    b = one_bias(params)
    if ours == "gru":
        b, b_n = bias_and_n(params)
        _check_zero(b_n)
    b = zeros(params.w_x, params.w_x.shape[1]) if b is None else b
    tree = {"dense_i": {"kernel": params.w_x}, "dense_h": {"kernel": params.w_s}}
    tree[_biased(kind)]["bias"] = b
    return tree


def _nnx_name(linen: str) -> str:
    return "if_" if linen == "if" else linen  # Python's `if` is no attribute


def _biased(kind: str) -> str:
    return "dense_h" if kind == "optimized_lstm" else "dense_i"


def _check_zero(b_n: Any) -> None:
    if b_n is None:
        return
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

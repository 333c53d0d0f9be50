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
from jaxrnn.convert._common import (
    GATES,
    bias_and_n,
    bias_of_n,
    cell_of,
    check_choice,
    check_keys,
    check_shape,
    concatenate,
    one_bias,
    read,
    read_params,
    split,
    units_of,
)

Activation = str | Callable[[Any], Any] | None
_NNX = {"elman": "elman", "lstm": "lstm", "optimized_lstm": "lstm", "gru": "gru"}


# linen ----------------------------------------------------------------------------


def _gates(kind: str) -> list[str]:
    return [""] if kind == "elman" else list(GATES[kind])


def _linen_keys(kind: str) -> dict[str, list[str]]:
    """The modules and their leaves."""
    biased = {"elman": ["i"], "lstm": ["hi", "hf", "hg", "ho"]}
    biased |= {"gru": ["ir", "iz", "in", "hn"]}
    names = [side + gate for side in "ih" for gate in _gates(kind)]
    return {name: ["kernel"] + ["bias"] * (name in biased[kind]) for name in names}


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
    return cell_of(kind, activation), _from_linen(params, kind)


def _from_linen(tree: Any, kind: str) -> Params:
    check_keys("params", tree, _linen_keys(kind))
    tree = read({"params": tree})["params"]
    first = _gates(kind)[0]
    units = units_of(f"params['h{first}']['kernel']", tree[f"h{first}"]["kernel"], 1)
    inputs = tree[f"i{first}"]["kernel"].shape[0]
    for name, part in tree.items():
        rows = units if name[0] == "h" else inputs
        check_shape(f"params[{name!r}]['kernel']", part["kernel"], (rows, units))
        if "bias" in part:
            check_shape(f"params[{name!r}]['bias']", part["bias"], (units,))

    def beside(side, leaf):
        return concatenate([tree[side + gate][leaf] for gate in _gates(kind)])

    b = beside("h" if kind == "lstm" else "i", "bias")
    b_s = bias_of_n(tree["hn"]["bias"]) if kind == "gru" else None
    return Params(beside("i", "kernel"), beside("h", "kernel"), b, b_s)


def to_flax(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """A linen cell's tree from a cell's parameters, the inverse of `from_flax`.

    A missing bias becomes zeros. b + b_s is the one bias of an LSTM and an Elman cell,
    and of a GRU's gates r and z, whose gate n has both.

    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(GATES))
    params = read_params("params", params, kind)
    b, b_n = bias_and_n(params) if kind == "gru" else (one_bias(params), None)
    gates, tree = _gates(kind), {}
    blocks = (split(a, len(gates)) for a in (params.w_x, params.w_s, b))
    for gate, on_x, on_h, bias in zip(gates, *blocks, strict=True):
        tree[f"i{gate}"], tree[f"h{gate}"] = {"kernel": on_x}, {"kernel": on_h}
        tree[f"h{gate}" if kind == "lstm" else f"i{gate}"]["bias"] = bias
    if kind == "gru":
        tree["hn"]["bias"] = b_n
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
    check_choice("kind", kind, list(_NNX))
    cell, gates = cell_of(_NNX[kind], activation), len(GATES[_NNX[kind]])
    if kind == "lstm":
        names = {_nnx_name(name): name for name in _linen_keys(kind)}
        check_keys("params", params, list(names))
        return cell, _from_linen({names[k]: v for k, v in params.items()}, kind)
    biased = _biased(kind)
    sides = {"dense_i": ["kernel"], "dense_h": ["kernel"]}
    check_keys("params", params, sides | {biased: ["kernel", "bias"]})
    tree = read({"params": params})["params"]
    w_x, w_s = tree["dense_i"]["kernel"], tree["dense_h"]["kernel"]
    wide = gates * units_of("params['dense_h']['kernel']", w_s, gates)
    check_shape("params['dense_i']['kernel']", w_x, (None, wide))
    check_shape(f"params[{biased!r}]['bias']", tree[biased]["bias"], (wide,))
    return cell, Params(w_x, w_s, tree[biased]["bias"])


def to_nnx(params: Params, kind: str = "lstm") -> dict[str, Any]:
    """An nnx cell's tree from a cell's parameters, the inverse of `from_nnx`.

    A missing bias becomes zeros. b + b_s is the one bias; nnx's GRUCell has no bias
    inside the product that its reset gate scales, so there b_s's n has to be zero.

    Raises:  ValueError or TypeError for parameters of another kind of cell, or a GRU's
             b_s whose n is not zero, or is traced and therefore unknown.
    """
    check_choice("kind", kind, list(_NNX))
    if kind == "lstm":
        return {_nnx_name(name): part for name, part in to_flax(params, kind).items()}
    params = read_params("params", params, _NNX[kind])
    if kind == "gru" and params.b_s is not None:
        _check_zero(split(params.b_s, 3)[-1])
    tree = {"dense_i": {"kernel": params.w_x}, "dense_h": {"kernel": params.w_s}}
    tree[_biased(kind)]["bias"] = one_bias(params)
    return tree


def _nnx_name(linen: str) -> str:
    return "if_" if linen == "if" else linen  # Python's `if` is no attribute


def _biased(kind: str) -> str:
    return "dense_h" if kind == "optimized_lstm" else "dense_i"


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

"""`torch.nn.RNN`, `LSTM` and `GRU`, by the names in their state dict.

    weight_ih_l{k}{_reverse} [G·H, D]    W_xᵀ of layer k    bias_ih... [G·H]    b
    weight_hh_l{k}{_reverse} [G·H, H]    W_sᵀ               bias_hh... [G·H]    b_s
    weight_hr_l{k}{_reverse} [P, H]      W_pᵀ, with proj_size=P; weight_hh is [G·H, P]

The gates' order (i, f, g, o; r, z, n) and the sense of z are the library's own; the
matrices are transposed. A layer above the first reads both directions, forward first.
The state nests as the params do: of two directions, torch's h_n[2k] is layer k forward
and h_n[2k+1] backward.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.convert.blocks import check_shape
from jaxrnn.convert.common import (
    both_biases,
    check_choice,
    check_keys,
    read_array,
    read_arrays,
    read_params,
)
from jaxrnn.layer import Layer
from jaxrnn.layers import Directions, bidirectional, stack

_GATES = {"RNN": 1, "RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


def _names(layer: int, backward: bool, bias: bool, projected: bool) -> list[str]:
    """weight_ih, weight_hh, then bias_ih and bias_hh, then weight_hr, of one part."""
    parts = ["weight_ih", "weight_hh"]
    parts += ["bias_ih", "bias_hh"] * bias + ["weight_hr"] * projected
    return [f"{part}_l{layer}{'_reverse' * backward}" for part in parts]


# From torch -----------------------------------------------------------------------


def from_torch(
    state_dict: Mapping[str, Any], mode: str = "LSTM"
) -> tuple[Cell | Layer, Any]:
    """A cell or a layer, and its parameters, from a module's `state_dict()`.

    Layers, directions, biases and proj_size are read off the keys. One layer in one
    direction is a cell; two directions are `bidirectional`, more layers a `stack`.
    Both biases are kept, so that `to_torch` gives back the same numbers. Dropout is
    not part of a state dict: make it `stack(..., dropout=...)` with the same params.

    Args:
        state_dict: torch tensors or arrays, of one dtype; they are copied.
        mode: "LSTM", "GRU", "RNN" or "RNN_TANH" (the same), or "RNN_RELU".
    Returns: the cell or layer, and its params as NumPy arrays in the same dtype.
    Raises:  ValueError or TypeError for an unknown mode, keys that are missing or too
             many, shapes or dtypes that do not fit.
    """
    check_choice("mode", mode, tuple(_GATES))
    if not isinstance(state_dict, Mapping):
        raise TypeError(
            "state_dict: expected a mapping of names to arrays, such as "
            f"nn.LSTM(...).state_dict(), got {type(state_dict).__name__}"
        )
    layers = 1
    while any(f"weight_ih_l{layers}{end}" in state_dict for end in ("", "_reverse")):
        layers += 1
    sides = (False, True) if "weight_ih_l0_reverse" in state_dict else (False,)
    bias = "bias_ih_l0" in state_dict
    projected = "weight_hr_l0" in state_dict
    if projected and mode != "LSTM":
        raise ValueError(f"weight_hr_l0: expected only with mode='LSTM', got {mode!r}")
    places = [
        (k, [_names(k, b, bias, projected) for b in sides]) for k in range(layers)
    ]
    wanted = [name for _, parts in places for names in parts for name in names]
    check_keys("state_dict", state_dict, wanted)
    arrays = read_arrays({name: state_dict[name] for name in wanted})

    units, exposed = _sizes(arrays, projected)
    cell = _cell(mode, exposed if projected else None)
    made, width = [], None  # the first layer reads features of any number
    for _, parts in places:
        params = [
            _read(cell, arrays, names, mode, width, units, exposed) for names in parts
        ]
        made.append(Directions(*params) if len(sides) == 2 else params[0])
        width = len(sides) * exposed
    layer = bidirectional(cell) if len(sides) == 2 else cell
    return (layer, made[0]) if layers == 1 else (stack(*[layer] * layers), tuple(made))


def _sizes(arrays: dict[str, np.ndarray], projected: bool) -> tuple[int, int]:
    """H, and the features of h: P with a projection."""
    name = "weight_hr_l0" if projected else "weight_hh_l0"
    check_shape(name, arrays[name], (None, None))
    rows, units = arrays[name].shape
    return units, rows if projected else units


def _cell(mode: str, projection: int | None) -> Cell:
    if mode == "GRU":
        return gru()
    if mode == "LSTM":
        return lstm() if projection is None else lstm(projection=projection)
    return elman("relu") if mode == "RNN_RELU" else elman()


def _read(cell, arrays, names, mode, width, units, exposed) -> Params:
    """One part's parameters, its shapes checked."""
    wide = _GATES[mode] * units
    shapes = {
        "weight_ih": (wide, width),
        "weight_hh": (wide, exposed),
        "weight_hr": (exposed, units),
        "bias_ih": (wide,),
        "bias_hh": (wide,),
    }
    part = {}
    for name in names:
        key = name[: name.index("_l")]
        check_shape(f"{name} (mode={mode!r})", arrays[name], shapes[key])
        part[key] = arrays[name]
    w_x, w_s = part["weight_ih"].T, part["weight_hh"].T
    own = None
    if "weight_hr" in part:

        def init():
            return cell.init(jax.random.key(0), w_x.shape[0], units).own

        own = jax.eval_shape(init)._replace(w_p=part["weight_hr"].T)
    return Params(w_x, w_s, part.get("bias_ih"), part.get("bias_hh"), own)


# To torch -------------------------------------------------------------------------


def to_torch(params: Any, mode: str = "LSTM") -> dict[str, np.ndarray]:
    """A state dict from the parameters of a cell or a layer: `from_torch` inverted.

    Each array can go through `torch.from_numpy`. torch has two biases or none: where
    only one of b and b_s is there, the other becomes zeros.

    Args:
        params: of a cell, of a `bidirectional` of it, or of a `stack` of either.
        mode: as in `from_torch`.
    Raises:  ValueError or TypeError for an unknown mode, for parameters of another
             kind of cell or layer, or for layers that differ in directions.
    """
    check_choice("mode", mode, tuple(_GATES))
    plain = isinstance(params, Params | Directions)
    layers = (params,) if plain else params
    if not isinstance(layers, tuple) or not layers:
        raise TypeError(
            "params: expected Params, Directions or a tuple of them, "
            f"got {type(params).__name__}"
        )
    label = "params" if plain else "params[{}]"
    found = {}
    for k, layer in enumerate(layers):
        if isinstance(layer, Directions) != isinstance(layers[0], Directions):
            raise ValueError(
                f"{label.format(k)}: expected {type(layers[0]).__name__} as in the "
                f"first layer, got {type(layer).__name__}"
            )
        sides = layer if isinstance(layer, Directions) else (layer,)
        for side, part in enumerate(sides):
            name = (
                label.format(k) + ("", f".{Directions._fields[side]}")[len(sides) - 1]
            )
            found[k, side] = _part(name, part, mode)
    bias = any(p.b is not None or p.b_s is not None for p, _ in found.values())
    projected = {w_p is not None for _, w_p in found.values()}
    if len(projected) > 1:
        raise ValueError("params: expected a projection in every layer or in none")
    state_dict = {}
    for (k, side), (part, w_p) in found.items():
        values = [part.w_x.T, part.w_s.T]
        values += both_biases(part) if bias else ()
        values += [] if w_p is None else [w_p.T]
        names = _names(k, side == 1, bias, w_p is not None)
        state_dict |= zip(names, map(np.ascontiguousarray, values), strict=True)
    return state_dict


def _part(name: str, params: Any, mode: str) -> tuple[Params, np.ndarray | None]:
    """One part's parameters as NumPy arrays, and its W_p, if they fit the mode."""
    gates = _GATES[mode]
    part, units = read_params(name, params, gates)
    w_p = getattr(part.own, "w_p", None) if mode == "LSTM" else None
    others = len(jax.tree.leaves(part.own)) - (w_p is not None)
    if others:
        raise ValueError(
            f"{name}.own: expected no parameters of its own for mode={mode!r} but "
            f"w_p, got {type(part.own).__name__} with {others} more"
        )
    if w_p is None:
        check_shape(f"{name}.w_s (mode={mode!r})", part.w_s, (units, gates * units))
        return part, None
    w_p = read_array(f"{name}.own.w_p", w_p)
    check_shape(f"{name}.own.w_p", w_p, (units, None))
    check_shape(f"{name}.w_s", part.w_s, (w_p.shape[1], gates * units))
    return part, w_p

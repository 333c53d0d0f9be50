"""Haiku's cores `LSTM`, `GRU` and `VanillaRNN`, with the parameters from `init`.

    LSTM: {"lstm/linear": w [D + H, 4·H] on [x, h], b [4·H]}, gates i, g, f, o
    GRU: {"gru": w_i [D, 3·H], w_h [H, 3·H], b [3·H]}, gates z, r, a
    VanillaRNN: {"vanilla_rnn/linear": w [D, H], b; "vanilla_rnn/linear_1": w [H, H], b}

Its LSTM adds 1 to the forget gate when it runs: b_f here is Haiku's plus 1. Its GRU
resets before the product, and its z weighs the candidate: h' = (1-z) ⊙ h + z ⊙ a.
Since 1 - σ(a) = σ(-a), the weights of z are negated here, which is exact.
"""

from collections.abc import Mapping
from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.convert._arrays import (
    check_choice,
    check_keys,
    check_shape,
    check_type,
    read,
)
from jaxrnn.convert._blocks import (
    GATES,
    Block,
    both_biases,
    concatenate,
    gather,
    part_candidate,
    read_params,
    regroup,
    scatter,
    split,
    with_one_bias,
)

# For each kind: the core's name, and the modules inside it
_CORES = {
    "elman": ("vanilla_rnn", ("/linear", "/linear_1")),
    "lstm": ("lstm", ("/linear",)),
    "gru": ("gru", ("",)),
}


def from_haiku(params: Mapping[str, Any], kind: str = "lstm") -> tuple[Cell, Params]:
    """Make a cell and its parameters from those of a Haiku core.

    Adding 1 to the forget gate's bias rounds it, so exporting it again gives Haiku's
    up to that rounding. All else is exact.

    Args:
        params: the core's modules and no others, arrays [D, G·H], [H, G·H] and [G·H];
            a prefix of their names, up to the last "/", is allowed.
        kind: "lstm", "gru" or "elman" (VanillaRNN, whose activation is relu).
    Returns: (cell, Params).
    Raises:  ValueError or TypeError for wrong keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(_CORES))
    names = _module_names(params, kind)
    if kind == "lstm":
        return lstm(), _from_lstm(params, *names)
    if kind == "gru":
        found = gather({"params": params}, {"params": _gru_layout(*names)}, kind)
        return gru(reset_after=False), part_candidate(_negate_z(found))
    biases = [isinstance(params[n], Mapping) and "b" in params[n] for n in names]
    layout = _vanilla_layout(names, *biases)
    return elman("relu"), gather({"params": params}, {"params": layout}, kind)


def _module_names(params: Any, kind: str) -> list[str]:
    """The names of the modules, in the order in which the core calls them."""
    core, ends = _CORES[kind]
    usual = [core + end for end in ends]
    check_type("params", params, Mapping, f"a dict of modules such as {usual}")
    names = sorted(params, key=str)  # "…/linear" is before "…/linear_1"
    lasts = ["/" + str(name).rsplit("/", 1)[-1] for name in names]
    if len(names) != len(ends) or (kind != "gru" and lasts != list(ends)):
        raise ValueError(
            f"params: expected the modules {usual}, whatever is before the last '/', "
            f"got {names}"
        )
    return names


def _from_lstm(params: Mapping[str, Any], name: str) -> Params:
    label = f"params[{name!r}]"
    check_keys(label, params[name], ["w", "b"])
    arrays: Any = read({label: params[name]})
    w, b = arrays.get(f"{label}['w']"), arrays.get(f"{label}['b']")
    check_shape(f"{label}['w']", w, (None, None))
    if w.shape[1] % 4 or w.shape[1] >= 4 * w.shape[0]:
        raise ValueError(
            f"{label}['w']: expected shape [D + H, 4·H], got {list(w.shape)}"
        )
    check_shape(f"{label}['b']", b, w.shape[1:])
    w, b = (regroup(a, "igfo", GATES["lstm"]) for a in (w, b))
    units = w.shape[1] // 4
    return Params(w[:-units], w[-units:], _forget_plus(b, 1))


def _forget_plus(b: Any, number: int) -> Any:
    i, f, g, o = split(b, 4)
    return concatenate([i, f + number, g, o])


def _gru_layout(name: str) -> dict[str, Any]:
    blocks = Block("w_x", "zrn"), Block("w_s", "zrn"), Block("b", "zrn")
    return {name: dict(zip(("w_i", "w_h", "b"), blocks, strict=True))}


def _negate_z(params: Params) -> Params:
    def negated(a):
        r, z, n = split(a, 3)
        return concatenate([r, -z, n])

    w_x, w_s, b = map(negated, (params.w_x, params.w_s, params.b))
    return Params(w_x, w_s, b)


def _vanilla_layout(names: list[str], b: bool, b_s: bool) -> dict[str, Any]:
    on_x, on_h = names
    return {
        on_x: {"w": Block("w_x", "h")} | ({"b": Block("b", "h")} if b else {}),
        on_h: {"w": Block("w_s", "h")} | ({"b": Block("b_s", "h")} if b_s else {}),
    }


def to_haiku(
    params: Params, kind: str = "lstm", *, name: str | None = None
) -> dict[str, dict[str, Any]]:
    """Make a Haiku core's parameters from a cell's, the inverse of `from_haiku`.

    A missing b becomes zeros, and an "lstm" or "gru" gets b + b_s as its one bias. An
    "elman" without b_s is a VanillaRNN with `double_bias=False`.

    Args:
        params: `Params`.
        kind: "lstm"; "gru", with the parameters of `gru(reset_after=False)`; or
            "elman", with those of `elman("relu")`.
        name: the core's full module name; by default Haiku's own, such as "lstm".
    Returns: a nested dict of arrays, [D, G·H] and so on, by module and name.
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(_CORES))
    params = read_params("params", params, kind, reset_after=kind != "gru")
    core, ends = _CORES[kind]
    names = [(name or core) + end for end in ends]
    if kind == "elman":
        layout = _vanilla_layout(names, True, params.b_s is not None)
        return scatter(params._replace(b=both_biases(params)[0]), layout, kind)
    params = with_one_bias(params)
    if kind == "gru":
        return scatter(_negate_z(params), _gru_layout(*names), kind)
    w, b = concatenate([params.w_x, params.w_s], axis=0), _forget_plus(params.b, -1)
    w, b = (regroup(a, GATES["lstm"], "igfo") for a in (w, b))
    return {names[0]: {"w": w, "b": b}}

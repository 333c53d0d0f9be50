"""Haiku's cores `LSTM`, `GRU` and `VanillaRNN`, as `init` gives their parameters.

    LSTM: {"lstm/linear": w [D + H, 4·H] on [x, h], b [4·H]}, gates i, g, f, o
    GRU: {"gru": w_i [D, 3·H], w_h [H, 3·H], b [3·H]}, gates z, r, a
    VanillaRNN: {"vanilla_rnn/linear": w [D, H], b; "vanilla_rnn/linear_1": w [H, H], b}

Its LSTM adds 1 to the forget gate when it runs: b_f here is Haiku's plus 1. Its GRU
resets before the product, and its z is the share of the new: h' = (1-z) ⊙ h + z ⊙ a.
Since 1 - σ(a) = σ(-a), the library's z has the negated weights, exactly.
"""

from collections.abc import Mapping
from typing import Any

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.convert._common import (
    GATES,
    both_biases,
    check_choice,
    check_keys,
    check_shape,
    concatenate,
    one_bias,
    part_candidate,
    read,
    read_params,
    regroup,
    split,
    units_of,
)

# Of each kind: the core's name, and its modules after it
_CORES = {
    "elman": ("vanilla_rnn", ("/linear", "/linear_1")),
    "lstm": ("lstm", ("/linear",)),
    "gru": ("gru", ("",)),
}


def from_haiku(params: Mapping[str, Any], kind: str = "lstm") -> tuple[Cell, Params]:
    """A cell and its parameters from those of a Haiku core.

    A forget gate's b_f is rounded where Haiku's plus 1 has more digits than the dtype:
    exported again, it is Haiku's to that rounding. All else is exact.

    Args:
        params: the core's modules alone; what comes before the last "/" is free.
        kind: "lstm", "gru" or "elman" (VanillaRNN, whose activation is relu).
    Raises:  ValueError or TypeError for other keys, shapes or dtypes.
    """
    check_choice("kind", kind, list(_CORES))
    modules = _modules(params, kind)
    if kind == "lstm":
        return lstm(), _from_lstm(*modules)
    if kind == "gru":
        return gru(reset_after=False), _from_gru(*modules)
    return elman("relu"), _from_vanilla(*modules)


def _modules(params: Any, kind: str) -> list[tuple[str, Any]]:
    """(label, arrays) of each module of the core, in the order of its calls."""
    core, ends = _CORES[kind]
    usual = [core + end for end in ends]
    if not isinstance(params, Mapping):
        raise TypeError(
            f"params: expected a dict of modules such as {usual}, "
            f"got {type(params).__name__}"
        )
    found = sorted(params)  # "…/linear" is before "…/linear_1"
    lasts = [name.rsplit("/", 1)[-1] for name in found]
    wanted = [end.removeprefix("/") for end in ends]
    if len(found) != len(ends) or (kind != "gru" and lasts != wanted):
        raise ValueError(
            f"params: expected the modules {usual}, whatever is before the last '/', "
            f"got {found}"
        )
    keys = {"lstm": ["w", "b"], "gru": ["w_i", "w_h", "b"], "elman": ["w"]}[kind]
    for name in found:
        optional = ["b"] if kind == "elman" else []
        check_keys(f"params[{name!r}]", params[name], keys, optional)
    arrays = read({"params": params})["params"]
    return [(f"params[{name!r}]", arrays[name]) for name in found]


def _from_lstm(module: tuple[str, Any]) -> Params:
    label, tree = module
    w, b = tree["w"], tree["b"]
    check_shape(f"{label}['w']", w, (None, None))
    if w.shape[1] % 4 or w.shape[1] >= 4 * w.shape[0]:
        raise ValueError(
            f"{label}['w']: expected shape [D + H, 4·H], got {list(w.shape)}"
        )
    check_shape(f"{label}['b']", b, (w.shape[1],))
    w, b = (regroup(a, "igfo", GATES["lstm"]) for a in (w, b))
    units = w.shape[1] // 4
    return Params(w[:-units], w[-units:], _forget_plus(b, 1))


def _forget_plus(b: Any, number: int) -> Any:
    i, f, g, o = split(b, 4)
    return concatenate([i, f + number, g, o])


def _from_gru(module: tuple[str, Any]) -> Params:
    label, tree = module
    units = units_of(f"{label}['w_h']", tree["w_h"], 3)
    check_shape(f"{label}['w_i']", tree["w_i"], (None, 3 * units))
    check_shape(f"{label}['b']", tree["b"], (3 * units,))

    def rzn(a):
        z, r, n = split(a, 3)
        return concatenate([r, -z, n])

    w_s, own = part_candidate(rzn(tree["w_h"]))
    return Params(rzn(tree["w_i"]), w_s, rzn(tree["b"]), None, own)


def _from_vanilla(on_x: tuple[str, Any], on_h: tuple[str, Any]) -> Params:
    (x_label, x), (h_label, h) = on_x, on_h
    units = units_of(f"{h_label}['w']", h["w"], 1)
    check_shape(f"{x_label}['w']", x["w"], (None, units))
    for label, tree in (on_x, on_h):
        if "b" in tree:
            check_shape(f"{label}['b']", tree["b"], (units,))
    return Params(x["w"], h["w"], x.get("b"), h.get("b"))


def to_haiku(
    params: Params, kind: str = "lstm", *, name: str | None = None
) -> dict[str, dict[str, Any]]:
    """A Haiku core's parameters from a cell's, the inverse of `from_haiku`.

    A missing b becomes zeros, and an "lstm" or "gru" gets b + b_s as its one bias. An
    "elman" without a b_s is a VanillaRNN with `double_bias=False`.

    Args:
        kind: "lstm"; "gru", whose parameters are those of `gru(reset_after=False)`; or
            "elman", which has to be `elman("relu")`.
        name: the core's module name in full; Haiku's own by default, such as "lstm".
    Raises:  ValueError or TypeError for parameters of another kind of cell.
    """
    check_choice("kind", kind, list(_CORES))
    params = read_params("params", params, kind, reset_after=kind != "gru")
    core, ends = _CORES[kind]
    names = [(name or core) + end for end in ends]
    if kind == "elman":
        on_h = {"w": params.w_s} | ({} if params.b_s is None else {"b": params.b_s})
        on_x = {"w": params.w_x, "b": both_biases(params)[0]}
        return dict(zip(names, (on_x, on_h), strict=True))
    if kind == "lstm":
        w, b = concatenate([params.w_x, params.w_s], axis=0), one_bias(params)
        w, b = (regroup(a, GATES["lstm"], "igfo") for a in (w, _forget_plus(b, -1)))
        return {names[0]: {"w": w, "b": b}}

    def zra(a):
        r, z, n = split(a, 3)
        return concatenate([-z, r, n])

    w_i, w_h, b = map(zra, (params.w_x, params.w_s, one_bias(params)))
    return {names[0]: {"w_i": w_i, "w_h": w_h, "b": b}}

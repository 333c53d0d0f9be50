"""The layout of gates in other libraries' arrays, and the cells they belong to.

Arrays stay NumPy or JAX arrays, traced or not, and keep their dtype.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm
from jaxrnn.convert._arrays import check_keys, check_shape, check_type, labelled, read
from jaxrnn.layers import Directions

GATES = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}  # the library's own order
_OWN = ("w_n", "w_p")  # a gate map's own parameters that other libraries also have


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """Concatenate with JAX if one of them is a JAX array, else with NumPy."""
    library = jnp if any(isinstance(p, jax.Array) for p in parts) else np
    return library.concatenate(parts, axis)


def split(a: Any, count: int) -> list[Any]:
    """Split the last axis into `count` equal blocks."""
    width = a.shape[-1] // count
    return [a[..., k * width : (k + 1) * width] for k in range(count)]


def regroup(a: Any, here: str, there: str) -> Any:
    """Reorder blocks of the last axis, one per letter, from `here` to `there`.

    The result is a copy, so that a later change of the caller's array cannot reach it.
    """
    blocks = dict(zip(here, split(a, len(here)), strict=True))
    return concatenate([blocks[gate] for gate in there])


@dataclass(frozen=True)  # a leaf of a layout, unlike a tuple
class Block:
    """The content of another library's array: gates of one field of `Params`."""

    field: str
    gates: str  # in the array's order
    transposed: bool = False


def gather(
    trees: Mapping[str, Any],
    layout: Mapping[str, Any],
    kind: str,
    units: int | None = None,
    rows: Mapping[str, int] | None = None,
) -> Params:
    """Parameters from trees of arrays; keys, dtypes and shapes are checked.

    Args:
        layout: the same trees, with a `Block` in place of each array.
        units: H; by default w_s's rows.
        rows: the rows of w_x and w_s, where known.
    """
    for name, part in layout.items():
        _check_tree(name, trees.get(name), part)
    arrays = read({name: trees.get(name) for name in layout})
    blocks = labelled(layout)
    units = _units(arrays, blocks) if units is None else units
    rows, found = dict(rows or {}), {}
    for name, block in blocks.items():
        field, gates = block.field, block.gates
        wide = len(gates) * units
        shape = (rows.get(field), wide) if field in ("w_x", "w_s") else (wide,)
        shape = shape[::-1] if block.transposed else shape
        check_shape(f"{name} (kind={kind!r})", arrays.get(name), shape)
        array = arrays[name].T if block.transposed else arrays[name]
        rows[field] = array.shape[0]
        parts = zip(gates, split(array, len(gates)), strict=True)
        found[field] = found.get(field, {}) | dict(parts)
    none = np.zeros(units, next(iter(arrays.values())).dtype)  # where only n has a b_s
    whole = {
        field: concatenate([parts.get(gate, none) for gate in GATES[kind]])
        for field, parts in found.items()
    }
    return Params(**whole)


def _units(arrays: Mapping[str, Any], blocks: Mapping[str, Block]) -> int:
    name = next(name for name, block in blocks.items() if block.field == "w_s")
    check_shape(name, arrays.get(name), (None, None))
    return arrays[name].shape[int(blocks[name].transposed)]


def _check_tree(name: str, tree: Any, layout: Any) -> None:
    if isinstance(layout, Mapping):
        check_keys(name, tree, list(layout))
        for key, part in layout.items():
            _check_tree(f"{name}[{key!r}]", tree[key], part)


def scatter(params: Params, layout: Any, kind: str) -> Any:
    """A tree of arrays from the parameters, the inverse of `gather`."""

    def array_of(block):
        array = regroup(getattr(params, block.field), GATES[kind], block.gates)
        return array.T if block.transposed else array

    return jax.tree.map(array_of, layout)


def cell_of(kind: str, activation: Any = None) -> Cell:
    """The cell of that kind; only the Elman cell takes `activation`."""
    if kind == "elman":
        return elman() if activation is None else elman(activation)
    if activation not in (None, "tanh"):
        raise ValueError(
            f"activation: expected None or 'tanh' for kind={kind!r}, got {activation!r}"
        )
    return lstm() if kind == "lstm" else gru()


def own_of(cell: Cell, **parts: Any) -> Any:
    """The record of the gate map's own parameters, with these fields."""
    drawn = jax.eval_shape(lambda: cell.init(jax.random.key(0), 1, 1))
    return drawn.own._replace(**parts)


def part_candidate(params: Params) -> Params:
    """Parameters of `gru(reset_after=False)`, from W_s [H, 3·H] and b_s [3·H] or None.

    The n part of b_s, which the reset gate does not scale there, is added to b.
    """
    b, b_s, both = params.b, params.b_s, 2 * params.w_s.shape[0]
    own = own_of(gru(reset_after=False), w_n=params.w_s[:, both:])
    if b is not None and b_s is not None:
        b, b_s = concatenate([b[:both], b[both:] + b_s[both:]]), b_s[:both]
    return Params(params.w_x, params.w_s[:, :both], b, b_s, own)


def sides(name: str, params: Any) -> dict[str, Any]:
    """The parameters of each direction, keyed by their name in messages."""
    if isinstance(params, Directions):
        return {f"{name}.{side}": part for side, part in params._asdict().items()}
    return {name: params}


def read_params(
    name: str,
    params: Any,
    kind: str,
    *,
    reset_after: bool | None = True,
    projection: bool = False,
) -> Params:
    """Return the parameters of a cell of that kind, or raise.

    For `gru(reset_after=False)`, W_n becomes the last columns of W_s, and b_s has zeros
    there; `own` still tells which GRU it was.

    Args:
        reset_after: which GRU is expected; None for either.
        projection: whether an LSTM may have one.
    """
    check_type(name, params, Params, "jaxrnn.Params")
    _check_own(name, params.own, kind, reset_after, projection)
    fields = {part: getattr(params, part) for part in ("w_x", "w_s", "b", "b_s")}
    fields |= {f"own.{part}": getattr(params.own, part, None) for part in _OWN}
    arrays = read({f"{name}.{part}": a for part, a in fields.items()}, optional=True)
    w_n, w_p = (arrays.get(f"{name}.own.{part}") for part in _OWN)
    gates = GATES[kind]
    recurrent = gates if w_n is None else "rz"
    blocks = {"w_s": Block("w_s", recurrent), "own.w_n": Block("w_s", "n")}
    blocks |= {"w_x": Block("w_x", gates)}
    blocks |= {"b": Block("b", gates), "b_s": Block("b_s", recurrent)}
    layout = {
        f"{name}.{part}": block
        for part, block in blocks.items()
        if part in ("w_x", "w_s") or f"{name}.{part}" in arrays
    }
    if w_p is None:
        return gather(arrays, layout, kind)._replace(own=params.own)
    check_shape(f"{name}.own.w_p", w_p, (None, None))
    found = gather(arrays, layout, kind, w_p.shape[0], {"w_s": w_p.shape[1]})
    return found._replace(own=params.own)


def _check_own(name, own, kind, reset_after, projection) -> None:
    before = kind == "gru" and hasattr(own, "w_n")
    projected = projection and getattr(own, "w_p", None) is not None
    if (own is not None and not (before or projected)) or len(jax.tree.leaves(own)) > 1:
        but = " or a projection alone" if projection else ""
        raise ValueError(
            f"{name}.own: expected None{but} for kind={kind!r}, "
            f"got {type(own).__name__}"
        )
    if kind == "gru" and reset_after is before:
        raise ValueError(
            f"{name}: expected those of gru(reset_after={reset_after}), which is what "
            f"the other library has, got those of gru(reset_after={not before})"
        )


def has_bias(params: Params) -> bool:
    return params.b is not None or params.b_s is not None


def both_biases(params: Params) -> list[Any]:
    """b and b_s, with zeros for a missing one."""
    shape, dtype = params.w_x.shape[1:], params.w_x.dtype
    biases = params.b, params.b_s
    return [np.zeros(shape, dtype) if b is None else b for b in biases]


def with_one_bias(params: Params) -> Params:
    """Use b + b_s as b, for a library that has only one bias."""
    b, b_s = both_biases(params)
    return params._replace(b=b + b_s, b_s=None)


def with_bias_of_n(params: Params) -> Params:
    """Add a GRU's b_s of r and z to b, for a library where only n has two biases.

    n keeps both, since the reset gate scales its b_s and not its b.
    """
    b, b_s = both_biases(params)
    r, z, n = split(b_s, 3)
    b = b + concatenate([r, z, np.zeros(n.shape, n.dtype)])
    return params._replace(b=b, b_s=b_s)

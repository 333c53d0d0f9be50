"""Blocks of gates put in another order, and other libraries' trees looked into.

Arrays stay what they are, NumPy's or JAX's, traced or not, and keep their dtype.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn.cell import Cell, Params
from jaxrnn.cells import elman, gru, lstm

GATES = {"elman": "h", "lstm": "ifgo", "gru": "rzn"}  # the library's own order


# Arrays ---------------------------------------------------------------------------


def concatenate(parts: Sequence[Any], axis: int = -1) -> Any:
    """By JAX if one of them is JAX's, else by NumPy."""
    library = jnp if any(isinstance(p, jax.Array) for p in parts) else np
    return library.concatenate(parts, axis)


def zeros(like: Any, *shape: int) -> Any:
    library = jnp if isinstance(like, jax.Array) else np
    return library.zeros(shape, like.dtype)


def split(a: Any, count: int) -> list[Any]:
    """`count` equal blocks of the last axis."""
    width = a.shape[-1] // count
    return [a[..., k * width : (k + 1) * width] for k in range(count)]


def regroup(a: Any, here: str, there: str) -> Any:
    """Blocks of the last axis, one a letter, from the order `here` to `there`."""
    if here == there:
        return a
    blocks = dict(zip(here, split(a, len(here)), strict=True))
    return concatenate([blocks[gate] for gate in there])


# What came in ---------------------------------------------------------------------


def check_kind(kind: Any, kinds: Sequence[str]) -> None:
    if kind not in kinds:
        raise ValueError(f"kind: expected one of {list(kinds)}, got {kind!r}")


def check_leaves(name: str, tree: Any) -> None:
    """Raise unless every leaf is an array, all of one floating dtype."""
    dtypes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        label = name + jax.tree_util.keystr(path)
        if not isinstance(leaf, np.ndarray | jax.Array):
            raise TypeError(
                f"{label}: expected a NumPy or JAX array, got {type(leaf).__name__}"
            )
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(f"{label}: expected a floating dtype, got {leaf.dtype}")
        dtypes.setdefault(leaf.dtype, label)
    if len(dtypes) > 1:
        (first, at), (other, there), *_ = dtypes.items()
        raise TypeError(f"{there}: expected {first} as {at}, got {other}")


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Raise unless `value` has this shape; None stands for any positive size."""
    fits = len(value.shape) == len(shape) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(value.shape)}")


def entries(
    name: str, tree: Any, wanted: Sequence[str], optional: Sequence[str] = ()
) -> Mapping[str, Any]:
    """`tree` itself, if it is a mapping with the wanted keys and no others."""
    if not isinstance(tree, Mapping):
        raise TypeError(
            f"{name}: expected a dict with the keys {list(wanted)}, "
            f"got {type(tree).__name__}"
        )
    missing = set(wanted) - set(tree)
    if missing or set(tree) - set(wanted) - set(optional):
        allowed = f" and perhaps {list(optional)}" if optional else ""
        raise ValueError(
            f"{name}: expected the keys {list(wanted)}{allowed}, "
            f"got {sorted(map(str, tree))}"
        )
    return tree


def units_of(name: str, recurrent: Any, gates: int) -> int:
    """H, of a recurrent matrix [H, gates·H]; or a clear error."""
    if len(recurrent.shape) == 2 and recurrent.shape[0] > 0:
        check_shape(name, recurrent, (None, gates * recurrent.shape[0]))
        return recurrent.shape[0]
    form = "[H, H]" if gates == 1 else f"[H, {gates}·H]"
    raise ValueError(f"{name}: expected shape {form}, got {list(recurrent.shape)}")


# The library's side ---------------------------------------------------------------


def cell_of(kind: str, activation: Any = None, *, reset_after: bool = True) -> Cell:
    """The cell of that kind; `activation` is the Elman cell's alone."""
    if kind == "elman":
        return elman() if activation is None else elman(activation)
    if activation not in (None, "tanh"):
        raise ValueError(
            f"activation: expected None or 'tanh' for kind={kind!r}, got {activation!r}"
        )
    if kind == "lstm":
        return lstm()
    # As a caller would write it: one record, so that jit sees one static value.
    return gru() if reset_after else gru(reset_after=False)


def own_of(w_n: Any) -> Any:
    """The gate map's own parameters in `gru(reset_after=False)`."""

    def init():
        key = jax.random.key(0)
        return gru(reset_after=False).init(key, 1, w_n.shape[0]).own

    return jax.eval_shape(init)._replace(w_n=w_n)


def check_export(params: Any, kind: str, *, reset_after: bool | None = True) -> int:
    """H, if these are parameters of that kind of cell; or a clear error.

    Args:
        reset_after: which GRU it has to be; None for either.
    """
    if not isinstance(params, Params):
        raise TypeError(f"params: expected jaxrnn.Params, got {type(params).__name__}")
    check_leaves("params", params)
    gates = len(GATES[kind])
    w_n = getattr(params.own, "w_n", None) if kind == "gru" else None
    before = w_n is not None
    if params.own is not None and not before:
        raise ValueError(
            f"params.own: expected None for kind={kind!r}, "
            f"got {type(params.own).__name__}"
        )
    if reset_after is not None and before is reset_after:
        raise ValueError(
            f"params: expected those of gru(reset_after={reset_after}), which is what "
            f"the other library has, got those of gru(reset_after={before is False})"
        )
    units = units_of("params.w_s", params.w_s, gates - before)
    check_shape("params.w_x", params.w_x, (None, gates * units))
    if before:
        check_shape("params.own.w_n", w_n, (units, units))
    for name, wide in (("b", gates), ("b_s", gates - before)):
        if getattr(params, name) is not None:
            check_shape(f"params.{name}", getattr(params, name), (wide * units,))
    return units


def one_bias(params: Params) -> Any:
    """b + b_s as the one bias of a library that has no second; None without either."""
    b, b_s = params.b, params.b_s
    if b is None or b_s is None:
        return b if b_s is None else _widened(b_s, params.w_x.shape[1])
    return b + _widened(b_s, b.shape[0])


def _widened(b_s: Any, width: int) -> Any:
    """With zeros for the columns that w_s lacks."""
    missing = width - b_s.shape[0]
    return concatenate([b_s, zeros(b_s, missing)]) if missing else b_s


def bias_and_n(params: Params) -> tuple[Any, Any]:
    """Of a GRU: b with b_s's r and z added, and b_s's n; None for what is not there.

    The sum reaches r and z alone: the reset gate scales b_s's n and not b's.
    """
    if params.b_s is None:
        return params.b, None
    r, z, n = split(params.b_s, 3)
    r_and_z = concatenate([r, z, zeros(n, *n.shape)])
    return (r_and_z if params.b is None else params.b + r_and_z), n

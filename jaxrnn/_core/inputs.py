"""The inputs of a run: arrays [T, ..., D], or a pytree of arrays of any rank."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.checks import as_array, check_rank
from jaxrnn._core.trees import describe
from jaxrnn.cell import Cell, Params

Ranks = int | tuple[int, ...] | None


def ranks_of(x_ndim: Ranks, xs: Any) -> list[int]:
    """The number of axes of each leaf of one row's input; None is one vector.

    Raises:  ValueError for another number of leaves than `x_ndim` has.
    """
    leaves, x_ndim = jax.tree.leaves(xs), 1 if x_ndim is None else x_ndim
    ranks = x_ndim if isinstance(x_ndim, tuple) else (x_ndim,) * len(leaves)
    if len(ranks) != len(leaves) or not leaves:
        wanted = f"{len(ranks)} arrays, as x_ndim={x_ndim} says" if ranks else "arrays"
        raise ValueError(f"xs: expected {wanted}, got {len(leaves)}")
    return list(ranks)


def axes_of(x_ndim: Ranks, xs: Any) -> tuple[int, ...]:
    """(T, *batch) of inputs that were read, or the batch axes of one step's."""
    rank, first = ranks_of(x_ndim, xs)[0], jax.tree.leaves(xs)[0]
    return first.shape[: first.ndim - rank]


def split(cell: Cell, x: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a cell's maps read of its input, and what its gate map does: one or none."""
    return (x, ()) if cell.x_ndim is None else (x[0], tuple(x[1:]))


def check_features(name: str, cell: Cell, params: Params, x: Any) -> None:
    """Raise unless x [..., D] has the cell's D features and its parameters' dtype."""
    if cell.x_ndim is not None:
        if not isinstance(x, tuple) or len(x) != 2 or not hasattr(x[0], "shape"):
            raise TypeError(
                f"{name}: expected a pair (x, extra), since this cell's gate map reads "
                f"extra arrays, got {describe(x)}"
            )
        x = x[0]
    dtype, features = params.w_x.dtype, params.w_x.shape[0]
    if x.shape[-1] != features:
        token = jnp.issubdtype(x.dtype, jnp.integer)
        hint = "; integers are one-hot encoded or embedded first" if token else ""
        raise ValueError(
            f"{name}: expected shape [..., {features}] "
            f"(params.w_x has {features} rows), got {list(x.shape)}{hint}"
        )
    if x.dtype != dtype:
        raise TypeError(f"{name}: expected {dtype} as the parameters, got {x.dtype}")


def check_vectors(name: str, outputs: Any, axes: tuple[int, ...], why: str) -> None:
    """Raise unless outputs are one array [*axes, H], as what reads them needs."""
    if getattr(outputs, "ndim", None) != len(axes) + 1:
        got = f"shape {list(outputs.shape)}" if hasattr(outputs, "shape") else None
        raise TypeError(
            f"{name}: expected outputs in one array [T, ..., H], {why}; got "
            f"{got or describe(outputs)}"
        )


def read_inputs(
    x_ndim: Ranks, xs: Any, *, name: str = "xs", over_time: bool = True
) -> tuple[Any, tuple[int, ...]]:
    """The inputs as arrays, and the axes (T, *batch) that all of them share.

    Args:
        over_time: False for the inputs of one step, which have no T.
    Raises:  TypeError or ValueError, by name, if one is not an array, has too few axes,
             or other steps or rows than the first.
    """
    time = "T, " if over_time else ""
    if x_ndim is None:
        xs = check_rank(name, xs, f"[{time}..., D]", 1 + over_time)
        return xs, xs.shape[:-1]
    found, axes = [], None
    leaves = jax.tree_util.tree_leaves_with_path(xs)
    for (path, leaf), rank in zip(leaves, ranks_of(x_ndim, xs), strict=True):
        label = name + jax.tree_util.keystr(path)
        leaf = leaf if is_typed_key(leaf) else as_array(label, leaf)
        mine = leaf.shape[: max(0, leaf.ndim - rank)]
        axes = mine if axes is None else axes
        if leaf.ndim < rank + over_time or mine != axes:
            shared = list(axes) if axes else f"[{time}...]"
            raise ValueError(
                f"{label}: expected {shared} and {rank} axes of a row's own, got "
                f"shape {list(leaf.shape)}"
            )
        found.append(leaf)
    assert axes is not None  # since there are leaves
    return jax.tree.unflatten(jax.tree.structure(xs), found), axes


def is_typed_key(a: Any) -> bool:
    """Whether it is an array of random keys."""
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key)

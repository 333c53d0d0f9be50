"""A table of parameters: name, shape, dtype and count."""

from typing import Any, NamedTuple

import jax


class Leaf(NamedTuple):
    """One array of the parameters; `name` is its path, such as cell.0.w_s."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    count: int


class Summary(NamedTuple):
    """Every leaf and the total count; prints as a table."""

    leaves: tuple[Leaf, ...]
    count: int

    def __repr__(self) -> str:
        rows = [("leaf", "shape", "dtype", "count")]
        rows += [(n, str(list(s)), d, f"{c:,}") for n, s, d, c in self.leaves]
        rows.append(("total", "", "", f"{self.count:,}"))
        *wide, last = (max(map(len, column)) for column in zip(*rows, strict=True))
        lines = []
        for *cells, count in rows:
            texts = [f"{t:{w}}" for t, w in zip(cells, wide, strict=True)]
            lines.append("  ".join([*texts, f"{count:>{last}}"]))
        return "\n".join(lines)


def summary(params: Any) -> Summary:
    """Summarise the parameters of a cell, a layer or a network.

    Args:
        params: any pytree of arrays [...], or of their shapes (`jax.eval_shape`).
    Returns: the name, shape, dtype and count of each leaf, and the total count; it
             prints as a table.
    Raises:  TypeError if a leaf is not an array.
    """
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not hasattr(leaf, "shape") or not hasattr(leaf, "dtype"):
            where = f"params.{name}" if name else "params"
            raise TypeError(f"{where}: expected an array, got {type(leaf).__name__}")
        leaves.append(Leaf(name, tuple(leaf.shape), str(leaf.dtype), leaf.size))
    return Summary(tuple(leaves), sum(leaf.count for leaf in leaves))

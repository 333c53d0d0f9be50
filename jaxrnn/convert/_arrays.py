"""Reading and checking incoming arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._core.checks import as_array

_MOST = 2**40  # elements; a broadcast view may claim more


def labelled(trees: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of the trees by name, such as params['hi']['kernel']; also None's."""
    return {
        name + jax.tree_util.keystr(path): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(
            tree, is_leaf=lambda leaf: leaf is None
        )
    }


def read(trees: Mapping[str, Any], *, optional: bool = False) -> dict[str, Any]:
    """The leaves of the trees by name, as arrays, all of one floating dtype.

    NumPy arrays and torch tensors (torch is not imported) become NumPy arrays in the
    machine's byte order, not copied yet, so that shapes can be checked first. JAX
    arrays stay as they are: a conversion can be traced and differentiated.

    Args:
        optional: whether each tree is one array or None, which is left out.
    """
    if optional:
        leaves = {name: leaf for name, leaf in trees.items() if leaf is not None}
    else:
        leaves = labelled(trees)
    arrays = {name: _array(name, leaf) for name, leaf in leaves.items()}
    for name, array in arrays.items():
        first = next(iter(arrays))
        if array.dtype != arrays[first].dtype:
            raise TypeError(
                f"{name}: expected {arrays[first].dtype} as {first}, got {array.dtype}"
            )
    return arrays


def _array(name: str, value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":  # not a NumPy dtype
            raise TypeError(
                f"{name}: expected float16, float32 or float64, got {value.dtype}; "
                "convert it first by .float()"
            )
        value = value.numpy()
    if isinstance(value, jax.Array | np.ma.MaskedArray):
        as_array(name, value)  # is it deleted, or masked?
    check_type(name, value, np.ndarray | jax.Array, "a NumPy or JAX array")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    if isinstance(value, jax.Array):
        return value
    if value.size > _MOST:
        raise ValueError(
            f"{name}: expected shape of at most {_MOST} numbers, as memory can hold, "
            f"got {list(value.shape)}"
        )
    return np.asarray(value, value.dtype.newbyteorder("="))


def copied(a: Any) -> Any:
    """A copy that shares no memory with the caller's; JAX arrays are immutable."""
    return a if isinstance(a, jax.Array) else np.array(a)


def check_type(name: str, value: Any, types: Any, wanted: str) -> None:
    if not isinstance(value, types):
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless the value is one of the choices; True is not 1 here."""
    if not any(type(value) is type(c) and value == c for c in choices):
        raise ValueError(f"{name}: expected one of {list(choices)}, got {value!r}")


def check_keys(name: str, tree: Any, wanted: Sequence[str]) -> None:
    """Raise unless `tree` is a mapping with these keys and no others."""
    check_type(name, tree, Mapping, f"a dict with the keys {list(wanted)}")
    missing = [key for key in wanted if key not in tree]
    others = sorted(map(str, set(tree) - set(wanted)))
    if missing or others:
        raise ValueError(
            f"{name}: expected the keys {list(wanted)}, "
            f"got {sorted(map(str, tree))}: missing {missing}, unknown {others}"
        )


def check_shape(name: str, value: Any, shape: tuple[int | None, ...]) -> None:
    """Raise unless `value` has this shape; None stands for any positive size."""
    check_type(name, value, np.ndarray | jax.Array, "an array")
    fits = len(value.shape) == len(shape) and all(
        size == wanted if wanted is not None else size > 0
        for size, wanted in zip(value.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if s is None else str(s) for s in shape)
        raise ValueError(f"{name}: expected shape [{wanted}], got {list(value.shape)}")

"""Arrays that come in: read and checked, each error with what was wanted and got."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def labelled(trees: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of the trees by name, such as params['hi']['kernel']."""
    return {
        name + jax.tree_util.keystr(path): leaf
        for name, tree in trees.items()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def read(trees: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of the trees by name, as arrays, all of one floating dtype.

    NumPy arrays and torch tensors are copied, without importing torch. JAX's stay as
    they are, so that a conversion can be traced and differentiated. None is left out.
    """
    arrays = {name: _array(name, leaf) for name, leaf in labelled(trees).items()}
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
        if str(value.dtype) == "torch.bfloat16":  # which NumPy has not
            raise TypeError(
                f"{name}: expected float16, float32 or float64, got {value.dtype}; "
                "convert it first by .float()"
            )
        value = value.numpy()
    check_type(name, value, np.ndarray | jax.Array, "a NumPy or JAX array")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"{name}: expected a floating dtype, got {value.dtype}")
    return value if isinstance(value, jax.Array) else np.array(value)


def check_type(name: str, value: Any, types: Any, wanted: str) -> None:
    if not isinstance(value, types):
        raise TypeError(f"{name}: expected {wanted}, got {type(value).__name__}")


def check_choice(name: str, value: Any, choices: Sequence[Any]) -> None:
    """Raise unless the value is one of the choices, True not being 1."""
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

"""Pytrees in words: in messages, how one differs from the expected one, as JSON."""

import json
import math
from typing import Any

import jax
import numpy as np


def describe(tree: Any) -> str:
    """A pytree in a line, such as LSTMState(h, c) or a tuple of 2."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        fields = ", ".join(getattr(tree, "_fields"))  # noqa: B009
        return f"{type(tree).__name__}({fields})"
    if isinstance(tree, tuple | list):
        return f"a {type(tree).__name__} of {len(tree)}"
    if isinstance(tree, dict):
        return f"a dict of {sorted(map(str, tree))}"
    if isinstance(tree, jax.Array | np.ndarray):
        return "an array"
    return "None" if tree is None else type(tree).__name__


def check_structure(name: str, value: Any, wanted: Any) -> None:
    """Raise unless `value` is a pytree of the structure of `wanted`."""
    if jax.tree.structure(value) == jax.tree.structure(wanted):
        return
    said, got = describe(wanted), describe(value)
    if said == got:  # they differ farther in
        said, got = _leaves_apart(wanted, value), _leaves_apart(value, wanted)
    raise TypeError(f"{name}: expected {said}, got {got}")


def _leaves_apart(tree: Any, other: Any) -> str:
    """The leaves that only one of the trees has."""
    mine, its = (
        [jax.tree_util.keystr(path) for path, _ in leaves]
        for leaves in map(jax.tree_util.tree_leaves_with_path, (tree, other))
    )
    apart = [path for path in mine if path not in its]
    return f"arrays at {', '.join(apart)}" if apart else "none there"


def to_json(value: Any) -> str:
    """Plain values as JSON, with null for numbers that are not finite."""

    def finite(value):
        if isinstance(value, dict):
            return {k: finite(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [finite(v) for v in value]
        no_number = isinstance(value, float) and not math.isfinite(value)
        return None if no_number else value

    return json.dumps(finite(value), allow_nan=False)

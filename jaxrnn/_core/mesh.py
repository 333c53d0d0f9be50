"""Inside `jax.shard_map`: arrays that vary over the devices, and those that do not."""

from typing import Any

import jax
from jax import Array, lax


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """Inside `shard_map`, mark every array as varying over all axes that any varies on.

    A scan wants its carry to vary alike before and after a step; and the transpose of
    this cast is the sum of a replicated parameter's gradient over the devices.
    """
    axes = frozenset().union(*(_varying(a) for a in jax.tree.leaves(trees)))

    def vary(a):
        missing = tuple(axes - _varying(a))
        return lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, trees)


def _varying(a: Array) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying

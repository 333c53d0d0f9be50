"""How far one gradient is from another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.checks import as_arrays, check_shape
from jaxrnn._core.numerics import global_norm, widen
from jaxrnn._core.trees import check_structure


class Alignment(NamedTuple):
    """How a gradient g compares with a reference r, over all leaves together.

    relative_error, cosine, norm_ratio: ‖g - r‖ / ‖r‖, ⟨g, r⟩ / ‖g‖ ‖r‖ and ‖g‖ / ‖r‖,
        scalars; from `truncation_bias` arrays [L], by lag.
    """

    relative_error: Array
    cosine: Array
    norm_ratio: Array


def alignment(gradient: Any, reference: Any) -> Alignment:
    """Compare the direction and the length of two gradients.

    Shapes:  gradient, reference: pytrees of the same structure and shapes [...] ->
             scalars, in float32 or better; NaN where a norm that divides is zero.
    Returns: an `Alignment`.
    Raises:  TypeError, at trace time, if their structures differ or a leaf is not a
             floating array; ValueError if their shapes differ.
    """
    check_structure("gradient", gradient, reference)
    gradient = as_arrays("gradient", gradient, floats=True)
    reference = as_arrays("reference", reference, floats=True)
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    for (path, g), r in zip(leaves, jax.tree.leaves(reference), strict=True):
        check_shape("gradient" + jax.tree_util.keystr(path), g, r.shape)
    gradient, reference = jax.tree.map(widen, (gradient, reference))
    size, wanted = global_norm(gradient), global_norm(reference)

    def along(g, r):  # between unit vectors, so that no product over- or underflows
        return jnp.vdot(g / size.astype(g.dtype), r / wanted.astype(r.dtype))

    return Alignment(
        global_norm(jax.tree.map(jnp.subtract, gradient, reference)) / wanted,
        jnp.asarray(sum(jax.tree.leaves(jax.tree.map(along, gradient, reference)))),
        size / wanted,
    )

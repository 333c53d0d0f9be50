"""How far one gradient is from another."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxrnn._core.numerics import global_norm, widen


class Alignment(NamedTuple):
    """Of a gradient g to a reference r, over all leaves together.

    relative_error: ‖g - r‖ / ‖r‖; cosine: ⟨g, r⟩ / ‖g‖ ‖r‖; norm_ratio: ‖g‖ / ‖r‖.
    """

    relative_error: Array
    cosine: Array
    norm_ratio: Array


def alignment(gradient: Any, reference: Any) -> Alignment:
    """Compare two gradients as directions and as lengths.

    Shapes:  two pytrees of one structure and of the same shapes -> scalars, in float32
             or better. NaN where a norm that divides is zero.
    Raises:  ValueError, at trace time, for other structures or shapes; TypeError for
             leaves that are not floating.
    """
    structures = jax.tree.structure(gradient), jax.tree.structure(reference)
    if structures[0] != structures[1]:
        raise ValueError(
            f"gradient: expected the structure of reference, {structures[1]}, got "
            f"{structures[0]}"
        )
    shapes = (jax.tree.map(jnp.shape, tree) for tree in (gradient, reference))
    mine, theirs = (jax.tree.leaves(tree) for tree in shapes)
    if mine != theirs:
        raise ValueError(f"gradient: expected shapes {theirs}, got {mine}")
    for name, tree in (("gradient", gradient), ("reference", reference)):
        for leaf in jax.tree.leaves(tree):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise TypeError(
                    f"{name}: expected floating leaves, got {jnp.result_type(leaf)}"
                )
    gradient, reference = jax.tree.map(widen, (gradient, reference))
    size, wanted = global_norm(gradient), global_norm(reference)

    def along(g, r):  # of unit vectors, so that no product over- or underflows
        return jnp.vdot(g / size.astype(g.dtype), r / wanted.astype(r.dtype))

    return Alignment(
        global_norm(jax.tree.map(jnp.subtract, gradient, reference)) / wanted,
        jnp.asarray(sum(jax.tree.leaves(jax.tree.map(along, gradient, reference)))),
        size / wanted,
    )

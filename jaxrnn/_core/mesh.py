"""A mesh of devices: what varies over it, and how a batch is split over it."""

from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import AxisType, Mesh, PartitionSpec


def vary_alike(*trees: Any) -> tuple[Any, ...]:
    """Inside `shard_map`, mark every array as varying over all axes that any varies on.

    A scan requires its carry to vary alike before and after a step; the transpose of
    this cast sums a replicated parameter's gradient over the devices.
    """
    axes = frozenset().union(*(_varying(a) for a in jax.tree.leaves(trees)))

    def vary(a):
        missing = tuple(axes - _varying(a))
        return lax.pcast(a, missing, to="varying") if missing else a

    return jax.tree.map(vary, trees)


def _varying(a: Array) -> frozenset[str]:
    return jax.typeof(a).manual_axis_type.varying


def check_mesh(mesh: Any) -> None:
    """Raise unless it is a mesh of one axis."""
    if not isinstance(mesh, Mesh):
        raise TypeError(f"mesh: expected a jax.sharding.Mesh or None, got {mesh!r}")
    if len(mesh.axis_names) != 1:
        raise ValueError(f"mesh: expected one axis, got {mesh.axis_names}")


def _check_no_context() -> None:
    """Raise inside `jax.set_mesh` of explicit axes: a mesh of one's own is then refused
    by JAX."""
    around = jax.sharding.get_abstract_mesh()
    if any(kind == AxisType.Explicit for kind in around.axis_types):
        raise ValueError(
            "mesh: expected no explicit mesh set by jax.set_mesh around the call, got "
            f"{dict(zip(around.axis_names, around.axis_types, strict=True))}; "
            "call the step outside it, since it has the mesh as its argument"
        )


def vary(a: Array, axis: str) -> Array:
    """`a` as one that varies over this axis."""
    return a if axis in _varying(a) else lax.pcast(a, axis, to="varying")


def spec_of(batch: Any, given: Any, mesh: Mesh) -> Any:
    """How the batch is split: as given, or its leaves [T, B, ...] and [B] by rows.

    Raises:  ValueError unless they are specs over the mesh's axis, nested as the batch.
    """
    (axis,) = mesh.axis_names
    if given is None:
        return jax.tree.map(
            lambda a: PartitionSpec(*[None, axis][-np.ndim(a) :] if np.ndim(a) else ()),
            batch,
        )
    for spec in jax.tree.leaves(given):
        if not isinstance(spec, PartitionSpec) or not set(spec) <= {None, axis}:
            raise ValueError(
                f"batch_spec: expected a PartitionSpec over the mesh's axis {axis!r}, "
                f"or a pytree of them, got {spec!r}"
            )
    try:
        return jax.tree.broadcast(given, batch)
    except ValueError:
        raise ValueError(
            "batch_spec: expected a PartitionSpec, or a pytree of them that nests as "
            f"the batch, got {given!r:.100}"
        ) from None


def check_divides(name: str, tree: Any, spec: Any, mesh: Mesh) -> None:
    """Raise unless each split axis is a multiple of the devices, outside `set_mesh`."""
    _check_no_context()
    specs = jax.tree.broadcast(spec, tree)
    for a, s in zip(jax.tree.leaves(tree), jax.tree.leaves(specs), strict=True):
        split = next((i for i, axis in enumerate(s) if axis is not None), None)
        shape = np.shape(a)
        if split is not None and (len(shape) <= split or shape[split] % mesh.size):
            raise ValueError(
                f"{name}: expected axis {split} of shape {shape} to divide by the "
                f"mesh's {mesh.size} devices"
            )

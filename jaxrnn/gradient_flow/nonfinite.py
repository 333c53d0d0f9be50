"""Finding the first step, part of the state and row that is NaN or inf."""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.checks import check_flag
from jaxrnn._core.door import as_layer
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import is_real, joined
from jaxrnn.backprop import bptt
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import unroll


class Place(NamedTuple):
    """A place in a run, as int32 scalars; -1 for nowhere.

    step: counted from 0.
    part: of the state, in the order of `jax.tree.leaves`.
    row: of the batch, with its axes flattened.
    """

    step: Array
    part: Array
    row: Array


class Nonfinite(NamedTuple):
    """The first NaN or inf in each pass.

    forward: of a state, the earliest in time.
    backward: of an adjoint, the first that the backward pass meets: the latest in time.
    """

    forward: Place
    backward: Place


def first_nonfinite(
    cell: Cell | Layer,
    params: Any,
    xs: Array,
    state: Any = None,
    cotangents: Any = None,
    *,
    final: Any = None,
    subnormal: bool = False,
    lengths: Any = None,
    resets: Any = None,
) -> Nonfinite:
    """Find where the states and the adjoints first become NaN or inf.

    It works inside `jit` and does not change JAX's NaN settings.

    Shapes:  xs [T, ..., D], state parts [..., H].
    Args:
        cell, params: as in `unroll`.
        cotangents, final: the errors, as in `bptt`. Without them only the forward pass
            is searched.
        subnormal: also search for numbers too small for full precision, the last
            before a gradient vanishes to 0. (XLA on a CPU flushes them to zero.)
        lengths, resets: as in `unroll`. Steps past a row's length are not searched.
    Returns: `Nonfinite`. Within one step, the first part of the state, then the first
             row.
    Raises:  as `unroll` and `bptt` do.
    """
    check_flag("subnormal", subnormal)
    edges = {"lengths": lengths, "resets": resets, "noise": None}
    states, _ = unroll(cell, params, xs, state, return_states=True, **edges)
    axes = axes_of(as_layer(cell).x_ndim, xs)
    forward = _first(subnormal, False, axes, states)
    if cotangents is None and final is None:
        return Nonfinite(forward, _nowhere())
    d = bptt(cell, params, xs, state, cotangents, final=final, **edges)
    adjoints = joined(d.adjoints, states)  # so that every part has its place
    return Nonfinite(forward, _first(subnormal, True, axes, adjoints))


def _nowhere() -> Place:
    return Place(*(jnp.full((), -1, jnp.int32) for _ in Place._fields))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _first(subnormal: bool, backward: bool, axes: tuple[int, ...], parts: Any) -> Place:
    """The first place in time, or the last one; parts [T, ..., H]."""

    def bad_rows(part):
        bad = ~jnp.isfinite(part)
        if subnormal and is_real(part):
            bad = bad | _is_subnormal(part)
        rows = axes[0], math.prod(axes[1:])
        return bad.reshape(*rows, math.prod(part.shape[len(axes) :])).any(-1)

    bad = jnp.stack([bad_rows(part) for part in jax.tree.leaves(parts)], axis=1)
    if bad.size == 0:
        return _nowhere()
    bad = bad[::-1] if backward else bad
    steps, count, rows = bad.shape
    flat = jnp.argmax(bad.reshape(-1))  # the first True
    step, part, row = jnp.unravel_index(flat, (steps, count, rows))
    step = steps - 1 - step if backward else step
    found = Place(*(i.astype(jnp.int32) for i in (step, part, row)))
    return jax.tree.map(lambda i: jnp.where(bad.any(), i, jnp.full_like(i, -1)), found)


def _is_subnormal(a: Array) -> Array:
    """Whether by its bits: arithmetic may treat a subnormal number as zero."""
    info = jnp.finfo(a.dtype)
    integer = jnp.dtype(f"uint{info.bits}")
    bits = lax.bitcast_convert_type(a, integer)
    mantissa = jnp.asarray((1 << info.nmant) - 1, integer)
    exponent = jnp.asarray(((1 << info.nexp) - 1) << info.nmant, integer)
    return ((bits & exponent) == 0) & ((bits & mantissa) != 0)

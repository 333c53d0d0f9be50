"""Linear recurrences over time, solved in O(log T) rounds, and their matrices: the
Jacobians of a cell's step, at all steps at once.

    v_t = A_t v_{t-1} + b_t

Two steps compose into one, (A, b) then (A', b') being (A'A, A'b + b'). This is
associative, so a scan may group the steps as a tree. A_t is dense; or, for a linear
cell, diagonal, real or complex (stored like the cell's state, real parts first).

Source: Blelloch (1990), "Prefix sums and their applications", §1.4.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn._core.backward import linearize, marked
from jaxrnn._core.folded import pack, unpack
from jaxrnn._core.marks import Marks
from jaxrnn._core.numerics import widen
from jaxrnn.cell import Cell
from jaxrnn.layer import Carrier, Transition


class Matrices(NamedTuple):
    """How the matrices A_t of a recurrence are stored.

    times(A, B) -> AB
    act(A, v) -> Av, v [..., N]
    transpose(A) -> Aᵀ
    one(v) -> the vector like v that a diagonal A maps to its own entries; None for
        dense ones
    """

    times: Callable[[Array, Array], Array]
    act: Callable[[Array, Array], Array]
    transpose: Callable[[Array], Array]
    one: Callable[[Array], Array] | None = None


def _dense_times(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _dense_act(a: Array, v: Array) -> Array:
    return _dense_times(a, v[..., None])[..., 0]


def _dense_transpose(a: Array) -> Array:
    return jnp.swapaxes(a, -1, -2)


def _complex_times(a: Array, b: Array) -> Array:
    a_re, a_im = jnp.split(a, 2, axis=-1)
    b_re, b_im = jnp.split(b, 2, axis=-1)
    re, im = a_re * b_re - a_im * b_im, a_re * b_im + a_im * b_re
    return jnp.concatenate([re, im], axis=-1)


def _conjugate(a: Array) -> Array:
    """The transposed rotation, which turns back."""
    re, im = jnp.split(a, 2, axis=-1)
    return jnp.concatenate([re, -im], axis=-1)


def _complex_one(v: Array) -> Array:
    re, im = jnp.split(v, 2, axis=-1)
    return jnp.concatenate([jnp.ones_like(re), jnp.zeros_like(im)], axis=-1)


_DENSE = Matrices(_dense_times, _dense_act, _dense_transpose)
_REAL = Matrices(jnp.multiply, jnp.multiply, lambda a: a, jnp.ones_like)
_COMPLEX = Matrices(_complex_times, _complex_times, _conjugate, _complex_one)

_DIAGONAL = {"real": _REAL, "complex": _COMPLEX}


def matrices_of(part: Cell | Transition, marks: Marks) -> Matrices:
    """How this part's Jacobians are stored.

    Zoneout may hold one half of a complex unit and not the other; they are then dense.
    """
    linear = part.linear if isinstance(part, Cell) else None
    return _DENSE if linear is None or marks.hold is not None else _DIAGONAL[linear]


def steps_back(
    part: Cell | Transition, carrier: Carrier, marks: Marks, xs: Any, before: Any
) -> tuple[Any, Callable[[Any], tuple[Any, Any, Any, Any]]]:
    """Linearise every step, and pull all of them back at once, given all λ_t.

    Raises:  ValueError for a cell whose pull-back is not linear in λ_t.
    """
    if isinstance(part, Cell) and not part.exact:
        raise ValueError(
            "cell: expected one whose adjoints pass as they are, since a scan puts "
            "their products together in another order; got a clipped cell"
        )
    at, coefficients, pull = linearize(part, carrier, marks, xs, before)
    # Mapped over time, since a pull-back takes one step.
    back = marked(partial(pull, d_output=None))
    return at, partial(jax.vmap(back), marks, coefficients)


def jacobians(
    kind: Matrices, back: Callable[[Any], Any], like: Any, axes: int
) -> Array:
    """∂s_t/∂s_{t-1} of every step: dense [T, ..., N, N], or diagonal [T, ..., N].

    Each of the N rows of a dense one is the pull-back, by hand, of a unit vector.

    Args:
        back: from `steps_back`.
        like: states, parts [T, ..., H]; only their shapes are read.
        axes: the number of axes of time and batch.
    """
    vector = pack(like, axes)

    def pulled(v):
        return pack(back(unpack(v, like, axes))[0], axes)

    if kind.one is not None:
        return kind.transpose(pulled(kind.one(vector)))
    size = vector.shape[-1]
    units = jnp.eye(size, dtype=vector.dtype)
    units = units.reshape(size, *[1] * (vector.ndim - 1), size)
    rows = jax.vmap(pulled)(jnp.broadcast_to(units, (size, *vector.shape)))
    return jnp.moveaxis(rows, 0, -2)


def solve(kind: Matrices, a: Array, b: Array, *, reverse: bool = False) -> Array:
    """All v_t of v_t = A_t v_{t-1} + b_t from v_0 = 0, by an associative scan.

    Shapes:  a [T, ..., N, N] or [T, ..., N], b [T, ..., N] -> [T, ..., N].
    Args:
        reverse: the recurrence runs from the last step to the first.
    """

    def one_after_the_other(first, second):
        a, b = first
        a_next, b_next = second
        return kind.times(a_next, a), kind.act(a_next, b) + b_next

    steps = widen(a), widen(b)
    _, v = lax.associative_scan(one_after_the_other, steps, reverse=reverse)
    return v.astype(b.dtype)

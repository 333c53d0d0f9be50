"""Linear recurrences over time, solved in log T rounds, and where their matrices come
from: the Jacobian of a cell's step, at all steps at once.

    v_t = A_t v_{t-1} + b_t

Two steps one after the other are again such a step, (A, b) then (A', b') being
(A'A, A'b + b'): this is associative, so that a scan may group the steps as a tree.
A_t is dense, or, of a cell whose units are linear and apart, a diagonal: of real
numbers, or of complex ones kept as the cell keeps them, real parts first.

Source: Blelloch (1990), "Prefix sums and their applications", §1.4.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxrnn.cell import Cell, Params
from jaxrnn.cells.lru import lru
from jaxrnn.cells.mingru import mingru
from jaxrnn.forward import input_map, recurrent_map
from jaxrnn.numerics import widen
from jaxrnn.step import pack, transition, unpack


class Matrices(NamedTuple):
    """How the matrices A_t of a recurrence are kept.

    times(A, B) -> AB
    act(A, v) -> Av, v [..., N]
    transpose(A) -> Aᵀ
    one(v) -> where A is diagonal, the vector like v that A turns into its own entries;
        None for dense ones
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
    """A rotation, transposed: it turns back."""
    re, im = jnp.split(a, 2, axis=-1)
    return jnp.concatenate([re, -im], axis=-1)


def _complex_one(v: Array) -> Array:
    re, im = jnp.split(v, 2, axis=-1)
    return jnp.concatenate([jnp.ones_like(re), jnp.zeros_like(im)], axis=-1)


_DENSE = Matrices(_dense_times, _dense_act, _dense_transpose)
_REAL = Matrices(jnp.multiply, jnp.multiply, lambda a: a, jnp.ones_like)
_COMPLEX = Matrices(_complex_times, _complex_times, _conjugate, _complex_one)

# Linear cells, by the gate map that all their variants share.
_DIAGONAL = {mingru().gate: _REAL, lru().gate: _COMPLEX}


def matrices_of(cell: Cell) -> Matrices:
    """How this cell's Jacobians are kept."""
    return _DIAGONAL.get(cell.gate, _DENSE)


def jacobians(cell: Cell, params: Params, before: Any, xs: Array) -> Array:
    """∂s_t/∂s_{t-1} of every step: dense [T, ..., N, N], or diagonal [T, ..., N].

    To the cell, all steps at once are one step of a batch T times as large. A row of a
    dense one is the step's derivative by hand of a unit vector: N of them.
    """
    one = matrices_of(cell).one
    if one is not None:
        return affine(cell, one, params, before, xs)[0]
    _, pull = jax.vjp(lambda s: transition(cell, params, s, xs), before)
    like = pack(before)
    size = like.shape[-1]
    units = jnp.eye(size, dtype=like.dtype).reshape(size, *[1] * (like.ndim - 1), size)
    units = jnp.broadcast_to(units, (size, *like.shape))
    (rows,) = jax.vmap(pull)(unpack(units, before))
    return jnp.moveaxis(pack(rows), 0, -2)


def affine(
    cell: Cell,
    one: Callable[[Array], Array],
    params: Params,
    like: Any,
    xs: Array,
) -> tuple[Array, Array]:
    """A_t and b_t [T, ..., N] of a linear cell, read off its gate map.

    The map is A s + b: b is its value at zero, and A's entries its derivative there
    along a vector of ones.

    Args:
        one: of the cell's `Matrices`.
        like: states, parts [T, ..., H]; only their shapes are read.
    """
    zero = jax.tree.map(jnp.zeros_like, like)
    z, r = input_map(params, xs), recurrent_map(params, zero[0])
    b, a = jax.jvp(
        lambda s: cell.gate(params.own, z, r, s)[0],
        (zero,),
        (jax.tree.map(one, zero),),
    )
    return pack(a), pack(b)


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

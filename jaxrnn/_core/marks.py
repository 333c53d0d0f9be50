"""Which steps of which rows count: lengths, masks, resets and the direction of time.

A row's state is held past its length, so that the last state is the one at the length
and no history is needed to pick it; inputs and outputs past the length are zeroed
before and after the loop, so that they reach no output and no gradient. At a masked
step inside the length the state is held as well, and the output repeated. At a reset
the step starts from the initial state, and no gradient crosses. In reverse, the padding
comes first and the initial state is held through it: each row is reversed inside its
own length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer

from jaxrnn._core.checks import as_array, check_shape
from jaxrnn._core.inputs import is_typed_key


class Marks(NamedTuple):
    """What differs by step and row, as arrays [T, ...] or None."""

    live: Array | None = None  # booleans: the step is taken; else the state is held
    reset: Array | None = None  # booleans: the step starts from the initial state
    hold: Any = None  # parts [T, ..., H] in 0..1: how much of the state before is kept
    inside: Array | None = None  # booleans: the step is inside its row's length
    add: Any = None  # parts [T, ..., H], added to the state after the step


def make_marks(
    axes: tuple[int, ...], lengths: Any, resets: Any = None, mask: Any = None
) -> Marks:
    """Make the marks of a run over (T, *batch); resets past the length are dropped.

    Raises:  ValueError or TypeError, at trace time, for a wrong shape or dtype, or for
             a concrete length outside 0..T; a traced one is clamped to it.
    """
    length, *batch = axes
    batch = tuple(batch)
    inside = reset = None
    if lengths is not None:
        inside = _inside("lengths", lengths, length, batch)
    if resets is not None:
        reset = as_booleans("resets", resets, (length, *batch))
        reset = reset if inside is None else reset & inside
    live = inside
    if mask is not None:
        mask = as_booleans("mask", mask, (length, *batch))
        live = mask if inside is None else mask & inside
    return Marks(live, reset, None, inside)


def _inside(name: str, lengths: Any, length: int, batch: tuple[int, ...]) -> Array:
    given = lengths
    lengths = as_array(name, lengths, allow_lists=True)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise TypeError(f"{name}: expected integers {list(batch)}, got {lengths.dtype}")
    check_shape(name, lengths, batch)
    if not any(isinstance(n, Tracer) for n in jax.tree.leaves(given)):
        known = np.asarray(given)  # with NumPy, so that it is known inside jit too
        if ((known < 0) | (known > length)).any():
            raise ValueError(
                f"{name}: expected values in 0..{length} (xs has {length} steps), "
                f"got {known.min()}..{known.max()}"
            )
    steps = jnp.arange(length).reshape(-1, *[1] * len(batch))
    return steps < lengths[None].astype(steps.dtype)


def as_booleans(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    """The value as booleans; numbers that are 0 or 1, such as dones, are cast."""
    given = value
    value = as_array(name, value, allow_lists=True)
    check_shape(name, value, shape)
    if value.dtype == jnp.bool_:
        return value
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        raise TypeError(f"{name}: expected booleans, got {value.dtype}")
    if not any(isinstance(n, Tracer) for n in jax.tree.leaves(given)):
        known = np.asarray(given)
        if not np.isin(known, (0, 1)).all():
            raise ValueError(
                f"{name}: expected booleans, or numbers that are 0 or 1, got "
                f"{known.dtype} in {known.min()}..{known.max()}"
            )
    return value != 0


def where_live(marks: Marks, value: Any, otherwise: Any) -> Any:
    """`value` in the rows that take the step; parts [..., N] of any rank."""
    return value if marks.live is None else _select(marks.live, value, otherwise)


def where_reset(marks: Marks, value: Any, otherwise: Any) -> Any:
    """`value` in the rows that start again; parts [..., N] of any rank."""
    return otherwise if marks.reset is None else _select(marks.reset, value, otherwise)


def mix(marks: Marks, after: Any, before: Any) -> Any:
    """Mix the step's state with the share kept of the previous one."""
    if marks.hold is None:
        return after
    return jax.tree.map(lambda w, a, b: (1 - w) * a + w * b, marks.hold, after, before)


def add(marks: Marks, state: Any) -> Any:
    """The state with its additive noise; λ passes it unchanged."""
    return state if marks.add is None else jax.tree.map(jnp.add, state, marks.add)


def changes_states(marks: Marks) -> bool:
    """Whether states differ from what the gate map returned: zoneout or added noise."""
    return marks.hold is not None or marks.add is not None


def shares(marks: Marks, adjoint: Any) -> tuple[Any, Any]:
    """The transpose of `mix`: (1-w) λ to the step's state, w λ to the previous one."""
    if marks.hold is None:
        return adjoint, None
    nothing = jax.tree.map(jnp.zeros_like, adjoint)
    return mix(marks, adjoint, nothing), mix(marks, nothing, adjoint)


def _select(mask: Array, value: Any, otherwise: Any) -> Any:
    def select(a, b):  # over all of a part's own axes
        rows = mask.reshape(mask.shape + (1,) * (a.ndim - mask.ndim))
        return jnp.where(rows, a, b)

    return jax.tree.map(select, value, otherwise)


def live_only(marks: Marks, values: Any) -> Any:
    """`values`, and zero where no step is taken."""
    if marks.live is None:
        return values

    def live(a):
        return a if is_typed_key(a) else where_live(marks, a, jnp.zeros_like(a))

    return jax.tree.map(live, values)


def inside_only(marks: Marks, values: Any) -> Any:
    """`values`, and zero past each row's length."""
    return live_only(Marks(live=marks.inside), values)


def held_outputs(marks: Marks, outputs: Any) -> Any:
    """Outputs [T, ...] where a step is taken; elsewhere the previous one, repeated.

    They are zero before a row's first step.
    """
    if marks.live is None:
        return outputs
    steps = jnp.arange(len(marks.live)).reshape(-1, *[1] * (marks.live.ndim - 1))
    last = lax.cummax(jnp.where(marks.live, steps, -1), axis=0)

    def again(a):
        at = last.reshape(last.shape + (1,) * (a.ndim - last.ndim))
        found = jnp.take_along_axis(a, jnp.maximum(at, 0), axis=0)
        return jnp.where(at < 0, jnp.zeros_like(a), found)

    return jax.tree.map(again, outputs)


def turn(values: Any) -> Any:
    """Reverse arrays [T, ...] in time; scalars stay as they are."""
    return jax.tree.map(lambda a: a[::-1] if a.ndim else a, values)


def states_before(start: Any, states: Any) -> Any:
    """The state before every step, parts [T, ..., H]: `start`, then all but one."""
    return jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: s.shape[0]], start, states
    )


def over_time(part: Any, like: Any) -> Any:
    """Repeat parts [..., H] at every step: [T, ..., H] as `like`."""
    return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), part, like)


def opposite(marks: Marks, *, backward: bool) -> Marks:
    """The marks of a part that runs against the rest, which itself goes `backward`.

    A reset separates two steps. For the part it belongs to the other one of them, the
    second that it reaches.
    """
    if marks.reset is None:
        return marks
    reset = turn(marks.reset) if backward else marks.reset
    steps = reset.shape[0]
    reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])[:steps]
    reset = turn(reset) if backward else reset
    return marks._replace(reset=reset if marks.inside is None else reset & marks.inside)

"""Which steps of which rows count: lengths, resets and the direction of time.

The edge contract: a row's state is held past its length, so that the last state is the
one at the length and no history is kept to pick it from; what is past the length is
zeroed before the loop and after it, so that it reaches no output and no gradient. A
reset puts the initial state in place of the one before, and no gradient crosses.
Reversed, the padding comes first and the initial state is held through it: each row is
reversed inside its own length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxrnn._core.checks import check_array


class Marks(NamedTuple):
    """What differs by step and row, arrays [T, ...]; None where nothing does."""

    live: Array | None = None  # booleans: the step is inside its row's length
    reset: Array | None = None  # booleans: and starts from the initial state
    hold: Any = None  # parts [T, ..., H] in 0..1: how much of the state before is kept


def make_marks(xs: Array, lengths: Any, resets: Any) -> Marks:
    """Checked, and a reset past the length left out.

    Raises:  ValueError or TypeError, at trace time, for a wrong shape or dtype, or for
             a concrete length outside 0..T; a traced one is clamped to it.
    """
    length, batch = xs.shape[0], xs.shape[1:-1]
    live = reset = None
    if lengths is not None:
        given = lengths
        lengths = _as_array("lengths", lengths, jnp.integer, "integers", batch)
        if not any(isinstance(n, Tracer) for n in jax.tree.leaves(given)):
            _check_range(np.asarray(given), length)  # by NumPy: known inside jit, too
        steps = jnp.arange(length).reshape(-1, *[1] * len(batch))
        live = steps < lengths[None].astype(steps.dtype)
    if resets is not None:
        reset = _as_array("resets", resets, jnp.bool_, "booleans", (length, *batch))
        reset = reset if live is None else reset & live
    return Marks(live, reset)


def _check_range(lengths: np.ndarray, length: int) -> None:
    if ((lengths < 0) | (lengths > length)).any():
        raise ValueError(
            f"lengths: expected values in 0..{length} (xs has {length} steps), "
            f"got {lengths.min()}..{lengths.max()}"
        )


def _as_array(name: str, value: Any, kind: Any, words: str, shape: tuple) -> Array:
    value = jnp.asarray(value)
    if not jnp.issubdtype(value.dtype, kind):
        raise TypeError(f"{name}: expected {words} {list(shape)}, got {value.dtype}")
    check_array(name, value, shape, value.dtype)
    return value


def where_live(marks: Marks, value: Any, otherwise: Any) -> Any:
    """`value` in the rows that are inside their length; parts [..., N]."""
    return value if marks.live is None else _select(marks.live, value, otherwise)


def where_reset(marks: Marks, value: Any, otherwise: Any) -> Any:
    """`value` in the rows that start again; parts [..., N]."""
    return otherwise if marks.reset is None else _select(marks.reset, value, otherwise)


def mix(marks: Marks, after: Any, before: Any) -> Any:
    """The step's state with the share of the one before that is kept."""
    if marks.hold is None:
        return after
    return jax.tree.map(lambda w, a, b: (1 - w) * a + w * b, marks.hold, after, before)


def shares(marks: Marks, adjoint: Any) -> tuple[Any, Any]:
    """`mix`, transposed: λ of the step's state, (1-w) λ, and of the one kept, w λ."""
    if marks.hold is None:
        return adjoint, None
    nothing = jax.tree.map(jnp.zeros_like, adjoint)
    return mix(marks, adjoint, nothing), mix(marks, nothing, adjoint)


def _select(mask: Array, value: Any, otherwise: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(mask[..., None], a, b), value, otherwise)


def live_only(marks: Marks, values: Any) -> Any:
    """`values`, and zero past each row's length."""
    return where_live(marks, values, jax.tree.map(jnp.zeros_like, values))


def turn(values: Any) -> Any:
    """Arrays [T, ...] in the other direction of time; scalars, which have none."""
    return jax.tree.map(lambda a: a[::-1] if a.ndim else a, values)


def states_before(start: Any, states: Any) -> Any:
    """The state before every step, parts [T, ..., H]: `start`, then all but one."""
    return jax.tree.map(
        lambda s0, s: jnp.concatenate([s0[None], s[:-1]])[: s.shape[0]], start, states
    )


def over_time(part: Any, like: Any) -> Any:
    """Parts [..., H], the same at every step: [T, ..., H] as `like`."""
    return jax.tree.map(lambda a, b: jnp.broadcast_to(a, b.shape), part, like)


def opposite(marks: Marks, *, backward: bool) -> Marks:
    """The marks of a part that runs against the rest, which itself goes `backward`.

    A reset separates two steps. To the part it stands before the second one it comes
    to, which is the step on the reset's other side.
    """
    if marks.reset is None:
        return marks
    reset = turn(marks.reset) if backward else marks.reset
    steps = reset.shape[0]
    reset = jnp.concatenate([reset[1:], jnp.zeros_like(reset[:1])])[:steps]
    reset = turn(reset) if backward else reset
    return marks._replace(reset=reset if marks.live is None else reset & marks.live)

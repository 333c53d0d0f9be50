"""Any gate map as a cell, with JAX's derivative taken one chunk at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_choice, check_flag, check_positive
from jaxrnn.cell import Cell, State
from jaxrnn.cells._parts import make_init, zero_state


def _shape(value: Any) -> str:
    if not hasattr(value, "shape"):
        return type(value).__name__
    return f"{list(value.shape)} {jnp.result_type(value)}"


def _parts(value: Any) -> str:
    """An argument or a result of a gate map, such as "State(h [8, 16] float32)"."""
    if not hasattr(value, "_fields"):
        return f"an array {_shape(value)}" if hasattr(value, "shape") else _shape(value)
    parts = zip(value._fields, value, strict=True)
    inside = ", ".join(f"{name} {_shape(part)}" for name, part in parts)
    return f"{type(value).__name__}({inside})"


def _check_after(after: Any, before: Any) -> None:
    """Raise unless a gate map returns a state like the one it was given."""

    def outline(state):
        return jax.tree.map(lambda a: (jnp.shape(a), jnp.result_type(a)), state)

    if outline(after) != outline(before) or type(after) is not type(before):
        raise TypeError(
            f"gate: expected {_parts(before)} like the state before, "
            f"got {_parts(after)}"
        )


def _read_parts(state: Any) -> tuple[str, ...]:
    """The names of a state's parts, or raise."""
    if not (isinstance(state, type) and getattr(state, "_fields", ())):
        got = getattr(state, "__name__", repr(state))
        raise TypeError(
            f"state: expected a NamedTuple class, such as State or LSTMState, got {got}"
        )
    return state._fields


def _check_ranks(x_ndim: Any) -> None:
    """Raise unless x_ndim is None, or the ranks of a vector x and of more."""
    if x_ndim is None:
        return
    ranks = x_ndim if isinstance(x_ndim, tuple) else ()
    if (
        len(ranks) < 2
        or any(type(n) is not int or n < 0 for n in ranks)
        or ranks[0] != 1
    ):
        raise ValueError(
            "x_ndim: expected None, or 1 for x and the number of axes of each leaf of "
            f"extra in one row, such as (1, 0), got {x_ndim!r}"
        )


@by_value
def custom_cell(
    gate: Callable[..., Any],
    *,
    gates: int = 1,
    state: type = State,
    recurrent: str | None = None,
    x_ndim: tuple[int, ...] | None = None,
    independent: bool = False,
) -> Cell:
    """Make a cell from its gate map alone; the derivative comes from `jax.vjp`.

    The gate map is linearised for a whole chunk outside the loop, and only the linear
    pull-back runs inside. Deferred weight products, chunks and diagnostics all work.

    Args:
        gate: `gate(own, z, r, state_prev) -> state`, with z and r [..., gates·H]; with
            `x_ndim`, `gate(own, z, r, state_prev, extra)`.
        gates: the number of pre-activations per unit.
        state: NamedTuple class of the state, whose first part is the output h; all
            parts are [..., H] and start at zero. For another initial state, or for
            parameters of the gate map itself, replace fields of the result:
            `cell._replace(init=...)`.
        recurrent: the part of the state that W_s multiplies; by default the first.
        x_ndim: for a gate map that also reads what varies over time and has no
            weights, such as noise or the length of a step. Each input is then a pair
            (x, extra), extra an array or a pytree of arrays with the leading axes of x.
            x_ndim is the number of axes of one row of x, 1, and of each leaf of extra,
            in `jax.tree.leaves` order: (1, 0) for one number a row.
        independent: True if each unit of the gate map reads only its own
            pre-activations, state and parameters, as `online.snap1` requires.
    Returns: a `Cell`, the same for the same arguments, so that it compiles once.
    Raises:  TypeError or ValueError for an invalid argument; at trace time if the gate
             map returns another kind of state than it was given.
    """
    if not callable(gate):
        raise TypeError(
            "gate: expected a function (own, z, r, state_prev) -> state, "
            f"got {type(gate).__name__}"
        )
    check_positive("gates", gates)
    check_flag("independent", independent)
    parts = _read_parts(state)
    if recurrent is not None:
        check_choice("recurrent", recurrent, parts)
    _check_ranks(x_ndim)

    def checked(own, z, r, state_prev, *extra):
        after = gate(own, z, r, state_prev, *extra)
        _check_after(after, state_prev)
        return after

    def gate_and_inputs(own, z, r, state_prev, *extra):
        return checked(own, z, r, state_prev, *extra), (z, r)

    # A vjp is a pytree whose leaves are its residuals. Mapped over time, it can be
    # sliced by a scan and called on one step; it holds the shapes of one step.
    def linearize(own, inputs, state_prev, state, *extra):
        del state

        def one_step(z, r, state_prev, *extra):
            def gate(*moving):
                return checked(own, *moving, *extra)

            return jax.vjp(gate, z, r, state_prev)[1]

        return jax.vmap(one_step)(*inputs, state_prev, *extra)

    def pullback(own, coefficients, adjoint):
        del own
        return coefficients(adjoint)

    return Cell(
        init=make_init(gates=gates),
        initial_state=partial(zero_state, state),
        gate=gate_and_inputs,
        linearize=linearize,
        pullback=pullback,
        gates=gates,
        independent=independent,
        recurrent=parts.index(recurrent or parts[0]),
        x_ndim=x_ndim,
    )

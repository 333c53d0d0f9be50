"""Any gate map as a cell, with JAX's derivative taken one chunk at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_flag, check_positive
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


@by_value
def custom_cell(
    gate: Callable[..., Any],
    *,
    gates: int = 1,
    state: type = State,
    independent: bool = False,
) -> Cell:
    """Make a cell from its gate map alone; the derivative comes from `jax.vjp`.

    The gate map is linearised for a whole chunk outside the loop, and only the linear
    pull-back runs inside. Deferred weight products, chunks and diagnostics all work.

    Args:
        gate: `gate(own, z, r, state_prev) -> state`, with z and r [..., gates·H].
        gates: the number of pre-activations per unit.
        state: NamedTuple class of the state, whose first part is the output h; all
            parts are [..., H] and start at zero. For another initial state, or for
            parameters of the gate map itself, replace fields of the result:
            `cell._replace(init=...)`.
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
    if not (isinstance(state, type) and getattr(state, "_fields", ())):
        got = getattr(state, "__name__", repr(state))
        raise TypeError(
            f"state: expected a NamedTuple class, such as State or LSTMState, got {got}"
        )

    def checked(own, z, r, state_prev):
        after = gate(own, z, r, state_prev)
        _check_after(after, state_prev)
        return after

    def gate_and_inputs(own, z, r, state_prev):
        return checked(own, z, r, state_prev), (z, r)

    # A vjp is a pytree whose leaves are its residuals. Mapped over time, it can be
    # sliced by a scan and called on one step; it holds the shapes of one step.
    def linearize(own, inputs, state_prev, state):
        del state

        def one_step(z, r, state_prev):
            return jax.vjp(lambda *args: checked(own, *args), z, r, state_prev)[1]

        z, r = inputs
        return jax.vmap(one_step)(z, r, state_prev)

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
    )

"""Any gate map as a cell; its derivative is JAX's, taken a chunk at a time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax

from jaxrnn._core.by_value import by_value
from jaxrnn.cell import Cell, State
from jaxrnn.cells._parts import make_init, zero_state


@by_value
def custom_cell(
    gate: Callable[..., Any],
    *,
    gates: int = 1,
    state: type = State,
    independent: bool = False,
) -> Cell:
    """A cell from its gate map alone; its derivative then comes from `jax.vjp`.

    It still gets the deferred weight products, the chunks and the diagnostics: the
    gate map is linearised for a whole chunk outside the loop, and only the linear
    pull-back runs inside.

    Args:
        gate: `gate(own, z, r, state_prev) -> state`, with z and r [..., gates·H].
        gates: pre-activations a unit has.
        state: NamedTuple class of the state, its first part the exposed h; all
            parts are [..., H] and start at zero. For another start, or for
            parameters of the gate's own, replace fields of the result:
            `cell._replace(init=...)`.
        independent: say True of a gate map in which each unit reads its own
            pre-activations, state and parameters alone, as `online.snap1` wants it.
    Returns: the same cell for the same arguments, so that it compiles once.
    """

    def gate_and_inputs(own, z, r, state_prev):
        return gate(own, z, r, state_prev), (z, r)

    # A vjp is a pytree whose leaves are its residuals. Mapped over time, it can be
    # sliced by a scan and called on one step; it holds the shapes of one step.
    def linearize(own, inputs, state_prev, state):
        del state

        def one_step(z, r, state_prev):
            return jax.vjp(lambda *args: gate(own, *args), z, r, state_prev)[1]

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

"""What a cell is: two affine maps and a gate map.

With state `s` (a NamedTuple whose first part is the exposed `h`):

    z_t = x_t W_x + b               input map: no recurrence
    r_t = h_{t-1} W_s (+ b_s)       recurrent map: the one product inside the loop
    s_t, k_t = gate(own, z_t, r_t, s_{t-1})

k_t is what the derivative needs and s_t does not hold, such as the gates' activations:
stored, or computed again from the states, as memory allows. The derivative comes in
two parts, so that the loop over time only multiplies:

    c_t = linearize(own, k_t, s_{t-1}, s_t)         for a whole chunk of time at once
    δz_t, δr_t, s̄_{t-1} = pullback(own, c_t, λ_t)   linear in λ_t = ∂E/∂s_t

`own` holds the gate map's own parameters (peepholes, gains, a product of its own),
None where it has none; their gradient is taken for a whole chunk at once, too. All
three act on the last axis: leading axes are equal and free. W_s may have no column.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from jax import Array
from jax.typing import DTypeLike

from jaxrnn.record import as_written


class Params(NamedTuple):
    """A cell's parameters.

    Shapes:  w_x [D, G·H], w_s [H, G·H], b [G·H] or None, b_s [G·H] or None; `own`: any
             pytree that the gate map reads, or None. G gates, D inputs, H units. A cell
             may have a w_s of other sizes: its rows are h's, its columns r's.
    """

    w_x: Array
    w_s: Array
    b: Array | None = None
    b_s: Array | None = None
    own: Any = None


class State(NamedTuple):
    """The state of most cells: one part, `h` [..., H]."""

    h: Array


class LSTMState(NamedTuple):
    """The state of every LSTM: `h` [..., H], exposed, and the memory `c` [..., H]."""

    h: Array
    c: Array


Its = TypeVar("Its", covariant=True)  # a cell's state


class Init(Protocol):
    """Draws a cell's parameters; dtype None is JAX's own float."""

    def __call__(
        self,
        key: Array,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> Params: ...


class InitialState(Protocol[Its]):
    """The state before the first step, for these batch axes; 8 rows are (8,)."""

    def __call__(self, params: Any, batch_shape: int | Sequence[int] = ()) -> Its: ...


@as_written
class Cell(NamedTuple, Generic[Its]):
    """A record of pure functions that is one recurrent transition.

    init(key, input_size, hidden_size, *, bias=True, dtype=None) -> Params
    initial_state(params, batch_shape=()) -> state
    gate(own, z, r, state_prev) -> (state, kept)
    linearize(own, kept, state_prev, state) -> coefficients
    pullback(own, coefficients, adjoint) -> (d_z, d_r, adjoint_prev)
    gates: G, how many columns of w_x a unit has.

    What instruments must know of it:

    independent: whether each unit of the gate map reads its own pre-activations, state
        and parameters alone. Then r alone mixes units.
    linear: "real" or "complex" if the state is multiplied, unit by unit, by numbers
        that do not depend on it; complex units are kept as real parts, then imaginary
        ones. None if the transition is not linear.
    exact: whether the pull-back is the gate map's derivative, linear in λ; not where
        adjoints are clipped.
    """

    init: Init
    initial_state: InitialState[Its]
    gate: Callable[..., Any]
    linearize: Callable[..., Any]
    pullback: Callable[..., Any]
    gates: int
    independent: bool = False
    linear: Literal["real", "complex"] | None = None
    exact: bool = True

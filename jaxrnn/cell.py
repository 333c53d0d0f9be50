"""The cell: two affine maps and a gate map.

With state `s` (a NamedTuple whose first part is the output `h`):

    z_t = x_t W_x + b               input map: no recurrence
    r_t = h_{t-1} W_s (+ b_s)       recurrent map: the one product inside the loop
    s_t, k_t = gate(own, z_t, r_t, s_{t-1})

k_t is what the derivative needs beside s_t, such as the gates' activations. It is
stored, or computed again from the states to save memory. The derivative comes in two
parts, so that the loop over time only multiplies:

    c_t = linearize(own, k_t, s_{t-1}, s_t)         for a whole chunk of time at once
    δz_t, δr_t, s̄_{t-1} = pullback(own, c_t, λ_t)   linear in λ_t = ∂E/∂s_t

`own` holds the gate map's own parameters (peepholes, gains, another weight matrix), or
None; their gradient is also taken for a whole chunk at once. All three functions act
on the last axis, with any leading axes. W_s may have no columns, and may multiply
another part of the state than h.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from jax import Array
from jax.typing import DTypeLike

from jaxrnn.record import as_written


class Params(NamedTuple):
    """A cell's parameters.

    Shapes:  w_x [D, G·H], w_s [H, G·H], b [G·H] or None, b_s [G·H] or None; `own`: any
             pytree that the gate map reads, or None. G gates, D inputs, H units. Some
             cells have a w_s of another size: rows as h has, columns as r has.
    """

    w_x: Array
    w_s: Array
    b: Array | None = None
    b_s: Array | None = None
    own: Any = None


class State(NamedTuple):
    """The state of most cells: `h` [..., H] alone."""

    h: Array


class LSTMState(NamedTuple):
    """The state of an LSTM: the output `h` [..., H] and the memory `c` [..., H]."""

    h: Array
    c: Array


Its = TypeVar("Its", covariant=True)  # a cell's state


class Init(Protocol):
    """Draws a cell's parameters; dtype None is JAX's default float."""

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
    """Makes the state before the first step; a batch of 8 rows is (8,)."""

    def __call__(self, params: Any, batch_shape: int | Sequence[int] = ()) -> Its: ...


@as_written
class Cell(NamedTuple, Generic[Its]):
    """A record of pure functions that is one recurrent transition.

    init(key, input_size, hidden_size, *, bias=True, dtype=None) -> Params
    initial_state(params, batch_shape=()) -> state
    gate(own, z, r, state_prev) -> (state, kept)
    linearize(own, kept, state_prev, state) -> coefficients
    pullback(own, coefficients, adjoint) -> (d_z, d_r, adjoint_prev)
    gates: G, the columns of w_x per unit.

    Properties that other modules rely on:

    independent: whether each unit of the gate map reads only its own pre-activations,
        state and parameters, so that units mix through r alone.
    linear: "real" or "complex" if each unit's state is multiplied by a number that does
        not depend on the state; complex units are stored as real parts, then imaginary
        parts. None if the transition is not linear.
    exact: whether the pull-back is the gate map's derivative, linear in λ; False if
        adjoints are clipped.
    recurrent: which part of the state W_s multiplies; 0 is the output h.
    x_ndim: None if its input is one array [..., D]. Else its input is a pair (x, extra)
        of which the maps read x alone, gate is called with extra as well, and this is
        the number of axes of one row of x and of each leaf of extra.
    compute_dtype: what the operands of its two maps are rounded to before they are
        multiplied; None for their own dtype.
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
    recurrent: int = 0
    x_ndim: tuple[int, ...] | None = None
    compute_dtype: DTypeLike | None = None

"""What a cell is: two affine maps and a gate map; and a layer: cells put together.

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

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


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
    """A state of one part, `h` [..., H]."""

    h: Array


class Cell(NamedTuple):
    """A record of pure functions that is one recurrent transition.

    init(key, input_size, hidden_size, *, bias=True, dtype=float32) -> Params
    initial_state(params, batch_shape=()) -> state
    gate(own, z, r, state_prev) -> (state, kept)
    linearize(own, kept, state_prev, state) -> coefficients
    pullback(own, coefficients, adjoint) -> (d_z, d_r, adjoint_prev)
    gates: G, how many columns of w_x a unit has.
    """

    init: Callable[..., Params]
    initial_state: Callable[..., Any]
    gate: Callable[..., Any]
    linearize: Callable[..., Any]
    pullback: Callable[..., Any]
    gates: int


class Layer(NamedTuple):
    """A record of pure functions: cells, or layers, run together as one.

    init(key, input_size, hidden_size, *, bias=True, dtype=float32) -> params
    initial_state(params, batch_shape=()) -> state
    output_size(params) -> int, features of what it puts out
    noise(key, params, xs) -> what a run draws by chance, or None; see `draw_noise`
    run(apply, params, xs, state, noise) -> (hs, states, final state), where
        `apply(part, params, xs, state, noise, ...)` runs a part and gives the same
    """

    init: Callable[..., Any]
    initial_state: Callable[..., Any]
    output_size: Callable[[Any], int]
    noise: Callable[..., Any]
    run: Callable[..., tuple[Any, Any, Any]]


def output_features(layer: Cell | Layer, params: Any) -> int:
    """The features of the outputs, H for most cells."""
    if isinstance(layer, Layer):
        return layer.output_size(params)
    return jax.eval_shape(layer.initial_state, params)[0].shape[-1]


def init_params(
    key: Array,
    input_size: int,
    hidden_size: int,
    *,
    gates: int,
    recurrent_gates: int | None = None,
    state_size: int | None = None,
    bias: bool = True,
    recurrent_bias: bool = False,
    dtype: DTypeLike = jnp.float32,
) -> Params:
    """Draw W_x by variance scaling and W_s orthogonal, each gate on its own.

    Shapes:  as in `Params`; biases are zeros, `b_s` only with `recurrent_bias`. W_s is
             [H, G·H] but with `recurrent_gates` in place of its G, and `state_size` in
             place of its first H, where they are given.
    Raises:  ValueError if a size is not positive; TypeError if dtype is not floating.
    Source:  W_x: LeCun et al. (1998) "Efficient BackProp" §4.6, variance 1/D.
             W_s: Saxe et al. (2014), arXiv 1312.6120.
    """
    if input_size < 1 or hidden_size < 1:
        raise ValueError(
            "input_size and hidden_size: expected positive integers, "
            f"got {input_size} and {hidden_size}"
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"dtype: expected a floating dtype, got {jnp.dtype(dtype)}")
    back = gates if recurrent_gates is None else recurrent_gates
    rows = hidden_size if state_size is None else state_size
    keys = jax.random.split(key, gates + back)
    draw_x, draw_s = (
        jax.nn.initializers.lecun_normal(),
        jax.nn.initializers.orthogonal(),
    )
    w_x = [draw_x(k, (input_size, hidden_size), jnp.float32) for k in keys[:gates]]
    w_s = [draw_s(k, (rows, hidden_size), jnp.float32) for k in keys[gates:]]
    w_s = jnp.concatenate(w_s, axis=1) if w_s else jnp.zeros((rows, 0), jnp.float32)
    return Params(
        jnp.concatenate(w_x, axis=1).astype(dtype),
        w_s.astype(dtype),
        jnp.zeros(gates * hidden_size, dtype) if bias else None,
        jnp.zeros(back * hidden_size, dtype) if bias and recurrent_bias else None,
    )


def zero_state(state: type, params: Params, batch_shape: tuple[int, ...] = ()) -> Any:
    """A state of type `state`, a NamedTuple; its parts are zeros [*batch_shape, H]."""
    shape = (*batch_shape, params.w_s.shape[0])
    return state(*(jnp.zeros(shape, params.w_s.dtype) for _ in state._fields))


def custom_cell(
    gate: Callable[..., Any], *, gates: int = 1, state: type = State
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
    """

    def init(key, input_size, hidden_size, *, bias=True, dtype=jnp.float32):
        return init_params(
            key, input_size, hidden_size, gates=gates, bias=bias, dtype=dtype
        )

    def initial_state(params, batch_shape=()):
        return zero_state(state, params, batch_shape)

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

    return Cell(init, initial_state, gate_and_inputs, linearize, pullback, gates)

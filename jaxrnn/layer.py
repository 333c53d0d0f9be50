"""The layer: cells, or layers, run together as one; and its inputs to a run."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, InitialState
from jaxrnn.record import as_written


class CellNoise(NamedTuple):
    """The noise of one cell in one run; each field is an array or None.

    weights [H, G·H]: multiplies W_s.
    mask [..., H]: multiplies h before W_s, the same at every step.
    hold: parts [T, ..., H] in 0..1, the share of the previous state that is kept.
    add: parts [T, ..., H], added to the state after each step.
    """

    weights: Array | None = None
    mask: Array | None = None
    hold: Any = None
    add: Any = None


class Carrier(NamedTuple):
    """Everything that a layer runs on except its inputs.

    `params` and `deltas` nest as the layer's params; `state`, `restart` and `adjoints`
    as its state; `noise` as the result of its `noise`. The gradient with respect to a
    carrier is a carrier.

    state: before the first step, parts [..., H].
    restart: the state that a reset starts from, parts [..., H]; None without resets.
    deltas: zeros [T, ..., G·H] whose gradients are the δ_t; None if not needed.
    adjoints: zeros like the states, whose gradients are the λ_t; None if not needed.
    """

    params: Any
    state: Any
    restart: Any = None
    noise: Any = None
    deltas: Any = None
    adjoints: Any = None

    def part(
        self, params: Callable[[Any], Any], state: Callable[[Any], Any], noise: Any
    ) -> "Carrier":
        """The carrier of one part of the layer.

        Args:
            params: picks the part's params from the layer's.
            state: picks the part's state from the layer's.
            noise: the part's noise.
        """

        def pick(choose, field):
            return None if field is None else choose(field)

        return Carrier(
            params(self.params),
            state(self.state),
            pick(state, self.restart),
            noise,
            pick(params, self.deltas),
            pick(state, self.adjoints),
        )


@as_written
class Transition(NamedTuple):
    """Any pure step as a layer: the result of `transition`.

    step(params, state, x) -> (state, output), for one row
    init(key, input_size, hidden_size, **options) -> params
    initial_state(params) -> the state of one row
    output_size(params) -> int, the features of its outputs
    x_ndim: the number of axes of one row's x; for a pytree, of each leaf
    """

    step: Callable[..., tuple[Any, Any]]
    init: Callable[..., Any]
    initial_state: Callable[[Any], Any]
    output_size: Callable[[Any], int]
    x_ndim: int | tuple[int, ...] = 1


class LayerInit(Protocol):
    """Draws a layer's parameters; a stack also takes one hidden size per layer."""

    def __call__(
        self,
        key: Array,
        input_size: int,
        hidden_size: int | Sequence[Any],
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> Any: ...


@as_written
class Layer(NamedTuple):
    """A record of pure functions that runs cells, or layers, together as one.

    init(key, input_size, hidden_size, *, bias=True, dtype=None) -> params
    initial_state(params, batch_shape=()) -> state
    output_size(params) -> int, the features of its outputs
    noise(key, params, xs) -> the noise of one run, or None; see `draw_noise`
    run(apply, carrier, xs) -> (hs, states, final state), where
        `apply(part, carrier, xs, reverse=False)` runs a part and returns the same
    runs_backward: whether any part runs from the last step to the first
    x_ndim: None if its input is one array [T, ..., D], as for a cell; else the number
        of axes of one row's input, as in `Transition`
    """

    init: LayerInit
    initial_state: InitialState[Any]
    output_size: Callable[[Any], int]
    noise: Callable[..., Any]
    run: Callable[..., tuple[Any, Any, Any]]
    runs_backward: bool = False
    x_ndim: int | tuple[int, ...] | None = None


LayerLike = Cell | Transition | Layer  # accepted wherever a layer is

"""What a layer is: cells, or layers, run together as one; and what it runs on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from jax import Array
from jax.typing import DTypeLike

from jaxrnn.cell import Cell, InitialState
from jaxrnn.record import as_written


class CellNoise(NamedTuple):
    """The noise of one cell in one run; each part None or an array that multiplies.

    weights [H, G·H]: W_s. mask [..., H]: h before W_s, the same for all steps.
    hold: parts [T, ..., H] in 0..1, the share of the state before that is kept.
    """

    weights: Array | None = None
    mask: Array | None = None
    hold: Any = None


class Carrier(NamedTuple):
    """What a layer runs on, beside its inputs; every field nests as the layer does.

    `params` and `deltas` nest as the layer's params; `state`, `restart` and `adjoints`
    as its state; `noise` as what its `noise` draws. The gradient with respect to a
    carrier is a carrier.

    state: before the first step, parts [..., H].
    restart: what a reset puts in its place, parts [..., H]; None without resets.
    deltas: zeros [T, ..., G·H] whose gradients are every δ_t; None if not asked for.
    adjoints: zeros like every state, whose gradients are every λ_t; None likewise.
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
        """What a part of the layer runs on.

        Args:
            params: picks the part's out of the layer's params.
            state: picks the part's out of the layer's state.
            noise: the part's own.
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
    """Any pure step as a layer: what `transition` gives.

    step(params, state, x) -> (state, output), of one row
    init(key, input_size, hidden_size, **options) -> params
    initial_state(params) -> the state of one row
    output_size(params) -> int, the features of its outputs
    x_ndim: the axes of one row's x; of a pytree, of each leaf
    """

    step: Callable[..., tuple[Any, Any]]
    init: Callable[..., Any]
    initial_state: Callable[[Any], Any]
    output_size: Callable[[Any], int]
    x_ndim: int | tuple[int, ...] = 1


class LayerInit(Protocol):
    """Draws a layer's parameters; a stack takes a hidden size for each layer, too."""

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
    """A record of pure functions: cells, or layers, run together as one.

    init(key, input_size, hidden_size, *, bias=True, dtype=None) -> params
    initial_state(params, batch_shape=()) -> state
    output_size(params) -> int, the features of its outputs
    noise(key, params, xs) -> the noise of one run, or None; see `draw_noise`
    run(apply, carrier, xs) -> (hs, states, final state), where
        `apply(part, carrier, xs, reverse=False)` runs a part and returns the same
    runs_backward: whether any part of it runs from the last step to the first
    x_ndim: None if its input is one array [T, ..., D], as a cell's is; else the axes of
        one row's input, of a pytree those of each leaf, as in `Transition`
    """

    init: LayerInit
    initial_state: InitialState[Any]
    output_size: Callable[[Any], int]
    noise: Callable[..., Any]
    run: Callable[..., tuple[Any, Any, Any]]
    runs_backward: bool = False
    x_ndim: int | tuple[int, ...] | None = None


LayerLike = Cell | Transition | Layer  # what takes a layer takes any of them

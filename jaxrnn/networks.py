"""The seed's whole network: readout, error and gradients; equations 56-60.

    s_t = Φ(x_t W_x + s_{t-1} W_s)                                    (56)
    y_t = s_t W_y   or   y_t = σ(s_t W_y)                             (57)
    ∂E_N/∂W_y = ∂E_N/∂y_N · ∂y_N/∂W_y                                 (58)
    ∂E_N/∂W_s = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_s          (59)
    ∂E_N/∂W_x = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_x          (60)

The last factor of (59) and (60) is the immediate partial, s_{i-1} held fixed. With an
error at every step the three are summed over N as well, which one backward pass does.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, Unpack, overload

import jax
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from jaxrnn._core.activations import ACTIVATIONS
from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import as_array, as_arrays, check_choice, check_flag
from jaxrnn._core.door import as_layer
from jaxrnn._core.errors import ERRORS, by_function, read_targets
from jaxrnn._core.inputs import axes_of, check_vectors, read_inputs
from jaxrnn._core.marks import Marks, inside_only
from jaxrnn._core.mesh import vary_alike
from jaxrnn._core.sizes import check_key, float_dtype
from jaxrnn._core.trees import describe
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import Gradient, Options, unfold
from jaxrnn.readouts import (
    Output,
    ReadoutParams,
    check_output,
    init_readout,
    read_readout,
    readout,
    readout_gradients,
)
from jaxrnn.record import as_written

ErrorName = Literal["squared", "softmax_cross_entropy", "sigmoid_cross_entropy"]
ErrorFunction = Callable[[Array, Array], Array]  # ys [..., O], targets -> [...]
Found = TypeVar("Found", covariant=True)


class NetworkParams(NamedTuple):
    """The parameters of a network: `cell`, also for a layer, and `readout`."""

    cell: Any
    readout: ReadoutParams


class NetworkInit(Protocol):
    """Draws a network's parameters; dtype None is JAX's default float."""

    def __call__(
        self,
        key: Array,
        input_size: int,
        hidden_size: int | Sequence[Any],
        output_size: int,
        *,
        bias: bool = True,
        dtype: DTypeLike | None = None,
    ) -> NetworkParams: ...


class Apply(Protocol):
    """Returns the outputs and the final state."""

    def __call__(
        self,
        params: NetworkParams,
        xs: ArrayLike,
        state: Any = None,
        *,
        gradient: Gradient = "manual",
        **options: Unpack[Options],
    ) -> tuple[Array, Any]: ...


class _Weighed(Options, total=False):
    weights: Any


class _Measured(_Weighed, total=False):
    gradient: Gradient


class ErrorOf(Protocol):
    """Returns E, or (E, final state)."""

    @overload
    def __call__(
        self,
        params: NetworkParams,
        xs: ArrayLike,
        targets: ArrayLike,
        state: Any = None,
        *,
        return_state: Literal[False] = False,
        **options: Unpack[_Measured],
    ) -> Array: ...

    @overload
    def __call__(
        self,
        params: NetworkParams,
        xs: ArrayLike,
        targets: ArrayLike,
        state: Any = None,
        *,
        return_state: Literal[True],
        **options: Unpack[_Measured],
    ) -> tuple[Array, Any]: ...


class Gradients(Protocol[Found]):
    """Returns E and a gradient of it."""

    def __call__(
        self,
        params: NetworkParams,
        xs: ArrayLike,
        targets: ArrayLike,
        state: Any = None,
        **options: Unpack[_Weighed],
    ) -> tuple[Array, Found]: ...


@as_written
class Network(NamedTuple):
    """A record of pure functions: a whole recurrent network.

    init(key, input_size, hidden_size, output_size, *, bias=True, dtype=None)
        -> NetworkParams
    apply(params, xs, state=None, *, gradient="manual", **options)
        -> (ys [T, ..., O], final state)
    error(params, xs, targets, state=None, *, weights=None, return_state=False,
        gradient="manual", **options) -> E, or (E, final state)
    gradients(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, NetworkParams), equations 58-60 by hand
    cotangents(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, ∂E/∂hs [T, ..., H]), what `bptt`, `online` and `gradient_flow` start from
    read(params, hs, targets, *, weights=None) -> (E, ∂E/∂hs, ∂E/∂readout), from the
        layer's outputs hs [..., H], of any steps and rows
    cell: the cell or the layer inside.

    The options are those of `unroll`: lengths, mask, resets, reset_to, reverse, noise,
    chunk_size and store.
    """

    init: NetworkInit
    apply: Apply
    error: ErrorOf
    gradients: Gradients[NetworkParams]
    cotangents: Gradients[Array]
    read: Callable[..., tuple[Array, Array, ReadoutParams]]
    cell: Cell | Layer


def read_params(params: Any) -> NetworkParams:
    """Return a network's parameters as arrays, or raise."""
    if not isinstance(params, NetworkParams):
        raise TypeError(f"params: expected NetworkParams, got {describe(params)}")
    return as_arrays("params", params)


@by_value
def network(
    cell: Cell | Layer,
    error: ErrorName | ErrorFunction = "squared",
    output: Output | None = None,
) -> Network:
    """Combine a cell, a readout and an error into a network.

    Args:
        cell: the cell, such as `elman()`, or a layer from `jaxrnn.layers`.
        error: "squared", (d - y)² summed over outputs, targets [T, ..., O];
            "softmax_cross_entropy", y are logits, targets integer labels [T, ...];
            "sigmoid_cross_entropy", y are logits, summed over outputs, targets
            [T, ..., O] in 0..1; or a function `error(ys, targets) -> [T, ...]`, one
            number per step, differentiated by JAX, with targets [T, ..., any].
        output: σ of equation 57: None (linear), "sigmoid" or "tanh". The
            cross-entropies include σ and take None.

    E is the mean of the steps' errors over time and batch, or Σ w e / Σ w with
    `weights` [T, ...]: weights that are 1 only at the last step give the seed's E_N.
    Weights may be booleans or integers. With `lengths`, steps past a row's length have
    weight 0 and output 0. The other options are as in `unroll`.

    Returns: a `Network`.
    Edge:    a label outside 0..O-1 raises a ValueError if its value is known and its
             step counts (its weight is not 0, and it is inside its row's length). A
             traced one makes E and its gradient NaN, by hand and by autodiff alike, so
             that `skip_nonfinite` sees it. Likewise, known targets of the sigmoid
             outside 0..1 are refused.
    Raises:  ValueError for an unknown error or output, or a cross-entropy with an
             output; the functions raise, at trace time, for wrong shapes and dtypes.
    Source:  the seed's equations 56-60.
    """
    check_output("output", output)
    layer = as_layer(cell)
    if callable(error):
        measure = by_function(error)
    else:
        check_choice("error", error, sorted(ERRORS))
        measure = ERRORS[error]
        if error != "squared" and output is not None:
            raise ValueError(
                f"output: expected None with error={error!r}, got {output!r}"
            )

    def init(key, input_size, hidden_size, output_size, *, bias=True, dtype=None):
        check_key(key)
        check_flag("bias", bias)
        dtype = float_dtype(dtype)
        k_cell, k_readout = jax.random.split(key)
        own = layer.init(k_cell, input_size, hidden_size, bias=bias, dtype=dtype)
        width = layer.output_size(own)
        return NetworkParams(
            own, init_readout(k_readout, width, output_size, bias, dtype)
        )

    def hidden(params, xs, state, options):  # (56)
        hs, final, marks = unfold(layer, params, xs, state, **options)
        axes = axes_of(layer.x_ndim, xs)
        check_vectors("cell", hs, axes, "which the readout multiplies by W_y")
        return hs, final, marks

    def run(params, xs, state, options):
        params = read_params(params)
        hs, final, marks = hidden(params.cell, xs, state, options)
        own = read_readout("params.readout", params.readout, hs)
        return inside_only(marks, readout(own, hs, output)), final, marks

    def apply(params, xs, state=None, **options):
        return run(params, xs, state, options)[:2]

    def error_of(
        params, xs, targets, state=None, *, weights=None, return_state=False, **options
    ) -> Any:
        check_flag("return_state", return_state)
        ys, final, marks = run(params, xs, state, options)
        targets, shares = read_targets(measure, ys, targets, weights, marks)
        value = (measure.value(ys, targets) * shares).sum()
        return (value, final) if return_state else value

    def gradients(params, xs, targets, state=None, *, weights=None, **options):
        def hidden_of(p):
            hs, _, marks = hidden(p, xs, state, options)
            return hs, marks

        params = read_params(params)
        layer.initial_state(params.cell)  # checks them, before they are traced
        # On a mesh each device has gradients of its own, summed by the caller.
        params, _ = vary_alike(params, read_inputs(layer.x_ndim, xs)[0])
        hs, pull, marks = jax.vjp(hidden_of, params.cell, has_aux=True)
        value, d_hs, d_readout = of_outputs(params, hs, marks, targets, weights)
        # (59) and (60), from every step to all steps before it
        (d_cell,) = pull(d_hs)
        return value, NetworkParams(d_cell, d_readout)

    def cotangents(params, xs, targets, state=None, *, weights=None, **options):
        params = read_params(params)
        hs, _, marks = hidden(params.cell, xs, state, options)
        return of_outputs(params, hs, marks, targets, weights)[:2]

    def read(params, hs, targets, *, weights=None):
        hs = as_array("hs", hs)
        return of_outputs(read_params(params), hs, Marks(), targets, weights)

    def of_outputs(params, hs, marks, targets, weights):
        own = read_readout("params.readout", params.readout, hs)
        ys = jax.ShapeDtypeStruct((*hs.shape[:-1], own.w_y.shape[1]), hs.dtype)
        targets, shares = read_targets(measure, ys, targets, weights, marks)
        return by_hand(own, hs, marks, targets, shares)

    @jax.jit
    def by_hand(params, hs, marks, targets, shares):
        ys = inside_only(marks, readout(params, hs, output))  # (57)
        value = (measure.value(ys, targets) * shares).sum()
        # ∂E/∂y, then through σ to the pre-activation of (57)
        slope = ACTIVATIONS[output or "identity"].slope
        delta_y = measure.slope(ys, targets) * shares[..., None] * slope(None, ys)
        d_readout, d_hs = readout_gradients(params, hs, delta_y)
        return value, d_hs, d_readout

    return Network(init, apply, error_of, gradients, cotangents, read, cell)

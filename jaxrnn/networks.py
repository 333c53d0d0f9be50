"""The seed's whole network: readout, error and gradients; equations 56-60.

    s_t = Φ(x_t W_x + s_{t-1} W_s)                                    (56)
    y_t = s_t W_y   or   y_t = σ(s_t W_y)                             (57)
    ∂E_N/∂W_y = ∂E_N/∂y_N · ∂y_N/∂W_y                                 (58)
    ∂E_N/∂W_s = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_s          (59)
    ∂E_N/∂W_x = Σ_{i=1..N} ∂E_N/∂y_N · ∂y_N/∂s_i · ∂s_i/∂W_x          (60)

The last factor of (59) and (60) is the immediate partial, s_{i-1} held fixed. With an
error at every step the three are summed over N as well, which one backward pass does.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxrnn._core.activations import ACTIVATIONS
from jaxrnn._core.by_value import by_value
from jaxrnn._core.checks import check_array, check_choice, check_positive
from jaxrnn._core.door import as_layer
from jaxrnn._core.errors import ERRORS, by_function, read_targets
from jaxrnn._core.inputs import axes_of, check_vectors, read_inputs
from jaxrnn._core.maps import outer_sum, row_sum
from jaxrnn._core.marks import inside_only
from jaxrnn._core.mesh import vary_alike
from jaxrnn._core.numerics import add_bias
from jaxrnn.cell import Cell
from jaxrnn.layer import Layer
from jaxrnn.model import unfold
from jaxrnn.record import as_written

Output = Literal["sigmoid", "tanh"]  # σ of equation 57; None for the identity
ErrorName = Literal["squared", "softmax_cross_entropy", "sigmoid_cross_entropy"]
ErrorFunction = Callable[[Array, Array], Array]  # ys [..., O], targets -> [...]


# The readout ----------------------------------------------------------------------


class ReadoutParams(NamedTuple):
    """w_y [H, O], b_y [O] or None."""

    w_y: Array
    b_y: Array | None = None


def _check_output(name: str, activation: Any) -> None:
    check_choice(name, activation, (None, "sigmoid", "tanh"))


def _init_readout(
    key: Array, hidden_size: int, output_size: int, bias: bool, dtype: DTypeLike
) -> ReadoutParams:
    """Draw W_y by variance scaling (LeCun et al. 1998, §4.6); the bias is zeros."""
    check_positive("output_size", output_size)
    draw = jax.nn.initializers.lecun_normal()
    w_y = draw(key, (hidden_size, output_size), jnp.float32).astype(dtype)
    return ReadoutParams(w_y, jnp.zeros(output_size, dtype) if bias else None)


def readout(
    params: ReadoutParams, hs: Array, activation: Output | None = None
) -> Array:
    """The output of every step.

    Math:    (57) y_t = s_t W_y (+ b_y), or y_t = σ(s_t W_y (+ b_y))
    Shapes:  hs [..., H] -> ys [..., O].
    Args:
        activation: None (linear), "sigmoid" or "tanh".
    Raises:  ValueError for another activation or if hs has not W_y's H features.
    """
    _check_output("activation", activation)
    if hs.ndim < 1 or hs.shape[-1] != params.w_y.shape[0]:
        raise ValueError(
            f"hs: expected shape [..., {params.w_y.shape[0]}], got {hs.shape}"
        )
    sigma = ACTIVATIONS[activation or "identity"].phi
    return sigma(add_bias(hs @ params.w_y, params.b_y))


def _check_readout(params: Any, hs: Array) -> None:
    """Raise unless they are a readout's parameters for these states."""
    if not isinstance(params, ReadoutParams):
        raise TypeError(
            f"params.readout: expected ReadoutParams, got {type(params).__name__}"
        )
    outputs = jnp.shape(params.w_y)[-1:]
    check_array("params.readout.w_y", params.w_y, (hs.shape[-1], *outputs), hs.dtype)
    if params.b_y is not None:
        check_array("params.readout.b_y", params.b_y, outputs, hs.dtype)


def readout_gradients(
    params: ReadoutParams, hs: Array, delta_y: Array
) -> tuple[ReadoutParams, Array]:
    """Equation 58, and ∂E/∂hs, from δy, the cotangent of the pre-activations of (57).

    Shapes:  hs [..., H], delta_y [..., O] -> as params, hs [..., H].
    """
    d_params = ReadoutParams(
        outer_sum(hs, delta_y),  # (58) ∂E/∂W_y = Σ_N s_Nᵀ δy_N
        None if params.b_y is None else row_sum(delta_y),
    )
    d_params = jax.tree.map(lambda g: g.astype(hs.dtype), d_params)
    return d_params, delta_y @ params.w_y.T  # ∂E_N/∂y_N · ∂y_N/∂s_N


# The network ----------------------------------------------------------------------


class NetworkParams(NamedTuple):
    """The parameters of a network: its cell's or layer's, and its readout's."""

    cell: Any
    readout: ReadoutParams


@as_written
class Network(NamedTuple):
    """A record of pure functions that is a whole recurrent network.

    init(key, input_size, hidden_size, output_size, *, bias=True, dtype=float32)
        -> NetworkParams
    apply(params, xs, state=None, *, gradient="manual", **options)
        -> (ys [T, ..., O], final state)
    error(params, xs, targets, state=None, *, weights=None, return_state=False,
        gradient="manual", **options) -> E, or (E, final state)
    gradients(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, NetworkParams), equations 58-60 by hand
    cotangents(params, xs, targets, state=None, *, weights=None, **options)
        -> (E, ∂E/∂hs [T, ..., H]), what `bptt`, `online` and `gradient_flow` start from
    cell: what was put in.

    The options are those of `unroll`: lengths, resets, reset_to, reverse, noise,
    chunk_size and store.
    """

    init: Callable[..., NetworkParams]
    apply: Callable[..., tuple[Array, Any]]
    error: Callable[..., Any]
    gradients: Callable[..., tuple[Array, NetworkParams]]
    cotangents: Callable[..., tuple[Array, Array]]
    cell: Cell | Layer


@by_value
def network(
    cell: Cell | Layer,
    error: ErrorName | ErrorFunction = "squared",
    output: Output | None = None,
) -> Network:
    """Put a cell, a readout and an error together.

    Args:
        cell: the transition, such as `elman()`, or a layer from `jaxrnn.layers`.
        error: "squared", (d - y)² summed over outputs, targets [T, ..., O];
            "softmax_cross_entropy", y are logits, targets integer labels [T, ...];
            "sigmoid_cross_entropy", y are logits, summed over outputs, targets
            [T, ..., O] in 0..1; or a function `error(ys, targets) -> [T, ...]`, one
            number a step, whose slope is then JAX's own, targets [T, ..., any].
        output: σ of equation 57: None (linear), "sigmoid" or "tanh". The
            cross-entropies hold their σ already and take None.

    E is the mean of the steps' errors over time and batch, or Σ w e / Σ w with
    `weights` [T, ...]: weights that are 1 at the last step alone give the seed's E_N.
    Weights may be booleans or integers. With `lengths`, steps past a row's length weigh
    nothing, and their outputs are zero. The other options are as in `unroll`.

    Edge:    a label outside 0..O-1 is a ValueError where it is known and its step
             counts (its weight is not 0, and it is inside its row's length). A traced
             one makes E and its gradient NaN, by hand as by autodiff, so that
             `skip_nonfinite` sees it. Targets of the sigmoid outside 0..1 are refused
             where they are known.
    Raises:  ValueError for an unknown error or output, or a cross-entropy with an
             output; the functions raise, at trace time, for wrong shapes and dtypes.
    """
    _check_output("output", output)
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

    def init(
        key, input_size, hidden_size, output_size, *, bias=True, dtype=jnp.float32
    ):
        k_cell, k_readout = jax.random.split(key)
        own = layer.init(k_cell, input_size, hidden_size, bias=bias, dtype=dtype)
        width = layer.output_size(own)
        return NetworkParams(
            own, _init_readout(k_readout, width, output_size, bias, dtype)
        )

    def hidden(params, xs, state, options):  # (56)
        hs, final, marks = unfold(layer, params, xs, state, **options)
        axes = axes_of(layer.x_ndim, xs)
        check_vectors("cell", hs, axes, "which the readout multiplies by W_y")
        return hs, final, marks

    def run(params, xs, state, options):
        hs, final, marks = hidden(params.cell, xs, state, options)
        _check_readout(params.readout, hs)
        return inside_only(marks, readout(params.readout, hs, output)), final, marks

    def apply(params, xs, state=None, **options):
        return run(params, xs, state, options)[:2]

    def error_of(
        params, xs, targets, state=None, *, weights=None, return_state=False, **options
    ):
        ys, final, marks = run(params, xs, state, options)
        targets, shares = read_targets(measure, ys, targets, weights, marks)
        value = (measure.value(ys, targets) * shares).sum()
        return (value, final) if return_state else value

    def gradients(params, xs, targets, state=None, *, weights=None, **options):
        def hidden_of(p):
            hs, _, marks = hidden(p, xs, state, options)
            return hs, marks

        # On a mesh each device has gradients of its own, summed by the caller.
        params, _ = vary_alike(params, read_inputs(layer.x_ndim, xs)[0])
        hs, pull, marks = jax.vjp(hidden_of, params.cell, has_aux=True)
        read = read_of(params.readout, hs, marks, targets, weights)
        value, d_hs, d_readout = by_hand(params.readout, hs, marks, *read)
        # (59) and (60), from every step to all steps before it
        (d_cell,) = pull(d_hs)
        return value, NetworkParams(d_cell, d_readout)

    def cotangents(params, xs, targets, state=None, *, weights=None, **options):
        hs, _, marks = hidden(params.cell, xs, state, options)
        read = read_of(params.readout, hs, marks, targets, weights)
        return by_hand(params.readout, hs, marks, *read)[:2]

    def read_of(params, hs, marks, targets, weights):
        _check_readout(params, hs)
        ys = jax.ShapeDtypeStruct((*hs.shape[:-1], params.w_y.shape[1]), hs.dtype)
        return read_targets(measure, ys, targets, weights, marks)

    @jax.jit
    def by_hand(params, hs, marks, targets, shares):
        ys = inside_only(marks, readout(params, hs, output))  # (57)
        value = (measure.value(ys, targets) * shares).sum()
        # ∂E/∂y, then through σ to the pre-activation of (57)
        slope = ACTIVATIONS[output or "identity"].slope
        delta_y = measure.slope(ys, targets) * shares[..., None] * slope(None, ys)
        d_readout, d_hs = readout_gradients(params, hs, delta_y)
        return value, d_hs, d_readout

    return Network(init, apply, error_of, gradients, cotangents, cell)

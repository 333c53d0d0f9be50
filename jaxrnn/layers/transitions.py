"""Any pure step as a layer."""

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.by_value import by_value
from jaxrnn.layer import Transition


@by_value
def transition(
    step: Callable[..., tuple[Any, Any]],
    *,
    initial_state: Callable[[Any], Any],
    init: Callable[..., Any] | None = None,
    output_size: Callable[[Any], int] | None = None,
    x_ndim: int | tuple[int, ...] = 1,
) -> Transition:
    """Make a layer from any pure step.

    The step is written for one row and mapped over the batch. Its derivative is JAX's,
    but taken for a chunk of time at once: the backward loop holds only ∂s_t/∂s_{t-1},
    and every parameter's gradient is one vjp of the whole chunk, summed in float32 or
    better.

    Math:    (s_t, y_t) = step(params, s_{t-1}, x_t);  backward over time
             λ_{t-1} = g_{t-1} + (∂s_t/∂s_{t-1})ᵀ λ_t + (∂y_t/∂s_{t-1})ᵀ ȳ_t  and
             ∂E/∂params = Σ_t (∂s_t/∂params)ᵀ λ_t + (∂y_t/∂params)ᵀ ȳ_t
    Args:
        step: `step(params, state, x) -> (state, output)`, pure, for one row, x [D];
            params, state, x and output are pytrees. Integers, booleans and random keys
            in them get no gradient; for noise, put a key for each step into x.
        initial_state: `initial_state(params) -> state`, for one row.
        init: `init(key, input_size, hidden_size) -> params`, also called with `bias`
            and `dtype` if it takes them; None if params are made elsewhere.
        output_size: `output_size(params) -> int`, the features of the output; by
            default the last axis of the state's first leaf.
        x_ndim: the number of axes of one row's x: 1 for a vector, 0 for a number; for a
            pytree, one number for all leaves or a tuple in `jax.tree.leaves` order.
    Returns: a `Transition`, the same for the same arguments, so that it compiles once.
    Raises:  TypeError or ValueError for an invalid argument; at trace time if the step
             returns another kind of state than it was given.
    Edge:    padding past a row's length is zeros; the step must be finite there.
    """
    for name, value in (("step", step), ("initial_state", initial_state)):
        if not callable(value):
            raise TypeError(f"{name}: expected a function, got {type(value).__name__}")
    for name, value in (("init", init), ("output_size", output_size)):
        if value is not None and not callable(value):
            raise TypeError(
                f"{name}: expected a function or None, got {type(value).__name__}"
            )
    for rank in x_ndim if isinstance(x_ndim, tuple) else (x_ndim,):
        if type(rank) is not int or rank < 0:
            raise ValueError(
                f"x_ndim: expected 0, 1, ... or a tuple of such, got {x_ndim!r}"
            )

    def draw(key, input_size, hidden_size, **options):
        if init is None:
            raise ValueError(
                "init: this transition was given none; make its params yourself, or "
                "give transition(step, init=...)"
            )
        return init(key, input_size, hidden_size, **_taken(init, options))

    def first_size(params):
        return jnp.shape(jax.tree.leaves(jax.eval_shape(initial_state, params))[0])[-1]

    return Transition(step, draw, initial_state, output_size or first_size, x_ndim)


def _taken(function: Callable[..., Any], options: dict[str, Any]) -> dict[str, Any]:
    """The options that a function takes."""
    parameters = signature(function).parameters
    if any(p.kind is Parameter.VAR_KEYWORD for p in parameters.values()):
        return options
    return {name: value for name, value in options.items() if name in parameters}

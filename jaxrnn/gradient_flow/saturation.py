"""The share of activations that are saturated, in any step.

They are found where they are computed: every tanh and every logistic function in the
trace of a step, a cell's or the caller's own. σ(a) = ½ tanh(a/2) + ½, so that one limit
serves both.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr

from jaxrnn._core.folded import one_step
from jaxrnn._core.marks import Marks, where_live
from jaxrnn._core.numerics import over_batch
from jaxrnn._core.traces import bind, evaluate

_FLAT = 0.8  # |tanh| above it; of a logistic function, below 0.1 or above 0.9
_AS_TANH = {"tanh": lambda y: y, "logistic": lambda y: 2 * y - 1}
_CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"}


@partial(jax.jit, static_argnums=(0, 5))
def saturated(
    layer: Any, params: Any, xs: Any, before: Any, live: Array | None, axes: int
) -> Array:
    """The share of all activations, over the steps and rows that count.

    Args:
        before: the state before every step, parts [T, ..., H].
        live: booleans [T, ...], which steps count; None for all.
        axes: how many axes time and batch have.
    Returns: a scalar; NaN if the step has no such activation.
    """

    def of_row(state, x):
        step = partial(one_step, layer, params, gradient="autodiff")
        return _activations(step, state, x)

    found = over_batch(of_row, axes)(before, xs)
    flat, count = jnp.zeros(()), jnp.zeros(())
    for a in found:
        counts = where_live(Marks(live), jnp.ones(a.shape), jnp.zeros(a.shape))
        flat = flat + jnp.where(jnp.abs(a) > _FLAT, counts, 0).sum()
        count = count + counts.sum()
    return flat / jnp.where(count > 0, count, jnp.nan)


def _activations(f: Callable[..., Any], *args: Any) -> list[Array]:
    """What every tanh of `f(*args)` gives; a logistic function as the tanh it is."""
    found: list[Array] = []

    def apply(equation, values):
        name, its = equation.primitive.name, equation.params
        inner = its.get("jaxpr", its.get("call_jaxpr"))
        if name in _CALLS and isinstance(inner, ClosedJaxpr):
            return evaluate(inner.jaxpr, inner.consts, values, apply)
        outputs = bind(equation, values)
        if name in _AS_TANH:
            found.append(_AS_TANH[name](outputs[0]))
        return outputs

    traced = jax.make_jaxpr(f)(*args)
    evaluate(traced.jaxpr, traced.consts, jax.tree.leaves(args), apply)
    return found

"""Evaluating a trace, equation by equation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import Literal


def evaluate(
    jaxpr: Any,
    consts: Sequence[Any],
    inputs: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
) -> list[Any]:
    """The outputs of a jaxpr, each equation computed by `apply(equation, values)`."""
    known = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, inputs, strict=True)

    def value(v: Any) -> Any:
        if not isinstance(v, Literal):
            return known[v]
        aval: Any = v.aval
        return np.asarray(v.val, aval.dtype)

    for equation in jaxpr.eqns:
        values = [value(v) for v in equation.invars]
        known |= zip(equation.outvars, apply(equation, values), strict=True)
    return [value(v) for v in jaxpr.outvars]


def bind(equation: Any, values: list[Any]) -> Sequence[Any]:
    """An equation's outputs, as JAX computes them."""
    outputs = equation.primitive.bind(*values, **equation.params)
    return outputs if equation.primitive.multiple_results else [outputs]

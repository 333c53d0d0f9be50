"""A traced program, one operation after the other, for want of trust in a compiler.

Each operation is a program of its own, so nothing is fused, and loops run in Python. A
while loop, a branch and whatever else is not plain code count as one operation.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._core.traces import bind, evaluate


def run(traced: Any, *inputs: Any) -> Any:
    """The outputs of what `jax.jit(f).trace(*inputs)` gives."""
    closed = traced.jaxpr
    outputs = evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(inputs), _apply)
    return jax.tree.unflatten(jax.tree.structure(traced.out_info), outputs)


def operations(traced: Any) -> int:
    """How many operations `run` would run."""
    return _count(traced.jaxpr.jaxpr)


def primitives(traced: Any) -> set[str]:
    """The names of all operations, those inside loops included."""
    return {equation.primitive.name for equation in _all(traced.jaxpr.jaxpr)}


def _all(jaxpr: Any) -> Iterator[Any]:
    for equation in jaxpr.eqns:
        yield equation
        for inner, _ in _inside(equation):
            yield from _all(inner)


def _inside(equation: Any) -> list[tuple[Any, Any]]:
    """The jaxprs inside an equation, and their constants."""
    leaves = jax.tree.leaves(
        list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
    )
    found = [(getattr(p, "jaxpr", p), getattr(p, "consts", ())) for p in leaves]
    return [pair for pair in found if hasattr(pair[0], "eqns")]


def _is_call(equation: Any) -> bool:
    """Whether it does what the jaxpr inside does, on the same inputs."""
    inside = _inside(equation)
    if len(inside) != 1 or equation.primitive.name == "scan":
        return False
    jaxpr, _ = inside[0]
    shapes = [
        [v.aval.shape for v in (*of.invars, *of.outvars)] for of in (equation, jaxpr)
    ]
    return shapes[0] == shapes[1]


def _is_loop(equation: Any) -> bool:
    """Whether it is a scan over numbers, not keys."""
    plain = not any(
        jnp.issubdtype(v.aval.dtype, jax.dtypes.extended)
        for v in (*equation.invars, *equation.outvars)
    )
    return equation.primitive.name == "scan" and plain


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if _is_loop(equation):
            total += equation.params["length"] * _count(equation.params["jaxpr"].jaxpr)
        else:
            total += _count(_inside(equation)[0][0]) if _is_call(equation) else 1
    return total


def _apply(equation: Any, values: list[Any]) -> Sequence[Any]:
    if _is_loop(equation):
        return _loop(equation, values)
    if _is_call(equation):
        return evaluate(*_inside(equation)[0], values, _apply)
    return bind(equation, values)


def _loop(equation: Any, values: list[Any]) -> list[Any]:
    """A scan of (constants, carry, xs) that gives (carry, ys)."""
    closed, length = equation.params["jaxpr"], equation.params["length"]
    body = closed.jaxpr
    # Only xs and ys have an axis more outside than inside.
    stacked = _with_time(equation.invars, body.invars)
    carried = len(body.outvars) - _with_time(equation.outvars, body.outvars)
    xs = [np.asarray(a) for a in values[len(values) - stacked :]]
    consts = values[: len(values) - stacked - carried]
    carry = values[len(consts) : len(values) - stacked]
    wanted: list[Any] = [v.aval for v in body.outvars[carried:]]
    ys = [np.empty((length, *a.shape), a.dtype) for a in wanted]
    steps = range(length)
    for t in reversed(steps) if equation.params["reverse"] else steps:
        inputs = [*consts, *carry, *(x[t] for x in xs)]
        outputs = evaluate(body, closed.consts, inputs, _apply)
        carry = outputs[:carried]
        for y, row in zip(ys, outputs[carried:], strict=True):
            y[t] = row
    return [*carry, *ys]


def _with_time(outside: Any, inside: Any) -> int:
    pairs = zip(outside, inside, strict=True)
    return sum(len(a.aval.shape) > len(b.aval.shape) for a, b in pairs)

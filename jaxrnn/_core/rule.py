"""What the engine needs of a transition: one step, and its derivative in three parts.

A cell has them in closed form (`equations`), any pure step by JAX's vjp (`any_step`).
Lengths, resets, zoneout and the loops over time (`forward`, `backward`) are the same
for both.
"""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """Pure functions of a part, what it runs on, and arrays of one step or of many.

    ahead(part, carrier, xs) -> what `advance` reads of every input, if it is made
        before the loop
    advance(part, carrier, x, before, *, ahead) -> (after, output, kept), of one step or
        of many at once: the new state, what the step puts out (None: the state's h),
        and what its derivative needs beside the states
    linearize(part, carrier, xs, before, after, kept) -> (at, coefficients, pull), of a
        chunk of time at once; after and kept may be None
    pull(coefficients, adjoint, d_output) -> (carry, delta), of one step: linear in
        λ_t = `adjoint` and in the cotangent of its output, None if that is nothing
    gather(part, carrier, xs, at, deltas, adjoints, d_outputs) -> (d_params, d_xs), of a
        chunk at once; sums over its steps and rows, in float32 or better
    """

    ahead: Callable[..., Any]
    advance: Callable[..., tuple[Any, Any, Any]]
    linearize: Callable[..., tuple[Any, Any, Callable[..., tuple[Any, Any]]]]
    gather: Callable[..., tuple[Any, Any]]

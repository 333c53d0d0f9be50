"""Any pure step in the engine, with JAX's derivative taken one chunk at a time.

A step is written for one row and mapped over the batch here. Backward over time only
∂s_t/∂s_{t-1} is sequential. So the step is linearised with respect to its state for all
steps of a chunk at once, and the loop calls only that linear map. Once every λ_t is
known, the gradients of the parameters and the inputs are one vjp of all the chunk's
steps together: a product with a weight matrix is then one large product, as in
equations 59 and 60, and not a sum of small ones.

Integers, booleans and random keys in the state, the inputs and the parameters have no
gradient: None stands in their place.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrnn._core.checks import describe
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import is_real, joined, over_batch, real_only, widen
from jaxrnn._core.rule import Rule
from jaxrnn.layer import Carrier, Transition


def _by_rows(part: Transition, x: Any) -> Callable[..., tuple[Any, Any]]:
    """The step of one row, mapped over the batch axes of x."""

    def step(params, state, x):
        made = part.step(params, state, x)
        if not isinstance(made, tuple) or len(made) != 2:
            raise TypeError(
                f"step: expected it to return (state, output), got {describe(made)}"
            )
        _check_after(made[0], state)
        return jax.tree.map(jnp.asarray, made)

    return over_batch(step, len(axes_of(part.x_ndim, x)), in_axes=(None, 0, 0))


def _check_after(after: Any, before: Any) -> None:
    """Raise unless a step returns a state like the one it was given."""

    def outline(a):
        return f"{jnp.result_type(a)}{list(jnp.shape(a))}"

    wanted, found = (jax.tree.map(outline, s) for s in (before, after))
    if wanted != found:
        raise TypeError(
            f"step: expected a state like the one before, {wanted} in one row, got "
            f"{found}"
        )


def ahead(part: Transition, carrier: Carrier, xs: Any) -> Any:
    """Nothing is computed before the loop."""
    return xs


def advance(
    part: Transition, carrier: Carrier, x: Any, before: Any, *, ahead: bool
) -> tuple[Any, Any, None]:
    """One step of every row."""
    after, output = _by_rows(part, x)(carrier.params, before, x)
    return after, output, None


def linearize(
    part: Transition, carrier: Carrier, xs: Any, before: Any, after: Any, kept: None
) -> tuple[Any, list[Any], Callable[..., tuple[Any, None]]]:
    """The vjp of every step with respect to its state.

    Residuals that do not vary over time, such as weights, are stored once.
    """
    tree = nothing = None

    def residuals(state, x):
        nonlocal tree, nothing

        def of_state(real):
            made = _by_rows(part, x)(carrier.params, joined(real, state), x)
            return real_only(made)

        # A vjp is a pytree whose leaves are its residuals.
        (_, output), pull = jax.vjp(of_state, real_only(state))
        nothing = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), output)
        leaves, tree = jax.tree.flatten(pull)
        return leaves

    one = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (before, xs)
    )
    varies = varying(residuals, *one)
    axes = [0 if v else None for v in varies]
    made = jax.vmap(residuals, out_axes=axes)(before, xs)
    fixed = [None if v else a for a, v in zip(made, varies, strict=True)]
    coefficients = [a for a, v in zip(made, varies, strict=True) if v]

    def pull(coefficients, adjoint, d_output):
        moving = iter(coefficients)
        leaves = [next(moving) if a is None else a for a in fixed]
        if d_output is None:
            d_output = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), nothing)
        (carry,) = jax.tree.unflatten(tree, leaves)((adjoint, real_only(d_output)))
        return carry, None

    return before, coefficients, pull


def varying(f: Callable[..., list[Any]], *like: Any) -> list[bool]:
    """Which of f's outputs depend on its arguments, seen in its trace."""
    traced = jax.make_jaxpr(f)(*like).jaxpr
    moving = set(map(id, traced.invars))
    for equation in traced.eqns:
        if moving.intersection(map(id, equation.invars)):
            moving.update(map(id, equation.outvars))
    return [id(v) in moving for v in traced.outvars]


def gather(
    part: Transition,
    carrier: Carrier,
    xs: Any,
    before: Any,
    deltas: None,
    adjoints: Any,
    d_outputs: Any,
) -> tuple[Any, Any]:
    """Every parameter's gradient and every input's, by one vjp of all steps at once.

    In float32 at least: the sums over rows and steps are inside that vjp.
    """
    dtypes = jax.tree.map(lambda a: a.dtype, real_only(xs))
    params, xs, before, adjoints = map(_widened, (carrier.params, xs, before, adjoints))
    d_outputs = None if d_outputs is None else _widened(real_only(d_outputs))

    def every_step(real_params, real_xs):
        def one(state, x):
            return _by_rows(part, x)(joined(real_params, params), state, x)

        return real_only(jax.vmap(one)(before, joined(real_xs, xs)))

    (_, outputs), pull = jax.vjp(every_step, real_only(params), real_only(xs))
    if d_outputs is None:
        d_outputs = jax.tree.map(jnp.zeros_like, outputs)
    d_params, d_xs = pull((adjoints, d_outputs))
    return d_params, jax.tree.map(lambda g, dtype: g.astype(dtype), d_xs, dtypes)


def _widened(tree: Any) -> Any:
    """Every leaf that can have a gradient in the dtype of its sums."""
    return jax.tree.map(lambda a: widen(a) if is_real(a) else a, tree)


BY_VJP = Rule(ahead, advance, linearize, gather)

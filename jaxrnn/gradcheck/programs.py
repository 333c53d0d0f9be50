"""The programs of a check, compiled once per function, static options and shapes.

The manual gradient is compiled as usual. On a CPU, the references are compiled without
optimisations, which saves time since they run only a few times.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.numerics import joined, real_only
from jaxrnn._core.trees import describe
from jaxrnn.networks import Network

_QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
}


def jit_quick(f: Callable[..., Any]) -> Any:
    """`jax.jit` for programs that run only a few times."""
    quick = jax.default_backend() == "cpu"
    return jax.jit(f, compiler_options=_QUICK if quick else None)


class Given(NamedTuple):
    """The arguments after params: positional ones, and options that are arrays."""

    batch: tuple[Any, ...]
    arrays: dict[str, Any]


class Point(NamedTuple):
    """Where the gradient is taken."""

    params: Any
    given: Given


class Programs(NamedTuple):
    """Compiled functions of (params, given), some with one more argument.

    manual: E, and ∂E/∂params by hand. error: E.
    by_step: ∂E/∂ the batch's first array, by hand.
    reverse: JAX's own ∂E/∂params, and ∂E/∂ the batch's first array.
    along(…, v): the derivatives of E and of the outputs along v, by forward AD.
    pull(…, adjoint): Jᵀ λ of the outputs, by hand.
    outputs: the outputs that λ pairs with; of a function, E.
    cotangents: ∂E/∂hs; only for a network.
    """

    manual: Any
    error: Any
    by_step: Callable[..., Any]
    reverse: Callable[..., tuple[Any, Any]]
    along: Callable[..., tuple[Array, Any]]
    pull: Callable[..., Any]
    outputs: Any
    cotangents: Any = None  # of a network alone


def programs(
    f: Any, static: tuple[tuple[str, Any], ...], takes_gradient: bool
) -> Programs:
    """The programs of a network or a function with these static options.

    They are cached, unless the function has no hash.
    """
    make = _of_network if isinstance(f, Network) else _of_function
    try:
        return _kept(make, f, static, takes_gradient)
    except TypeError:
        return make(f, static, takes_gradient)


@lru_cache(maxsize=64)
def _kept(make: Callable[..., Programs], *what: Any) -> Programs:
    return make(*what)


def call(f: Any, params: Any, given: Given, static: Any, **more: Any) -> Any:
    """A function of (params, *batch, **options)."""
    return f(params, *given.batch, **given.arrays, **dict(static), **more)


def _of_function(f: Any, static: Any, takes_gradient: bool) -> Programs:
    def error(params, given, gradient):
        more = {"gradient": gradient} if takes_gradient else {}
        return _checked(call(f, params, given, static, **more))

    def both(params, given):
        value = error(params, given, "autodiff")
        return value, value

    manual = jax.jit(jax.value_and_grad(partial(error, gradient="manual")))

    def pull(params, given, adjoint):
        return jax.tree.map(lambda g: adjoint * g, manual(params, given)[1])

    value = jit_quick(partial(error, gradient="autodiff"))
    return Programs(manual, value, *_reverse(error), _along(both), pull, value)


def _of_network(net: Network, static: Any, takes_gradient: bool) -> Programs:
    del takes_gradient

    def error(params, given, gradient):
        return call(net.error, params, given, static, gradient=gradient)

    def outputs(params, given, gradient):
        xs, _, *state = given.batch
        arrays = {k: a for k, a in given.arrays.items() if k != "weights"}
        made = net.apply(
            params, xs, *state, gradient=gradient, **arrays, **dict(static)
        )
        return real_only(made)

    def both(params, given):
        return tuple(g(params, given, "autodiff") for g in (error, outputs))

    @jit_quick
    def pull(params, given, adjoint):
        _, back = jax.vjp(lambda p: outputs(p, given, "manual"), params)
        return back(adjoint)[0]

    def gradients(params, given):
        return call(net.gradients, params, given, static)

    def cotangents(params, given):
        return call(net.cotangents, params, given, static)[1]

    return Programs(
        jax.jit(gradients),
        jit_quick(partial(error, gradient="autodiff")),
        *_reverse(error),
        _along(both),
        pull,
        jit_quick(partial(outputs, gradient="autodiff")),
        jit_quick(cotangents),
    )


def _reverse(error: Callable[..., Any]) -> tuple[Any, Any]:
    """The programs `by_step` and `reverse` of an error."""

    def of(params, real, given, gradient):
        first, rest = given.batch[:1], given.batch[1:]
        given = given._replace(batch=(*joined(real, first), *rest))
        return error(params, given, gradient)

    def by_step(params, given):
        return jax.grad(of, 1)(params, real_only(given.batch[:1]), given, "manual")

    def reverse(params, given):
        real = real_only(given.batch[:1])
        return jax.grad(of, (0, 1))(params, real, given, "autodiff")

    return jit_quick(by_step), jit_quick(reverse)


def _along(both: Callable[..., Any]) -> Any:
    @jit_quick
    def along(params, given, v):
        return jax.jvp(lambda p: both(p, given), (params,), (v,))[1]

    return along


def _checked(value: Any) -> Any:
    """A function's E, unless it is no floating scalar."""
    got, good = describe(value), False
    if isinstance(value, Array | np.ndarray | np.generic | float):
        dtype, shape = jnp.result_type(value), jnp.shape(value)
        good = not shape and jnp.issubdtype(dtype, jnp.floating)
        got = f"{dtype}{list(shape)}"
    if not good:
        raise ValueError(f"E: expected a floating scalar, got {got}")
    return value

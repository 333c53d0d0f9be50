"""The programs of a check, compiled once per function, static options and shapes.

The manual gradient is compiled as usual. On a CPU, the references are compiled without
optimisations, which saves time since they run only a few times.
"""

from collections.abc import Callable, Iterator
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


class Programs(NamedTuple):
    """Compiled functions of (params, given), some with one more argument.

    manual: E, and ∂E/∂params by hand. error: E. reverse: ∂E/∂params, JAX's own.
    along(…, v): the derivatives of E and of the outputs along v, by forward AD.
    pull(…, adjoint): Jᵀ λ of the outputs, by hand.
    outputs: the outputs that λ pairs with.
    by_step: ∂E/∂xs by hand and JAX's own; only for a network.
    cotangents: ∂E/∂hs; only for a network.
    """

    manual: Callable[..., tuple[Array, Any]]
    error: Callable[..., Array]
    reverse: Callable[..., Any]
    along: Callable[..., tuple[Array, Any]]
    pull: Callable[..., Any]
    outputs: Callable[..., Any]
    by_step: Any = None  # of a network alone
    cotangents: Any = None  # of a network alone


def programs(f: Any, static: tuple[tuple[str, Any], ...]) -> Programs:
    """The programs of a network or a function with these static options.

    They are cached, unless the function has no hash.
    """
    try:
        return _kept(f, static)
    except TypeError:
        return _programs(f, static)


def _programs(f: Any, static: tuple[tuple[str, Any], ...]) -> Programs:
    options = dict(static)

    def call(function, params, given, **more):
        return function(params, *given.batch, **given.arrays, **options, **more)

    if not isinstance(f, Network):

        def error_of(params, given, gradient):
            return _checked(call(f, params, given, gradient=gradient))

        by_hand = jax.value_and_grad(partial(error_of, gradient="manual"))
        return _compiled(by_hand, error_of, error_of)

    def error(params, given, gradient):
        return call(f.error, params, given, gradient=gradient)

    def outputs(params, given, gradient):
        xs, _, *state = given.batch
        arrays = {k: a for k, a in given.arrays.items() if k != "weights"}
        made = f.apply(params, xs, *state, gradient=gradient, **arrays, **options)
        return real_only(made)

    def by_step(params, given):
        xs, *rest = given.batch

        def of(gradient):
            def of_xs(real):
                batch = joined(real, xs), *rest
                return error(params, given._replace(batch=batch), gradient)

            return jax.grad(of_xs)(real_only(xs))

        return of("manual"), of("autodiff")

    def cotangents(params, given):
        return call(f.cotangents, params, given)[1]

    made = _compiled(partial(call, f.gradients), error, outputs)
    return made._replace(by_step=jit_quick(by_step), cotangents=jit_quick(cotangents))


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


_kept = lru_cache(maxsize=64)(_programs)


def _compiled(manual: Any, error: Any, outputs: Any) -> Programs:
    autodiff = partial(error, gradient="autodiff")

    def both(params, given):
        return autodiff(params, given), outputs(params, given, "autodiff")

    @jit_quick
    def along(params, given, v):
        return jax.jvp(lambda p: both(p, given), (params,), (v,))[1]

    @jit_quick
    def pull(params, given, adjoint):
        _, back = jax.vjp(lambda p: outputs(p, given, "manual"), params)
        return back(adjoint)[0]

    return Programs(
        manual=jax.jit(manual),
        error=jit_quick(autodiff),
        reverse=jit_quick(jax.grad(autodiff)),
        along=along,
        pull=pull,
        outputs=jit_quick(partial(outputs, gradient="autodiff")),
    )


def check_programs(made: Programs, params: Any, given: Given, forward: bool) -> None:
    """Raise, before anything is compiled, for an E that cannot be checked."""
    traced = made.error.trace(params, given)
    names = {e.primitive.name for e in _equations(traced.jaxpr.jaxpr)}
    if forward and any(name.startswith("custom_vjp") for name in names):
        raise ValueError(
            "f: expected one that hands `gradient` on to unroll; its value is made by "
            "a derivative by hand, or another jax.custom_vjp, with gradient='autodiff' "
            "as well, which forward mode cannot pass. For a custom_vjp of your own, "
            "such as a surrogate gradient, give against=('reverse',)"
        )


def _equations(jaxpr: Any) -> Iterator[Any]:
    """All equations, including nested ones."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)

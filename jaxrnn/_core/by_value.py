"""Records by value: equal arguments, however they are spelled, give one object."""

import inspect
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_FLOATS = float, float | None


def by_value(build: Callable[P, R]) -> Callable[P, R]:
    """A factory of records that builds each of them once.

    `jax.jit` takes a record for a static value, and compiles again for another object.
    So `gru()` and `gru(reset_after=True)` must be one, as must `lstm(forget_bias=1)`
    and `lstm(forget_bias=1.0)`: where the factory's annotation says float, an int is
    that float. None is ever forgotten.
    """
    signature = inspect.signature(build)
    floats = {n for n, p in signature.parameters.items() if p.annotation in _FLOATS}
    cached = lru_cache(maxsize=None, typed=True)(build)  # typed: 0 is not False

    @wraps(build)
    def factory(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            if name in floats and type(value) is int:
                bound.arguments[name] = float(value)
            try:
                hash(value)
            except TypeError:
                raise TypeError(
                    f"{name}: expected a hashable value, got {type(value).__name__}"
                ) from None
        return cached(*bound.args, **bound.kwargs)

    return factory

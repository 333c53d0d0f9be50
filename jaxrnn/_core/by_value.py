"""Records by value: equal arguments, in any spelling, give one object."""

import inspect
from collections.abc import Callable
from functools import lru_cache, wraps
from numbers import Integral
from typing import Any, ParamSpec, TypeVar

from jaxrnn.record import Call, remember

P = ParamSpec("P")
R = TypeVar("R")
_FLOATS = float, float | None


def by_value(build: Callable[P, R]) -> Callable[P, R]:
    """Make a factory build each record once.

    Records are static values to `jax.jit`, which compiles again for another object. So
    `gru()` and `gru(reset_after=True)` must be one, and so must `lstm(forget_bias=1)`
    and `lstm(forget_bias=1.0)`: an int becomes a float where the annotation says float.
    Records and their calls are kept for the life of the process.

    Raises:  TypeError, in the factory's name, for arguments that it does not take.
    """
    signature = inspect.signature(build)
    floats = {n for n, p in signature.parameters.items() if p.annotation in _FLOATS}

    @lru_cache(maxsize=None, typed=True)  # typed: 0 is not False
    def cached(*args, **options):
        record = build(*args, **options)
        bound = signature.bind(*args, **options)
        remember(record, _shortest_call(factory, signature, bound.arguments))
        return record

    @wraps(build)
    def factory(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = _bind(build, signature, args, kwargs)
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


def _bind(
    build: Callable[..., Any], signature: inspect.Signature, args: Any, options: Any
) -> inspect.BoundArguments:
    """The arguments by name, with defaults; or an error that says what to write."""
    name, parameters = build.__name__, signature.parameters.values()
    sizes = [options[n] for n in ("input_size", "hidden_size") if n in options]
    sizes += [a for a in args if isinstance(a, Integral) and not isinstance(a, bool)]
    if sizes and all(p.default is not p.empty for p in parameters):
        raise TypeError(
            f"{name}: sizes go to init: "
            f"{name}().init(key, input_size=3, hidden_size={sizes[-1]})"
        )
    try:
        bound = signature.bind(*args, **options)
    except TypeError as error:
        plain = [p.replace(annotation=p.empty) for p in parameters]
        takes = inspect.Signature(plain)
        raise TypeError(f"{name}: {error}; expected {name}{takes}") from None
    bound.apply_defaults()
    for p in parameters:
        given = bound.arguments[p.name]
        if p.kind is p.VAR_POSITIONAL and any(type(a) in (list, tuple) for a in given):
            raise TypeError(
                f"{p.name}: expected them one by one, got a list or tuple of them: "
                f"write {name}(*{p.name})"
            )
    return bound


def _shortest_call(
    factory: Callable[..., Any], signature: inspect.Signature, given: dict[str, Any]
) -> Call:
    """The call with these arguments, without the defaults."""
    args, options, skipped = [], {}, False
    for name, p in signature.parameters.items():
        value = given[name]
        if p.kind is p.VAR_POSITIONAL:
            args += value
        elif type(value) is type(p.default) and value == p.default:
            skipped = True
        elif skipped or p.kind is p.KEYWORD_ONLY:
            options[name] = value
        else:
            args.append(value)
    return Call(factory, tuple(args), options)

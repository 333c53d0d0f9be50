"""How the package's records print and pickle: by the call that built them.

Cells, layers and networks are NamedTuples of functions, built once for equal arguments
(`jaxrnn._core.by_value`). The call is kept here and not in the record. The result of
`_replace` is a new object without a call, so it is never mistaken for the original.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

C = TypeVar("C", bound=type)


class Call(NamedTuple):
    """The shortest call that builds a record: `factory(*args, **options)`."""

    factory: Callable[..., Any]
    args: tuple[Any, ...]
    options: dict[str, Any]


_CALLS: dict[int, Call] = {}  # by the id of a record; records are never freed


def remember(record: Any, call: Call) -> None:
    """Keep the call that built a record, which must live as long as the process."""
    _CALLS[id(record)] = call


def as_written(cls: C) -> C:
    """Make a NamedTuple's records print and pickle by the call that built them.

    A record without a call, such as a changed one, prints and pickles its fields.
    """

    def __repr__(self):
        call = _CALLS.get(id(self))
        if call is None:
            return f"{cls.__name__}({_named(self._asdict())})"
        parts = [*map(_short, call.args), *filter(None, [_named(call.options)])]
        return f"{call.factory.__name__}({', '.join(parts)})"

    def __reduce__(self):
        call = _CALLS.get(id(self))
        return (cls, tuple(self)) if call is None else (_rebuilt, call)

    record: Any = cls
    record.__repr__, record.__reduce__ = __repr__, __reduce__
    return cls


def _rebuilt(
    factory: Callable[..., Any], args: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    return factory(*args, **options)


def _named(values: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    """A value's `repr`; a function's or a class's name."""
    return getattr(value, "__name__", None) or repr(value)

"""Reading the arguments of a check."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxrnn._core.checks import as_numbers, check_shape
from jaxrnn._core.door import as_layer
from jaxrnn._core.inputs import read_inputs
from jaxrnn._core.marks import make_marks
from jaxrnn._core.trees import describe
from jaxrnn.gradcheck.derivations import DERIVATIONS
from jaxrnn.gradcheck.report import by_leaf
from jaxrnn.networks import Network

_DTYPES = ("float64", "float32", "bfloat16", "float16")
_FUNCTION = ("reverse", "compiled", "forward", "differences", "adjoint")
_REFERENCES = (*_FUNCTION, *DERIVATIONS)


def read_dtype(dtype: Any) -> np.dtype:
    """The dtype that is checked; float64 for None."""
    try:
        read = jnp.dtype("float64" if dtype is None else dtype)
    except TypeError:
        read = None
    if read is None or read.name not in _DTYPES:
        raise ValueError(f"dtype: expected one of {_DTYPES}, got {dtype!r}")
    return read


def read_seed(seed: Any) -> int:
    """An integer of 0 or more."""
    if isinstance(seed, bool) or not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed: expected an integer of 0 or more, got {seed!r}")
    return int(seed)


def read_tolerance(tolerance: Any) -> float | None:
    """A number of 0 or more, inf included, or None."""
    if tolerance is None:
        return None
    number = isinstance(tolerance, Real) and not isinstance(tolerance, bool)
    if not number or not float(tolerance) >= 0:
        raise ValueError(
            "tolerance: expected a number of 0 or more, or math.inf, which shows the "
            f"errors without a judgement, got {tolerance!r}"
        )
    return float(tolerance)


def read_against(
    against: Any, f: Any, takes_gradient: bool, gradient: Any
) -> tuple[str, ...]:
    """The references asked for; by default all that there are but "compiled"."""
    there = _REFERENCES if isinstance(f, Network) else _FUNCTION
    if gradient is not None:  # which is a gradient of params, and called as it is
        there = tuple(name for name in there if name not in ("compiled", "adjoint"))
    elif not takes_gradient:  # what is checked is the reverse mode
        there = tuple(name for name in there if name not in ("reverse", "adjoint"))
    if against is None:
        return tuple(name for name in there if name != "compiled")
    names = (against,) if isinstance(against, str) else against
    names = tuple(names) if isinstance(names, Iterable) else ()
    if not names or not all(name in there for name in names):
        raise ValueError(f"against: expected some of {there}, got {against!r}")
    return names


def check_inputs(
    f: Any, params: Any, batch: tuple[Any, ...], options: Any, gradient: Any
) -> bool:
    """Whether f takes `gradient`, as a network does; raise unless it takes the rest."""
    if not isinstance(f, Network) and not callable(f):
        raise TypeError(
            "f_or_network: expected a jaxrnn.Network or a function, "
            f"got {type(f).__name__}"
        )
    if gradient is not None and not callable(gradient):
        raise TypeError(
            "gradient: expected a function of (params, *batch) that gives ∂E/∂params, "
            f"got {gradient!r}"
        )
    _check_floating(params)
    if not isinstance(f, Network):
        return _takes_gradient(f, params, batch, options)
    if len(batch) < 2:
        raise TypeError(f"batch: expected xs and targets, got {len(batch)} of them")
    _, axes = read_inputs(as_layer(f.cell).x_ndim, batch[0])
    make_marks(axes, options.get("lengths"), options.get("resets"))  # while known
    return True


def _takes_gradient(
    f: Callable[..., Any], params: Any, batch: Sequence[Any], options: dict[str, Any]
) -> bool:
    signature = inspect.signature(f)
    ways = [{"gradient": "manual"}, {}]
    for more in ways[: 1 if "gradient" in signature.parameters else 2]:
        try:
            signature.bind(params, *batch, **more, **options)
        except TypeError:
            continue
        return bool(more)
    given = ", ".join(["params", *["batch"] * len(batch), *options])
    raise TypeError(
        f"f_or_network: expected a function that takes ({given}), and perhaps "
        f"gradient=..., got one of {signature}"
    )


def _check_floating(params: Any) -> None:
    if not jax.tree.leaves(params):
        raise TypeError(f"params: expected arrays, got {describe(params)}")
    for name, leaf in by_leaf(params).items():
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"params.{name}: expected a floating leaf, which has a gradient, got "
                f"{dtype}; give it in the batch, or close over it"
            )


def read_own(found: Any, params: Any) -> dict[str, Any]:
    """A gradient of the caller's by leaf, or raise unless it is like params, with None
    for what is not compared."""
    read, wanted = by_leaf(found), by_leaf(params)
    if not read or not read.keys() <= wanted.keys():
        raise ValueError(
            "gradient: expected ∂E/∂params with the leaves "
            f"{', '.join(wanted)}, or None in place of some, got "
            f"{', '.join(read) or describe(found)}"
        )
    for name, leaf in read.items():
        leaf = as_numbers(f"gradient.{name}", leaf)
        check_shape(f"gradient.{name}", leaf, wanted[name].shape)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"gradient.{name}: expected a floating dtype, got {leaf.dtype}"
            )
        read[name] = leaf
    return read


def cast(tree: Any, dtype: Any) -> Any:
    """Every floating leaf in this dtype; the others as they are."""

    def of(a):
        if isinstance(a, Array) and jnp.issubdtype(a.dtype, jax.dtypes.extended):
            return a
        a = np.asarray(a)  # by NumPy, which compiles nothing
        return a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a

    return jax.device_put(jax.tree.map(of, tree))

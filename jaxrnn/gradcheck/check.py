"""Manual gradients against reverse AD, forward AD and finite differences, per leaf.

    reverse      ∂E/∂θ by `jax.grad` of the autodiff path, element by element
    compiled     ∂E/∂θ by hand, every operation by itself: no loop, nothing fused
    forward      ⟨∂E/∂θ, v⟩ against `jax.jvp` of the autodiff path along v
    differences  ⟨∂E/∂θ, v⟩ against (E(θ + hv) - E(θ - hv)) / 2h
    adjoint      ⟨λ, J v⟩ = ⟨Jᵀ λ, v⟩, J v by forward AD and Jᵀ λ by hand

The last three take random directions v in one leaf at a time, so that an error in a
small leaf is not hidden by a large one, and the cost does not grow with the leaf. A
network's gradient is compared with other derivations as well: see `derivations`.

All references are in float64, whatever the dtype that is checked: the parameters and
the batch are rounded to that dtype first, so that only the arithmetic differs. What
rounding may then do to a leaf is measured: see `budget`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxrnn._core.updates import read_leaves
from jaxrnn.gradcheck import op_by_op
from jaxrnn.gradcheck.arguments import (
    cast,
    check_inputs,
    read_against,
    read_dtype,
    read_own,
    read_seed,
    read_tolerance,
)
from jaxrnn.gradcheck.budget import TOLERANCES, Budget, Pair, rounding
from jaxrnn.gradcheck.derivations import derivations
from jaxrnn.gradcheck.legs import (
    leaf_pairs,
    step_pairs,
    step_pairs_by_differences,
)
from jaxrnn.gradcheck.programs import (
    Given,
    Point,
    Programs,
    call,
    programs,
)
from jaxrnn.gradcheck.report import GradientReport, by_leaf, by_step
from jaxrnn.networks import Network

_OPERATIONS = 50_000  # as many are run one by one
_STATIC = ("chunk_size", "store", "reverse")


def check_gradients(
    f_or_network: Callable[..., Array] | Network,
    params: Any,
    *batch: Any,
    dtype: Any = None,
    seed: int = 0,
    against: Sequence[str] | None = None,
    gradient: Callable[..., Any] | None = None,
    tolerance: float | None = None,
    **options: Any,
) -> GradientReport:
    """Compare the manual gradient with independent references, per leaf.

    Compiled programs are cached: a second call with the same function, static options,
    shapes and dtypes compiles nothing.

    Args:
        f_or_network: a `Network`, whose `gradients(params, *batch)` is checked against
            its `error` and other derivations; a function `f(params, *batch,
            gradient=...) -> E` that passes `gradient` to `unroll`; or any function
            `f(params, *batch) -> E`, whose `jax.grad` is checked, such as one made of
            a `jax.custom_vjp`.
        params: floating arrays [...], as the network or the function takes them.
        batch: the arguments after params; floating arrays are cast to `dtype`. The rows
            of the first one's gradient, ∂E/∂x_t if time is its first axis, are checked
            as well; without a reverse mode to compare with, 32 of them.
        dtype: of the gradient that is checked: float64 (by default), float32, bfloat16
            or float16. The references are in float64, with x64 enabled for this call
            only.
        seed: for the random directions.
        against: the references to compare with, of "reverse", "compiled", "forward",
            "differences", "adjoint", "rtrl", "scan" and "truncated"; by default all
            that there are for this network or function but "compiled", which compiles
            every operation by itself. "adjoint" is in float64 alone. At a kink leave
            out "differences"; with a surrogate gradient use "reverse" alone.
        gradient: a gradient of your own to check in place of the manual one, such as
            RTRL or an eligibility trace: `gradient(params, *batch, **options)` returns
            ∂E/∂params, with None for a part that is not compared. It is called as it
            is, so it need not be JAX.
        tolerance: the largest relative error that passes, instead of the one below;
            `math.inf` to show errors and cosines without a judgement.
        options: those of `Network.gradients`: lengths, resets, reset_to, reverse,
            weights, noise, chunk_size, store; or keywords of the function. A derivation
            that does not support one is left out, and the report says why.
    Returns: a `GradientReport`, one row per leaf and reference; true if all are close.
             Tolerances: 1e-10, and 1e-6 for differences, but at least four times what
             rounding to `dtype` does to JAX's own gradient of the same leaf, and four
             eps (16 in float32); twice that along directions. So bfloat16 shows an
             error of 10 %, not one of 1 %, let alone a factor of 1.001. A leaf that
             rounding moves by more than an eighth is shown and not judged, and the
             report says so; so is the truncated gradient.
    Raises:  TypeError if it is neither a Network nor a function of this batch, or if
             params are not floating; ValueError for another dtype, a seed that is not
             an integer >= 0, an unknown reference, a function that does not pass
             `gradient` on, a gradient unlike params, a tolerance below 0, or an error
             that is not a finite scalar or does not depend on params.
    Source:  the adjoint identity as in Griewank & Walther (2008), "Evaluating
             Derivatives", §3.3.
    """
    f = f_or_network
    dtype, seed, tolerance = (
        read_dtype(dtype),
        read_seed(seed),
        read_tolerance(tolerance),
    )
    params, batch = read_leaves("params", params), read_leaves("batch", batch)
    takes_gradient = check_inputs(f, params, batch, options, gradient)
    names = read_against(against, f, takes_gradient, gradient)
    static = tuple(
        sorted((k, v) for k, v in options.items() if k in _STATIC or v is None)
    )
    arrays = {k: read_leaves(k, v) for k, v in options.items() if k not in dict(static)}
    with jax.enable_x64(True):
        low = cast(Point(params, Given(batch, arrays)), dtype)
        made = programs(f, static, takes_gradient)
        what = _Check(
            f, made, static, low, cast(low, np.float64), gradient, read_seed(seed)
        )
        names, left_out = _passable(what, names, takes_gradient)
        manual = _manual(what)
        reverse = None
        if "reverse" in names or dtype != np.float64:
            reverse = made.reverse(*what.exact)
        pairs, why = _leaves(what, names, manual, reverse)
        left_out += why
        steps, why = _steps(what, names, takes_gradient, reverse)
        left_out += why
        moved = {} if dtype == np.float64 else _moved(what, reverse)
        return _report(Budget(dtype, moved, tolerance), pairs, steps, left_out)


class _Check(NamedTuple):
    """What is checked, in the dtype asked for, `low`, and in float64, `exact`."""

    f: Any
    made: Programs
    static: tuple[tuple[str, Any], ...]
    low: Point
    exact: Point
    gradient: Callable[..., Any] | None
    seed: int


def _passable(
    what: _Check, names: tuple[str, ...], takes_gradient: bool
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The references that can be had here, and the reasons for the others."""
    left_out = ()
    if "adjoint" in names and jax.tree.leaves(what.low.params)[0].dtype != np.float64:
        names = tuple(name for name in names if name != "adjoint")
        left_out = ("adjoint: it holds for the formulas, and is checked in float64",)
    stopped = [name for name in ("forward", "adjoint") if name in names]
    made_of = op_by_op.primitives(what.made.error.trace(*what.exact))
    if not stopped or not any(name.startswith("custom_vjp") for name in made_of):
        return names, left_out
    if takes_gradient and what.gradient is None:
        raise ValueError(
            "f: expected one that hands `gradient` on to unroll; its value is made by "
            "a derivative by hand, or another jax.custom_vjp, with gradient='autodiff' "
            "as well, which forward mode cannot pass. For a custom_vjp of your own, "
            "such as a surrogate gradient, give against=('reverse',)"
        )
    left = tuple(name for name in names if name not in stopped)
    return left, (*left_out, "forward: forward mode cannot pass a jax.custom_vjp")


def _manual(what: _Check) -> dict[str, Any]:
    """The gradient that is checked, by leaf."""
    made, low, exact = what.made, what.low, what.exact
    own = what.gradient is not None
    value, manual = (made.error(*exact), None) if own else made.manual(*low)
    if not np.isfinite(value):
        raise ValueError(f"E: expected a finite scalar, got {value}")
    if not own:
        return by_leaf(manual)
    return read_own(call(what.gradient, *low, what.static), low.params)


def _leaves(
    what: _Check, names: tuple[str, ...], manual: dict[str, Any], reverse: Any
) -> tuple[list[Pair], tuple[str, ...]]:
    """The manual gradient and every reference, and why some are left out."""
    references, left_out = {}, ()
    if "reverse" in names:
        references["reverse"] = by_leaf(reverse[0])
    if "compiled" in names:
        traced = what.made.manual.trace(*what.exact)
        count = op_by_op.operations(traced)
        if count > _OPERATIONS:
            left_out += (f"compiled: it would run {count:,} operations one by one",)
        else:
            _, alone = op_by_op.run(traced, *what.exact)
            references["compiled"] = by_leaf(alone)
    given = what.made, what.low, what.exact, manual, references, names, what.seed
    pairs = list(leaf_pairs(*given))
    if isinstance(what.f, Network):
        static = dict(what.static)
        others = derivations(what.f, what.made, what.exact, static, names)
        left_out += others.left_out
        for reference, found in others.found.items():
            pairs += [
                Pair(leaf, reference, manual[leaf], theirs)
                for leaf, theirs in found.items()
                if leaf in manual
            ]
    return pairs, left_out


def _steps(
    what: _Check, names: tuple[str, ...], takes_gradient: bool, reverse: Any
) -> tuple[list[Pair], tuple[str, ...]]:
    """The same for the rows of ∂E/∂ the batch's first array."""
    reference = "reverse" if takes_gradient else "differences"
    if what.gradient or reference not in names or not what.low.given.batch:
        return [], ()
    (manual,) = what.made.by_step(*what.low)
    rows = by_step(manual)
    nothing = rows and not any(map(np.any, rows.values()))
    if nothing and not isinstance(what.f, Network):
        return [], ("steps: the gradient of the batch's first array is 0",)
    if takes_gradient:
        return list(step_pairs(manual, *reverse[1])), ()
    given = what.made, what.exact, manual, what.seed
    return list(step_pairs_by_differences(*given)), ()


def _moved(what: _Check, reverse: Any) -> dict[str, float]:
    """What rounding does to JAX's own gradient, by leaf and by step."""

    def named(gradient):
        d_params, first = gradient
        return by_leaf(d_params) | (by_step(*first) if first else {})

    return rounding(named(what.made.reverse(*what.low)), named(reverse))


def _report(
    budget: Budget, pairs: list[Pair], steps: list[Pair], left_out: tuple[str, ...]
) -> GradientReport:
    if not pairs:
        raise ValueError(
            "against: expected a reference that there is for this gradient, and none "
            f"is left: {'; '.join(left_out)}"
        )
    if not any(np.any(pair.theirs) for pair in pairs):
        raise ValueError("E: expected it to depend on params, but its gradient is 0")
    rows, by_step = (tuple(map(budget.judge, some)) for some in (pairs, steps))
    moved = sum(
        np.isinf(c.tolerance) and c.against in TOLERANCES for c in (*rows, *by_step)
    )
    if moved and budget.tolerance is None:
        left_out += (
            f"{moved} of {len(rows + by_step)} comparisons are shown and not judged: "
            f"rounding to {budget.dtype} moves them too far",
        )
    return GradientReport(str(budget.dtype), rows, by_step, left_out)

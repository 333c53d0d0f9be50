"""The manual gradient and each reference, leaf by leaf, along random directions, and
step by step."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxrnn._core.numerics import real_only
from jaxrnn.gradcheck.budget import Pair
from jaxrnn.gradcheck.programs import Point, Programs
from jaxrnn.gradcheck.report import by_leaf, by_step

_DIRECTIONS = 8
_ALONG = ("forward", "differences", "adjoint")
_STEPS = 32  # of ∂E/∂x_t against differences, evenly spread
_STEP_DIRECTIONS = 2


def leaf_pairs(
    made: Programs,
    low: Point,
    exact: Point,
    manual: dict[str, Any],
    references: dict[str, dict[str, Any]],
    against: tuple[str, ...],
    seed: int,
) -> Iterator[Pair]:
    """Leaf by leaf: the references that are like params, and those along directions.

    Args:
        low, exact: the point, in the dtype that is checked and in float64.
        manual: the manual gradient by leaf.
        references: gradients by leaf, by the name of the reference.
    """
    rng = np.random.default_rng(seed)
    adjoint = random_like(rng, made.outputs.trace(*low).out_info)
    pulled = by_leaf(made.pull(*low, adjoint)) if "adjoint" in against else {}
    leaves, tree = jax.tree.flatten(exact.params)

    def with_leaf(i, leaf, others=leaves):
        return jax.tree.unflatten(tree, [*others[:i], leaf, *others[i + 1 :]])

    zeros = [np.zeros(leaf.shape) for leaf in leaves]
    for i, (name, leaf) in enumerate(by_leaf(exact.params).items()):
        # such as a W_s without columns, or a part that the caller's gradient leaves out
        if leaf.size == 0 or name not in manual:
            continue
        for reference, theirs in references.items():
            yield Pair(name, reference, manual[name], theirs[name])
        found = {reference: ([], []) for reference in _ALONG if reference in against}
        differences = _differences(
            lambda leaf, i=i: made.error(with_leaf(i, leaf), exact.given), leaf
        )
        for _ in range(_DIRECTIONS if found else 0):
            v = random_like(rng, leaf)
            if "forward" in found or "adjoint" in found:
                slope, moved = made.along(*exact, with_leaf(i, v, zeros))
            for reference, (ours, theirs) in found.items():
                hand = pulled if reference == "adjoint" else manual
                ours.append(inner(hand[name], v))
                if reference == "adjoint":
                    theirs.append(inner(adjoint, moved))
                else:
                    theirs.append(slope if reference == "forward" else differences(v))
        for reference, (ours, theirs) in found.items():
            norm = _norm((pulled if reference == "adjoint" else manual)[name])
            yield Pair(name, reference, np.array(ours), np.array(theirs), norm)


def step_pairs(manual: Any, reverse: Any) -> Iterator[Pair]:
    """∂E/∂x_t of every step, by hand and JAX's own."""
    theirs = by_step(reverse)
    for name, ours in by_step(manual).items():
        yield Pair(name, "reverse", ours, theirs[name])


def step_pairs_by_differences(
    made: Programs, exact: Point, manual: Any, seed: int
) -> Iterator[Pair]:
    """∂E/∂x_t along random directions, of steps that are evenly spread."""
    rng, (params, given) = np.random.default_rng(seed), exact
    xs, *rest = given.batch
    ours, rows = by_step(manual), by_step(real_only(xs))
    places = np.linspace(0, len(rows) - 1, min(_STEPS, len(rows))).round()
    for name in (list(rows)[int(place)] for place in places):

        def error(row, name=name):
            moved = _with_step(xs, name, row)
            return made.error(params, given._replace(batch=(moved, *rest)))

        differences = _differences(error, rows[name])
        vs = [random_like(rng, rows[name]) for _ in range(_STEP_DIRECTIONS)]
        yield Pair(
            name,
            "differences",
            np.array([inner(ours[name], v) for v in vs]),
            np.array([differences(v) for v in vs]),
            _norm(ours[name]),
        )


def _with_step(xs: Any, name: str, row: np.ndarray) -> Any:
    """The batch's first array with another row in the place of that of this name."""
    whole, _, t = name.rpartition("[")

    def change(path, leaf):
        if f"xs{jax.tree_util.keystr(path)}" != whole:
            return leaf
        moved = np.array(leaf)
        moved[int(t.removesuffix("]"))] = row
        return moved

    return jax.tree_util.tree_map_with_path(change, xs)


def _differences(error: Callable[[Any], Any], at: Any) -> Callable[[Any], float]:
    """Central differences of an error of one array along v, with steps of its scale."""
    at = np.asarray(at)
    size = max(1, _norm(at))

    def along(v):
        # cbrt(eps) balances truncation, h², and rounding, eps/h.
        h = 6e-6 * size / _norm(v)
        return (float(error(at + h * v)) - float(error(at - h * v))) / (2 * h)

    return along


def random_like(rng: np.random.Generator, tree: Any) -> Any:
    """Standard normal numbers in the shapes and dtypes of a pytree."""
    return jax.tree.map(lambda a: rng.standard_normal(a.shape).astype(a.dtype), tree)


def inner(a: Any, b: Any) -> float:
    """⟨a, b⟩ over all leaves, in float64."""

    def of(a, b):
        return (np.asarray(a, np.float64) * np.asarray(b, np.float64)).sum()

    return float(sum(jax.tree.leaves(jax.tree.map(of, a, b))))


def _norm(a: Any) -> float:
    return inner(a, a) ** 0.5

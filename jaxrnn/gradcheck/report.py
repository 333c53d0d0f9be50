"""The report of a check, as numbers, a table or JSON."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

from jaxrnn._core.trees import to_json


@dataclass(frozen=True)
class Comparison:
    """One leaf of the manual gradient against one reference.

    relative_error: ‖manual - reference‖ / ‖reference‖
    cosine, norm_ratio: of manual to reference
    ulps: the largest error, in units in the last place of the reference's largest
        element
    tolerance: the largest relative error that passes; inf for no tolerance
    """

    leaf: str
    against: str
    relative_error: float
    cosine: float
    norm_ratio: float
    ulps: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the relative error is within tolerance; NaN is not."""
        return self.relative_error <= self.tolerance


@dataclass(frozen=True)
class GradientReport:
    """Every comparison; `print` it for a table, `assert_close` to raise.

    dtype: of the gradients.
    comparisons: one per leaf and reference.
    steps: of ∂E/∂x_t with reverse differentiation, one per time step.
    left_out: references that were not computed, with reasons.
    """

    dtype: str
    comparisons: tuple[Comparison, ...]
    steps: tuple[Comparison, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every comparison is within its tolerance."""
        return all(c.ok for c in self.comparisons + self.steps)

    def __bool__(self) -> bool:
        """Whether `ok`, so that `assert check_gradients(...)` can fail."""
        return self.ok

    @property
    def worst(self) -> Comparison:
        """The comparison with the largest relative error over its tolerance."""
        return max(self.comparisons + self.steps, key=_excess)

    def assert_close(self) -> None:
        """Raise AssertionError with the table unless every comparison passes."""
        if not self.ok:
            raise AssertionError(f"the manual gradient is wrong\n{self}")

    def to_json(self) -> str:
        """Everything as JSON, with null for numbers that are not finite."""
        return to_json({"ok": self.ok} | asdict(self))

    def __str__(self) -> str:
        shown = self.comparisons
        if self.steps:
            shown += (max(self.steps, key=_excess),)
        width = max(len("leaf"), *(len(c.leaf) for c in shown))
        kind = max(len("differences"), *(len(c.against) for c in shown))
        lines = [
            f"manual gradient, {self.dtype}",
            f"{'leaf':{width}}  {'against':{kind}}  {'rel. error':>10}  "
            f"{'cosine':>9}  {'norm ratio':>10}  {'ulps':>8}",
        ]
        for c in shown:
            lines.append(
                f"{c.leaf:{width}}  {c.against:{kind}}  {c.relative_error:10.1e}  "
                f"{c.cosine:9.6f}  {c.norm_ratio:10.7f}  {c.ulps:8.3g}  {_verdict(c)}"
            )
        if self.steps:
            lines[-1] += f", the worst of {len(self.steps)} steps"
        return "\n".join([*lines, *(f"left out: {why}" for why in self.left_out)])


def _excess(c: Comparison) -> float:
    """The relative error over its tolerance."""
    if math.isinf(c.tolerance):
        return 0.0
    return float(np.nan_to_num(c.relative_error / c.tolerance, nan=np.inf))


def _verdict(c: Comparison) -> str:
    if math.isinf(c.tolerance):
        return "shown"
    return "ok" if c.ok else f"WRONG (> {c.tolerance:.0e})"


def relative_error(ours: Any, theirs: Any) -> float:
    """‖ours - theirs‖ / ‖theirs‖ in float64; 0 if both are zero, inf if theirs is."""
    ours, theirs = (np.asarray(a, np.float64) for a in (ours, theirs))
    error, norm = np.linalg.norm(ours - theirs), np.linalg.norm(theirs)
    return 0.0 if error == 0 else float(error / norm) if norm else math.inf


def relative_errors(ours: Any, theirs: Any) -> dict[str, float]:
    """The relative error of every leaf of two like pytrees, by the leaf's name."""
    pairs = jax.tree.map(relative_error, ours, theirs)
    return by_leaf(pairs)


def leaf_name(path: Any) -> str:
    """The name of a leaf, such as `cell.w_s`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def by_leaf(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by their names."""
    return {leaf_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def by_step(xs: Any) -> dict[str, np.ndarray]:
    """The rows of every array of a pytree, such as xs['a'][3]."""
    return {
        f"xs{jax.tree_util.keystr(path)}[{t}]": row
        for path, leaf in jax.tree.leaves_with_path(xs)
        if np.ndim(leaf)
        for t, row in enumerate(np.asarray(leaf))
    }


def compare(
    leaf: str, dtype: Any, against: str, ours: Any, theirs: Any, tolerance: float
) -> Comparison:
    """Compare one leaf of a gradient in this dtype with a reference in float64."""
    ours, theirs = (np.asarray(a, np.float64).ravel() for a in (ours, theirs))
    norm, ours_norm = (float(np.linalg.norm(a)) for a in (theirs, ours))
    spacing = float(np.spacing(np.abs(theirs).max(initial=0).astype(dtype)))
    same = np.array_equal(ours, theirs)  # two zero gradients agree
    return Comparison(
        leaf,
        against,
        relative_error(ours, theirs),
        1.0 if same else float(ours @ theirs) / (ours_norm * norm or math.nan),
        1.0 if same else ours_norm / (norm or math.nan),
        float(np.abs(ours - theirs).max(initial=0)) / spacing,
        tolerance,
    )

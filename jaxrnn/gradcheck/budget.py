"""How large an error may be: by reference, dtype and leaf.

Rounding errors have no bound that would be both safe and useful: they grow with the
number of steps, and with what cancels in the sum of a leaf. So they are measured: on
JAX's own gradient, in the same dtype at the same point, against itself in float64.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrnn.gradcheck.report import Comparison, compare, relative_error

TOLERANCES = {
    "reverse": 1e-10,
    "forward": 1e-10,
    "differences": 1e-6,
    "adjoint": 1e-10,
    "compiled": 1e-10,
    "rtrl": 1e-10,
    "scan": 1e-10,
}
_SLACK = 4  # times what rounding does to JAX's own gradient
# Of eps, at least: by chance JAX's own gradient may be close. In 16 bits the manual
# gradient sums in float32, and is the closer one.
_LEAST = {"float32": 16, "bfloat16": 4, "float16": 4, "float64": 4}
_NOTHING = 0.5  # a gradient that rounding moves by as much cannot be judged


class Pair(NamedTuple):
    """One leaf, or one step, of the manual gradient and of a reference.

    norm: of the leaf, if both are inner products with random directions.
    """

    leaf: str
    against: str
    ours: Any
    theirs: Any
    norm: float | None = None


class Budget(NamedTuple):
    """What passes: the dtype, the rounding of each leaf, the caller's tolerance."""

    dtype: Any
    rounding: dict[str, float]
    tolerance: float | None

    def judge(self, pair: Pair) -> Comparison:
        """Compare a pair by its tolerance, inf where it has none."""
        tolerance = TOLERANCES.get(pair.against, math.inf)
        if math.isfinite(tolerance):
            tolerance = self._within(pair, tolerance)
        return compare(
            pair.leaf, self.dtype, pair.against, pair.ours, pair.theirs, tolerance
        )

    def _within(self, pair: Pair, least: float) -> float:
        if self.tolerance is not None:
            return self.tolerance
        rounding = max(
            _SLACK * self.rounding.get(pair.leaf, 0.0),
            _LEAST[self.dtype.name] * float(jnp.finfo(self.dtype).eps),
        )
        if pair.norm is not None:
            # An error e at random is ‖e‖ along each, and the reference may cancel.
            along = pair.norm * len(pair.ours) ** 0.5
            rounding *= 2 * along / (float(np.linalg.norm(pair.theirs)) or along or 1)
        return max(least, rounding) if rounding < _NOTHING else math.inf


def rounding(low: dict[str, Any], exact: dict[str, Any]) -> dict[str, float]:
    """The relative error of each leaf in the lower dtype."""
    return {name: relative_error(low[name], exact[name]) for name in exact}

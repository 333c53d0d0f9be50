"""The gradient's health in one call: every instrument, by layer, and in words."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import jax
from jax import Array
from jax.core import Tracer

from jaxrnn._core.checks import check_number, check_within
from jaxrnn._core.door import as_layer, enter
from jaxrnn._core.inputs import axes_of
from jaxrnn._core.numerics import real_only
from jaxrnn._core.trees import to_json
from jaxrnn.backprop import filled
from jaxrnn.gradient_flow.figure import draw
from jaxrnn.gradient_flow.health import Fault, LayerHealth, lines
from jaxrnn.gradient_flow.measure import first_faults, measured, to_measure
from jaxrnn.gradient_flow.page import page
from jaxrnn.gradient_flow.parts import Run, outputs_of, parts_of
from jaxrnn.layer import LayerLike
from jaxrnn.networks import Network


@dataclass(frozen=True)
class HealthReport:
    """The gradient's health; `print` it for a table.

    error: E, of a network.
    steps, rows, window: T, the rows of the batch, and the steps of a training window.
    dtype: of the states.
    max_norm: as given.
    layers: a `LayerHealth` for every part, and for all of them together.
    faults: the first NaN or inf of each pass; empty if there is none.
    left_out: what was not measured, with reasons.
    """

    error: float | None
    steps: int
    rows: int
    window: int
    dtype: str
    max_norm: float | None
    layers: tuple[LayerHealth, ...]
    faults: tuple[Fault, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> str:
        """Everything as JSON, with null for numbers that are not finite."""
        return to_json(asdict(self))

    def figure(self) -> Any:
        """A Matplotlib figure: by lag, over time, by truncation, the exponents.

        Raises:  ImportError if Matplotlib is not installed.
        """
        return draw(self.layers, self.window)

    def to_html(self) -> str:
        """One page that needs nothing beside itself, for narrow and wide screens.

        Raises:  ImportError if Matplotlib is not installed.
        """
        given = self.layers, self.window, self.max_norm, self.left_out
        return page(self._head(), self._faults(), *given)

    def _head(self) -> str:
        error = "" if self.error is None else f"E = {self.error:.4g}, "
        return (
            f"{error}{self.steps} steps of {self.rows} rows, windows of {self.window}, "
            f"{self.dtype}"
        )

    def _faults(self) -> list[str]:
        return [
            f"NaN or inf, {f.during}: first at step {f.step}, in {f.part}, row {f.row}"
            for f in self.faults
        ]

    def __str__(self) -> str:
        found = [f"gradient health: {self._head()}", *self._faults()]
        for layer in self.layers:
            found.append(f"{layer.name}: {layer.kind}")
            found += [
                f"  {name:10}  {figure:24}  {meaning}"
                for name, figure, meaning in lines(layer, self.window, self.max_norm)
            ]
        return "\n".join([*found, *(f"left out: {why}" for why in self.left_out)])


def report(
    network: Network | LayerLike,
    params: Any,
    xs: Array,
    targets: Any = None,
    state: Any = None,
    *,
    weights: Any = None,
    cotangents: Any = None,
    final: Any = None,
    lengths: Any = None,
    resets: Any = None,
    window: int | None = None,
    lags: int | None = None,
    max_norm: float | None = None,
) -> HealthReport:
    """Measure the gradient's health with every instrument, layer by layer.

    Each cell and transition is measured by itself, on the inputs and the errors that
    reach it, in its own order of time, so that a backward direction is measured too;
    several that all run forward are also measured as a whole. Noise is off.

    Shapes:  xs [T, ..., D], state parts [..., H]; targets as the network takes them.
    Args:
        network: a `Network`, whose error is sent back; or a cell, a layer or a
            transition, whose errors are `cotangents` and `final`.
        params, state: the network's or the layer's.
        targets, weights: of a network.
        cotangents, final: ∂E/∂hs [T, ..., H] and ∂E/∂ the final state, of a layer.
        lengths, resets: as in `unroll`.
        window: the steps of a training window, T by default. With xs of several windows
            the report says what lies beyond one.
        lags: L, the number of lags to follow; T by default.
        max_norm: θ of `clipped`: with it, the angle between the gradient and the one
            whose λ_t are clipped in every row and step. A clip of the global norm makes
            a gradient shorter and turns it nowhere.
    Returns: a `HealthReport`.
    Cost:    that of `truncation_bias` for each part and for the whole: with an error at
             every step, L times the work of a backward pass, memory for L gradients. A
             few rows are enough. The exponents are means over at most four rows.
    Raises:  ValueError or TypeError for errors that are missing or of the other kind, a
             window or lags outside 1..T, a max_norm that is not a positive number, or
             values that are not known, inside `jit`, where `vitals` works; and as
             `unroll` does.
    Source:  of each figure: `lag_norms`, `decay_rate`, `effective_horizon`,
             `lyapunov_spectrum`, `truncation_bias`, `vitals`, `first_nonfinite`.
    """
    of_network = isinstance(network, Network)
    cell: Any = network.cell if isinstance(network, Network) else network
    layer = as_layer(cell, "network")
    edges = {"lengths": lengths, "resets": resets}
    _check_errors(of_network, targets, weights, cotangents, final)
    _check_known(params=params, xs=xs, targets=targets, state=state, **edges)
    if max_norm is not None:
        check_number("max_norm", max_norm, low=0)
        max_norm = float(max_norm)
    error = None
    if isinstance(network, Network):
        value, cotangents = network.cotangents(
            params, xs, targets, state, weights=weights, noise=None, **edges
        )
        error, params = float(value), params.cell
    carrier, marks, xs = enter(layer, params, xs, state, noise=None, **edges)
    steps, *batch = axes = axes_of(layer.x_ndim, xs)
    if 0 in axes:
        raise ValueError(f"xs: expected at least one step and row, got {list(axes)}")
    lags, window = _count("lags", lags, steps), _count("window", window, steps)
    outputs = outputs_of(layer, carrier, marks, xs)
    whole = Run(params, xs, carrier.state, cotangents, final, lengths, resets)
    cotangents = real_only(filled("cotangents", cotangents, outputs))
    final = real_only(filled("final", final, carrier.state))

    parts = list(parts_of(layer, carrier, marks, xs, cotangents, final))
    measures, left_out = to_measure(cell, parts, whole, layer.runs_backward)
    layers = [measured(m, lags, max_norm, left_out) for m in measures]
    return HealthReport(
        error,
        steps,
        math.prod(batch),
        window,
        str(next(iter(jax.tree.leaves(real_only((carrier.state, params))))).dtype),
        max_norm,
        tuple(layers),
        first_faults(cell, whole),
        tuple(left_out),
    )


def _count(name: str, value: int | None, steps: int) -> int:
    if value is None:
        return steps
    check_within(name, value, 1, steps)
    return int(value)


def _check_errors(
    of_network: bool, targets: Any, weights: Any, cotangents: Any, final: Any
) -> None:
    """Raise unless the errors are a network's targets, or a layer's cotangents."""
    if of_network:
        given, named = (targets,), "targets"
        other = {"cotangents": cotangents, "final": final}
        kind = "a network, whose errors come from its targets"
    else:
        given, named = (cotangents, final), "cotangents and final"
        other = {"targets": targets, "weights": weights}
        kind = "a layer, whose errors are cotangents and final"
    for name, value in other.items():
        if value is not None:
            raise ValueError(f"{name}: expected None with {kind}")
    if all(value is None for value in given):
        raise ValueError(f"{named}: expected errors to send back, got none")


def _check_known(**arguments: Any) -> None:
    for name, value in arguments.items():
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(value)):
            raise TypeError(
                f"{name}: expected known values, got traced ones; inside jit use vitals"
            )

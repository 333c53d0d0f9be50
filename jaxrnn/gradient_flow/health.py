"""What is known of one layer's gradient, and what each figure means in words."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_NOT_KNOWN = "not known"


@dataclass(frozen=True)
class LayerHealth:
    """The gradient of one cell, transition or whole layer; None for what is not known.

    name: its place in the layer's state, such as 0.forward; "whole" for all of them
        together, "cell" if there is only one.
    kind: how it was made, such as lstm().
    horizon: the lag beyond which ‖∂E_t/∂s_{t-lag}‖ stays below 1 % of its largest.
    rate: the fitted factor from one lag to the next, and its interval: (rate, low,
        high).
    by_lag: the norms ‖∂E_t/∂s_{t-lag}‖ that both are read from, for the lags 0..L-1.
    exponents: the largest Lyapunov exponents, in nats per step.
    bias: ‖G_K - G‖ / ‖G‖ of BPTT truncated after K steps, for K = 1..L.
    gradient: ‖∂E/∂params‖.
    deltas, adjoints: ‖δ_t‖ and ‖λ_t‖ at every step, in the layer's own order of time.
    saturated, dead, angle: as in `Vitals`.
    """

    name: str
    kind: str
    horizon: int
    rate: tuple[float, float, float] | None
    by_lag: tuple[float, ...]
    exponents: tuple[float, ...] | None
    bias: tuple[float, ...]
    gradient: float
    deltas: tuple[float, ...] | None
    adjoints: tuple[float, ...]
    saturated: float | None
    dead: float | None
    angle: float | None


@dataclass(frozen=True)
class Fault:
    """Where the first NaN or inf of a pass is.

    during: "forward" or "backward".
    step, row: counted from 0, the batch with its axes flattened.
    part: of the state, such as 0.forward.h.
    """

    during: str
    step: int
    part: str
    row: int


class Line(NamedTuple):
    """A figure, and what it means."""

    name: str
    figure: str
    meaning: str


def lines(layer: LayerHealth, window: int, max_norm: float | None) -> list[Line]:
    """Every figure of a layer, with its meaning."""
    found = [
        _horizon(layer, window),
        _rate(layer),
        _exponents(layer),
        _bias(layer, window),
        Line(
            "gradient",
            f"{layer.gradient:.3g}",
            "The norm of the gradient of its parameters.",
        ),
        _over_time(layer),
        _share("saturated", layer.saturated, _SATURATED),
        _share("dead", layer.dead, _DEAD),
    ]
    return found if max_norm is None else [*found, _angle(layer.angle, max_norm)]


def _horizon(layer: LayerHealth, window: int) -> Line:
    lag, followed = layer.horizon, len(layer.by_lag)
    windows = f"your windows have {window}"
    if not lag:
        said = "No error arrives: its gradient is zero or not a number."
    elif lag == followed:
        said = f"An error is still felt {lag} steps back, the farthest that was looked "
        said += f"at; {windows}."
    elif lag > window:
        said = f"An error is felt {lag} steps back, but {windows}: they cut it off."
    else:
        said = f"An error is felt {lag} steps back; {windows}."
    return Line("horizon", f"{lag} steps", said)


def _rate(layer: LayerHealth) -> Line:
    if layer.rate is None or not math.isfinite(layer.rate[0]):
        return Line("rate", _NOT_KNOWN, "Too few lags to fit a rate to.")
    rate, low, high = layer.rate
    figure = f"{rate:.3f} ({low:.3f} to {high:.3f})"
    said = f"Each step back multiplies an error by {rate:.3f}"
    if low <= 1 <= high:
        said += ": it neither vanishes nor explodes."
    else:
        steps = math.log(2) / abs(math.log(rate))
        said += f": it {'halves' if rate < 1 else 'doubles'} in {steps:.1f} steps."
    return Line("rate", figure, said)


def _exponents(layer: LayerHealth) -> Line:
    if layer.exponents is None:
        return Line("exponents", _NOT_KNOWN, "See what was left out.")
    largest = layer.exponents[0]
    said = "States that are close come together, and gradients vanish in the long run."
    if largest > 0:
        said = "States that are close part (chaos), and gradients explode in the end."
    figure = ", ".join(f"{e:.3f}" for e in layer.exponents)
    return Line("exponents", figure, said)


def _bias(layer: LayerHealth, window: int) -> Line:
    followed = len(layer.bias)
    steps = len(layer.adjoints)
    whole = window >= steps
    k = min(max(1, window // 2) if whole else window, followed)
    share = layer.bias[k - 1]
    said = f"Sent back {k} steps and no farther, the gradient is {_percent(share)} off"
    if whole:
        said += f"; nothing lies beyond your windows of {window} here"
    return Line("truncation", f"{_percent(share)} at {k}", said + ".")


def _over_time(layer: LayerHealth) -> Line:
    first, last = layer.adjoints[0], layer.adjoints[-1]
    figure = f"{first:.2g} to {last:.2g}"
    said = "The norm of λ at the first step and at the last, of all errors together."
    return Line("adjoints", figure, said)


_SATURATED = (
    "of the activations are in the flat ends of tanh or sigmoid, where little passes.",
    "Its step computes no tanh and no sigmoid.",
)
_DEAD = (
    "of the pre-activations get no gradient at any step: their weights do not learn.",
    "It is no cell, and has no pre-activations that are known.",
)


def _share(name: str, share: float | None, words: tuple[str, str]) -> Line:
    if share is None:
        return Line(name, _NOT_KNOWN, words[1])
    return Line(name, _percent(share), f"{_percent(share)} {words[0]}")


def _angle(angle: float | None, max_norm: float) -> Line:
    if angle is None:
        return Line("clipped", _NOT_KNOWN, "See what was left out.")
    said = f"Clipping λ at {max_norm:g} at every step turns the gradient by so much."
    return Line("clipped", f"{angle:.1f}°", said)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if math.isfinite(share) else "NaN"


def plain(values: object) -> tuple[float, ...]:
    """An array as numbers."""
    return tuple(np.asarray(values, np.float64).tolist())

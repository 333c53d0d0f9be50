"""The figure of a report: by lag, over time, by truncation, and the exponents."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxrnn.gradient_flow.health import LayerHealth

# Okabe & Ito (2008), Color Universal Design
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")

Draw = Callable[[Any, Sequence[LayerHealth], int], None]


def _figure(size: tuple[float, float]) -> Any:
    """A figure without pyplot, which would hold state and choose a display."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "figure: this draws with matplotlib, which is not installed: "
            "pip install matplotlib"
        ) from error
    return Figure(size, layout="constrained")


def draw(layers: Sequence[LayerHealth], window: int) -> Any:
    """All panels in one figure."""
    figure = _figure((10, 7))
    for axes, panel in zip(figure.subplots(2, 2).flat, PANELS.values(), strict=True):
        panel(axes, layers, window)
    return figure


def draw_one(name: str, layers: Sequence[LayerHealth], window: int) -> Any:
    """One panel as a figure of its own, small enough for a narrow page."""
    figure = _figure((5, 3.6))
    PANELS[name](figure.subplots(), layers, window)
    return figure


def _by_lag(axes: Any, layers: Sequence[LayerHealth], window: int) -> None:
    for color, layer in _colored(layers):
        norms = np.array(layer.by_lag)
        top = np.max(norms[np.isfinite(norms)], initial=0)
        label = f"{layer.name}, {layer.horizon} steps"
        _line(axes, np.arange(len(norms)), norms / (top or 1), color, label)
    axes.axhline(0.01, color="0.6", lw=0.8, ls="--")
    _window(axes, window, max(len(layer.by_lag) for layer in layers))
    _finish(axes, "How far back an error is felt", "steps back", "share of the largest")


def _over_time(axes: Any, layers: Sequence[LayerHealth], window: int) -> None:
    for color, layer in _colored(layers):
        steps = np.arange(len(layer.adjoints))
        _line(axes, steps, layer.adjoints, color, layer.name)
        if layer.deltas is not None:
            _line(axes, steps, layer.deltas, color, None, ls=":")
    _finish(axes, "Over time: λ, and δ (dotted)", "step", "norm over the rows")


def _truncation(axes: Any, layers: Sequence[LayerHealth], window: int) -> None:
    for color, layer in _colored(layers):
        _line(axes, np.arange(1, len(layer.bias) + 1), layer.bias, color, layer.name)
    _window(axes, window, max(len(layer.bias) for layer in layers))
    axes.set_ylim(bottom=1e-4)
    _finish(axes, "What truncated BPTT loses", "steps sent back, K", "relative error")


def _exponents(axes: Any, layers: Sequence[LayerHealth], window: int) -> None:
    for color, layer in _colored(layers):
        if layer.exponents is not None:
            ranks = np.arange(1, len(layer.exponents) + 1)
            style = {"color": color, "mec": "k", "mew": 0.5}
            axes.plot(ranks, layer.exponents, "o-", lw=0.8, label=layer.name, **style)
    axes.axhline(0, color="0.6", lw=0.8, ls="--")
    axes.xaxis.get_major_locator().set_params(integer=True)
    _finish(axes, "Largest Lyapunov exponents", "rank", "nats per step", log=False)


PANELS: dict[str, Draw] = {
    "by lag": _by_lag,
    "over time": _over_time,
    "truncation": _truncation,
    "exponents": _exponents,
}


def _colored(layers: Sequence[LayerHealth]) -> Any:
    return [(_COLORS[i % len(_COLORS)], layer) for i, layer in enumerate(layers)]


def _line(
    axes: Any, x: Any, y: Any, color: str, label: str | None, **style: Any
) -> None:
    """A line, with gaps where a logarithm has no value."""
    y = np.array(y, float)
    y = np.where(np.isfinite(y) & (y > 0), y, np.nan)
    axes.plot(x, y, color=color, lw=1.5, label=label, **style)


def _window(axes: Any, window: int, last: int) -> None:
    if window <= last:
        axes.axvline(window, color="k", lw=0.8)
        axes.annotate(
            "window ", (window, 0.02), xycoords=("data", "axes fraction"), ha="right",
            fontsize=8, color="0.4",
        )  # fmt: skip


def _finish(axes: Any, title: str, x: str, y: str, *, log: bool = True) -> None:
    drawn = [line.get_ydata() for line in axes.get_lines()]
    if log and any(np.any(np.asarray(y, float) > 0) for y in drawn):
        axes.set_yscale("log")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)

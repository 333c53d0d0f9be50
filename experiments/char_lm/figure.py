"""The figure of `char_lm`: learning curves, gradient norms around the clipping, and how
far back an error is felt."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator, NullFormatter

from experiments.lib import plots
from experiments.lib.plots import legend_outside, note, panels
from experiments.lib.run_folder import Run

_COLORS = {"elman": plots.ORANGE, "lstm": plots.BLUE, "gru": plots.GREEN}


def draw(run: Run, folder: Path) -> None:
    """Write char_lm.png."""
    figure, axes = panels(3, 1, (8, 9), sharex=True)
    curves, norms, horizons = axes[:, 0]
    histories, clip_norm = run.results["histories"], run.options["clip_norm"]
    per_window = run.options["batch"] * run.options["window"] / 1e6
    for name, h in histories.items():
        color = _COLORS[name]
        bits, norm = np.array(h["bits"], float), np.array(h["norm"], float)
        seen = per_window * np.arange(1, len(bits) + 1)
        curves.plot(*_smooth(seen, bits), color=color, alpha=0.5, lw=1)
        at = per_window * np.array(h["held_out_at"])
        held_out = np.array(h["held_out"], float)
        curves.plot(at, held_out, "o-", color=color, ms=4, label=f"{name}, held-out")
        norms.plot(seen, norm, color=color, lw=0.6, alpha=0.35)
        before, after = _smooth(seen, norm), _smooth(seen, np.minimum(norm, clip_norm))
        style = {"color": color, "lw": 1.5}
        norms.plot(*before, label=f"{name}, before clipping", **style)
        # above the threshold's line
        norms.plot(*after, ls=":", zorder=3, label=f"{name}, after", **style)
        at = per_window * np.array(h["horizon_at"])
        horizons.plot(at, h["horizon"], color=color, lw=1.5, label=name)
    for order, bits in run.results["ngram_bits"].items():
        curves.axhline(bits, color="0.6", lw=0.8, ls="--")
        note(curves, f"{order}-gram", (1, bits), "x", (4, -3))
    found = [b for h in histories.values() for b in h["held_out"] if b is not None]
    lowest = min([2.0, *found])
    curves.set_ylim(lowest - 0.1, 5)
    curves.set_ylabel("bits per character")
    curves.set_title("Held-out text (points) and training windows (thin lines)")
    norms.axhline(clip_norm, color="k", lw=0.8)
    norms.set_yscale("log")
    norms.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    norms.yaxis.set_major_formatter("{x:g}")
    norms.yaxis.set_minor_formatter(NullFormatter())
    norms.set_ylabel("global norm of the mean gradient")
    norms.set_title(f"Gradient norm, clipped at {clip_norm:g} (black line)")
    horizons.axhline(run.options["window"], color="k", lw=0.8)
    horizons.set_ylim(bottom=0)
    horizons.set_ylabel("steps")
    horizons.set_xlabel("characters trained on, millions")
    horizons.set_title("How far back a window's last error is felt (black: the window)")
    for each in (curves, norms, horizons):
        legend_outside(each, 1.08)
    plots.save(figure, folder / "char_lm.png")


def _smooth(x: np.ndarray, y: Any, width: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """A running mean, if there are enough points."""
    if len(y) < 2 * width:
        return x, y
    mean = np.convolve(y, np.ones(width) / width, mode="valid")
    return x[width - 1 :], mean

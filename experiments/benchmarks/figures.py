"""The benchmarks' figures: ratios over the grid, and time over two decades."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.beyond import exponent
from experiments.benchmarks.tables import column
from experiments.lib import plots
from experiments.lib.run_folder import Run

# a contender with its batch split is a hollow diamond
_COLORS = {
    "manual": plots.BLACK,
    "autodiff": plots.GREY,
    "flax linen": plots.BLUE,
    "flax nnx": plots.SKY,
    "equinox": plots.ORANGE,
    "haiku": plots.VERMILION,
    "keras": plots.YELLOW,
    "torch": plots.GREEN,
    "manual, split": plots.BLACK,
    "fastest peer, split": plots.BLUE,
    "floor": plots.PURPLE,
}


def draw(run: Run, folder: Path) -> None:
    """Write benchmarks_grid.png, and benchmarks_sweeps.png if they were run."""
    draw_grid(folder / "benchmarks_grid.png", run.results["grid"])
    if "sweeps" in run.results:
        draw_sweeps(folder / "benchmarks_sweeps.png", run.results["sweeps"])


def draw_grid(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Time of the gradient relative to the manual one, one panel per cell."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    size = (9, 2.7 * len(cells) + 1)
    figure, panels = plots.panels(len(cells), 1, size, sharex=True)
    sizes = list(dict.fromkeys(tuple(row["size"]) for row in rows))
    columns = [name for name in _COLORS if name != "manual"]
    for panel, cell in zip(panels[:, 0], cells, strict=True):
        for name in columns:
            slot = 0.8 * (columns.index(name) / (len(columns) - 1) - 0.5)
            found = [r for r in rows if column(r) == name and r["cell"] == cell]
            _ratios(panel, [r for r in found if "ratio" in r], sizes, slot, name)
        panel.axhline(1, color="k", lw=1)
        for edge in range(1, len(sizes)):
            panel.axvline(edge - 0.5, color="0.8", lw=0.8)
        panel.set(yscale="log", xlim=(-0.5, len(sizes) - 0.5))
        panel.set_yticks([0.1, 0.2, 0.5, 1, 2, 5])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.minorticks_off()
        panel.set_ylabel(f"{cell}: time over manual")
        panel.grid(axis="y", lw=0.4, alpha=0.5)
    labels = [f"T {t}, B {b}\nD {d}, H {h}" for t, b, d, h in sizes]
    panels[-1, 0].set_xticks(range(len(sizes)), labels, fontsize=8)
    figure.suptitle(
        "Error and gradient: above 1, slower than by hand\n"
        "median ratio, 10th to 90th percentile of the rounds",
        fontsize=11,
    )
    handles, names = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=5, frameon=False, fontsize=9
    )
    plots.save(figure, path, dpi=150)


def _ratios(panel, rows, sizes, slot: float, name: str) -> None:
    """The ratios of one contender, each with its spread."""
    marks = {"marker": "o", "mfc": _COLORS[name], "mec": _COLORS[name]}
    if name.endswith("split"):
        marks |= {"marker": "D", "mfc": "white"}
    if name == "floor":
        marks |= {"marker": "_", "mew": 2}
    at = [sizes.index(tuple(row["size"])) + slot for row in rows]
    middle = np.array([row["ratio"] for row in rows])
    spread = np.array([row.get("ratio_spread", [row["ratio"]] * 2) for row in rows])
    panel.errorbar(
        at, middle, abs(spread.reshape(-1, 2).T - middle),
        ls="", ms=5, lw=1, color=_COLORS[name], label=name, **marks,
    )  # fmt: skip


def draw_sweeps(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Time against T, B and H, log-log, with the exponent of the upper half."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    size = (4 * len(axes), 3.2 * len(cells))
    figure, panels = plots.panels(len(cells), len(axes), size, sharey="row")
    words = {"t": "steps T", "b": "batch B", "h": "units H"}
    for cell, line in zip(cells, panels, strict=True):
        for axis, panel in zip(axes, line, strict=True):
            here = [r for r in rows if (r["cell"], r["axis"]) == (cell, axis)]
            for name in dict.fromkeys(row["contender"] for row in here):
                curve = [(r["value"], r["ms"]) for r in here if r["contender"] == name]
                values, times = np.array(curve).T
                label = f"{name}: {words[axis][-1]}^{exponent(values, times):.2f}"
                panel.plot(values, times, "o-", color=_COLORS[name], ms=4, label=label)
            panel.set(xscale="log", yscale="log", title=f"{cell}, {words[axis]}")
            panel.grid(lw=0.4, alpha=0.5)
            panel.legend(fontsize=8, frameon=False, loc="upper left")
        line[0].set_ylabel("ms")
    for panel in panels[-1]:
        panel.set_xlabel(panel.get_title().split(", ")[1])
    figure.suptitle("Error and gradient around (T, B, D, H) = (100, 32, 64, 128)")
    plots.save(figure, path, dpi=150)

"""The benchmarks' rows as Markdown, and a summary for the terminal."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.beyond import exponent
from experiments.lib.run_folder import Run
from experiments.lib.tables import Table, number

Row = dict[str, Any]


def tables(run: Run) -> list[Table]:
    """Every table."""
    results, grid = run.results, run.results["grid"]
    head = ("a second, on this machine", "billions")
    rows = [[name, f"{rate:.3g}"] for name, rate in results["rates"].items()]
    made = [
        Table("Rates behind the floor", head, rows),
        ratio_table(
            "Gradient, time over the manual one's", grid, "ratio", "ratio_spread"
        ),
    ]
    if any("forward_ratio" in row for row in grid):
        title = "Forward pass alone, time over this library's"
        made.append(ratio_table(title, grid, "forward_ratio"))
    for name, title, table in (
        ("budgets", "Memory budgets", _budgets),
        ("depth", "Three LSTM layers", _budgets),
        ("bfloat16", "bfloat16", _low_precision),
        ("growth", "Long sequences", _growth),
        ("sweeps", "Exponents of the sweeps", _exponents),
    ):
        if name in results:
            made.append(Table(title, *table(results[name])))
    return [*made, Table("Every row", *every_row(grid))]


def summary(rows: Sequence[Row]) -> Table:
    """Geometric means of the ratios, for the terminal."""
    cells = list(dict.fromkeys(row["cell"] for row in rows))
    title = "time over the manual gradient's, geometric mean (above 1: slower)"
    return Table(
        title,
        ("contender", *cells),
        [
            [name, *(_mean(rows, cell, name, "ratio") for cell in cells)]
            for name in dict.fromkeys(map(column, rows))
        ],
    )


def column(row: Row) -> str:
    """The contender; one name for whichever peer was fastest and split its batch."""
    name = row["contender"]
    other = name.endswith(", split") and not name.startswith("manual")
    return "fastest peer, split" if other else name


def _mean(rows: Sequence[Row], cell: str, name: str, value: str) -> str:
    """Geometric mean over a cell's sizes, where every size has the value."""
    of_cell = [row for row in rows if row["cell"] == cell]
    sizes = {tuple(row["size"]) for row in of_cell}
    found = [r[value] for r in of_cell if column(r) == name and value in r]
    return f"{math.exp(np.mean(np.log(found))):.2f}" if len(found) == len(sizes) else ""


def ratio_table(
    title: str, rows: Sequence[Row], value: str, spread: str | None = None
) -> Table:
    """A line a cell and size, a column a contender, and geometric means."""
    shown = [row for row in rows if value in row and row["contender"] != "manual"]
    names = list(dict.fromkeys(map(column, shown)))
    lines = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        of_cell = [row for row in shown if row["cell"] == cell]
        for size in dict.fromkeys(tuple(row["size"]) for row in of_cell):
            found = {column(r): r for r in of_cell if tuple(r["size"]) == size}
            entries = [_ratio(found.get(name, {}), value, spread) for name in names]
            lines.append([f"{cell} {size}", *entries])
        means = [_mean(rows, cell, name, value) for name in names]
        bold = [f"**{mean}**" if mean else "" for mean in means]
        lines.append([f"**{cell}, geometric mean**", *bold])
    return Table(title, ["cell (T, B, D, H)", *names], lines)


def _ratio(row: Row, value: str, spread: str | None) -> str:
    if value not in row:
        return ""
    text = f"{row[value]:.2f}"
    if spread in row:
        low, high = row[spread]
        text += f" ({low:.2f}-{high:.2f})"
    return text


def every_row(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Every column of every row."""
    columns = {
        "ms": ".2f",
        "forward_ms": ".2f",
        "temporary_mib": ".1f",
        "resident_mib": ".1f",
        "compile_seconds": ".2f",
        "error": ".0e",
    }
    head = ["cell (T, B, D, H)", "contender", "ms", "forward ms", "temporary MiB"]
    head += ["resident MiB", "compile s", "gradient error"]
    lines = []
    for row in rows:
        line = [f"{row['cell']} {tuple(row['size'])}", row["contender"]]
        line += [number(row.get(key), form) for key, form in columns.items()]
        if "ms" not in row:
            line[2] = "disagrees"
        lines.append(line)
    return head, lines


def _budgets(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["cell (T, B, D, H)", "contender", "ms", "over manual", "temporary MiB"]
    head.append("over the leanest peer's")
    lines = []
    for row in rows:
        same = [r for r in rows if (r["cell"], r["size"]) == (row["cell"], row["size"])]
        manual = next(r for r in same if r["contender"] == "manual")
        rivals = [r for r in same if r["contender"] not in ("autodiff", "torch")]
        peers = [r["temporary_mib"] for r in rivals if "manual" not in r["contender"]]
        leanest = min(peers, default=math.nan)
        line = [f"{row['cell']} {tuple(row['size'])}", row["contender"]]
        line += [f"{row['ms']:.1f}", f"{row['ms'] / manual['ms']:.2f}"]
        mib = row["temporary_mib"]
        line += ["", ""] if mib is None else [f"{mib:.1f}", f"{mib / leanest:.2f}"]
        lines.append(line)
    return head, lines


def _low_precision(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["cell (T, B, D, H)", "contender", "ms", "error of the weights' gradient"]
    return head, [
        [
            f"{row['cell']} {tuple(row['size'])}",
            row["contender"],
            f"{row['ms']:.1f}",
            f"{row['error']:.2%}",
        ]
        for row in rows
    ]


def _growth(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    head = ["cell (T, B, D, H)", "contender", "ms", "µs a step", "temporary KiB a step"]
    return head, [
        [
            f"{row['cell']} {tuple(row['size'])}",
            row["contender"],
            f"{row['ms']:.1f}",
            f"{row['ms'] * 1e3 / row['size'][0]:.2f}",
            f"{row['temporary_mib'] * 1024 / row['size'][0]:.2f}",
        ]
        for row in rows
    ]


def _exponents(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    names = list(dict.fromkeys(row["contender"] for row in rows))
    lines = []
    for cell, axis in dict.fromkeys((row["cell"], row["axis"]) for row in rows):
        line = [f"{cell}, {axis.upper()}"]
        for name in names:
            curve = [
                (row["value"], row["ms"])
                for row in rows
                if (row["cell"], row["axis"], row["contender"]) == (cell, axis, name)
            ]
            line.append(f"{exponent(*zip(*curve, strict=True)):.2f}" if curve else "")
        lines.append(line)
    return ["cell, axis", *names], lines

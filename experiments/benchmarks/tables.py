"""The benchmarks' rows as tables."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.benchmarks.beyond import exponent
from experiments.lib.run_folder import Run
from experiments.lib.tables import Table, number

Row = dict[str, Any]


def tables(run: Run) -> list[Table]:
    """Every table that has rows, the geometric means first."""
    results, grid = run.results, run.results["grid"]
    rates = [[name, f"{rate:.3g}"] for name, rate in results["rates"].items()]
    made = [
        means(grid),
        Table("Rates behind the floor", ("this machine", "billions a second"), rates),
        ratios("Gradient, time over the manual one's", grid, "ratio"),
    ]
    if any("forward_ratio" in row for row in grid):
        title = "Forward pass alone, time over this library's"
        made.append(ratios(title, grid, "forward_ratio"))
    for name, title in (
        ("budgets", "Memory budgets"),
        ("depth", "Three LSTM layers"),
        ("bfloat16", "bfloat16"),
        ("growth", "Long sequences"),
    ):
        if name in results:
            made.append(over_manual(title, results[name]))
    if "sweeps" in results:
        made.append(exponents(results["sweeps"]))
    return [*made, every_row(grid)]


def column(row: Row) -> str:
    """The contender's name; the fastest peer with its batch split has one name."""
    name = row["contender"]
    other = name.endswith(", split") and not name.startswith("manual")
    return "fastest peer, split" if other else name


def means(rows: Sequence[Row]) -> Table:
    """Geometric means over a cell's sizes, if every size has the ratio."""
    entries = {}
    for row in rows:
        for value, word in (("ratio", ""), ("forward_ratio", ", forward")):
            of_cell = [r for r in rows if r["cell"] == row["cell"] and value in row]
            found: list[Any] = [
                r.get(value) for r in of_cell if column(r) == column(row)
            ]
            whole = len(found) == len(set(map(problem, of_cell))) and None not in found
            if found and whole and row["contender"] != "manual":
                mean = math.exp(np.mean(np.log(found)))
                entries[column(row), row["cell"] + word] = f"{mean:.2f}"
    title = "Time over this library's, geometric mean (above 1: slower)"
    return pivot(title, "contender", entries)


def ratios(title: str, rows: Sequence[Row], value: str) -> Table:
    """One line per cell and size, one column per contender."""
    entries = {}
    for row in rows:
        if value in row and row["contender"] != "manual":
            spread = row.get(f"{value}_spread")
            more = " ({:.2f}-{:.2f})".format(*spread) if spread else ""
            entries[problem(row), column(row)] = f"{row[value]:.2f}{more}"
    return pivot(title, "cell (T, B, D, H)", entries)


def exponents(rows: Sequence[Row]) -> Table:
    """One line per cell and axis, one column per contender."""
    curves: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row in rows:
        line = (f"{row['cell']}, {row['axis'].upper()}", row["contender"])
        curves.setdefault(line, []).append((row["value"], row["ms"]))
    entries = {
        line: f"{exponent(*zip(*curve, strict=True)):.2f}"
        for line, curve in curves.items()
    }
    return pivot("Exponents of the sweeps", "cell, axis", entries)


def pivot(title: str, corner: str, entries: Mapping[tuple[str, str], str]) -> Table:
    """Entries by line and column."""
    lines, names = (dict.fromkeys(key[k] for key in entries) for k in (0, 1))
    rows = [[line, *(entries.get((line, n), "") for n in names)] for line in lines]
    return Table(title, [corner, *names], rows)


def problem(row: Row) -> str:
    return f"{row['cell']} {tuple(row['size'])}"


def over_manual(title: str, rows: Sequence[Row]) -> Table:
    """One line per row: time and memory over the manual gradient's, and per step."""
    manual = {problem(row): row for row in rows if row["contender"] == "manual"}
    head = ["cell (T, B, D, H)", "contender", "ms", "over manual", "µs a step"]
    head += ["temporary MiB", "over manual", "KiB a step", "gradient error"]
    lines = []
    for row in rows:
        line, own = [problem(row), row["contender"]], manual[problem(row)]
        for key, each in (("ms", 1e3), ("temporary_mib", 2**10)):
            scales = (1, 1 / (own[key] or 1), each / row["size"][0])
            value = row[key]  # torch's memory is not known
            line += ["" if value is None else f"{value * s:.2f}" for s in scales]
        lines.append([*line, number(row.get("error"), ".2%")])
    return Table(title, head, lines)


def every_row(rows: Sequence[Row]) -> Table:
    """Every column of every row."""
    forms = {"ms": ".2f", "forward_ms": ".2f", "temporary_mib": ".1f"}
    forms |= {"resident_mib": ".1f", "compile_seconds": ".2f", "error": ".0e"}
    head = ["cell (T, B, D, H)", "contender", "ms", "forward ms", "temporary MiB"]
    head += ["resident MiB", "compile s", "gradient error"]
    lines = []
    for row in rows:
        values = [number(row.get(key), form) for key, form in forms.items()]
        lines.append([problem(row), row["contender"], *values])
        if "ms" not in row:
            lines[-1][2] = "disagrees"
    return Table("Every row", head, lines)

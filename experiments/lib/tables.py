"""Tables, for the terminal and as Markdown."""

from collections.abc import Sequence
from typing import NamedTuple

import rich
from rich.table import Table as RichTable


class Table(NamedTuple):
    """A title, the names of the columns, and rows of text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def show(self) -> None:
        shown = RichTable(*self.head, title=self.title)
        for row in self.rows:
            shown.add_row(*row)
        rich.print(shown)


def number(value: float | None, form: str) -> str:
    """Format a number, or nothing if it was not measured or is not finite."""
    return "" if value is None else format(value, form)

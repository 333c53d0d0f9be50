"""Tables, for the terminal and as Markdown."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table as RichTable


class Table(NamedTuple):
    """A title, the names of the columns, and rows of text."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def number(value: float | None, form: str) -> str:
    """Formatted, or nothing for what was not measured or not finite."""
    return "" if value is None else format(value, form)


def show(console: Console, tables: Iterable[Table]) -> None:
    """Print them."""
    for table in tables:
        shown = RichTable(*table.head, title=table.title)
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)

"""A progress bar for training."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.progress import TimeRemainingColumn as Remaining

_FIGURES = (
    "[cyan]{task.fields[bits]:.3f}[/] bits, held-out {task.fields[held_out]:.3f}, "
    "{task.fields[rate]:,.0f} tokens/s, norm {task.fields[norm]:.2f}, "
    "{task.fields[clipped]:.0%} clipped"
)


@contextmanager
def training_bar(console: Console, name: str, total: int, done: int) -> Iterator:
    """A bar as a function: `bar(done, bits=..., rate=..., norm=..., ...)`.

    Where the output is no terminal, a line for every tenth of the way instead.
    """
    nothing: dict[str, Any] = {
        k: float("nan") for k in ("bits", "held_out", "norm", "clipped")
    }
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn(_FIGURES),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task(name, total=total, completed=done, rate=0, **nothing)
        tenth = max(1, total // 10)

        def bar(done: int, **figures: Any) -> None:
            progress.update(task, completed=done, **figures)
            if not console.is_terminal and done % tenth == 0:
                console.print(
                    f"{name} {done}/{total}: {figures['bits']:.3f} bits, "
                    f"{figures['rate']:,.0f} tokens/s, norm {figures['norm']:.2f}, "
                    f"{figures['clipped']:.0%} clipped"
                )

        yield bar

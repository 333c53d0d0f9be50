"""A study's page: its run and its tables."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.lib.run_folder import Run, save_results
from experiments.lib.tables import Table

_NOT_TOLD = {"out", "resume", "text"}


class Pages(NamedTuple):
    """How a study's results are shown: its tables, and its figures in a folder."""

    tables: Callable[[Run], Sequence[Table]]
    draw: Callable[[Run, Path], None] = lambda run, folder: None

    def markdown(self, run: Run) -> str:
        """A line about the run, and every table under its title."""
        parts = [f"## {t.title}\n\n{t.markdown()}" for t in self.tables(run)]
        return "\n".join([run_line(run) + "\n", *parts])

    def publish(self, out: Path, results: Any) -> Sequence[Table]:
        """Write results.json, page.md and the figures; return the tables."""
        run = save_results(out, results)
        (out / "page.md").write_text(self.markdown(run), encoding="utf-8")
        self.draw(run, out)
        return self.tables(run)

    def finish(self, out: Path, results: Any) -> None:
        """Publish, and show it all."""
        for table in self.publish(out, results):
            table.show()
        print(f"written to {out}/")


def run_line(run: Run) -> str:
    """A line that identifies the run."""
    about, told = run.about, []
    for name, value in run.options.items():
        if name not in _NOT_TOLD and value not in (None, False):
            words = map(str, value) if isinstance(value, list) else [str(value)]
            told.append(f"{name} {', '.join(words)}")
    versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
    return (
        f"Run of `python -m experiments.{about['study']}`, {about['date']}, commit "
        f"{about['commit']}: Python {about['python']}, {versions}; {about['device']}, "
        f"{about['devices']} devices. Options: {'; '.join(told)}."
    )

"""Rebuild the pages and figures of results/ from saved numbers.

    python -m experiments.report --runs runs/conversion-1 runs/gradient_flow-2

Each run given replaces its study's numbers in results/. Then every study of which
numbers are saved there has its figures drawn anew, and the part of its page between the
two marks written anew: which run it is, and its tables. What stands around the marks is
written by hand and stays. A page without saved numbers is left as it is.
"""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import tyro

from experiments.lib.pages import markdown
from experiments.lib.run_folder import Run, read_json, read_run, write_json

STUDIES = {
    "agreement": "experiments.agreement",
    "benchmarks": "experiments.benchmarks.study",
    "char_lm": "experiments.char_lm.study",
    "conversion": "experiments.conversion.study",
    "gradient_flow": "experiments.gradient_flow.study",
    "parallel": "experiments.parallel",
}
BEGIN = "<!-- by python -m experiments.report, from here -->\n"
END = "<!-- to here -->\n"


@dataclass(frozen=True)
class Config:
    """Rebuild the pages and figures of results/ from saved numbers."""

    runs: tuple[Path, ...] = ()
    """Run folders whose numbers replace those of their studies."""
    results: Path = Path(__file__).parent / "results"
    """The folder to rebuild."""


def put(page: str, made: str) -> str:
    """The page with this between its marks; at its end if it has none."""
    before, begin, rest = page.partition(BEGIN)
    after = rest.partition(END)[2] if begin else ""
    gap = "" if begin else "\n"
    return f"{before}{gap}{BEGIN}\n{made}\n{END}{after}"


def rebuild(study: str, folder: Path) -> None:
    """Write the study's page and figures from its saved numbers."""
    run = Run(**read_json(folder / f"{study}.json"))
    pages = import_module(STUDIES[study]).PAGES
    path = folder / f"{study.upper()}.md"
    page = path.read_text("utf-8") if path.exists() else f"# {study}\n"
    path.write_text(put(page, markdown(run, pages)), encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    pages.draw(run, folder / "figures")


def main(config: Config) -> list[str]:
    """Take the runs in, rebuild, and return the studies that were rebuilt."""
    for folder in config.runs:
        run = read_run(folder)
        path = config.results / f"{run.about['study']}.json"
        write_json(path, run._asdict(), indent=None)
    rebuilt = []
    for study in STUDIES:
        if (config.results / f"{study}.json").exists():
            rebuild(study, config.results)
            rebuilt.append(study)
            print(f"{study}: rebuilt")
        else:
            print(f"{study}: no numbers are saved; its page is left as it is")
    return rebuilt


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))

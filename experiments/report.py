"""Rebuild the pages and figures of results/ from saved numbers.

    python -m experiments.report --runs runs/conversion-1 runs/gradient_flow-2

Each given run replaces its study's numbers in results/. Then, for every study with
numbers there, the figures are drawn again, and the part of its page between the two
marks is rewritten: the name of the run, and its tables. The text around the marks is
written by hand and stays. A page without saved numbers is left as it is.
"""

from importlib import import_module
from pathlib import Path

import tyro

from experiments.lib.run_folder import Run, read_json, read_run, write_json

STUDIES = {
    "agreement": "experiments.agreement",
    "benchmarks": "experiments.benchmarks.study",
    "char_lm": "experiments.char_lm.study",
    "conversion": "experiments.conversion",
    "gradient_flow": "experiments.gradient_flow.study",
    "parallel": "experiments.parallel",
    "transitions": "experiments.transitions",
}
BEGIN = "<!-- by python -m experiments.report, from here -->\n"
END = "<!-- to here -->\n"


def put(page: str, made: str) -> str:
    """The page with this text between its marks, or at its end if it has none."""
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
    path.write_text(put(page, pages.markdown(run)), encoding="utf-8")
    (folder / "figures").mkdir(exist_ok=True)
    pages.draw(run, folder / "figures")


def main(
    runs: tuple[Path, ...] = (), results: Path = Path(__file__).parent / "results"
) -> list[str]:
    """Copy these runs' numbers, rebuild the folder, and return the rebuilt studies."""
    for run in map(read_run, runs):
        run.options.pop("out", None)  # a place on somebody's machine
        write_json(results / f"{run.about['study']}.json", run._asdict(), indent=None)
    rebuilt = [study for study in STUDIES if (results / f"{study}.json").exists()]
    for study in STUDIES:
        if study in rebuilt:
            rebuild(study, results)
            print(f"{study}: rebuilt")
        else:
            print(f"{study}: no numbers are saved; its page is left as it is")
    return rebuilt


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

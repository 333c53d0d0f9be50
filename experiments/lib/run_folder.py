"""A run's folder: its options, its environment and its results."""

import json
import math
import platform
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

_RUNS = Path("runs")
_MAY_CHANGE = {"out", "resume", "sample"}
_PACKAGES = ("jaxrnn", "jax", "jaxlib", "optax", "flax", "equinox", "dm-haiku")
_PACKAGES += ("keras", "torch", "onnx")


class Run(NamedTuple):
    """The contents of a run folder, as plain JSON values."""

    about: dict[str, Any]
    options: dict[str, Any]
    results: Any


def about_run(study: str) -> dict[str, Any]:
    """The study, the time, the commit, the versions and the device of this run."""
    installed = {found.name: found.version for found in distributions()}
    return {
        "study": study,
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": {n: installed[n] for n in _PACKAGES if n in installed},
        "device": jax.devices()[0].device_kind,
        "devices": len(jax.devices()),
    }


def _commit() -> str | None:
    """The commit of this source, with a + if there are uncommitted changes."""
    git = ["git", "-C", str(Path(__file__).parent)]
    describe = [*git, "describe", "--always", "--dirty=+", "--exclude=*"]
    try:
        found = subprocess.run(describe, capture_output=True, text=True)
    except OSError:  # no git
        return None
    return found.stdout.strip() or None


def write_json(path: Path, value: Any, indent: int | None = 2) -> None:
    """Write JSON through a temporary file, so that no partial file is left."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=indent, default=str) + "\n")
    draft.replace(path)


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())


def plain(value: Any) -> Any:
    """As JSON types: records as objects, arrays as lists, floats to 6 digits.

    Numbers that are not finite become None, since JSON has none.
    """
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        value = np.asarray(value).tolist()
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value


def open_run(
    out: Path | None, name: str, options: dict[str, Any], *, resume: bool = False
) -> Path:
    """Make the run folder, or with `resume` check that its options are these.

    If `out` is None it is the next free runs/NAME-N, or with `resume` the newest.
    Raises SystemExit, with a remedy, if there is nothing to resume, the options differ,
    or the folder holds another run.
    """
    if out is None:
        ends = [p.name.removeprefix(f"{name}-") for p in _RUNS.glob(f"{name}-*")]
        runs = [int(end) for end in ends if end.isdecimal()]
        out = _RUNS / f"{name}-{max(runs, default=0) + (not resume)}"
    path = out / "options.json"
    now = json.loads(json.dumps(options, default=str))
    if resume:
        if not path.exists():
            raise SystemExit(f"--resume: {out} holds no run; leave --resume out")
        try:
            then = read_json(path)
        except ValueError:
            then = None
        if not isinstance(then, dict):
            raise SystemExit(f"--resume: {path} is damaged; start a new run")
        changed = [
            f"--{k.replace('_', '-')} was {then.get(k)}, is {now[k]}"
            for k in now
            if k not in _MAY_CHANGE and now[k] != then.get(k)
        ]
        if changed:
            raise SystemExit("--resume: other options: " + "; ".join(changed))
        return out
    if path.exists():
        either = "--resume, or " if "resume" in options else ""
        raise SystemExit(f"--out: {out} holds a run; give {either}another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "about.json", about_run(name))
        write_json(path, now)
    except OSError as error:
        raise SystemExit(f"--out: cannot write to {out}: {error.strerror}") from None
    return out


def save_results(out: Path, results: Any) -> Run:
    """Write results.json; return the run as `read` would."""
    write_json(out / "results.json", plain(results), indent=None)
    return read_run(out)


def read_run(folder: Path) -> Run:
    """The run in this folder; SystemExit if it has no results."""
    files = [folder / f"{part}.json" for part in Run._fields]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise SystemExit(f"{folder}: expected a finished run, has no {missing[0]}")
    return Run(*map(read_json, files))

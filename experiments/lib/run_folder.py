"""A run's folder: its options, its checkpoints and its summary."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

_RUNS = Path("runs")
_MAY_CHANGE = {"out", "resume", "sample"}


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON, through a second file so that no half file is left."""
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(value, indent=2, default=str) + "\n")
    draft.replace(path)


def open_run(
    out: Path | None, name: str, options: dict[str, Any], *, resume: bool
) -> Path:
    """Make the run folder, or with `resume` see that its options are these.

    Where `out` is None it is the next free runs/NAME-N, or with `resume` the newest.
    Raises SystemExit, saying what to do, if there is nothing to resume, the options
    differ, or the folder holds another run.
    """
    if out is None:
        runs = [int(p.name.rpartition("-")[2]) for p in _RUNS.glob(f"{name}-[0-9]*")]
        out = _RUNS / f"{name}-{max(runs, default=0) + (not resume)}"
    path = out / "options.json"
    now = json.loads(json.dumps(options, default=str))
    if resume:
        if not path.exists():
            raise SystemExit(f"--resume: {out} holds no run; leave --resume out")
        then = json.loads(path.read_text())
        changed = [
            f"--{k.replace('_', '-')} was {then.get(k)}, is {now[k]}"
            for k in now
            if k not in _MAY_CHANGE and now[k] != then.get(k)
        ]
        if changed:
            raise SystemExit("--resume: other options: " + "; ".join(changed))
        return out
    if path.exists():
        raise SystemExit(
            f"--out: {out} holds a run already; give --resume, or another --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, now)
    return out


class Checkpoints:
    """The newest two checkpoints of one model: train state and history."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: Any, history: Any) -> None:
        """Save, in the background."""
        arrays = {k: np.asarray(v, np.float64) for k, v in history._asdict().items()}
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state),
                history=ocp.args.StandardSave(arrays),
            ),
        )

    def restore(self, state: Any, history: Any) -> tuple[Any, Any]:
        """The newest checkpoint, placed as `state` is; these back if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return state, history
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        saved = self._manager.restore(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardRestore(abstract),
                history=ocp.args.StandardRestore(),
            ),
        )
        past = {k: v.tolist() for k, v in saved["history"].items()}
        return saved["state"], type(history)(**past)

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

"""Checkpoints of a run: train state and history."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import args


class Checkpoints:
    """The newest two checkpoints of one model: train state and history."""

    def __init__(self, folder: Path):
        options = ocp.CheckpointManagerOptions(max_to_keep=2)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, step: int, state: Any, history: Any) -> None:
        """Save, in the background."""
        lists = {name: list(values) for name, values in history._asdict().items()}
        saved = {"state": args.StandardSave(state), "history": args.JsonSave(lists)}
        self._manager.save(step, args=args.Composite(**saved))

    def restore(self, state: Any, history: Any) -> tuple[Any, Any]:
        """The newest checkpoint, placed like `state`; or the arguments if none."""
        step = self._manager.latest_step()
        if step is None:
            return state, history
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
        wanted = {"state": args.StandardRestore(shapes), "history": args.JsonRestore()}
        saved = self._manager.restore(step, args=args.Composite(**wanted))
        return saved["state"], type(history)(**saved["history"])

    def close(self) -> None:
        """Wait until everything is written."""
        self._manager.wait_until_finished()
        self._manager.close()

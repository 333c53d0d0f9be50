"""Checkpoints of a run: train state and history."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


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

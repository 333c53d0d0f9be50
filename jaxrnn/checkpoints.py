"""Checkpoints of a training run: whole when written, verified when read.

Orbax writes them, in the background and atomically: a killed run leaves no half of one.
Beside the arrays of each stands a manifest with the shape, the dtype and the SHA-256 of
every one of them. So a file that was damaged later is seen, and the newest checkpoint
that is intact is taken; one of another run is refused, with what differs. Nothing is
unpickled.

    saved = Checkpoints("runs/mine", about={"cell": "lstm", "seed": 0})
    found = saved.restore(state)                # None if there is none
    saved.save(step, state, notes={"losses": losses})
    saved.close()

Orbax is in the extra `checkpoints`: pip install 'jaxrnn[checkpoints]'.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._core.inputs import is_typed_key
from jaxrnn._core.trees import describe

_LARGEST_MANIFEST = 2**28  # bytes; a larger one was not written here


class Restored(NamedTuple):
    """A checkpoint that was read.

    step: its number.
    state: the arrays, in the structure and with the sharding of `like`.
    notes: what was saved beside them.
    skipped: newer checkpoints that are damaged, each with the reason.
    """

    step: int
    state: Any
    notes: Any
    skipped: tuple[str, ...]


class Checkpoints:
    """The newest checkpoints of one run, in one folder."""

    def __init__(self, folder: str | Path, about: Mapping[str, Any], *, keep: int = 3):
        """Open the folder, which is made if need be.

        Args:
            about: what a run must share to go on from a checkpoint, as JSON values: its
                cell and sizes, seed, data, versions, devices.
            keep: how many checkpoints are kept; the oldest is deleted once a newer one
                is whole.
        Raises: ImportError without orbax; ValueError unless keep is 2 or more, so that
                the only good copy is never the one that is replaced.
        """
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 2:
            raise ValueError(f"keep: expected an integer of 2 or more, got {keep!r}")
        try:
            import orbax.checkpoint as ocp
        except ImportError as error:
            raise ImportError(
                "Checkpoints: orbax is not installed: pip install 'jaxrnn[checkpoints]'"
            ) from error
        self._ocp, self._folder = ocp, Path(folder).resolve()
        self._about = _plain(dict(about))
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def save(self, step: int, state: Any, notes: Any = None) -> None:
        """Save in the background; an error of the save before is raised here.

        Args:
            step: a number larger than those saved before.
            state: a pytree of arrays [...]; random keys may be among them.
            notes: JSON values to save beside them, such as a history.
        Raises: ValueError if an array holds NaN, so that a good checkpoint is never
                replaced by a bad one.
        """
        arrays = _by_name(state)
        for name, array in arrays.items():
            if jnp.issubdtype(array.dtype, jnp.inexact) and np.isnan(array).any():
                raise ValueError(f"state: {name} holds NaN; step {step} not saved")
        manifest = _plain(
            {
                "step": step,
                "about": self._about,
                "arrays": {name: _entry(array) for name, array in arrays.items()},
                "notes": notes,
            }
        )
        args = self._ocp.args.Composite(
            arrays=self._ocp.args.StandardSave(_some(arrays)),
            manifest=self._ocp.args.JsonSave(manifest | {"sha256": _digest(manifest)}),
        )
        self._manager.save(step, args=args)

    def restore(self, like: Any) -> Restored | None:
        """Read the newest checkpoint that is intact; None if there is none at all.

        Damaged ones are moved aside, to `damaged-STEP`.

        Args:
            like: a state of the structure, shapes, dtypes and sharding wanted.
        Raises: ValueError if a checkpoint is of another run or state, with what
                differs; or if there are checkpoints and all are damaged.
        """
        skipped: list[str] = []
        self._manager.wait_until_finished()
        self._manager.reload()
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                manifest = self._manifest(step)
            except Exception as error:  # whatever a damaged file makes orbax raise
                skipped.append(_reason(step, error))
                continue
            self._check(step, manifest, like)
            try:
                state = self._arrays(step, manifest, like)
            except Exception as error:
                skipped.append(_reason(step, error))
                continue
            self._put_aside(step)
            return Restored(step, state, manifest["notes"], tuple(skipped))
        if skipped:
            raise ValueError(f"no checkpoint of {self._folder} is intact: {skipped}")
        return None

    def close(self) -> None:
        """Wait until everything is written; raise what went wrong."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _manifest(self, step: int) -> dict[str, Any]:
        """The manifest, or raise if it is not as it was written."""
        files = [f for f in self._folder.glob(f"{step}/manifest/*") if f.is_file()]
        if sum(file.stat().st_size for file in files) > _LARGEST_MANIFEST:
            raise ValueError("its manifest is too large")
        args = self._ocp.args.Composite(manifest=self._ocp.args.JsonRestore())
        manifest = self._manager.restore(step, args=args)["manifest"]
        digest = manifest.pop("sha256", None)
        if digest != _digest(manifest):
            raise ValueError("its manifest is not as it was written")
        if manifest["step"] != step:
            raise ValueError(f"it holds step {manifest['step']}")
        return manifest

    def _check(self, step: int, manifest: dict[str, Any], like: Any) -> None:
        """Raise if the checkpoint is of another run, or of another state."""
        pairs = (manifest["about"], self._about), (manifest["arrays"], _kinds(like))
        differs = []
        for then, now in pairs:
            for name in dict.fromkeys([*then, *now]):
                was, is_now = (_kind(side.get(name)) for side in (then, now))
                if was != is_now:
                    differs.append(f"{name} was {was}, is {is_now}")
        what = "; ".join(differs)
        if differs:
            raise ValueError(f"checkpoint {step} is of another run: {what}")

    def _arrays(self, step: int, manifest: dict[str, Any], like: Any) -> Any:
        """The arrays in the structure of `like`; raise if they are not as written."""
        wanted = {name: _data(leaf) for name, leaf in _leaves(like).items()}
        shapes = jax.tree.map(self._ocp.utils.to_shape_dtype_struct, _some(wanted))
        args = self._ocp.args.Composite(arrays=self._ocp.args.StandardRestore(shapes))
        arrays = wanted | self._manager.restore(step, args=args)["arrays"]
        for name, array in arrays.items():
            if _entry(np.asarray(array)) != manifest["arrays"][name]:
                raise ValueError(f"{name} is not as it was written")
        leaves = [
            jax.random.wrap_key_data(arrays[name], impl=jax.random.key_impl(leaf))
            if is_typed_key(leaf)
            else arrays[name]
            for name, leaf in _leaves(like).items()
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def _put_aside(self, newest: int) -> None:
        """Move checkpoints newer than the intact one out of the way."""
        for step in self._manager.all_steps():
            if step > newest:
                place = self._folder / f"damaged-{step}"
                number = len(list(self._folder.glob(f"damaged-{step}*")))
                place = place.with_name(f"{place.name}-{number}") if number else place
                (self._folder / str(step)).rename(place)
        self._manager.reload()


def _leaves(tree: Any) -> dict[str, Any]:
    """Every array by its name, such as params.cell.w_s."""
    found = jax.tree.leaves_with_path(tree)
    leaves = {}
    for path, leaf in found:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not isinstance(leaf, jax.Array | np.ndarray):
            raise TypeError(f"state: {name}: expected an array, got {describe(leaf)}")
        leaves[name] = leaf
    return leaves


def _data(leaf: Any) -> Any:
    """A random key as its numbers; other arrays as they are."""
    return jax.random.key_data(leaf) if is_typed_key(leaf) else leaf


def _some(arrays: dict[str, Any]) -> dict[str, Any]:
    """Those that hold anything; Orbax saves no others."""
    return {name: array for name, array in arrays.items() if array.size}


def _by_name(tree: Any) -> dict[str, np.ndarray]:
    """Every array on the host, by its name."""
    return {name: np.asarray(_data(leaf)) for name, leaf in _leaves(tree).items()}


def _entry(array: np.ndarray) -> dict[str, Any]:
    """An array's line in the manifest."""
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
    return {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}


def _kinds(like: Any) -> dict[str, Any]:
    """Lines of a manifest without digests."""
    found = {name: _data(leaf) for name, leaf in _leaves(like).items()}
    return {
        n: {"shape": list(a.shape), "dtype": str(a.dtype)} for n, a in found.items()
    }


def _kind(value: Any) -> str:
    """A value of `about`, or an array's dtype and shape."""
    if isinstance(value, dict) and {"shape", "dtype"} <= value.keys():
        return f"{value['dtype']}{value['shape']}"
    return "not there" if value is None else repr(value)


def _plain(value: Any) -> Any:
    """As JSON would give it back."""
    return json.loads(json.dumps(value))


def _digest(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _reason(step: int, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"checkpoint {step}: {lines[0] if lines else type(error).__name__}"

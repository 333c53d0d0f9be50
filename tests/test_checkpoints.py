"""Checkpoints: bit-exact, never a wrong value from a damaged file, never another run's.

Every file of a checkpoint is damaged in every way of a list; what is read must be the
same bits, or those of the checkpoint before, with a word about it.
"""

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrnn.checkpoints import Checkpoints

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
]
ABOUT = {"cell": "lstm()", "hidden": 8, "jax": "1.2.3"}


@pytest.fixture(autouse=True)
def what_orbax_leaves_behind():
    """Coroutines that were never run, where it raised: collected here, not later."""
    yield
    gc.collect()


class Things(NamedTuple):
    weights: dict
    count: jax.Array
    key: jax.Array
    nothing: None = None


def state_of(step):
    keys = jax.random.split(jax.random.key(step), 3)
    weights = {
        "f4": jax.random.normal(keys[0], (40, 30)),
        "bf16": jax.random.normal(keys[1], (7,), jnp.bfloat16),
        "empty": jnp.zeros((3, 0)),
    }
    return Things(weights, jnp.int32(step), keys[2])


def bits(state):
    data = state._replace(key=jax.random.key_data(state.key))
    return [np.asarray(a).tobytes() for a in jax.tree.leaves(data)]


def saved(folder, *steps, about=ABOUT, keep=3):
    checkpoints = Checkpoints(folder, about, keep=keep)
    for step in steps:
        checkpoints.save(step, state_of(step), notes={"losses": [0.1] * step})
    checkpoints.close()


def read(folder, about=ABOUT, like=None):
    checkpoints = Checkpoints(folder, about)
    found = checkpoints.restore(state_of(0) if like is None else like)
    checkpoints.close()
    return found


def test_what_is_read_is_what_was_written_to_the_bit_and_the_newest_are_kept(tmp_path):
    assert read(tmp_path) is None
    saved(tmp_path, 1, 2, 3, 4, keep=2)
    found = read(tmp_path)
    assert (found.step, found.notes, found.skipped) == (4, {"losses": [0.1] * 4}, ())
    assert bits(found.state) == bits(state_of(4))
    assert jax.tree.structure(found.state) == jax.tree.structure(state_of(0))
    assert jax.random.key_impl(found.state.key) == jax.random.key_impl(state_of(0).key)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["3", "4"]


def damages(size):
    """Ways to damage a file of this size."""
    draw = random.Random(size)
    ways = {
        "deleted": lambda data: None,
        "empty": lambda data: b"",
        "half": lambda data: data[: len(data) // 2],
        "cut": lambda data: data[:-1],
        "longer": lambda data: data + b"x",
        "hole": lambda data: data[: size // 3] + bytes(40) + data[size // 3 + 40 :],
    }
    for _ in range(4 if size else 0):
        at, bit = draw.randrange(size), draw.randrange(8)

        def flip(data, at=at, bit=bit):
            return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

        ways[f"bit {bit} of byte {at}"] = flip
    return ways


def test_a_damaged_file_never_gives_other_values(tmp_path):
    """Every file of the newest checkpoint, in every way."""
    whole = tmp_path / "whole"
    saved(whole, 1, 2)
    old, new = bits(state_of(1)), bits(state_of(2))
    files = [f.relative_to(whole) for f in (whole / "2").rglob("*") if f.is_file()]
    fell_back, tried = 0, 0
    for file in files:
        for way, damage in damages((whole / file).stat().st_size).items():
            folder = tmp_path / "damaged"
            shutil.copytree(whole, folder)
            data = damage((folder / file).read_bytes())
            (folder / file).unlink()
            if data is not None:
                (folder / file).write_bytes(data)
            found = read(folder)
            tried += 1
            if found.step == 2:
                assert bits(found.state) == new and not found.skipped, (file, way)
            else:
                fell_back += 1
                assert bits(found.state) == old, (file, way)
                assert found.skipped[0].startswith("checkpoint 2: "), (file, way)
                assert not (folder / "2").exists() and (folder / "damaged-2").exists()
            shutil.rmtree(folder)
    assert tried > 50 and fell_back > tried / 4


def test_a_step_that_was_put_aside_can_be_saved_again(tmp_path):
    saved(tmp_path, 1, 2)
    shutil.rmtree(tmp_path / "2" / "arrays")
    checkpoints = Checkpoints(tmp_path, ABOUT)
    assert checkpoints.restore(state_of(0)).step == 1
    checkpoints.save(2, state_of(2))
    checkpoints.close()
    assert bits(read(tmp_path).state) == bits(state_of(2))


def test_checkpoints_that_are_all_damaged_are_an_error_and_not_a_fresh_start(tmp_path):
    saved(tmp_path, 1, 2)
    for step in "12":
        shutil.rmtree(tmp_path / step / "arrays")
    with pytest.raises(ValueError, match=r"no checkpoint of .* is intact"):
        read(tmp_path)


def test_a_step_in_another_steps_folder_is_not_taken_for_it(tmp_path):
    saved(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "1", tmp_path / "7")
    found = read(tmp_path)
    assert found.step == 2 and "it holds step 1" in found.skipped[0]


def test_a_checkpoint_of_another_run_or_state_is_refused_with_what_differs(tmp_path):
    saved(tmp_path, 1)
    with pytest.raises(ValueError, match=r"checkpoint 1 .*hidden was 8, is 9"):
        read(tmp_path, about=ABOUT | {"hidden": 9})
    with pytest.raises(ValueError, match=r"seed was not there, is 3"):
        read(tmp_path, about=ABOUT | {"seed": 3})
    like = state_of(0)
    for name, other, said in (
        ("f4", jnp.zeros((40, 31)), r"weights.f4 was float32\[40, 30\], is .*40, 31"),
        ("bf16", jnp.zeros(7), r"weights.bf16 was bfloat16\[7\], is float32\[7\]"),
        ("more", jnp.zeros(1), r"weights.more was not there, is float32\[1\]"),
    ):
        with pytest.raises(ValueError, match=said):
            read(tmp_path, like=like._replace(weights=like.weights | {name: other}))


def test_nan_is_not_saved_and_leaves_the_good_ones(tmp_path):
    saved(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, ABOUT)
    bad = state_of(2)
    bad.weights["bf16"] = bad.weights["bf16"].at[3].set(jnp.nan)
    with pytest.raises(ValueError, match=r"state: weights.bf16 holds NaN; step 2"):
        checkpoints.save(2, bad)
    checkpoints.close()
    assert read(tmp_path).step == 1
    with pytest.raises(ValueError, match="keep: expected an integer of 2 or more"):
        Checkpoints(tmp_path, ABOUT, keep=1)
    with pytest.raises(TypeError, match="state: x: expected an array, got float"):
        checkpoints.save(3, {"x": 1.0})


def test_sharded_arrays_come_back_where_they_are_wanted(tmp_path):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    state = {"x": jax.device_put(jnp.arange(8.0), split)}
    checkpoints = Checkpoints(tmp_path, ABOUT)
    checkpoints.save(1, state)
    found = checkpoints.restore(state)
    checkpoints.close()
    assert found.state["x"].sharding == split
    np.testing.assert_array_equal(found.state["x"], np.arange(8.0))


WRITER = """
import sys, jax, jax.numpy as jnp
sys.path.insert(0, {tests!r})
from test_checkpoints import ABOUT, Checkpoints, read, state_of
saved = Checkpoints(sys.argv[1], ABOUT)
found = saved.restore(state_of(0))
step = found.step if found else 0
print("ready", step, flush=True)
while True:
    step += 1
    saved.save(step, state_of(step), notes=step)
"""


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_an_intact_checkpoint(tmp_path):
    """SIGKILL in the middle of saving, forty times in one folder."""
    draw, newest = random.Random(0), 0
    code = WRITER.format(tests=str(Path(__file__).parent))
    path = os.pathsep.join(map(str, sys.path))
    for _ in range(40):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
            text=True,
        )
        ready = writer.stdout.readline().split()
        assert ready[0] == "ready" and int(ready[1]) >= newest
        newest = int(ready[1])
        time.sleep(draw.uniform(0.05, 1.0))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    found = read(tmp_path)
    assert found.step >= newest > 0 and found.notes == found.step and not found.skipped
    assert bits(found.state) == bits(state_of(found.step))

"""Runs that are stopped, damaged or hopeless: the same numbers, or a reason."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments.char_lm import model as char_model
from experiments.char_lm import study, training
from experiments.char_lm.config import Config
from experiments.char_lm.text import read_corpus
from experiments.lib.long_runs import alone, stopping
from tests.table import assert_equal

TINY = {"hidden": 8, "steps": 6, "batch": 2, "window": 10, "sample": 30}

pytestmark = [
    pytest.mark.usefixtures("compile_fast"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning"),
]


@pytest.fixture(autouse=True)
def what_orbax_leaves_behind():
    """Coroutines that were never run, where it raised: collected here, not later."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("to be or not to be, that is the question. " * 300)
    return path


@pytest.fixture(scope="module")
def whole(text, tmp_path_factory):
    """A run that nothing stopped: parameters and history."""
    config = Config(**TINY, text=text, validate_every=4)
    return trained(config, tmp_path_factory.mktemp("whole"))[:2]


def trained(config, out, stopped=lambda: 0):
    corpus = read_corpus(config.text)
    model = char_model.build("lstm", 8, len(corpus.symbols))
    with jax.numpy_dtype_promotion("standard"):  # optax.adam's
        return training.train(model, corpus, config, out, stopped)


def after(windows):
    """A function that asks to stop once it was called in so many windows."""
    calls = iter(range(1, 1000))
    return lambda: signal.SIGTERM if next(calls) >= windows else 0


@pytest.mark.parametrize("windows", [1, 3, 4])
def test_a_stopped_run_goes_on_to_the_bit(windows, whole, text, tmp_path, capsys):
    """Also inside an accumulation of two windows, and twice."""
    config = Config(**TINY, text=text, validate_every=4)
    with pytest.raises(SystemExit) as stop:
        trained(config, tmp_path, after(windows))
    assert stop.value.code == 128 + signal.SIGTERM
    said = capsys.readouterr().out
    assert f"stopped by SIGTERM after window {windows} of lstm" in said
    assert f"--resume --out {tmp_path}" in said
    params, history, _ = trained(replace(config, resume=True), tmp_path)
    assert_equal(params, whole[0])
    assert history._replace(held_out_at=[]) == whole[1]._replace(held_out_at=[])
    assert f"from checkpoint {windows}" in capsys.readouterr().out


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    whole, text, tmp_path, capsys
):
    config = Config(**TINY, text=text, validate_every=2)
    trained(config, tmp_path)
    for file in (tmp_path / "checkpoints/lstm/6/arrays").rglob("*"):
        if file.is_file():  # Orbax writes some of them twice
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    capsys.readouterr()
    params, _, _ = trained(replace(config, resume=True), tmp_path)
    said = capsys.readouterr().out
    assert "damaged, and put aside: checkpoint 6" in said and "checkpoint 4" in said
    assert_equal(params, whole[0])
    again, _, _ = trained(replace(config, resume=True), tmp_path)  # nothing left to do
    assert_equal(again, whole[0])


def test_another_text_another_size_and_other_versions_are_refused(
    text, tmp_path, monkeypatch
):
    config = Config(**TINY, text=text, validate_every=2)
    trained(config, tmp_path)
    config = replace(config, resume=True)
    with pytest.raises(
        SystemExit, match=r"--resume: .*learning_rate was 0.01, is 0.02"
    ):
        trained(replace(config, learning_rate=0.02), tmp_path)
    other = tmp_path / "text.txt"  # the same symbols, in another order
    other.write_text(text.read_text()[::-1])
    with pytest.raises(SystemExit, match="sha256 was"):
        trained(replace(config, text=other), tmp_path)
    about = training.about_run("char_lm")
    later = about | {"versions": about["versions"] | {"jax": "99.0"}}
    monkeypatch.setattr(training, "about_run", lambda study: later)
    with pytest.raises(SystemExit, match=r"versions was .*, is .*99\.0"):
        trained(config, tmp_path)


def test_a_run_whose_numbers_end_stops_and_keeps_its_good_checkpoint(
    text, tmp_path, capsys
):
    """Weights that overflow: it says where, and the newest checkpoint can be read."""
    config = Config(**TINY | {"steps": 40}, text=text, validate_every=1)
    config = replace(config, learning_rate=1e38, clip_norm=1e30)
    for start in ("", "from checkpoint"):
        with pytest.raises(SystemExit, match=r"lstm: no gradient of windows \d+ to"):
            trained(replace(config, resume=bool(start)), tmp_path)
        assert start in capsys.readouterr().out


def test_two_runs_cannot_share_a_folder(tmp_path):
    said = pytest.raises(SystemExit, match="--out: another run is at work in")
    with alone(tmp_path), said, alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_the_first_signal_is_noted_and_the_second_ends():
    with stopping() as stopped:
        assert stopped() == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert stopped() == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    with pytest.raises(KeyboardInterrupt):  # and it was put back
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("", "is damaged"),
        ("[]", "is damaged"),
        ("{", "is damaged"),
        ("3", "is damaged"),
    ],
)
def test_damaged_options_are_refused(damage, said, text, tmp_path):
    config = Config(**TINY, text=text, out=tmp_path, resume=True)
    (tmp_path / "options.json").write_text(damage)
    with pytest.raises(SystemExit, match=said):
        study.main(config)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"learning_rate": float("nan")}, "--learning-rate: expected a positive"),
        ({"clip_norm": float("inf")}, "--clip-norm: expected a positive number"),
        ({"seed": 2**63}, "--seed: expected"),
        ({"seed": -1}, "--seed: expected"),
        ({"cell": ()}, "--cell: expected different cells"),
        ({"cell": ("lstm", "lstm")}, "--cell: expected different cells"),
    ],
)
def test_wrong_options_of_a_long_run(options, said):
    with pytest.raises(SystemExit, match=said):
        Config(**TINY | options)


def test_texts_that_are_no_files_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(ValueError, match="expected a file"):
            read_corpus(path)
    (tmp_path / "latin").write_bytes("é".encode("latin-1") * 20_000)
    with pytest.raises(ValueError, match="latin: expected UTF-8"):
        read_corpus(tmp_path / "latin")


def test_a_folder_that_cannot_be_written_is_named(text, tmp_path):
    (tmp_path / "file").write_text("")
    config = Config(**TINY, text=text, out=tmp_path / "file" / "run")
    with pytest.raises(SystemExit, match=r"--out: cannot write to .*Not a dir"):
        study.main(config)


@pytest.mark.slow
def test_the_command_killed_and_stopped_at_any_moment_goes_on_to_the_bit(
    text, tmp_path
):
    """SIGKILL and SIGTERM at random moments; the end equals a run in one go."""
    draw = np.random.default_rng(0)
    command = [sys.executable, "-m", "experiments.char_lm", "--text", str(text)]
    command += ["--cell", "lstm", "--hidden", "8", "--steps", "400", "--batch", "2"]
    command += ["--window", "10", "--sample", "30", "--validate-every", "20"]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def run(out, *more, wait=None):
        process = subprocess.Popen(
            [*command, "--out", str(out), *more], env=env, stdout=subprocess.DEVNULL
        )
        if wait is not None:
            time.sleep(wait)
            process.send_signal(draw.choice([signal.SIGKILL, signal.SIGTERM]))
        return process.wait()

    assert run(tmp_path / "whole") == 0
    cut = tmp_path / "cut"
    for _ in range(8):
        more = ["--resume"] if (cut / "options.json").exists() else []
        code = run(cut, *more, wait=draw.uniform(6, 40))
        assert code in (0, -signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert run(cut, "--resume") == 0
    found, wanted = (
        json.loads((out / "results.json").read_text())["histories"]["lstm"]
        for out in (cut, tmp_path / "whole")
    )
    assert found["bits"] == wanted["bits"] and found["norm"] == wanted["norm"]
    assert jax.tree.leaves(found["held_out"])[-1] == wanted["held_out"][-1]

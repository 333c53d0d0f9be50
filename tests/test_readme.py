"""What the README tells a reader to paste works as it stands."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()

pytestmark = pytest.mark.usefixtures("compile_fast")


def test_the_examples_run_and_the_firsts_two_gradients_agree(capsys):
    example, deeper, flow = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 20
    names = {}
    # A reader has JAX's default settings.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(example, "README.md", "exec"), names)
    for manual, auto in zip(names["manual"], names["auto"], strict=True):
        if manual is not None:
            # float32, 100 steps: some hundred roundings of 1.2e-7
            assert jnp.abs(manual - auto).max() < 1e-5 * jnp.abs(auto).max()
    assert "differences" in capsys.readouterr().out
    moved = jax.tree.leaves(names["updates"])
    assert all(jnp.any(update != 0) for update in moved)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(deeper, "README.md", "exec"), names)
    past = np.arange(100)[:, None] >= np.array(names["lengths"])
    hs = np.asarray(names["hs"])
    assert not hs[past].any() and hs[~past].any(-1).all()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(flow, "README.md", "exec"), names)
    assert names["lags"].adjoints.shape == (100,)


def test_the_two_commands_stand_on_one_line_each():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("-m experiments.char_lm")
    assert "-m pytest" in lines[1]


def test_files_that_it_shows_are_there():
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists(), target

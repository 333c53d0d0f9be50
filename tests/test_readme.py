"""The code and the links of the README work as written."""

import ast
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()

pytestmark = pytest.mark.usefixtures("compile_fast")


def test_the_examples_run_and_the_firsts_two_gradients_agree(capsys):
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    example, gate, any_step, scan, deeper, flow, own = examples
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
        exec(compile(gate, "README.md", "exec"), names)
        assert names["hs"].shape == (100, 8, 32)
        exec(compile(any_step, "README.md", "exec"), names)
        exec(compile(scan, "README.md", "exec"), names)
    assert names["ys"].shape == (100, 8, 16) and names["final"].shape == (8, 16, 16)
    np.testing.assert_array_equal(names["before"], names["after"])
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(deeper, "README.md", "exec"), names)
    past = np.arange(100)[:, None] >= np.array(names["lengths"])
    hs = np.asarray(names["hs"])
    assert not hs[past].any() and hs[~past].any(-1).all()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(flow, "README.md", "exec"), names)
    assert names["lags"].adjoints.shape == (100,)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        exec(compile(own, "README.md", "exec"), names)
    shown = capsys.readouterr().out.rpartition("manual gradient")[2]
    assert "cell.w_s" in shown and "WRONG" not in shown


def test_the_two_commands_stand_on_one_line_each():
    lines = [line for line in README.splitlines() if line.startswith("python3 -m venv")]
    assert len(lines) == 2
    assert lines[0].endswith("-m experiments.char_lm")
    assert "-m pytest" in lines[1]


def test_files_that_it_shows_are_there():
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_each_equation_is_one_hop_away():
    # [`name`](file#Lline): the line of the file on which the function begins
    links = re.findall(r"\[`(?:\w+\.)*(\w+)`\]\(([^)#]+)#L(\d+)\)", README)
    for name, path, line in links:
        lines = (ROOT / path).read_text().splitlines()
        starts = [
            i for i, text in enumerate(lines, 1) if text.startswith(f"def {name}(")
        ]
        assert starts[-1:] == [int(line)], f"{name} in {path} begins on line {starts}"
    table = README[README.index("| | equation |") :].splitlines()
    rows = dict(row.split(" | ", 1) for row in table if row.startswith(("| (", "| A")))
    assert [*rows] == [f"| ({n})" for n in range(56, 62)] + ["| Alg. 1"]
    assert all("#L" in row for row in rows.values())


def test_59_and_60_stand_free_of_chunks_lengths_resets_and_stores():
    # The functions that the table links to read what the equations name, no more.
    source = (ROOT / "jaxrnn/_core/equations.py").read_text()
    tree = ast.parse(source)
    shown = {"weight_gradients", "total_adjoint", "step_back"}
    found = {n.name: n for n in tree.body if getattr(n, "name", None) in shown}
    assert set(found) == shown
    around = {"marks", "plan", "chunk", "store", "live", "reset", "hold"}
    for function in found.values():
        used = {n.id for n in ast.walk(function) if isinstance(n, ast.Name)}
        used |= {a.arg for a in function.args.args}
        assert not used & around, function.name

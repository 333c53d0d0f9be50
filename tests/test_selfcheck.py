"""The check of this machine's compiler: it passes here, and finds planted faults."""

import os
import subprocess
import sys
from itertools import count

import jax
import pytest

from jaxrnn import selfcheck
from jaxrnn.selfcheck import FAULTS, FEW, STEPS, Case, growth, main, overall


@pytest.fixture
def brief(monkeypatch):
    """Two quick cases, and no time measured."""
    few = [Case("mingru", FEW, "float32", "borders", 4), Case("mingru", FEW)]
    monkeypatch.setattr(selfcheck, "cases", lambda: iter(few))
    monkeypatch.setattr(selfcheck, "timer", lambda name: float)


def wrong_compiler(change):
    """A compiler whose programs change the last of their results."""

    def compiled(f):
        def run(*args, **options):
            *leaves, last = jax.tree.leaves(found := f(*args, **options))
            return jax.tree.unflatten(
                jax.tree.structure(found), [*leaves, change(last)]
            )

        return jax.jit(run)

    return compiled


def test_this_machine_passes(brief, capsys):
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "All is well" in said
    assert said.count(" ok\n") == 4
    assert jax.__version__ in said


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a.at[0].multiply(1.01),
        lambda a: a.at[0].set(float("nan")),
    ],
    ids=["a hundredth", "not a number"],
)
def test_a_planted_wrong_gradient_is_found(brief, monkeypatch, capsys, change):
    monkeypatch.setattr(selfcheck, "compiled", wrong_compiler(change))
    assert main([]) == 1
    said = capsys.readouterr().out
    assert said.count("WRONG") == 2
    assert "Wrong: the compiled gradient of mingru" in said
    assert "pip install -U jax jaxlib" in said


def test_a_planted_quadratic_time_is_found(brief, monkeypatch, capsys):
    monkeypatch.setattr(selfcheck, "timer", lambda name: lambda steps: steps**2)
    monkeypatch.setattr(selfcheck, "cases", lambda: iter(()))
    assert main([]) == 1
    said = capsys.readouterr().out
    assert said.count("SLOW") == 2
    assert "Wrong: the time of lstm grows faster than its steps: use jax" in said


def test_growth_is_the_best_of_rounds_without_the_first():
    calls = count()

    def noisy(steps):
        call = next(calls)
        waited = call < 3 or call % 2  # compiling; then every second is disturbed
        return steps + 1e6 * waited

    assert growth(noisy, STEPS) == [4, 4]
    assert next(calls) == 4 * 3  # three rounds suffice


def test_growth_of_quadratic_time_takes_every_round_and_an_overhead_hides_little():
    calls = count()

    def quadratic(steps):
        next(calls)
        return 1e-3 + 4e-9 * steps**2  # jaxlib 0.11.1: a second for 16,000 steps

    assert overall(growth(quadratic, STEPS)) > 14 > selfcheck.QUADRATIC
    # a size that was measured badly, of a time that is linear
    assert overall([0.9, 18.3]) < selfcheck.QUADRATIC / 1.5
    assert next(calls) == 11 * 3


def test_all_layers_stores_and_sizes_have_a_case():
    found = list(selfcheck.cases())
    assert {case.name for case in found} == set(selfcheck.LAYERS)
    stores = {case.store for case in found}
    assert stores == {None, "states", "activations", "borders"}
    assert {case.dtype for case in found} == {"float32", "float64"}
    assert max(case.size[0] * case.size[1] for case in found) > 32_768


@pytest.mark.parametrize(
    ("version", "flags", "known"),
    [
        ("0.10.2", "", ["jax 0.10.2 miscomputes"]),
        ("0.10.2", FAULTS[0].flag, []),
        ("0.11.1", FAULTS[0].flag, ["jax 0.11.1 takes time quadratic"]),
        ("0.12.0", "", []),
    ],
)
def test_known_faults_are_said(brief, monkeypatch, capsys, version, flags, known):
    monkeypatch.setattr(jax, "__version__", version)
    monkeypatch.setenv("XLA_FLAGS", flags)
    monkeypatch.setattr(selfcheck, "cases", lambda: iter(()))
    assert main([]) == 0
    said = capsys.readouterr().out
    assert said.count("Known:") == len(known)
    assert all(f"Known: {fault}" in said for fault in known)


def test_it_runs_as_a_module_and_helps():
    command = [sys.executable, "-m", "jaxrnn.selfcheck", "--help"]
    ran = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0
    assert "exit code" in ran.stdout
    assert not ran.stderr


@pytest.mark.slow
def test_this_machine_passes_every_check(capsys):
    assert main([]) == 0

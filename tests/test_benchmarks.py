"""The benchmarks at their smallest settings, and their measuring tools."""

import json
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike

import jaxrnn
from experiments import transitions
from experiments.benchmarks import beyond, contenders, figures, tables
from experiments.benchmarks import study as benchmarks
from experiments.benchmarks.contenders import Size
from experiments.lib import timing
from experiments.lib.run_folder import Run, plain
from experiments.lib.timing import (
    Program,
    Rates,
    compile_program,
    interleave,
    machine_rates,
    resident_mib,
)
from experiments.peers import LIBRARIES, jax_peers
from experiments.peers.record import Peer, Sizes

SMALL = Size(5, 2, 3, 4)  # one for all: what draws the data is compiled once


def page_of(results):
    """Every table of these results, as Markdown."""
    run = Run({}, {}, plain({"rates": {}} | results))
    return "\n".join(f"## {t.title}\n{t.markdown()}" for t in tables.tables(run))


pytestmark = pytest.mark.usefixtures("optax_promotes", "compile_fast")


def test_benchmarks_write_a_row_for_each_contender(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "GRID", (SMALL,))
    monkeypatch.setattr(benchmarks, "machine_rates", lambda: Rates(2e9, 1e9))
    config = benchmarks.Config(cell=("gru",), seconds=0.1, quick=True, out=tmp_path)
    rows = benchmarks.main(config)["grid"]
    names = [row["contender"] for row in rows]
    assert names[:2] == ["manual", "autodiff"] and names[-1] == "floor"
    assert "manual, split" in names
    assert all(row["ms"] > 0 for row in rows)
    assert all(row["error"] < 1e-5 for row in rows[:-1])
    page = (tmp_path / "page.md").read_text()
    assert page.count("| gru (5, 2, 3, 4) |") == 1 + len(rows)
    assert (tmp_path / "benchmarks_grid.png").stat().st_size > 10_000
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["grid"] == plain(rows)
    assert written["rates"] == {"product, GFLOP": 2, "copy, GB": 1}


def test_a_contender_with_another_gradient_is_reported_and_not_timed(monkeypatch):
    def wrong(cell, kind, sizes):
        def run(params, xs):
            hs, final = jaxrnn.unroll(jaxrnn.elman(), params, xs)
            return 1.01 * hs, final

        return {"wrong": Peer(lambda params: params, run)}

    monkeypatch.setattr(contenders, "jax_peers", wrong)
    config = benchmarks.Config(seconds=0.01, quick=True)
    rows = benchmarks.measure("elman", SMALL, config, Rates(1e9, 1e9))
    row = next(row for row in rows if row["contender"] == "wrong")
    assert row["error"] == pytest.approx(0.01, rel=1e-3) and "ms" not in row
    assert "disagrees" not in page_of({"grid": rows[:1]})
    assert "disagrees" in page_of({"grid": rows})


@pytest.mark.parametrize("cell", contenders.CELLS)
def test_every_peer_that_is_installed_has_the_same_gradient(cell):
    problem = contenders.pose(cell, SMALL)
    b = jax.random.normal(jax.random.key(1), problem.params.b.shape)
    problem = problem._replace(params=problem.params._replace(b=b))
    agreed, errors = contenders.agreeing(problem)
    assert max(errors.values()) < 1e-5
    assert set(errors) - set(agreed) <= {"torch"}


def test_a_split_batch_gives_the_same_error_and_gradient():
    problem = contenders.pose("lstm", SMALL)
    peer = contenders.own("lstm")
    given = contenders.arguments(problem, peer)
    whole = contenders.program(problem, peer).run()
    split = jax.jit(contenders.split_gradient(peer, 2))(*given)
    assert_alike(split, whole, 1e-5)


def test_the_floor_counts_the_products_that_the_gradient_needs():
    # Elman, T=2, B=3, D=4, H=5: five products of 2·6·5·(5 or 4) operations; 1 GFLOP/s
    problem = contenders.pose("elman", Size(2, 3, 4, 5))
    flops = 2 * 6 * 5 * (3 * 5 + 2 * 4)
    floor = benchmarks.floor_ms(problem, Rates(1e9, 1e12))
    assert floor == pytest.approx(flops / 1e6)
    # xs twice, w once, the state written and read: 6·(8 + 5 + 10) floats; 1 GB/s
    floor = benchmarks.floor_ms(problem, Rates(1e15, 1e9))
    assert floor == pytest.approx(4 * 6 * 23 / 1e6)


def test_every_program_runs_once_a_round_after_one_run_that_is_not_timed():
    ran = []

    def fake(name, seconds):
        def run():
            time.sleep(seconds)
            ran.append(name)

        return Program(run)

    programs = {"fast": fake("fast", 0.0), "slow": fake("slow", 0.02)}
    times = interleave(programs, seconds=0.0, least=3)
    assert ran == ["fast", "slow"] * 4
    assert times["fast"].shape == times["slow"].shape == (3,)
    assert times["slow"].min() >= 0.02 > np.median(times["fast"])
    ran.clear()
    times = interleave(programs, seconds=0.1, least=1)
    assert sum(map(np.sum, times.values())) > 0.09  # and not the one round alone


def test_a_run_has_ended_when_its_program_returns():
    def slow(a):
        return jax.lax.fori_loop(0, 20, lambda _, a: jnp.cos(a @ a), a)

    a = jnp.ones((512, 512))
    assert compile_program(slow, a).run().is_ready()
    # The control: by itself it is still under way.
    assert not jax.jit(slow)(a).is_ready()


def test_memory_is_that_of_all_devices():
    def f(a):
        return jnp.sin(a).T @ jnp.cos(a)

    mesh = jax.sharding.Mesh(jax.devices()[:4], ("batch",))
    spec = jax.sharding.PartitionSpec("batch")
    split = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=spec)
    one = compile_program(f, jnp.ones((32, 32))).temporary_mib
    four = compile_program(split, jnp.ones((4 * 32, 32))).temporary_mib
    assert one > 0 and four == 4 * one


def test_rates_are_operations_and_bytes_over_the_best_time(monkeypatch):
    counted = []

    def count(f, a):
        flops = jax.jit(f).lower(a).cost_analysis()["flops"]  # by XLA
        made = jax.eval_shape(f, a)
        counted.append({"flops": flops, "bytes": a.nbytes + 4 * made.size})

    times = {"product": np.array([3.0, 0.5, 2.0]), "copy": np.array([0.25, 4.0])}
    monkeypatch.setattr(timing, "compile_program", count)
    monkeypatch.setattr(timing, "interleave", lambda *_, **__: times)
    rates = machine_rates()
    product, copy = counted
    assert rates == (product["flops"] / 0.5, copy["bytes"] / 0.25)


def test_keras_on_another_backend_is_refused(monkeypatch):
    loaded = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(RuntimeError, match="expected the backend 'jax', got 'torch'"):
        LIBRARIES["keras"]("lstm", Sizes(3, 4), True, "float32")


def _touch(mib):
    return Program(lambda: np.ones(mib * 2**17))  # float64: 8 bytes each


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
def test_resident_memory_is_what_a_run_touches():
    assert resident_mib(_touch, 200) == pytest.approx(200, abs=20)


def test_a_sweeps_exponent_is_its_slope():
    values = [1, 10, 100, 1000]
    assert beyond.exponent(values, [v**1.5 for v in values]) == (pytest.approx(1.5))


@pytest.mark.slow
def test_studies_write_their_rows_tables_and_figure(tmp_path, monkeypatch):
    small = Size(9, 2, 3, 4)
    monkeypatch.setattr(beyond, "MIDDLE", small)
    monkeypatch.setattr(beyond, "SWEEPS", {"t": (2, 4, 8), "h": (2, 4, 8)})
    for name in ("LONG", "LOW", "GROWTH", "DEPTH"):
        monkeypatch.setattr(beyond, name, (small,))
    monkeypatch.setattr(beyond, "SECONDS", 0.01)
    parts = beyond.studies(["elman"])
    results = {name: study() for name, study in parts.items()}
    assert [row["value"] for row in results["sweeps"] if row["contender"] == "manual"]
    assert "manual, borders every 3" in {r["contender"] for r in results["budgets"]}
    low = {row["contender"]: row["error"] for row in results["bfloat16"]}
    assert 1e-5 < low["manual"] < 0.05
    assert {row["cell"] for row in results["growth"]} == {"lstm"}
    page = page_of({"grid": []} | results)
    for title in ("Memory budgets", "bfloat16", "Long sequences", "Exponents"):
        assert f"## {title}" in page
    figures.draw_sweeps(tmp_path / "sweeps.png", results["sweeps"])
    assert (tmp_path / "sweeps.png").stat().st_size > 10_000


def test_a_stack_is_compared_with_every_peer_that_agrees(monkeypatch):
    monkeypatch.setattr(beyond, "DEPTH", (Size(4, 2, 3, 5),))
    monkeypatch.setattr(beyond, "SECONDS", 0.01)
    rows = beyond.depth()
    names = {row["contender"] for row in rows}
    assert {"manual", "autodiff"} | set(
        jax_peers(jaxrnn.lstm(), "lstm", Sizes(2, 5))
    ) <= names
    assert all(row["ms"] > 0 for row in rows)
    page = page_of({"grid": [], "depth": rows})
    assert "| 3 lstm (4, 2, 3, 5) | manual |" in page


def test_transitions_that_are_no_cells_have_the_gradient_of_their_scan(tmp_path):
    config = transitions.Config(steps=60, seconds=0, out=tmp_path / "run")
    rows = transitions.main(config)
    assert len(rows) == 6
    for row in rows:
        assert row["float64_error"] < 1e-13
        assert row["bfloat16_error_manual"] < 0.05
    assert "matrix memory" in (tmp_path / "run" / "page.md").read_text()

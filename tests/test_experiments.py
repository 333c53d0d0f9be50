"""The experiments at their smallest settings, and the text tools under them."""

import hashlib
import json
import math
import shutil
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments
from experiments import adding, agreement, decision_task, recurrent_rl, report
from experiments.char_lm import model as char_model
from experiments.char_lm import study as char_lm
from experiments.char_lm.text import (
    Corpus,
    ngram_bits,
    read_corpus,
    streams,
    window,
    windows,
)
from experiments.char_lm.training import train
from experiments.gradient_flow import measurements
from experiments.gradient_flow import study as gradient_flow
from experiments.lib import run_folder
from experiments.lib.run_folder import open_run, write_json

TINY = {"hidden": 8, "steps": 6, "batch": 2, "window": 10, "sample": 30}

pytestmark = pytest.mark.usefixtures("optax_promotes", "compile_fast")


@pytest.fixture(scope="module")
def shakespeare() -> Corpus:
    return read_corpus()


@pytest.fixture(scope="module")
def text(tmp_path_factory, shakespeare) -> Path:
    path = tmp_path_factory.mktemp("text") / "some.txt"
    path.write_text(shakespeare.decode(shakespeare.train[20_000:32_000]))
    return path


def test_shakespeare_is_what_its_readme_says(shakespeare):
    corpus = shakespeare
    readme = Path(experiments.__file__).with_name("data") / "README.md"
    assert corpus.sha256 in readme.read_text()
    # 42 works, 5,057,240 characters: counted when the file was made
    assert len(corpus.train) + len(corpus.held_out) == 5_057_240
    assert len(corpus.symbols) == 84
    whole = corpus.decode(np.concatenate([corpus.train, corpus.held_out]))
    assert hashlib.sha256(whole.encode()).hexdigest() == corpus.sha256
    assert len(corpus.train) / len(whole) == pytest.approx(0.9, abs=1e-6)


def test_windows_of_streams_cover_the_text_in_order_and_targets_are_the_next_symbol():
    text = np.arange(100)
    stream = streams(text, 3)
    assert stream.shape == (33, 3)
    np.testing.assert_array_equal(stream[:, 1], np.arange(33, 66))
    assert windows(stream, 8) == 4
    pieces = [window(stream, 8, i) for i in range(4)]
    np.testing.assert_array_equal(np.concatenate([x for x, _ in pieces]), stream[:32])
    for x, y in pieces:
        np.testing.assert_array_equal(y, x + 1)
    # A stream's last symbol is a target alone.
    assert [windows(stream[:n], 8) for n in (8, 9, 32, 33)] == [0, 1, 3, 4]


def slow_witten_bell(train: str, held_out: str, order: int, size: int) -> float:
    """Bits per character, from dictionaries, one character at a time."""
    followers = defaultdict(Counter)
    for n in range(order):
        for i in range(n, len(train)):
            followers[train[i - n : i]][train[i]] += 1

    def probability(context, c):
        if context is None:
            return 1 / size
        shorter = context[1:] if context else None
        counts = followers.get(context)
        if not counts:
            return probability(shorter, c)
        total, kinds = sum(counts.values()), len(counts)
        return (counts[c] + kinds * probability(shorter, c)) / (total + kinds)

    scored = range(order - 1, len(held_out))
    return -sum(
        math.log2(probability(held_out[i - order + 1 : i], held_out[i])) for i in scored
    ) / len(scored)


def test_ngram_bits_equal_a_slow_count(text):
    corpus = read_corpus(text)
    small = Corpus("", "", corpus.symbols, corpus.train[:3000], corpus.held_out[:400])
    train, held_out = small.decode(small.train), small.decode(small.held_out)
    wanted = slow_witten_bell(train, held_out, 3, len(corpus.symbols))
    assert ngram_bits(small, 3)[-1] == pytest.approx(wanted, rel=1e-12)


def test_cells_of_equal_size_differ_by_less_than_a_percent():
    lstm = char_model.build_equal("lstm", 64, 84)
    for cell in ("elman", "gru"):
        other = char_model.build_equal(cell, 64, 84)
        assert other.size() == pytest.approx(lstm.size(), rel=0.01)
        # the nearest: from above for one of them, from below for the other
        for hidden in (other.hidden - 1, other.hidden + 1):
            size = char_model.build(cell, hidden, 84).size()
            assert abs(other.size() - lstm.size()) < abs(size - lstm.size())


def test_inputs_are_one_hot_vectors_of_mean_square_one():
    model = char_model.build("elman", 4, 9)
    found = model.encode(jnp.arange(9))
    np.testing.assert_allclose(found, 3 * np.eye(9), rtol=1e-6)


def zeros(model):
    """Its parameters as zeros, without drawing them."""
    shapes = jax.eval_shape(lambda: model.init(0))
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def test_a_window_weighs_as_many_terms_as_its_error_is_a_mean_of():
    model = char_model.build("elman", 2, 4)
    params = zeros(model)
    some = jnp.zeros((5, 3), jnp.int32)
    error, outcome = model.error(params, None, (some, some))
    assert outcome.weight == 15
    assert error == pytest.approx(math.log(4))


def test_validation_equals_one_pass_over_every_stream(text):
    corpus = read_corpus(text)
    model = char_model.build("gru", 5, len(corpus.symbols))
    params = model.init(3)
    stream = jnp.asarray(streams(corpus.held_out, 64))
    assert len(stream) == 18  # three windows of 5 and one symbol, and two left over
    error, _ = model.error(params, None, (stream[:15], stream[1:16]))
    bits = char_model.validate(model, params, corpus, size=5)
    assert bits == pytest.approx(float(error) / math.log(2), rel=1e-6)


def test_char_lm_trains_and_resumes_to_the_bit(text, tmp_path, capsys):
    config = char_lm.Config(
        **TINY, text=text, cell=("lstm",), validate_every=2, out=tmp_path
    )
    summary = char_lm.main(config)
    assert json.loads((tmp_path / "results.json").read_text())["sha256"]
    assert (tmp_path / "char_lm.png").stat().st_size > 10_000
    assert summary["cells"]["lstm"]["updates"] == 3  # 6 windows, 2 an update
    first = summary["histories"]["lstm"]
    assert first.horizon_at == [0] and 0 < first.horizon[0] <= 10
    health = json.loads((tmp_path / "health_lstm.json").read_text())
    assert (health["steps"], health["window"], health["rows"]) == (20, 10, 8)
    assert "<svg" not in (tmp_path / "health_lstm.html").read_text()  # it is encoded
    assert "An error is " in (tmp_path / "health_lstm.html").read_text()

    # As if it had been cut after window 4: the newest checkpoint goes.
    shutil.rmtree(tmp_path / "checkpoints/lstm/6")
    config = replace(config, resume=True)
    assert open_run(tmp_path, "char_lm", asdict(config), resume=True) == tmp_path
    corpus = read_corpus(text)
    capsys.readouterr()
    model = char_model.build("lstm", 8, len(corpus.symbols))
    params, history, figures = train(model, corpus, config, tmp_path)
    said = capsys.readouterr().out
    assert "6/6" in said and "4/6" not in said
    assert len(history.bits) == 6 and history.held_out_at == [2, 4, 6]
    assert history.horizon == first.horizon
    assert figures["held_out_bits"] == summary["cells"]["lstm"]["held_out_bits"]
    drawn = char_model.sample(model, params, jax.random.key(1), 30)
    assert corpus.decode(drawn) == (tmp_path / "sample_lstm.txt").read_text()


def test_runs_are_numbered_on_and_the_newest_is_resumed(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "_RUNS", tmp_path)
    for name in ("char_lm-old", "other-20"):  # no runs of this name
        (tmp_path / name).mkdir()
    options = {"hidden": 8}
    made = [open_run(None, "char_lm", options, resume=False) for _ in range(11)]
    assert [path.name for path in made] == [f"char_lm-{n}" for n in range(1, 12)]
    assert open_run(None, "char_lm", options, resume=True) == made[-1]


def test_a_crash_while_writing_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path, write = tmp_path / "summary.json", Path.write_text
    write_json(path, {"bits": 2.5})

    def half(self, text):
        write(self, text[: len(text) // 2])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(OSError, match="no space left"):
        write_json(path, {"bits": 1.5})
    assert json.loads(path.read_text()) == {"bits": 2.5}


@pytest.mark.parametrize("resume", [False, True])
def test_a_wrong_run_folder_is_refused_with_what_to_do(text, tmp_path, resume):
    options = dict(TINY, text=text, cell=("elman",), out=tmp_path)
    (tmp_path / "options.json").write_text(json.dumps({"hidden": 9}))
    with pytest.raises(SystemExit, match="--hidden was 9, is 8" if resume else "--out"):
        char_lm.main(char_lm.Config(**options, resume=resume))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"text": Path("/no/such/file")}, "--text.*No such file"),
        ({"hidden": 0}, "--hidden: expected a positive number, got 0"),
        ({"clip_norm": -1.0}, "--clip-norm: expected a positive number, got -1"),
        ({"window": 10_000}, "--batch and --window"),
    ],
)
def test_wrong_options_are_refused_by_name(text, tmp_path, options, words):
    options = dict(TINY, text=text, out=tmp_path / "run") | options
    with pytest.raises(SystemExit, match=words):
        char_lm.main(char_lm.Config(**options))


def test_manual_and_autodiff_training_agree(text, tmp_path):
    corpus = read_corpus(text)
    model = char_model.build("elman", 8, len(corpus.symbols))
    bits = []
    for gradient in ("manual", "autodiff"):
        config = char_lm.Config(**TINY, gradient=gradient)
        out = tmp_path / gradient
        bits.append(train(model, corpus, config, out)[1].bits)
    assert len(bits[0]) == TINY["steps"]
    assert bits[0] == pytest.approx(bits[1], rel=1e-5)  # float32 over three updates
    assert bits[0][-1] < bits[0][0]


def test_a_sample_is_drawn_from_the_model():
    model = char_model.build("elman", 4, 3)
    params = zeros(model)
    # All weights zero but the readout's bias: symbols are independent draws from it.
    b_y = jnp.log(jnp.array([0.7, 0.2, 0.1]))
    params = params._replace(readout=params.readout._replace(b_y=b_y))
    drawn = np.asarray(char_model.sample(model, params, jax.random.key(0), 4000))
    shares = np.bincount(drawn, minlength=3) / 4000
    # three standard deviations of a share of 0.7 in 4000: 0.022
    np.testing.assert_allclose(shares, [0.7, 0.2, 0.1], atol=0.022)


@pytest.mark.parametrize("by", ["state", "symbol"])
def test_a_sample_goes_on_from_the_last_state_and_symbol(by):
    model = char_model.build("elman", 1, 2)
    params = zeros(model)
    # h_t = tanh(1 - 5 h_{t-1}), or the sign that symbol t-1 does not stand for; the
    # readout turns h > 0 into symbol 0, all but surely.
    cell = {
        "state": params.cell._replace(w_s=jnp.array([[-5.0]]), b=jnp.ones(1)),
        "symbol": params.cell._replace(w_x=jnp.array([[-5.0], [5.0]])),
    }[by]
    readout = params.readout._replace(w_y=jnp.array([[100.0, -100.0]]))
    params = params._replace(cell=cell, readout=readout)
    drawn = char_model.sample(model, params, jax.random.key(0), 8)
    first = {"state": 0, "symbol": 1}[by]  # after symbol 0, and a state of zero
    assert drawn.tolist() == [first, 1 - first] * 4


FLOW = gradient_flow.Config(
    model=("tanh, ρ = 0.9",),
    units=8,
    steps=12,
    rows=2,
    updates=6,
    reach=20,
)


def test_gradient_flow_follows_the_lags(tmp_path, capsys):
    found = gradient_flow.main(replace(FLOW, out=tmp_path, study=("lags",)))
    drawn = {path.name: path.stat().st_size for path in tmp_path.glob("*.png")}
    assert set(drawn) == {f"gradient_flow_{n}.png" for n in ("lags", "truncation")}
    assert min(drawn.values()) > 10_000
    first = found["lags"]["at initialisation"]["tanh, ρ = 0.9"]
    assert first["norms"].shape == (12,) and 0 < first["rate"] < 0.9
    assert 0 < first["horizon"] < 12
    bias = found["lags"]["after 6 updates"]["tanh, ρ = 0.9"]["bias"]
    assert bias[0] > 0.1 and bias[-1] < 1e-6
    assert "contributions to" in capsys.readouterr().out


@pytest.mark.slow
def test_gradient_flow_measures_and_draws_all(tmp_path):
    config = replace(FLOW, out=tmp_path, model=("tanh, ρ = 0.9", "LSTM"))
    found = gradient_flow.main(config)
    assert len(list(tmp_path.glob("*.png"))) == 6
    assert set(found) == set(gradient_flow.STUDIES)
    without = found["reach"]["tanh"]["ρ = 0.9"]["0"]
    assert without["rate"] == pytest.approx(0.9, abs=0.02)  # linear, about: ρ itself
    assert without["exponent"] == pytest.approx(math.log(without["rate"]), abs=0.05)
    assert max(e for _, _, e in found["agreement"]["float64"]) < 1e-6
    angles = found["remedies"]["LSTM"]
    assert angles["global norm, clipped to half"].cosine == pytest.approx(1, abs=1e-6)


def test_the_cliff_is_where_the_paper_has_it():
    # Pascanu et al. (2013), figure 6: at w = 5 the wall is between b = -2.7 and -2.5
    found = measurements.cliff(points=60)
    column = np.abs(found["w"] - 5.0).argmin()
    jump = np.abs(np.diff(found["error"][:, column])).argmax()
    assert -2.7 < found["b"][jump] < -2.5
    assert found["norm"] > 100
    moved = np.linalg.norm(found["held"] - found["point"])
    assert moved == pytest.approx(0.1, rel=1e-4)  # the rate, times a norm of 1


def test_agreement_is_to_rounding_in_each_dtype(tmp_path):
    config = agreement.Config(model=("zoneout",), steps=4, chunks=(3,), out=tmp_path)
    errors = agreement.main(config)["zoneout"]
    assert 0 < errors["float64"] < 1e-13 < errors["float32"] < 1e-5
    assert errors["check_gradients"] < 1e-10 and errors["differences"] < 1e-6


def test_agreement_reports_the_largest_error_of_each_kind_of_call(
    tmp_path, monkeypatch
):
    found = iter([{"w": 1.0, "b": 3.0}, {"w": 2.0}, {"w": 5.0}, {"w": 4.0}])
    monkeypatch.setattr(agreement, "draw", lambda *_, **__: (None, {}))
    monkeypatch.setattr(agreement, "both_gradients", lambda *_: ({}, {}))
    monkeypatch.setattr(agreement, "relative_errors", lambda *_: next(found))
    monkeypatch.setattr(agreement, "audit", lambda *_: (6.0, 7.0))
    config = agreement.Config(model=("gru",), chunks=(1, 2), out=tmp_path)
    errors = agreement.main(config)["gru"]
    assert (errors["float64"], errors["float32"]) == (3.0, 5.0)
    assert (errors["check_gradients"], errors["differences"]) == (6.0, 7.0)


def test_the_adding_problem_is_learnt_and_drawn(tmp_path):
    errors = adding.main(updates=40, out=tmp_path / "adding.png")
    assert np.mean(errors[-5:]) < 0.8 * np.mean(errors[:5])
    assert (tmp_path / "adding.png").stat().st_size > 10_000


def test_an_agent_finds_its_way_by_memory_and_not_without(tmp_path):
    found = recurrent_rl.main(quick=True, out=tmp_path)
    (memory,), (control,) = found["success"]
    assert memory > 0.9 and 0.4 < control < 0.6  # chance is 0.5
    # the cue is the first step of an episode, and nothing before it counts
    corridor = recurrent_rl.CORRIDOR
    assert found["horizon"]["after learning"][0] > corridor
    assert found["horizon"]["before learning"][0] < corridor
    assert (tmp_path / "recurrent_rl.png").stat().st_size > 10_000
    assert (tmp_path / "results.json").exists()


def test_a_rate_network_learns_to_wait_and_rests_at_a_fixed_point(tmp_path):
    found = decision_task.main(quick=True, out=tmp_path)
    assert np.mean(found["errors"][-10:]) < 0.6 * found["errors"][0]
    assert found["waits"] > 0.95
    assert len(found["right"]) == len(found["best"]) == 10
    # near a stable point the exponents are the logarithms of its eigenvalues
    (eigenvalues,) = found["eigenvalues"]
    assert eigenvalues[0] < 1
    wanted = np.log(eigenvalues) / decision_task.DT
    exponents = np.array(found["exponents"]["after"])
    np.testing.assert_allclose(exponents, wanted, rtol=0.3)
    assert not np.allclose(found["exponents"]["before"], wanted, rtol=0.3)
    assert (tmp_path / "decision_task.png").stat().st_size > 10_000


def test_the_weights_obey_the_law_of_dale():
    params = decision_task.LAYER.init(jax.random.key(0), 3, decision_task.UNITS)
    w_s = np.array(decision_task.dale(params)["w_s"])
    excites = np.arange(len(w_s)) < decision_task.EXCITING
    off = ~np.eye(len(w_s), dtype=bool)
    assert (np.where(excites[:, None], w_s, -w_s)[off] > 0).all()
    assert not w_s[~off].any()
    assert not (np.array(params["w_s"])[off] > 0).all()  # the trained weights are free


def test_a_report_is_rebuilt_from_saved_numbers_alone(tmp_path, capsys):
    run, results = tmp_path / "run", tmp_path / "results"
    results.mkdir()
    by_hand = "# Agreement\n\nWords.\n"
    (results / "AGREEMENT.md").write_text(by_hand)
    (results / "CONVERSION.md").write_text("as it was")
    options = {"model": ["gru"], "chunks": [3], "seed": 7}
    open_run(run, "agreement", options)
    names = ("float64", "float32", "check_gradients", "differences")
    run_folder.save_results(run, {"gru": dict.fromkeys(names, 1.25e-15)})
    assert report.main((run,), results) == ["agreement"]
    page = (results / "AGREEMENT.md").read_text()
    assert page.startswith(by_hand) and "| gru | 1.2e-15 |" in page
    about = json.loads((run / "about.json").read_text())
    said = (about["date"], str(about["commit"]), jax.__version__, "seed 7")
    assert all(word in page for word in said)
    shutil.rmtree(run)
    report.main((), results)
    assert (results / "AGREEMENT.md").read_text() == page
    assert (results / "CONVERSION.md").read_text() == "as it was"
    assert "conversion: no numbers are saved" in capsys.readouterr().out


def test_flow_figures_are_drawn_again_from_saved_numbers(tmp_path):
    config = replace(FLOW, out=tmp_path / "run", study=("cliff",))
    gradient_flow.main(config)
    results = tmp_path / "results"
    results.mkdir()
    report.main((tmp_path / "run",), results)
    drawn = (results / "figures/gradient_flow_cliff.png").read_bytes()
    assert drawn == (tmp_path / "run/gradient_flow_cliff.png").read_bytes()


def test_a_finished_run_is_not_overwritten_and_an_unfinished_one_not_read(tmp_path):
    open_run(tmp_path, "agreement", {"chunks": [1]})
    with pytest.raises(SystemExit, match="has no results"):
        run_folder.read_run(tmp_path)
    with pytest.raises(SystemExit, match="holds a run; give another --out"):
        open_run(tmp_path, "agreement", {"chunks": [1]})

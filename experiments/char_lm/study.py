"""Train character language models with hand-derived gradients, side by side.

    python -m experiments.char_lm

Checks the manual gradient of each network against automatic differentiation and finite
differences, then trains by truncated BPTT over contiguous streams of Shakespeare, with
the state carried from window to window, and compares held-out bits per character with
n-gram models on the same split. The cells have nearly equal numbers of parameters.
The health of each trained network's gradient is written beside the results, as a page
and as JSON.
"""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import rich

import jaxrnn
from experiments.char_lm.config import Config
from experiments.char_lm.figure import draw
from experiments.char_lm.model import build_equal, health, sample
from experiments.char_lm.text import (
    Corpus,
    ngram_bits,
    read_corpus,
    streams,
    window,
    windows,
)
from experiments.char_lm.training import train
from experiments.lib.long_runs import alone, stopping
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number

NGRAM_ORDER = 5


def main(config: Config) -> dict[str, Any]:
    """Run the whole study and return its summary."""
    corpus = _read(config)
    out = open_run(config.out, "char_lm", asdict(config), resume=config.resume)
    with alone(out), stopping() as stopped:
        return _run(config, corpus, out, stopped)


def _run(
    config: Config, corpus: Corpus, out: Path, stopped: Callable[[], int]
) -> dict[str, Any]:
    begun = time.perf_counter()
    print(
        f"{corpus.name}: {len(corpus.train):,} characters to train on, "
        f"{len(corpus.held_out):,} held out, {len(corpus.symbols)} symbols"
    )
    grams = ngram_bits(corpus, NGRAM_ORDER)
    models = [build_equal(c, config.hidden, len(corpus.symbols)) for c in config.cell]
    inputs, targets = window(streams(corpus.train, 4), 20, 0)
    for model in models:
        xs, params = model.encode(jnp.asarray(inputs)), model.init(config.seed)
        report = jaxrnn.check_gradients(model.network, params, xs, targets)
        print(f"\n{model.name}, before the first update\n{report}")
        report.assert_close()

    results, histories = {}, {}
    for model in models:
        name = model.name
        params, histories[name], results[name] = train(
            model, corpus, config, out, stopped
        )
        key = jax.random.key(config.seed + 1)
        text = corpus.decode(sample(model, params, key, config.sample))
        (out / f"sample_{name}.txt").write_text(text, encoding="utf-8")
        rich.get_console().rule(f"a sample of the {name}")
        print(text)
        report = health(model, params, corpus, config.window)
        print(f"\n{name}, after training\n{report}")
        (out / f"health_{name}.json").write_text(report.to_json(), encoding="utf-8")
        (out / f"health_{name}.html").write_text(report.to_html(), encoding="utf-8")

    summary = {
        "text": corpus.name,
        "sha256": corpus.sha256,
        "ngram_bits": dict(enumerate(grams, start=1)),
        "cells": results,
        "histories": histories,
        "seconds": time.perf_counter() - begun,
    }
    PAGES.finish(out, summary)
    return summary


def _read(config: Config) -> Corpus:
    """Read the text; SystemExit, naming the option, if it cannot be used."""
    try:
        corpus = read_corpus(config.text)
    except (OSError, ValueError) as error:
        raise SystemExit(f"--text: {error}") from error
    if windows(streams(corpus.train, config.batch), config.window) < 1:
        raise SystemExit(
            f"--batch and --window: {config.batch} streams of {config.window} "
            f"characters and more do not fit {len(corpus.train):,} characters"
        )
    return corpus


def tables(run: Run) -> list[Table]:
    """Held-out bits of every model, n-grams first."""
    rows = [
        [f"{order}-gram (Witten-Bell)", "", f"{bits:.3f}", "", ""]
        for order, bits in run.results["ngram_bits"].items()
    ]
    rows += [
        [f"{name}, {r['hidden']} units", f"{r['parameters']:,}",
         number(r["held_out_bits"], ".3f") or "not finite",
         f"{r['seconds']:.0f} s", f"{r['clip_rate']:.0%}"]
        for name, r in run.results["cells"].items()
    ]  # fmt: skip
    columns = ("model", "parameters", "bits", "training", "clipped")
    return [Table("held-out bits per character", columns, rows)]


PAGES = Pages(tables, draw)

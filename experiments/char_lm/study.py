"""Train character language models with hand-derived gradients, side by side.

    python -m experiments.char_lm

Checks the manual gradient of each network against automatic differentiation and finite
differences, then trains by truncated BPTT over contiguous streams of Shakespeare, with
the state carried from window to window, and compares held-out bits per character with
n-gram models on the same split. The cells have nearly equal numbers of parameters.
"""

import math
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich
from rich.progress import Progress

import jaxrnn
from experiments.char_lm.checkpoints import Checkpoints
from experiments.char_lm.figure import draw
from experiments.char_lm.model import Model, build_equal, sample, validate
from experiments.char_lm.text import (
    Corpus,
    ngram_bits,
    read_corpus,
    streams,
    window,
    windows,
)
from experiments.lib.pages import Pages
from experiments.lib.run_folder import Run, open_run
from experiments.lib.tables import Table, number
from jaxrnn import optim
from jaxrnn.training import TrainState, init_train_state, train_step

NGRAM_ORDER = 5


@dataclass(frozen=True)
class Config:
    cell: tuple[Literal["elman", "lstm", "gru"], ...] = ("elman", "lstm")
    """Networks to train, one after another."""
    text: Path | None = None
    """A UTF-8 text file; by default the Shakespeare that ships with the package."""
    hidden: int = 192
    """Units of an LSTM; other cells get the size with as many parameters."""
    steps: int = 1800
    """Windows to train on, for each cell."""
    batch: int = 32
    """Batch size: the number of parallel streams of text."""
    window: int = 64
    """Characters per window: how far BPTT goes back (the state is carried on)."""
    accumulate: int = 2
    """Windows whose gradients are averaged before one update (M of equation 61)."""
    clip_norm: float = 0.5
    """Threshold of the global norm (Algorithm 1 of Pascanu et al. 2013)."""
    learning_rate: float = 1e-2
    """Adam's peak step size; it falls to a tenth along a cosine."""
    gradient: Literal["manual", "autodiff"] = "manual"
    """The hand-derived BPTT, or JAX's automatic differentiation of the same network."""
    validate_every: int = 450
    """Windows between evaluations on the held-out text, each with a checkpoint."""
    sample: int = 400
    """Characters of text to sample at the end."""
    seed: int = 0
    """Seed of the initial weights and of the sampled text."""
    out: Path | None = None
    """Run folder; by default the next free runs/char_lm-N, or the newest to resume."""
    resume: bool = False
    """Continue from the run folder's newest checkpoints, with the same options."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if number and value <= 0 and name != "seed":
                option = name.replace("_", "-")
                raise SystemExit(f"--{option}: expected a positive number, got {value}")


class History(NamedTuple):
    """Measurements of training, per window, and per evaluation on held-out text."""

    bits: list[float]
    norm: list[float]
    held_out_at: list[int]
    held_out: list[float]


def train(
    model: Model, corpus: Corpus, config: Config, out: Path
) -> tuple[Any, History, dict[str, float]]:
    """Train one model; return its parameters, history and figures."""
    updates = max(1, config.steps // config.accumulate)
    rate = optax.cosine_decay_schedule(config.learning_rate, updates, alpha=0.1)
    clipping = {"accumulate": config.accumulate, "clip_norm": config.clip_norm}
    optimizer = optim.recurrent(optax.adam(rate), **clipping)
    loss = partial(model.error, gradient=config.gradient)
    step = train_step(loss, optimizer, _mesh(config.batch))

    stream = streams(corpus.train, config.batch)
    per_pass = windows(stream, config.window)
    params = model.init(config.seed)
    rest = model.cell.initial_state(params.cell, (config.batch,))
    state = init_train_state(params, optimizer, rest)
    history = History([], [], [], [])
    checkpoints = Checkpoints(out / "checkpoints" / model.name)
    if config.resume:
        state, history = checkpoints.restore(state, history)

    begun, first = time.perf_counter(), int(state.step)
    with Progress() as progress:
        task = progress.add_task(model.name, total=config.steps, completed=first)
        for i in range(first, config.steps):
            if i > 0 and i % per_pass == 0:  # the text begins again, and the state
                state = state._replace(state=jax.tree.map(jnp.copy, rest))
            done, last = i + 1, i + 1 == config.steps
            batch = window(stream, config.window, i % per_pass)
            state, metrics = step(state, batch, flush=last)
            history.bits.append(float(metrics.error) / math.log(2))
            history.norm.append(float(metrics.norm))
            speed = (done - first) * batch[0].size / (time.perf_counter() - begun)
            said = f"{model.name}: {np.mean(history.bits[-50:]):.3f} bits, "
            said += f"{speed:,.0f} tokens/s, norm {history.norm[-1]:.2f}, "
            said += f"{_clip_rate(state):.0%} clipped"
            progress.update(task, completed=done, description=said)
            if last or done % config.validate_every == 0:
                history.held_out_at.append(done)
                history.held_out.append(validate(model, _local(state.params), corpus))
                checkpoints.save(done, state, history)
                told = f"held-out {history.held_out[-1]:.3f}, {done}/{config.steps}"
                progress.console.print(f"{said}, {told}")
    checkpoints.close()
    figures = {
        "parameters": model.size(),
        "hidden": model.hidden,
        "updates": int(state.opt_state.updates),
        "skipped_gradients": int(state.opt_state.skipped),
        "clip_rate": _clip_rate(state),
        "seconds": time.perf_counter() - begun,
        "held_out_bits": history.held_out[-1],
    }
    return _local(state.params), history, figures


def _clip_rate(state: TrainState) -> float:
    """The share of gradients that were clipped so far."""
    clip = optax.tree.get(state.opt_state, "ClipState")
    return int(clip.clipped) / max(1, int(clip.seen))


def _mesh(batch: int) -> jax.sharding.Mesh | None:
    """All devices that the batch divides by, or None for one."""
    devices = jax.devices()
    count = max(n for n in range(1, len(devices) + 1) if batch % n == 0)
    return jax.sharding.Mesh(devices[:count], ("batch",)) if count > 1 else None


def _local(tree: Any) -> Any:
    """A copy on one device, which the donated step cannot reuse."""
    return jax.tree.map(jnp.asarray, jax.device_get(tree))


def main(config: Config) -> dict[str, Any]:
    """Run the whole study and return its summary."""
    begun, corpus = time.perf_counter(), _read(config)
    out = open_run(config.out, "char_lm", asdict(config), resume=config.resume)
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
        params, histories[name], results[name] = train(model, corpus, config, out)
        key = jax.random.key(config.seed + 1)
        text = corpus.decode(sample(model, params, key, config.sample))
        (out / f"sample_{name}.txt").write_text(text, encoding="utf-8")
        rich.get_console().rule(f"a sample of the {name}")
        print(text)

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

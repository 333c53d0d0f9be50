"""Training one model: its windows, its checkpoints, and what may go wrong."""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.progress import Progress

from experiments.char_lm.config import Config
from experiments.char_lm.model import Model, horizon, validate
from experiments.char_lm.text import Corpus, streams, window, windows
from experiments.lib.run_folder import about_run
from jaxrnn import gradient_flow, optim
from jaxrnn.checkpoints import Checkpoints
from jaxrnn.training import TrainState, init_train_state, train_step

MAY_CHANGE = {"out", "resume", "sample", "text", "validate_every"}
HORIZON_EVERY = 50  # windows
PATIENCE = 10  # windows in a row without a finite gradient


class History(NamedTuple):
    """Measurements of training, per window; per evaluation on held-out text; and of how
    far back an error is felt, every `HORIZON_EVERY` windows from the first on."""

    bits: list[float]
    norm: list[float]
    held_out_at: list[int]
    held_out: list[float]
    horizon_at: list[int]
    horizon: list[int]


def train(
    model: Model,
    corpus: Corpus,
    config: Config,
    out: Path,
    stopped: Callable[[], int] = lambda: 0,
) -> tuple[Any, History, dict[str, float]]:
    """Train one model; return its parameters, history and figures.

    Args:
        stopped: the signal that asks it to stop, or 0: it then saves, and SystemExit.
    Raises:  SystemExit, with a remedy, also if no checkpoint can be used, none can be
             written, or no gradient is finite any more.
    """
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
    history = History([], [], [], [], [], [])
    checkpoints = Checkpoints(out / "checkpoints" / model.name, _run_of(config, corpus))
    if config.resume:
        state, history = _resumed(checkpoints, state, history)

    begun, bad = time.perf_counter(), 0
    first = done = int(state.step)
    with Progress() as progress:
        task = progress.add_task(model.name, total=config.steps, completed=first)
        for i in range(first, config.steps):
            if i > 0 and i % per_pass == 0:  # the text begins again, and the state
                state = state._replace(state=jax.tree.map(jnp.copy, rest))
            done, last = i + 1, i + 1 == config.steps
            batch = window(stream, config.window, i % per_pass)
            if i % HORIZON_EVERY == 0:
                of = _local(state.params), _local(state.state), batch
                history.horizon_at.append(i)
                history.horizon.append(int(horizon(model, *of)))
            state, metrics = step(state, batch, flush=last)
            bad = bad + 1 if metrics.skipped else 0
            if bad == PATIENCE:
                checkpoints.close()
                raise SystemExit(_hopeless(model, state, batch, done))
            history.bits.append(float(metrics.error) / math.log(2))
            history.norm.append(float(metrics.norm))
            speed = (done - first) * batch[0].size / (time.perf_counter() - begun)
            said = f"{model.name}: {np.mean(history.bits[-50:]):.3f} bits, "
            said += f"{speed:,.0f} tokens/s, norm {history.norm[-1]:.2f}, "
            said += f"horizon {history.horizon[-1]}, {_clip_rate(state):.0%} clipped"
            progress.update(task, completed=done, description=said)
            if last or done % config.validate_every == 0:
                history.held_out_at.append(done)
                history.held_out.append(validate(model, _local(state.params), corpus))
                _save(checkpoints, done, state, history)
                told = f"held-out {history.held_out[-1]:.3f}, {done}/{config.steps}"
                progress.console.print(f"{said}, {told}")
            number = stopped()
            if number and not last:
                if done % config.validate_every:
                    _save(checkpoints, done, state, history)
                break
    checkpoints.close()
    if done < config.steps:
        print(
            f"stopped by {signal.Signals(number).name} after window {done} of "
            f"{model.name}, which is saved; --resume --out {out} goes on, with the "
            "same options"
        )
        raise SystemExit(128 + number)
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


def _run_of(config: Config, corpus: Corpus) -> dict[str, Any]:
    """What a checkpoint must share with a run that goes on from it."""
    about = about_run("char_lm")
    options = {k: v for k, v in asdict(config).items() if k not in MAY_CHANGE}
    same = {k: about[k] for k in ("versions", "device", "devices")}
    return same | options | {"text": corpus.name, "sha256": corpus.sha256}


def _save(checkpoints: Checkpoints, done: int, state: Any, history: History) -> None:
    """Save in the background; SystemExit if it cannot be, as on a full disk."""
    try:
        checkpoints.save(done, state, history._asdict())
    except (OSError, ValueError) as error:
        raise SystemExit(f"checkpoint {done}: {error}") from None


def _resumed(checkpoints: Checkpoints, state: Any, history: History) -> Any:
    """The state and history to go on with."""
    try:
        found = checkpoints.restore(state)
    except ValueError as error:
        raise SystemExit(f"--resume: {error}") from None
    if found is None:
        print("no checkpoint yet: from the beginning")
        return state, history
    for why in found.skipped:
        print(f"damaged, and put aside: {why}")
    print(f"from checkpoint {found.step}")
    return found.state, History(**found.notes)


def _hopeless(model: Model, state: TrainState, batch: Any, done: int) -> str:
    """Where the numbers of a window end."""
    params, rest = _local(state.params), _local(state.state)
    xs = model.encode(jnp.asarray(batch[0]))
    final = jax.tree.map(jnp.ones_like, rest)
    found = gradient_flow.first_nonfinite(
        model.cell, params.cell, xs, rest, final=final
    )
    return (
        f"{model.name}: no gradient of windows {done - PATIENCE + 1} to {done} is "
        f"finite; in window {done} the first step that is not (-1: none): {found}. Try "
        "a lower --learning-rate or --clip-norm; --resume goes on from the last "
        "checkpoint"
    )


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

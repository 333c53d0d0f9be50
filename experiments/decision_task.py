"""A rate network with Dale's law decides from noisy evidence: a program to start from.

    python -m experiments.decision_task

Two noisy inputs are shown. The network must remember over a delay which was larger, and
answer left or right when the fixation cue goes off, not earlier. Four in five units
excite, the others inhibit, and only exciting units are read. Then the trained network
is looked at: its psychometric curve, the fixed points that hold a choice during the
delay, and its Lyapunov exponents.

    τ dr/dt = -r + σ(4 (r W_s + x W_x + b + ξ))     σ(4x) has slope 1 at its middle

The task, and Dale's law by absolute values: Song, Yang & Wang (2016), PLoS Comput.
Biol. 12, e1004792. Fixed points: Sussillo & Barak (2013), Neural Computation 25, 626.
"""

import time
from pathlib import Path
from statistics import NormalDist
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array
from rich.progress import track

import jaxrnn
from experiments.lib import plots
from experiments.lib.run_folder import open_run, save_results
from jaxrnn import gradient_flow, optim
from jaxrnn.training import Outcome, init_train_state, train_step

UNITS, EXCITING = 50, 40
DT, TAU = 0.02, 0.1  # seconds: of a step, and τ
STEPS, ON, OFF, GO = 70, 5, 25, (30, 65)  # evidence, then a delay; the cue ends in GO
COHERENCES = (0.032, 0.064, 0.128, 0.256, 0.512)
SENSORY, PRIVATE = 0.5, 0.15  # the noise of an input, and that of a unit's input


def draw_trials(key, rows) -> tuple[Any, Array, Array]:
    """Inputs [T, B, ...], labels [T, B] (0 wait, 1 left, 2 right) and coherences."""
    k_size, k_side, k_go, k_seen, k_noise = jax.random.split(key, 5)
    size = jax.random.choice(k_size, jnp.array(COHERENCES), (rows,))
    coherence = size * jax.random.rademacher(k_side, (rows,), jnp.float32)
    go = jax.random.randint(k_go, (rows,), *GO)
    at = jnp.arange(STEPS)[:, None]
    waits, shown = at < go[None], (at >= ON) & (at < OFF)
    means = 0.5 + 0.5 * jnp.stack([-coherence, coherence], -1)
    evidence = means[None] + SENSORY * jax.random.normal(k_seen, (STEPS, rows, 2))
    evidence = jnp.where(shown[..., None], evidence, 0.0)
    cue = jnp.where(waits, 1.0, 0.0)
    seen = jnp.concatenate([cue[..., None], evidence], -1)
    noise = PRIVATE * jax.random.normal(k_noise, (STEPS, rows, UNITS))
    labels = jnp.where(waits, 0, jnp.where(coherence > 0, 2, 1))
    return {"seen": seen, "noise": noise}, labels, coherence


def dale(params):
    """Each unit excites all others, or inhibits them; none acts on itself."""
    signs = jnp.where(jnp.arange(UNITS) < EXCITING, 1.0, -1.0)[:, None]
    return {**params, "w_s": jnp.abs(params["w_s"]) * signs * (1 - jnp.eye(UNITS))}


def init(key, inputs, units):
    """Draw the weights; few inhibiting units balance many exciting ones."""
    k_x, k_s = jax.random.split(key)
    w_s = jax.random.normal(k_s, (units, units)) / jnp.sqrt(units)
    w_s = w_s.at[EXCITING:].multiply(EXCITING / (units - EXCITING))
    w_x = jax.random.normal(k_x, (inputs, units)) / jnp.sqrt(inputs)
    return {"w_x": w_x, "w_s": w_s, "b": jnp.zeros(units) - 0.5}


def rates(params, r, x):
    """One step of one row; only the exciting units are read."""
    drive = r @ params["w_s"] + x["seen"] @ params["w_x"] + params["b"] + x["noise"]
    r = r + DT / TAU * (jax.nn.sigmoid(4 * drive) - r)
    return r, r[:EXCITING]


LAYER = jaxrnn.layers.constrained(
    jaxrnn.transition(
        rates,
        init=init,
        initial_state=lambda params: jnp.zeros(UNITS),
        output_size=lambda params: EXCITING,
    ),
    dale,
)
NET = jaxrnn.network(LAYER, "softmax_cross_entropy")


def train(updates, seed):
    """The parameters before and after, and the error of every update."""
    rate = optax.cosine_decay_schedule(5e-3, updates)
    optimizer = optim.recurrent(optax.adam(rate), clip_norm=1.0)

    def loss(params, state, batch, key):
        xs, labels, _ = draw_trials(key, 64)
        weights = jnp.where(labels > 0, 3.0, 1.0)
        return NET.error(params, xs, labels, weights=weights), Outcome(state)

    before, errors = NET.init(jax.random.key(seed), 3, UNITS, 3), []
    state = init_train_state(before, optimizer)
    step = train_step(loss, optimizer, seed=seed)
    for _ in track(range(updates), "learning"):
        state, metrics = step(state, None)  # the batch is drawn inside, by the seed
        errors.append(metrics.error)
    return before, state.params, jnp.stack(errors)


def choices(params, xs, labels, coherence):
    """How often it is correct, how often it waits, and how often it chooses right."""
    ys, _ = NET.apply(params, xs)
    ys, labels, coherence = map(np.asarray, (ys, labels, coherence))
    right = ys[-1, :, 2] > ys[-1, :, 1]
    levels = [*(-c for c in reversed(COHERENCES)), *COHERENCES]
    # the best that can be done: to add up the evidence
    best = NormalDist(0, SENSORY * (2 / (OFF - ON)) ** 0.5)
    return {
        "correct": (right == (coherence > 0)).mean(),
        "waits": (ys.argmax(-1) == 0)[labels == 0].mean(),
        "coherence": levels,
        "right": [right[np.isclose(coherence, c)].mean() for c in levels],
        "best": [best.cdf(c) for c in levels],
        "limit": np.mean([best.cdf(c) for c in COHERENCES]),
    }


def delay(params, xs, labels, trials=30):
    """The fixed points during the delay, and some trials, in a plane."""
    xs, labels = jax.tree.map(lambda a: a[:, :trials], (xs, labels))
    states, _ = jaxrnn.unroll(LAYER, params.cell, xs, return_states=True)
    starts = states[ON : GO[0] : 5].reshape(-1, UNITS)
    waiting: Any = {"seen": jnp.array([1.0, 0.0, 0.0]), "noise": jnp.zeros(UNITS)}
    points = gradient_flow.fixed_points(LAYER, params.cell, waiting, starts)
    points = gradient_flow.distinct(points, speed=1e-9, apart=0.1)

    states, starts, at = map(np.asarray, (states, starts, points.states))
    middle = starts.mean(0)
    _, sizes, axes = np.linalg.svd(starts - middle, full_matrices=False)
    paths = (states - middle) @ axes[:2].T
    ends = (labels == 0).sum(0)
    return {
        "points": (at - middle) @ axes[:2].T,
        "eigenvalues": jnp.abs(points.eigenvalues),
        "variance": (sizes**2 / (sizes**2).sum())[:2],
        "paths": [paths[:end, i] for i, end in enumerate(ends)],
        "answers": labels[-1],
    }


def exponents(params, key, steps=500):
    """Lyapunov exponents of a long delay with noise, per second: [UNITS]."""
    seen = jnp.zeros((steps, 3)).at[:, 0].set(1.0)
    noise = PRIVATE * jax.random.normal(key, (steps, UNITS))
    xs: Any = {"seen": seen, "noise": noise}
    return gradient_flow.lyapunov_spectrum(LAYER, params.cell, xs, warmup=100) / DT


def draw(found, path):
    """Learning, choices, the plane of the fixed points, and exponents."""
    figure, ((curve, choice), (plane, rates)) = plots.panels(2, 2, (14, 8))
    curve.plot(found["errors"], color=plots.BLUE, lw=0.8, label="64 trials")
    curve.set(xlabel="updates", ylabel="cross-entropy", title="Learning")

    label = f"the network: {found['correct']:.1%} correct"
    choice.plot(found["coherence"], found["right"], "o", color=plots.BLUE, label=label)
    label = f"all evidence added up: {found['limit']:.1%}"
    choice.plot(found["coherence"], found["best"], color=plots.GREY, label=label)
    choice.set(xlabel="coherence", ylabel="share of right", title="Choices")

    for trial, answer in zip(found["paths"], found["answers"], strict=True):
        color = {1: plots.ORANGE, 2: plots.BLUE}[answer]
        plane.plot(*np.transpose(trial), color=color, lw=0.7)
    for side, color in (("left", plots.ORANGE), ("right", plots.BLUE)):
        plane.plot([], color=color, label=f"trials where {side} is correct")
    points = np.reshape(found["points"], (-1, 2))
    eigenvalues = np.reshape(found["eigenvalues"], (-1, UNITS))
    stable = eigenvalues.max(1) < 1
    for which, mark, label in ((stable, "o", "stable"), (~stable, "X", "unstable")):
        style = {"color": "k", "mec": "w", "ms": 9, "label": f"{label} fixed point"}
        plane.plot(*points[which].T, mark, **style)
    one, two = (f"{share:.0%} of the variance" for share in found["variance"])
    plane.set(xlabel=f"component 1: {one}", ylabel=f"component 2: {two}")
    plane.set_title("States until the cue, and fixed points of the delay")

    index, label = 1 + np.arange(UNITS), "ln |eigenvalues| of a stable point"
    for values in eigenvalues[stable]:
        rates.plot(index, np.log(values) / DT, color="k", lw=0.7, label=label)
        label = None
    for when, color in (("before", plots.GREY), ("after", plots.BLUE)):
        values, label = found["exponents"][when], f"{when} learning"
        rates.plot(index, values, ".", color=color, label=label)
    rates.set(xlabel="index", ylabel="1/s", title="Lyapunov exponents of a long delay")
    for axes in (curve, choice, plane, rates):
        plots.legend_outside(axes)
    plots.save(figure, path)


def main(
    updates: int = 800, seed: int = 0, quick: bool = False, out: Path | None = None
):
    """Learn, look, write results.json and the figure, and return the results.

    Args:
        updates: batches of 64 trials to learn from.
        seed: of the weights and the trials.
        quick: 100 updates.
        out: run folder; by default the next free runs/decision_task-N.
    """
    updates = 100 if quick else updates
    folder = open_run(out, "decision_task", {"updates": updates, "seed": seed})
    begun = time.perf_counter()
    before, after, errors = train(updates, seed)
    k_trials, k_noise = jax.random.split(jax.random.key(seed + 1))
    xs, labels, coherence = draw_trials(k_trials, 2000)
    results = {
        "errors": errors,
        **choices(after, xs, labels, coherence),
        **delay(after, xs, labels),
        "exponents": {
            "before": exponents(before, k_noise),
            "after": exponents(after, k_noise),
        },
        "seconds": time.perf_counter() - begun,
    }
    found = save_results(folder, results).results
    draw(found, folder / "decision_task.png")
    print(f"correct {found['correct']:.1%}, at best {found['limit']:.1%}")
    print("largest eigenvalues of fixed points:", [v[0] for v in found["eigenvalues"]])
    print(f"largest exponent: {found['exponents']['after'][0]:.1f} per second")
    print(f"{found['seconds']:.0f} s; see {folder}/")
    return found


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

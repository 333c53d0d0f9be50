"""Recurrent PPO on a T-maze: a whole program to start from.

    python -m experiments.recurrent_rl

At the start of a corridor a cue says left or right; at the junction in its end, which
always looks the same, the agent must turn that way. Episodes end in the middle of
windows (`resets`), and the state is carried from window to window. The first steps of a
window are burnt in: they only bring the state up to date with the weights. The control
is the same agent with its state reset at every step. All seeds are trained at once.

The maze: Bakker (2001), NIPS 14. PPO: Schulman et al. (2017), arXiv 1707.06347, with
the advantages of arXiv 1506.02438. Burn-in: Kapturowski et al. (2019), ICLR, §3.
"""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array, lax
from rich.progress import track

import jaxrnn
from experiments.lib import plots
from experiments.lib.run_folder import open_run, save_results
from jaxrnn import gradient_flow, optim

CORRIDOR, ROWS, WINDOW, BURN_IN, UNITS = 20, 64, 40, 8, 32
EPOCHS, DISCOUNT, TRACE, CLIP, ENTROPY = 4, 0.99, 0.95, 0.2, 0.01
CELL = jaxrnn.gru()
NET = jaxrnn.network(CELL)  # its outputs: the logits of three actions, and a value
OPTIMIZER = optim.recurrent(optax.adam(3e-3), clip_norm=0.5)


class Agent(NamedTuple):
    """What goes on from step to step, for every row."""

    place: Array  # 0, where the cue is, to CORRIDOR, the junction
    goal: Array  # which action is right at the junction: 1, left, or 2, right
    state: Any
    reset: Array  # whether the state is reset before the next step
    forgets: Array  # whether it always is, in the control


class Step(NamedTuple):
    """One step of every row; in a window, time first."""

    x: Array
    reset: Array
    action: Array
    log_prob: Array
    value: Array
    reward: Array
    done: Array


def heads(params, hs):
    """The log-probabilities of ahead, left and right, and the value."""
    ys = jaxrnn.readout(params.readout, hs)
    return jax.nn.log_softmax(ys[..., :3]), ys[..., 3]


def of_action(logs, action):
    return jnp.take_along_axis(logs, action[..., None], -1)[..., 0]


def act(params, agent, key):
    """The agents look, act and move."""
    k_action, k_goal = jax.random.split(key)
    place, goal, state, reset, forgets = agent
    at_end = place == CORRIDOR
    seen = jnp.where(place == 0, goal, jnp.where(at_end, 3, 0))
    x = jax.nn.one_hot(seen, 4)
    state, h = jaxrnn.step(CELL, params.cell, state, x, reset=reset)
    logs, value = heads(params, h)
    action = jax.random.categorical(k_action, logs)

    ahead, done = (action == 0) & ~at_end, (action > 0) & at_end
    reward = jnp.where(done & (action == goal), 1.0, jnp.where(ahead, 0.0, -0.1))
    step = Step(x, reset, action, of_action(logs, action), value, reward, done)
    place = jnp.where(done, 0, place + ahead)
    goal = jnp.where(done, jax.random.randint(k_goal, goal.shape, 1, 3), goal)
    return Agent(place, goal, state, done | forgets, forgets), step


def collect(params, agent, key):
    """Act for a window; return it, and its advantages."""
    keys = jax.random.split(key, WINDOW + 1)
    agent, steps = lax.scan(partial(act, params), agent, keys[1:])
    following = act(params, agent, keys[0])[1].value

    def back(carry, step):
        advantage, following = carry
        go_on = jnp.where(step.done, 0.0, DISCOUNT)
        surprise = step.reward + go_on * following - step.value
        advantage = surprise + go_on * TRACE * advantage
        return (advantage, step.value), advantage

    end = jnp.zeros_like(following), following
    return agent, steps, lax.scan(back, end, steps, reverse=True)[1]


def error(params, hs, steps, advantages):
    """PPO's: of the policy and of the value, less a share of the entropy."""
    logs, value = heads(params, hs)
    ratio = jnp.exp(of_action(logs, steps.action) - steps.log_prob)
    gain = (advantages - advantages.mean()) / (advantages.std() + 1e-6)
    gain = jnp.minimum(ratio * gain, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * gain)
    off = value - (steps.value + advantages)
    entropy = -(jnp.exp(logs) * logs).sum(-1)
    return (0.5 * off**2 - gain - ENTROPY * entropy).mean()


def update(learner, key):
    """Collect a window and learn from it; return the share of correct turns."""
    params, opt_state, agent = learner
    before, (agent, steps, advantages) = agent.state, collect(params, agent, key)
    learnt = jax.tree.map(lambda a: a[BURN_IN:], (steps, advantages))

    def window_error(params):
        run, resets = partial(jaxrnn.unroll, CELL, params.cell), steps.reset
        _, state = run(steps.x[:BURN_IN], before, resets=resets[:BURN_IN])
        state = lax.stop_gradient(state)
        hs, _ = run(steps.x[BURN_IN:], state, resets=resets[BURN_IN:])
        return error(params, hs, *learnt)

    def learn(carry, _):
        params, opt_state = carry
        grads = jax.grad(window_error)(params)
        changes, opt_state = OPTIMIZER.update(grads, opt_state, params)
        return (optax.apply_updates(params, changes), opt_state), None

    (params, opt_state), _ = lax.scan(learn, (params, opt_state), length=EPOCHS)
    correct = (steps.reward > 0).sum() / jnp.maximum(steps.done.sum(), 1)
    return (params, opt_state, agent), correct


def start(key, forgets):
    """A learner at the start of its maze."""
    k_params, k_goal = jax.random.split(key)
    params: Any = NET.init(k_params, 4, UNITS, 4)
    place, reset = jnp.zeros(ROWS, int), jnp.ones(ROWS, bool)
    goal = jax.random.randint(k_goal, (ROWS,), 1, 3)
    state = CELL.initial_state(params.cell, (ROWS,))
    return params, OPTIMIZER.init(params), Agent(place, goal, state, reset, forgets)


def reach(params, steps):
    """What each lag contributes to the gradient of the choices at the junction: [L]."""
    run, resets = (CELL, params.cell, steps.x), steps.reset
    hs, _ = jaxrnn.unroll(*run, resets=resets)

    def preference(hs):
        logs, _ = heads(params, hs)
        return (steps.x[..., 3] * (logs[..., 1] - logs[..., 2])).sum()

    d_hs, lags = jax.grad(preference)(hs), CORRIDOR + 5
    found = gradient_flow.lag_norms(*run, None, d_hs, lags=lags, resets=resets)
    return found.params.w_x


def draw(found, path):
    """The share of correct turns while learning; how far back the choice reaches."""
    figure, ((curves,), (lags,)) = plots.panels(2, 1, (9, 7))
    colors = (plots.BLUE, plots.ORANGE)
    for (name, correct), color in zip(found["correct"].items(), colors, strict=True):
        curves.plot(np.transpose(correct), color=color, lw=0.7, alpha=0.4)
        curves.plot(np.mean(correct, 0), color=color, lw=2, label=name)
    curves.axhline(0.5, color="0.5", lw=0.8)
    plots.note(curves, "chance", (1, 0.5), "x", (4, -3))
    curves.set(xlabel="updates", ylabel="share of correct turns", ylim=(0.3, 1.03))
    curves.set_title(f"A T-maze, {CORRIDOR} steps from the cue to the junction")
    colors = (plots.GREY, plots.BLUE)
    for (name, norms), color in zip(found["reach"].items(), colors, strict=True):
        label = f"{name}: {', '.join(map(str, found['horizon'][name]))} steps"
        shares = (np.array(norms) / np.max(norms, 1, keepdims=True)).T
        shown = np.where(shares > 0, shares, np.nan)
        lags.plot(shown, color=color, label=[label, *[None] * (len(norms) - 1)])
    lags.axvline(CORRIDOR, color="0.5", lw=0.8)
    plots.note(lags, "the cue", (CORRIDOR, 1), "y", (3, -9))
    lags.set(yscale="log", xlabel="lag: steps back from the junction")
    lags.set_ylabel("‖contribution to the gradient\nof left - right‖, of the largest")
    lags.set_title("What the choice at the junction is made of")
    plots.legend_outside(curves, 1.1)
    plots.legend_outside(lags, 1.1, title="horizon of each seed")
    plots.save(figure, path)


def main(
    updates: int = 150, seeds: int = 3, quick: bool = False, out: Path | None = None
):
    """Learn, write results.json and the figure, and return the results.

    Args:
        updates: windows to learn from, in tens.
        seeds: agents with memory, and as many without.
        quick: 60 updates of one seed.
        out: run folder; by default the next free runs/recurrent_rl-N.
    """
    updates, seeds = (60, 1) if quick else (updates, seeds)
    folder = open_run(out, "recurrent_rl", {"updates": updates, "seeds": seeds})
    begun, correct = time.perf_counter(), []

    # the agents of all seeds, with memory and without, side by side
    forgets = jnp.repeat(jnp.array([False, True]), seeds)
    keys = jnp.tile(jax.random.split(jax.random.key(0), seeds), 2)
    first = learner = jax.jit(jax.vmap(start))(keys, forgets)
    ten = jax.jit(jax.vmap(lambda learner, key: lax.scan(update, learner, key)))
    all_keys = jax.vmap(partial(jax.random.split, num=updates))(keys)
    for i in track(range(0, updates, 10), "learning"):
        learner, found = ten(learner, all_keys[:, i : i + 10])
        correct.append(np.asarray(found))
    memory, control = np.split(np.concatenate(correct, 1), 2)

    # the gradient of the choice in the same windows, by the weights before and after
    _, steps, _ = jax.jit(jax.vmap(collect))(learner[0], learner[2], keys)
    of_each = jax.jit(jax.vmap(reach))
    lags = {
        "before learning": of_each(first[0], steps)[:seeds],
        "after learning": of_each(learner[0], steps)[:seeds],
    }
    results = {
        "correct": {"with memory": memory, "reset at every step": control},
        "success": [a[:, -10:].mean(1) for a in (memory, control)],
        "reach": lags,
        "horizon": jax.tree.map(gradient_flow.effective_horizon, lags),
        "seconds": time.perf_counter() - begun,
    }
    found = save_results(folder, results).results
    draw(found, folder / "recurrent_rl.png")
    print(f"correct turns with memory, and without: {found['success']}; chance: 0.5")
    print(f"horizon: {found['horizon']}; {found['seconds']:.0f} s; see {folder}/")
    return found


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)

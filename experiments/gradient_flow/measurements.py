"""The measurements of `gradient_flow`, as functions that return numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from experiments.gradient_flow.models import Model, adding_problem, init, train
from experiments.lib.timing import Program, interleave
from jaxrnn import (
    Cell,
    NetworkParams,
    clipped,
    elman,
    gradient_flow,
    gru,
    lstm,
    network,
    optim,
)

SHARE = 0.01  # a contribution below this share of the largest one is not seen


class Profile(NamedTuple):
    """Contributions by lag of one network, and what is fitted to them."""

    norms: Any  # [L], of ∂E/∂W_s
    adjoints: Any  # [L], ‖∂E_T/∂s_{T-lag}‖
    rate: float
    low: float
    high: float
    horizon: int
    error: float  # on the task
    bias: Any  # [L], relative error of BPTT truncated at K = 1..L


class Reach(NamedTuple):
    """How far a network sees at initialisation, under one drive."""

    rate: float
    low: float
    high: float
    horizon: int
    exponent: float


def profile(model: Model, params: Any, batch: Any) -> Profile:
    """Contributions by lag to ∂E_T/∂W_s, and the bias of truncated BPTT for every K."""
    xs, targets, weights = batch
    error, d_hs = network(model.cell).cotangents(params, xs, targets, weights=weights)
    start = model.cell.initial_state(params.cell, xs.shape[1:-1])
    final = type(start)(d_hs[-1], *map(jnp.zeros_like, start[1:]))
    of = model.cell, params.cell, xs, start
    lags = gradient_flow.lag_norms(*of, final=final)
    bias = gradient_flow.truncation_bias(*of, final=final)
    fit = gradient_flow.decay_rate(lags.adjoints, skip=5)
    return Profile(
        np.asarray(lags.params.w_s),
        np.asarray(lags.adjoints),
        float(fit.rate),
        float(fit.low),
        float(fit.high),
        int(gradient_flow.effective_horizon(lags.params.w_s, SHARE)),
        float(error),
        np.asarray(bias.relative_error),
    )


def reach(
    model: Model, units: int, drive: float, *, steps: int, rows: int, seed: int
) -> Reach:
    """At initialisation, inputs N(0, drive²), no bias but the LSTM's forget bias.

    The error pulls at h_T alone, in a random direction.
    """
    k_params, k_xs, k_pull, k_start = jax.random.split(jax.random.key(seed), 4)
    bias = len(model.cell.initial_state(init(k_params, model, 8, 2, False))) > 1
    params = init(k_params, model, 8, units, bias)
    xs = drive * jax.random.normal(k_xs, (steps, rows, 8))
    # a small start, so that a network without input is not exactly at rest
    state = jax.tree.map(
        lambda s: 1e-3 * jax.random.normal(k_start, s.shape),
        model.cell.initial_state(params, (rows,)),
    )
    pulls = jax.random.normal(k_pull, state[0].shape)
    final = type(state)(pulls, *map(jnp.zeros_like, state[1:]))
    lags = gradient_flow.lag_norms(model.cell, params, xs, state, final=final)
    fit = gradient_flow.decay_rate(lags.adjoints, skip=steps // 4)
    spectrum = partial(gradient_flow.lyapunov_spectrum, model.cell, params)
    exponents = spectrum(xs, state, count=1, warmup=steps // 4)
    return Reach(
        float(fit.rate),
        float(fit.low),
        float(fit.high),
        int(gradient_flow.effective_horizon(lags.adjoints, SHARE)),
        float(exponents.mean()),
    )


class Explosion(NamedTuple):
    """Training with and without clipping: errors and norms by update."""

    errors: dict[str, Any]
    norms: dict[str, Any]


def explode(units: int, updates: int, threshold: float, rate: float, seed: int):
    """Plain gradient descent of an IRNN with and without clipping, all else the same.

    Its inputs and outputs are drawn ten times smaller, or it would not start at all.
    """
    model = Model(elman("relu", recurrent="identity"))
    k_params, k_train = jax.random.split(jax.random.key(seed))
    net = network(model.cell)
    params = net.init(k_params, 2, units, 1)
    cell = params.cell._replace(w_x=0.1 * params.cell.w_x)
    readout = params.readout._replace(w_y=0.1 * params.readout.w_y)
    params = NetworkParams(cell, readout)
    errors, norms = {}, {}
    for name, bound in (
        ("not clipped", 1e30),
        (f"clipped at {threshold:g}", threshold),
    ):
        optimizer = optim.recurrent(optax.sgd(rate), clip_norm=bound)
        options = {"steps": 50, "rows": 20, "updates": updates}
        _, e, n = train(k_train, model, params, optimizer, **options)
        errors[name], norms[name] = np.asarray(e), np.asarray(n)
    return Explosion(errors, norms)


class Cliff(NamedTuple):
    """The error of one unit over (w, b), and two steps from one point."""

    w: Any
    b: Any
    error: Any  # [b, w]
    point: Any  # (w, b)
    free: Any  # where -rate g leads
    held: Any  # and with g clipped at the threshold
    norm: float


def cliff(points: int = 200, threshold: float = 1.0, rate: float = 0.1) -> Cliff:
    """E = (σ(x_50) - 0.7)², x_t = w σ(x_{t-1}) + b, x_0 = 0.5: an Elman unit with
    s_t = σ(x_t) and no input. Pascanu et al. (2013), figure 6."""
    cell = elman("sigmoid")
    start = jaxrnn.State(jax.nn.sigmoid(jnp.full(1, 0.5)))

    def error(at):
        hs, _ = jaxrnn.unroll(cell, _unit(at), jnp.zeros((50, 1)), start)
        return ((hs[-1] - 0.7) ** 2).sum()

    w, b = np.linspace(4.5, 5.7, points), np.linspace(-3.0, -2.2, points)
    grid = jnp.stack(jnp.meshgrid(w, b), axis=-1).astype(jnp.float32)
    over = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(error))))
    errors, slopes = over(grid)
    # on the wall: where the gradient is largest, in the middle third
    sizes = np.linalg.norm(slopes, axis=-1)
    middle = np.abs(w - w.mean()) < (w[-1] - w[0]) / 6
    i, j = np.unravel_index(np.argmax(sizes * middle), sizes.shape)
    point, slope = np.asarray(grid[i, j]), np.asarray(slopes[i, j])
    clip = optim.clip_by_global_norm(threshold)
    held, _ = clip.update(slope, clip.init(slope))
    return Cliff(
        w,
        b,
        np.asarray(errors),
        point,
        point - rate * slope,
        point - rate * np.asarray(held),
        float(sizes[i, j]),
    )


def _unit(at: jax.Array) -> jaxrnn.Params:
    w, b = at
    return jaxrnn.Params(jnp.zeros((1, 1)), w.reshape(1, 1), b.reshape(1))


class Exponents(NamedTuple):
    """Measured decay against the largest Lyapunov exponent, a network a point."""

    exponent: float
    rate: float


# Elman networks over ρ and drives, LSTMs over forget biases, GRUs over drives.
FAMILIES: dict[str, list[tuple[Model, float]]] = {
    "tanh": [
        (Model(elman(), rho), d) for rho in (0.6, 0.9, 1.1, 1.3) for d in (0.1, 1.0)
    ],
    "tanh, normal W_s": [
        (Model(elman(), rho, True), d) for rho in (0.9, 1.3, 1.8) for d in (0.1, 1)
    ],
    "relu": [(Model(elman("relu"), rho), d) for rho in (0.9, 1.2) for d in (0.1, 1)],
    "LSTM": [(Model(lstm(forget_bias=b)), d) for b in (0.0, 1, 3) for d in (0.1, 1)],
    "GRU": [(Model(gru()), d) for d in (0.1, 0.5, 1, 2)],
}


def exponents(
    families: tuple[str, ...], units: int, *, steps: int, seed: int
) -> dict[str, list[Exponents]]:
    """At initialisation, of each family of networks."""
    found = {}
    for name in families:
        measured = [
            reach(model, units, drive, steps=steps, rows=4, seed=seed)
            for model, drive in FAMILIES[name]
        ]
        found[name] = [Exponents(m.exponent, m.rate) for m in measured]
    return found


def agreement(units: int, steps: int) -> dict[str, list[tuple[str, str, float]]]:
    """Every derivation of the gradient against the manual one, by dtype:
    (cell and leaf, against, relative error)."""
    found: dict[str, list[tuple[str, str, float]]] = {}
    for dtype in ("float64", "float32"):
        rows = found.setdefault(dtype, [])
        for name, cell in (("Elman", elman()), ("LSTM", lstm())):
            net = network(cell)
            params = net.init(jax.random.key(0), 2, units, 1)
            xs, targets, _ = adding_problem(jax.random.key(1), steps, 4)
            report = jaxrnn.check_gradients(net, params, xs, targets, dtype=dtype)
            rows += [
                (f"{name}: {c.leaf}", c.against, c.relative_error)
                for c in report.comparisons
                if np.isfinite(c.tolerance)
            ]
    return found


def remedies(params: Any, batch: Any, cell: Cell) -> dict[str, Any]:
    """What clipping, truncation and Ω make of a gradient: its angle to the true one."""
    xs, targets, weights = batch
    net = network(cell)
    _, d_hs = net.cotangents(params, xs, targets, weights=weights)
    true = jaxrnn.bptt(cell, params.cell, xs, None, d_hs).params
    clip = optim.clip_by_global_norm(0.5 * float(optim.global_norm(true)))
    size = float(optim.global_norm(d_hs) / np.sqrt(xs.shape[1]))
    found = {"global norm, clipped to half": clip.update(true, clip.init(true))[0]}
    for share in (1.0, 0.1, 0.01):
        inside = clipped(cell, share * size)
        name = f"adjoint, clipped at {share:g} of the error's"
        found[name] = jaxrnn.bptt(inside, params.cell, xs, None, d_hs).params
    omega = gradient_flow.norm_preservation(cell, params.cell, xs, None, d_hs)
    alpha = float(optim.global_norm(true.w_s) / optim.global_norm(omega.w_s))
    found["with Ω, as long as ∂E/∂W_s"] = true._replace(
        w_s=true.w_s + alpha * omega.w_s
    )
    return {name: gradient_flow.alignment(g, true) for name, g in found.items()}


def cost(cell: Cell, units: int, steps: int, rows: int) -> dict[str, float]:
    """Times over that of one ordinary backward pass (`bptt`), medians, interleaved."""
    key = jax.random.key(0)
    params = cell.init(key, 8, units)
    xs = jax.random.normal(key, (steps, rows, 8))
    state = cell.initial_state(params, (rows,))
    final = jax.tree.map(jnp.ones_like, state)
    d_hs = jnp.ones((steps, rows, units))
    of = (cell, params, xs, state)
    calls: dict[str, Callable[[], Any]] = {
        "bptt": lambda: jaxrnn.bptt(*of, d_hs),
        "lag_norms, one error": lambda: gradient_flow.lag_norms(*of, final=final),
        "truncation_bias, one error": lambda: gradient_flow.truncation_bias(
            *of, final=final
        ),
        "lag_norms, an error a step": lambda: gradient_flow.lag_norms(*of, d_hs),
        "truncation_bias, an error a step": lambda: gradient_flow.truncation_bias(
            *of, d_hs
        ),
    }
    programs = {
        name: Program(lambda call=call: jax.block_until_ready(call()))
        for name, call in calls.items()
    }
    times = interleave(programs, seconds=0.0, least=4)
    once = float(np.median(times["bptt"]))
    return {name: float(np.median(t)) / once for name, t in times.items()}

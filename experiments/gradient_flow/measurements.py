"""The measurements of `gradient_flow`, as functions that return numbers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxrnn
from experiments.adding import draw_batch
from experiments.gradient_flow.models import FAMILIES, Model, train
from experiments.lib.timing import Program, medians
from jaxrnn import Cell, clipped, elman, gradient_flow, gru, lstm, network, optim

SHARE = 0.01  # contributions below this share of the largest are not counted


def profile(cell: Cell, params: Any, batch: Any) -> dict[str, Any]:
    """The contributions to ∂E_T/∂W_s by lag; the bias of truncated BPTT by K."""
    xs, targets, weights = batch
    error, d_hs = network(cell).cotangents(params, xs, targets, weights=weights)
    start = cell.initial_state(params.cell, xs.shape[1:-1])
    of, final = (cell, params.cell, xs, start), _pull(start, d_hs[-1])
    lags = gradient_flow.lag_norms(*of, final=final)
    bias = gradient_flow.truncation_bias(*of, final=final)
    return {
        "norms": np.asarray(lags.params.w_s),  # [L]
        **_decay(lags.adjoints, 5),
        "horizon": int(gradient_flow.effective_horizon(lags.params.w_s, SHARE)),
        "error": float(error),
        "bias": np.asarray(bias.relative_error),  # [L], K = 1..L
    }


def _pull(state: Any, d_h: jax.Array) -> Any:
    """∂E/∂ the final state, through its h only."""
    return type(state)(d_h, *map(jnp.zeros_like, state[1:]))


def _decay(adjoints: jax.Array, skip: int) -> dict[str, float]:
    """The fitted rate per step, with its interval."""
    fit = gradient_flow.decay_rate(adjoints, skip=skip)
    return {key: float(getattr(fit, key)) for key in ("rate", "low", "high")}


def reaches(units: int, steps: int, seed: int) -> dict[str, Any]:
    """`reach` of every network, by family, network and drive, with the LSTM's bias."""
    return {
        family: {
            name: {
                f"{drive:g}": reach(model, drive, units, steps, seed, family == "LSTM")
                for drive in (0.0, 0.3, 1.0)
            }
            for name, model in models.items()
        }
        for family, models in FAMILIES.items()
    }


def reach(
    model: Model, drive: float, units: int, steps: int, seed: int, bias: bool
) -> dict[str, float]:
    """How far a network sees before training, with inputs N(0, drive²).

    The error acts on h_T only, in a random direction.
    """
    k_params, k_xs, k_pull, k_start = jax.random.split(jax.random.key(seed), 4)
    params = model.init(k_params, 8, units, bias)
    xs = drive * jax.random.normal(k_xs, (steps, 8, 8))
    # a small start, so that a network without input is not exactly at rest
    state = jax.tree.map(
        lambda s: 1e-3 * jax.random.normal(k_start, s.shape),
        model.cell.initial_state(params, (8,)),
    )
    of = (model.cell, params, xs, state)
    final = _pull(state, jax.random.normal(k_pull, state.h.shape))
    adjoints = gradient_flow.lag_norms(*of, final=final).adjoints
    exponents = gradient_flow.lyapunov_spectrum(*of, count=1, warmup=steps // 4)
    return {
        **_decay(adjoints, steps // 4),
        "horizon": int(gradient_flow.effective_horizon(adjoints, SHARE)),
        "exponent": float(exponents.mean()),
    }


def explode(units: int, updates: int, seed: int) -> dict[str, dict[str, Any]]:
    """Errors and norms by update of an IRNN's plain gradient descent, with and without
    clipping at 1, all else the same.

    Its inputs and outputs are ten times smaller; otherwise training fails at once.
    """
    cell = elman("relu", recurrent="identity")
    k_params, k_train = jax.random.split(jax.random.key(seed))
    params = network(cell).init(k_params, 2, units, 1)
    small = params.cell._replace(w_x=0.1 * params.cell.w_x)
    readout = params.readout._replace(w_y=0.1 * params.readout.w_y)
    params = params._replace(cell=small, readout=readout)
    found: dict[str, dict[str, Any]] = {"errors": {}, "norms": {}}
    for name, bound in (("not clipped", 1e30), ("clipped at 1", 1.0)):
        optimizer = optim.recurrent(optax.sgd(0.005), clip_norm=bound)
        _, *history = train(name, k_train, cell, params, optimizer, 50, 20, updates)
        found["errors"][name], found["norms"][name] = map(np.asarray, history)
    return found


def cliff(points: int = 200, rate: float = 0.1) -> dict[str, Any]:
    """The error of one unit over (w, b), and two steps from one point on its wall.

    E = (σ(x_50) - 0.7)², x_t = w σ(x_{t-1}) + b, x_0 = 0.5: an Elman unit with
    s_t = σ(x_t) and no input. Pascanu et al. (2013), figure 6.
    """
    cell, start = elman("sigmoid"), jaxrnn.State(jax.nn.sigmoid(jnp.full(1, 0.5)))

    def error(at):
        w, b = at[:1, None], at[1:]
        params = jaxrnn.Params(jnp.zeros((1, 1)), w, b)
        hs, _ = jaxrnn.unroll(cell, params, jnp.zeros((50, 1)), start)
        return ((hs[-1] - 0.7) ** 2).sum()

    w, b = np.linspace(4.5, 5.7, points), np.linspace(-3.0, -2.2, points)
    grid = jnp.stack(jnp.meshgrid(w, b), axis=-1).astype(jnp.float32)
    over = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(error))))
    errors, slopes = map(np.asarray, over(grid))
    # on the wall: where the gradient is largest, in the middle third
    sizes = np.linalg.norm(slopes, axis=-1)
    middle = np.abs(w - w.mean()) < (w[-1] - w[0]) / 6
    wall = np.unravel_index(np.argmax(sizes * middle), sizes.shape)
    point, slope = np.asarray(grid[wall]), slopes[wall]
    clip = optim.clip_by_global_norm(1.0)
    held, _ = clip.update(slope, clip.init(slope))
    return {
        "w": w,
        "b": b,
        "error": errors,  # [b, w]
        "norm": float(sizes[wall]),
        "point": point,  # (w, b), and where a step leads from it
        "free": point - rate * slope,
        "held": point - rate * np.asarray(held),
    }


def agreement(units: int, steps: int) -> dict[str, list[tuple[str, str, float]]]:
    """Every derivation of the gradient against the manual one, by dtype:
    (cell and leaf, against, relative error)."""
    xs, targets, _ = draw_batch(jax.random.key(1), steps, 4)

    def rows(dtype, name, cell):
        net = network(cell)
        params = net.init(jax.random.key(0), 2, units, 1)
        report = jaxrnn.check_gradients(net, params, xs, targets, dtype=dtype)
        return [
            (f"{name}: {c.leaf}", c.against, c.relative_error)
            for c in report.comparisons
            if np.isfinite(c.tolerance)
        ]

    return {
        dtype: rows(dtype, "Elman", elman()) + rows(dtype, "LSTM", lstm())
        for dtype in ("float64", "float32")
    }


def remedies(cell: Cell, params: Any, batch: Any) -> dict[str, Any]:
    """The angle to the true gradient after clipping, truncation and Ω."""
    xs, targets, weights = batch
    _, d_hs = network(cell).cotangents(params, xs, targets, weights=weights)
    of = (params.cell, xs, None, d_hs)
    true = jaxrnn.bptt(cell, *of).params
    clip = optim.clip_by_global_norm(0.5 * float(optim.global_norm(true)))
    size = float(optim.global_norm(d_hs) / np.sqrt(xs.shape[1]))
    found = {"global norm, clipped to half": clip.update(true, clip.init(true))[0]}
    for share in (1.0, 0.1, 0.01):
        name = f"adjoint, clipped at {share:g} of the error's"
        found[name] = jaxrnn.bptt(clipped(cell, share * size), *of).params
    omega = gradient_flow.norm_preservation(cell, *of).w_s
    alpha = float(optim.global_norm(true.w_s) / optim.global_norm(omega))
    found["with Ω, as long as ∂E/∂W_s"] = true._replace(w_s=true.w_s + alpha * omega)
    return {name: gradient_flow.alignment(g, true) for name, g in found.items()}


def costs(units: int, steps: int, rows: int) -> dict[str, dict[str, float]]:
    """Median times relative to one ordinary backward pass (`bptt`), interleaved."""
    return {
        name: _cost(cell, units, steps, rows)
        for name, cell in (("Elman", elman()), ("LSTM", lstm()), ("GRU", gru()))
    }


def _cost(cell: Cell, units: int, steps: int, rows: int) -> dict[str, float]:
    key = jax.random.key(0)
    params = cell.init(key, 8, units)
    xs = jax.random.normal(key, (steps, rows, 8))
    state = cell.initial_state(params, (rows,))
    final = jax.tree.map(jnp.ones_like, state)
    d_hs = jnp.ones((steps, rows, units))
    of = (cell, params, xs, state)
    calls: dict[str, Callable[[], Any]] = {"bptt": partial(jaxrnn.bptt, *of, d_hs)}
    tools = ("lag_norms", "truncation_bias")
    for name, tool in ((name, getattr(gradient_flow, name)) for name in tools):
        calls[f"{name}, one error"] = partial(tool, *of, final=final)
        calls[f"{name}, an error a step"] = partial(tool, *of, d_hs)
    programs = {
        name: Program(lambda call=call: jax.block_until_ready(call()))
        for name, call in calls.items()
    }
    times = medians(programs, seconds=0.0, least=4)
    return {name: t / times["bptt"] for name, t in times.items()}

"""Three LSTM layers in a stack, against the other libraries'."""

from importlib.util import find_spec
from operator import attrgetter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxrnn
from experiments.benchmarks.contenders import Size
from experiments.lib.timing import Program, compile_program, interleave
from experiments.peers import jax_peers
from experiments.peers.record import Sizes
from experiments.peers.torch import torch_runs
from jaxrnn.gradcheck import relative_errors

STACK = jaxrnn.stack(*[jaxrnn.lstm()] * 3)
SIZES = (Size(100, 32, 64, 128), Size(1000, 16, 32, 64))
AGREES = 1e-3  # the largest relative error of a gradient's leaf that is timed


def depth(seconds: float, sizes: tuple[Size, ...] = SIZES) -> list[dict[str, Any]]:
    """Time and temporary memory of every contender whose gradient agrees."""
    rows = []
    for size in sizes:
        programs = _programs(size)
        times = interleave(programs, seconds)
        for name, program in programs.items():
            row = {"cell": "3 lstm", "size": list(size), "contender": name}
            row |= {"ms": float(np.median(times[name])) * 1e3}
            rows.append(row | {"temporary_mib": program.temporary_mib})
    return rows


def _programs(size: Size) -> dict[str, Program]:
    k_params, k_xs, k_w = jax.random.split(jax.random.key(0), 3)
    params = STACK.init(k_params, size.d, size.h)
    xs = jax.random.normal(k_xs, (size.t, size.b, size.d))
    w = jax.random.normal(k_w, (size.t, size.b, size.h))

    def own(gradient):
        def error(params, xs, w):
            return (w * jaxrnn.unroll(STACK, params, xs, gradient=gradient)[0]).sum()

        return compile_program(jax.value_and_grad(error), params, xs, w)

    programs = {name: own(name) for name in ("manual", "autodiff")}
    _, wanted = programs["manual"].run()
    layers = {
        width: jax_peers(jaxrnn.lstm(), "lstm", Sizes(width, size.h))
        for width in (size.d, size.h)
    }
    for name, peer in layers[size.d].items():
        peers = [peer, *[layers[size.h][name]] * 2]
        turned = [jnp.swapaxes(a, 0, 1) if peer.batch_first else a for a in (xs, w)]

        def error(weights, xs, w, peers=peers):
            for peer, own in zip(peers, weights, strict=True):
                xs, _ = peer.run(own, xs)
            return (w * xs).sum()

        def written(params, peers=peers):
            return [p.write(own) for p, own in zip(peers, params, strict=True)]

        def through(params, written=written, given=turned, error=error):
            return error(written(params), *given)

        found = jax.jit(jax.grad(through))(params)
        if _distance(found, wanted) < AGREES:
            gradient = jax.value_and_grad(error)
            programs[name] = compile_program(gradient, written(params), *turned)
    if find_spec("torch"):
        programs["torch"] = Program(torch_runs("lstm", params, xs, w)[1])
    return programs


def _distance(found: Any, wanted: Any) -> float:
    """The largest relative error of a matrix."""
    of = attrgetter("w_x", "w_s")
    matrices = ([of(layer) for layer in layers] for layers in (found, wanted))
    return max(relative_errors(*matrices).values())

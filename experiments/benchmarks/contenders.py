"""The problem of the benchmarks, and every way to compute its error and gradient.

The error is E = Σ w·h with a random w; the gradient is with respect to every parameter.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

import jaxrnn
from experiments.lib.timing import Program, compile_program, medians
from experiments.peers import installed, jax_peers
from experiments.peers.record import Peer, Sizes, stacked
from experiments.peers.torch import torch_runs
from jaxrnn.gradcheck import relative_errors

CELLS = {"elman": jaxrnn.elman(), "lstm": jaxrnn.lstm(), "gru": jaxrnn.gru()}
DEEP = "3 lstm"
LAYERS = {**CELLS, DEEP: jaxrnn.stack(*[jaxrnn.lstm()] * 3)}
TORCH = {"torch": Peer(lambda params: params, None)}

AGREES = 1e-3  # largest relative error of a float32 gradient that agrees


class Size(NamedTuple):
    """T steps, B rows, D inputs, H units."""

    t: int
    b: int
    d: int
    h: int


class Problem(NamedTuple):
    """One cell, or the stack, and size on random data."""

    cell: str
    size: Size
    params: Any
    xs: Array
    w: Array


def pose(cell: str, size: Size, dtype: Any = jnp.float32) -> Problem:
    """Random data and fresh parameters.

    New biases are zero, so a library with fewer of them has the same weights.
    """
    k_params, k_xs, k_w = jax.random.split(jax.random.key(0), 3)
    params = LAYERS[cell].init(k_params, size.d, size.h, dtype=dtype)
    xs = jax.random.normal(k_xs, (size.t, size.b, size.d), dtype)
    w = jax.random.normal(k_w, (size.t, size.b, size.h), dtype)
    return Problem(cell, size, params, xs, w)


def own(cell: str, **options: Any) -> Peer:
    """This library's `unroll`, with its options."""

    def run(params, xs):
        return jaxrnn.unroll(LAYERS[cell], params, xs, **options)

    return Peer(lambda params: params, run)


def contenders(cell: str, size: Size) -> dict[str, Peer]:
    """The manual gradient, automatic differentiation, and every library with the cell.

    torch is not JAX and has no `run`; see `torch_runs`.
    """
    found = {"manual": own(cell), "autodiff": own(cell, gradient="autodiff")}
    if cell == DEEP:
        widths = [Sizes(width, size.h) for width in (size.d, size.h, size.h)]
        layers = [jax_peers(CELLS["lstm"], "lstm", sizes) for sizes in widths]
        found |= {name: stacked([of[name] for of in layers]) for name in layers[0]}
    else:
        found |= jax_peers(CELLS[cell], cell, Sizes(size.d, size.h))
    return found | (TORCH if installed("torch") else {})


def arguments(problem: Problem, peer: Peer) -> tuple[Any, Array, Array]:
    """Weights, xs and w in the peer's layout."""
    xs, w = problem.xs, problem.w
    if peer.batch_first:
        xs, w = (jnp.swapaxes(a, 0, 1) for a in (xs, w))
    return peer.write(problem.params), xs, w


def error(peer: Peer) -> Callable[[Any, Array, Array], Array]:
    """E as a function of the peer's weights, xs and w."""

    def value(weights, xs, w):
        return (w * peer.run(weights, xs)[0]).sum()

    return value


def program(problem: Problem, peer: Peer, gradient: bool = True) -> Program:
    """E and its gradient by the peer's weights, compiled; or E alone."""
    if peer.run is None:
        return Program(_torch(problem)[gradient])
    f = jax.value_and_grad(error(peer)) if gradient else error(peer)
    return compile_program(f, *arguments(problem, peer))


def _torch(problem: Problem) -> tuple[Callable[[], Any], Callable[[], Any]]:
    return torch_runs(problem.cell.split()[-1], *problem[2:])


def contender_program(cell: str, size: Size, name: str) -> Program:
    """A contender's gradient by its name, for a separate process."""
    return program(pose(cell, size), contenders(cell, size)[name])


def split_gradient(peer: Peer, devices: int) -> Callable[..., Any]:
    """`value_and_grad` of E with the batch split over devices."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("batch",))
    rows = PartitionSpec("batch") if peer.batch_first else PartitionSpec(None, "batch")

    def shard(weights, xs, w):
        found = jax.value_and_grad(error(peer))(weights, xs, w)
        return jax.lax.psum(found, "batch")

    return jax.shard_map(
        shard,
        mesh=mesh,
        in_specs=(PartitionSpec(), rows, rows),
        out_specs=PartitionSpec(),
        check_vma=False,  # peers do not mark what varies
    )


def reference(problem: Problem) -> Any:
    """The gradient by automatic differentiation in float64, on the same numbers."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: np.asarray(a, np.float64), problem[2:])
        slope = jax.grad(error(own(problem.cell, gradient="autodiff")))
        return jax.tree.map(np.asarray, jax.jit(slope)(*wide))


def gradient_error(problem: Problem, peer: Peer, wanted: Any) -> float:
    """Largest relative error of a matrix or `b` of a layer, in the library's layout."""
    if peer.run is None:
        _, found = _torch(problem)[1]()
    else:
        _, xs, w = arguments(problem, peer)
        slope = jax.grad(lambda params: error(peer)(peer.write(params), xs, w))
        found = jax.jit(slope)(problem.params)
    pair = [
        [(p.w_x, p.w_s, p.b) for p in ([g] if isinstance(g, jaxrnn.Params) else g)]
        for g in (found, wanted)
    ]
    return max(relative_errors(*pair).values())


def agreeing(problem: Problem) -> tuple[dict[str, Peer], dict[str, float]]:
    """The contenders that agree with float64, and every contender's error."""
    wanted, peers = reference(problem), contenders(problem.cell, problem.size)
    errors = {name: gradient_error(problem, p, wanted) for name, p in peers.items()}
    return {name: p for name, p in peers.items() if errors[name] < AGREES}, errors


def timed(
    problem: Problem, peers: Mapping[str, Peer], seconds: float
) -> list[dict[str, Any]]:
    """One row per peer: median time and temporary memory of its gradient."""
    programs = {name: program(problem, peer) for name, peer in peers.items()}
    times = medians(programs, seconds)
    about = {"cell": problem.cell, "size": list(problem.size)}
    return [
        about
        | {"contender": name, "ms": 1e3 * times[name], "temporary_mib": p.temporary_mib}
        for name, p in programs.items()
    ]

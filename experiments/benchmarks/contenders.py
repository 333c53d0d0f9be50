"""What the benchmarks compare: one problem, and every way to its error and gradient.

The error is E = Σ w·h over a random w; the gradient is with respect to every parameter.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, PartitionSpec

import jaxrnn
from experiments.lib.timing import Program, compile_program
from experiments.peers import jax_peers
from experiments.peers.record import Peer, Sizes
from experiments.peers.torch import torch_runs
from jaxrnn.gradcheck import relative_errors

CELLS = {"elman": jaxrnn.elman, "lstm": jaxrnn.lstm, "gru": jaxrnn.gru}


class Size(NamedTuple):
    """T steps, B rows, D inputs, H units."""

    t: int
    b: int
    d: int
    h: int


class Problem(NamedTuple):
    """One cell and size on random data."""

    cell: str
    size: Size
    params: jaxrnn.Params
    xs: Array
    w: Array


def pose(cell: str, size: Size, dtype: Any = jnp.float32) -> Problem:
    """Random data and fresh parameters.

    Fresh biases are zero: a library with fewer of them holds the same weights.
    """
    k_params, k_xs, k_w = jax.random.split(jax.random.key(0), 3)
    params = CELLS[cell]().init(k_params, size.d, size.h, dtype=dtype)
    xs = jax.random.normal(k_xs, (size.t, size.b, size.d), dtype)
    w = jax.random.normal(k_w, (size.t, size.b, size.h), dtype)
    return Problem(cell, size, params, xs, w)


def own(cell: str, **options: Any) -> Peer:
    """This library's `unroll`, with its options."""
    record = CELLS[cell]()

    def run(params, xs):
        return jaxrnn.unroll(record, params, xs, **options)

    return Peer(lambda params: params, run)


def jax_contenders(cell: str, size: Size) -> dict[str, Peer]:
    """By hand, by automatic differentiation, and the JAX peers."""
    ours = {"manual": own(cell), "autodiff": own(cell, gradient="autodiff")}
    return ours | jax_peers(CELLS[cell](), cell, Sizes(size.d, size.h))


def arguments(problem: Problem, peer: Peer) -> tuple[Any, Array, Array]:
    """Weights, xs and w in the layout that the peer takes."""
    xs, w = problem.xs, problem.w
    if peer.batch_first:
        xs, w = (jnp.swapaxes(a, 0, 1) for a in (xs, w))
    return peer.write(problem.params), xs, w


def error(peer: Peer) -> Callable[[Any, Array, Array], Array]:
    """E as a function of the peer's own weights, xs and w."""

    def value(weights, xs, w):
        return (w * peer.run(weights, xs)[0]).sum()

    return value


def gradient_program(problem: Problem, peer: Peer) -> Program:
    """E and its gradient in the peer's own weights, compiled."""
    return compile_program(jax.value_and_grad(error(peer)), *arguments(problem, peer))


def split_gradient(peer: Peer, devices: int) -> Callable[..., Any]:
    """E and its gradient, the batch split over devices: as `value_and_grad` of E."""
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


def reference(problem: Problem) -> jaxrnn.Params:
    """The gradient by automatic differentiation in float64, on the same numbers."""
    with jax.enable_x64(True):
        wide = jax.tree.map(
            lambda a: np.asarray(a, np.float64), (problem.params, problem.xs, problem.w)
        )
        slope = jax.grad(error(own(problem.cell, gradient="autodiff")))
        return jax.tree.map(np.asarray, jax.jit(slope)(*wide))


def gradient_error(problem: Problem, peer: Peer, wanted: jaxrnn.Params) -> float:
    """Largest relative error of a leaf of the gradient, in the library's layout."""
    _, xs, w = arguments(problem, peer)

    def value(params):
        return error(peer)(peer.write(params), xs, w)

    return largest_error(jax.jit(jax.grad(value))(problem.params), wanted)


def largest_error(found: Any, wanted: Any) -> float:
    """The largest relative error of a weight matrix or of `b`."""
    of = attrgetter("w_x", "w_s", "b")
    return max(relative_errors(of(found), of(wanted)).values())


def contender_program(cell: str, size: Size, name: str) -> Program:
    """A contender's gradient by its name, for a process of its own."""
    problem = pose(cell, size)
    if name == "torch":
        return Program(torch_runs(cell, *problem[2:])[1])
    return gradient_program(problem, jax_contenders(cell, size)[name])

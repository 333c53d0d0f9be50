"""Does the jaxlib of this machine compute gradients right, and in linear time?

    python -m jaxrnn.selfcheck

Every gradient is computed compiled and op by op, since a compiler that miscomputes
gives two numbers; and four times the steps must not take sixteen times the time. The
exit code is 1 if something is wrong, and the last lines say what to do.
"""

import argparse
import math
import os
import platform
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.metadata import version
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrnn._core.compiler import FAULTS, faults_here
from jaxrnn.cells import elman, gru, indrnn, layer_norm, lru, lstm, mgu, mingru
from jaxrnn.layers import bidirectional, stack, transition
from jaxrnn.networks import network

SIZES = 2, 4, 2  # inputs, units, outputs
FEW, MANY = (9, 3), (4, 8200)  # steps and rows: 27 of them in all, and above 32,768
PLANS = ("states", 4), ("activations", 4), ("borders", 4)
ALLOWED = {"float32": 1e-4, "float64": 1e-10}  # of the norm of a parameter's gradient
STEPS = (1000, 4000, 16_000)
QUADRATIC = 8  # times the time for four times the steps: between 4 and 16


def leaky(params, state, x):
    h = 0.5 * state + 0.5 * jnp.tanh(x @ params["w_x"] + state @ params["w_s"])
    return h, h


def leaky_params(key, inputs, units):
    return {"w_x": jnp.ones((inputs, units)), "w_s": jnp.ones((units, units))}


LAYERS = {
    "elman": elman(),
    "lstm": lstm(),
    "gru": gru(),
    "mgu": mgu(),
    "indrnn": indrnn(),
    "mingru": mingru(),
    "lru": lru(),
    "layer norm": layer_norm(gru()),
    "stack": stack(lstm(), gru()),
    "bidirectional": bidirectional(gru()),
    "transition": transition(
        leaky, init=leaky_params, initial_state=lambda p: jnp.zeros_like(p["w_s"][0])
    ),
}


class Case(NamedTuple):
    """A gradient to compute compiled and op by op; None is the default."""

    name: str
    size: tuple[int, int]
    dtype: str = "float32"
    store: str | None = None
    chunk_size: int | None = None

    def __str__(self):
        steps, rows = self.size
        plan = f"{self.store or 'default'}, {self.chunk_size or 'default'}"
        return f"{self.name:14} {steps} x {rows:<6,} {self.dtype}  {plan:16}"


def cases() -> Iterator[Case]:
    """Every layer, with stores and chunk sizes in turn; then many rows."""
    for name, plan in zip(LAYERS, cycle(PLANS), strict=False):
        yield Case(name, FEW, "float32", *plan)
    for name in ("elman", "lstm", "transition"):
        yield Case(name, MANY)
    yield Case("elman", MANY, "float64")


def compiled(f: Callable[..., Any]) -> Callable[..., Any]:
    return jax.jit(f)


def drawn(name: str, size: tuple[int, int], dtype: str = "float32") -> tuple[Any, Any]:
    """A network and its params, xs and targets, by NumPy, which compiles nothing."""
    rng = np.random.default_rng(0)
    net: Any = network(LAYERS[name])
    like = jax.eval_shape(lambda: net.init(jax.random.key(0), *SIZES))
    shapes = like, *(jax.ShapeDtypeStruct((*size, n), "float32") for n in SIZES[::2])
    return net, jax.tree.map(
        lambda a: (0.5 * rng.standard_normal(a.shape)).astype(dtype), shapes
    )


def disagreement(case: Case) -> float:
    """The largest relative error of a compiled gradient against the same op by op.

    Over the error and every parameter of a network, with lengths and resets; NaN if a
    gradient is not finite.
    """
    steps, rows = case.size
    with jax.enable_x64(case.dtype == "float64"):
        net, given = drawn(case.name, case.size, case.dtype)
        edges = {"lengths": np.arange(rows) % steps + 1}
        edges["resets"] = np.arange(steps * rows).reshape(case.size) % 7 == 0
        run = partial(net.gradients, store=case.store, chunk_size=case.chunk_size)
        found = compiled(run)(*given, **edges)
        with jax.disable_jit():  # one plan for all, whose operations are compiled once
            wanted = net.gradients(*given, **edges)
        errors = jax.tree.leaves(jax.tree.map(relative_error, found, wanted))
        return float(np.max(errors))


def relative_error(found: Any, wanted: Any) -> float:
    found, wanted = (np.asarray(a, np.float64) for a in (found, wanted))
    return float(np.linalg.norm(found - wanted) / (np.linalg.norm(wanted) or 1.0))


def timer(name: str) -> Callable[[int], float]:
    """`time_of(steps)`: the processor's seconds for one compiled gradient of one row.

    Not the clock's: other programs on the machine do not count.
    """
    run = compiled(network(LAYERS[name]).gradients)

    def time_of(steps):
        given = drawn(name, (steps, 1))[1]
        start = time.process_time()
        jax.block_until_ready(run(*given))
        return time.process_time() - start

    return time_of


def growth(
    time_of: Callable[[int], float], sizes: Sequence[int], rounds: int = 10
) -> list[float]:
    """The time of each size as a multiple of that of the size before.

    Each is the best of several rounds, in which the sizes take turns; the first, which
    compiles, does not count. A good result ends them after three.
    """
    best, factors = dict.fromkeys(sizes, float("inf")), []
    for n in range(rounds + 1):
        times = {size: time_of(size) for size in sizes}
        if n > 0:
            best = {size: min(best[size], times[size]) for size in sizes}
            factors = [best[after] / best[before] for before, after in pairwise(sizes)]
        if n >= 3 and overall(factors) < QUADRATIC / 1.5:
            break
    return factors


def overall(factors: Sequence[float]) -> float:
    """The geometric mean: one size that was measured badly does not decide alone."""
    return math.prod(factors) ** (1 / len(factors))


def check_gradients() -> Iterator[str]:
    """Print a line for every case, and give what is wrong."""
    print(f"{'gradient':14} {'steps x rows':20} {'store, chunk':16}    error  allowed")
    for case in cases():
        found, allowed = disagreement(case), ALLOWED[case.dtype]
        right = found <= allowed  # NaN is not
        verdict = "ok" if right else "WRONG"
        print(f"{case} {found:8.0e} {allowed:8.0e}  {verdict}", flush=True)
        if not right:
            yield (
                f"the compiled gradient of {case.name} is not the same op by op: use "
                "another version (pip install -U jax jaxlib), or set "
                f"XLA_FLAGS={FAULTS[0].flag} before jax is imported"
            )


def check_time() -> Iterator[str]:
    """Print a line for every network, and give what is wrong."""
    sizes = ", ".join(f"{n:,}" for n in STEPS)
    print(f"\ntime of {sizes} steps: 4 times each other, 16 times if quadratic")
    for name in ("elman", "lstm"):
        factors = growth(timer(name), STEPS)
        slow = overall(factors) > QUADRATIC
        said = ", ".join(f"{factor:.1f}" for factor in factors)
        print(f"{name:14} {said:12} {'SLOW' if slow else 'ok'}", flush=True)
        if slow:
            cure = FAULTS[1].cure
            yield f"the time of {name} grows faster than its steps: {cure}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all checks; 1 if something is wrong."""
    parser = argparse.ArgumentParser("python -m jaxrnn.selfcheck", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=r"jax [\d.]+ ")  # said below
    start = time.perf_counter()
    versions = ", ".join(f"{name} {version(name)}" for name in ("jax", "jaxlib"))
    backend = f"{jax.default_backend()}, {os.cpu_count()} cores"
    print(f"Python {platform.python_version()}, {versions}, {backend}\n")
    wrong = [*check_gradients(), *check_time()]
    known = [f"jax {f.version} {f.what}; {f.cure}" for f in faults_here()]
    lines = [f"\nKnown: {said}." for said in known]
    lines += [f"\nWrong: {said}." for said in dict.fromkeys(wrong)]
    print("".join(lines))
    verdict = "Something is wrong" if wrong else "All is well"
    print(f"{verdict}: {time.perf_counter() - start:.0f} s.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())

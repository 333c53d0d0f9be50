"""Measuring interleaved times, compiled memory and resident memory."""

import ctypes
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray


class Program(NamedTuple):
    """A program to run; if compiled, its compile time and its memory."""

    run: Callable[[], Any]
    compile_seconds: float | None = None
    temporary_mib: float | None = None


def compile_program(f: Callable[..., Any], *args: Any) -> Program:
    """Compile `f(*args)`, and place its arguments where the program expects them."""
    begun = time.perf_counter()
    program = jax.jit(f).lower(*args).compile()
    seconds = time.perf_counter() - begun
    analysis = program.memory_analysis()
    placed = jax.device_put(args, program.input_shardings[0])
    devices = len(jax.tree.leaves(placed)[0].sharding.device_set)
    return Program(
        lambda: jax.block_until_ready(program(*placed)),
        seconds,
        devices * analysis.temp_size_in_bytes / 2**20 if analysis else None,
    )


def interleave(
    programs: Mapping[str, Program], seconds: float, least: int = 5
) -> dict[str, NDArray]:
    """Seconds of each program in each round; every round runs all of them once."""
    for program in programs.values():
        program.run()
    rounds: dict[str, list[float]] = {name: [] for name in programs}
    begun, done = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds or done < least:
        done += 1
        for name, program in programs.items():
            start = time.perf_counter()
            program.run()
            rounds[name].append(time.perf_counter() - start)
    return {name: np.array(times) for name, times in rounds.items()}


def medians(programs: Mapping[str, Program], seconds: float, least: int = 5) -> Any:
    """The median seconds of each program, all of them interleaved."""
    times = interleave(programs, seconds, least)
    return {name: float(np.median(t)) for name, t in times.items()}


class Rates(NamedTuple):
    """The peak rates of this machine, measured in the same run."""

    flops: float  # per second, in a float32 product of 1024 x 1024 matrices
    bytes: float  # per second, read and written when adding one to 64 MiB


def machine_rates() -> Rates:
    """Measure the rates for the floor: the best of twenty tries each."""
    product = compile_program(lambda a: a @ a, jnp.ones((1024, 1024)))
    copy = compile_program(lambda b: b + 1, jnp.ones(2**24))
    times = interleave({"product": product, "copy": copy}, seconds=0.0, least=20)
    return Rates(2 * 1024**3 / times["product"].min(), 8 * 2**24 / times["copy"].min())


def resident_mib(make: Callable[..., Program], *args: Any) -> float | None:
    """Peak resident memory of one run above that before it, in MiB.

    It is measured in a separate process, where `make(*args)` builds the program. None
    if the system does not report it (Linux does).
    """
    if sys.platform != "linux":
        return None
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident, (make, args))


def _resident(make, args) -> float:
    program = make(*args)
    ctypes.CDLL(None).malloc_trim(0)  # free the memory of compiling
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    program.run()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

"""Compilers with known faults on a CPU."""

import os
import warnings
from functools import cache
from typing import NamedTuple

import jax


class Fault(NamedTuple):
    """A fault of a jax version, and its cure; `flag` in XLA_FLAGS cures it as well."""

    version: str
    what: str
    cure: str
    flag: str = ""


_NO_YNN = "--xla_cpu_experimental_ynn_fusion_type="

FAULTS = (
    Fault(
        "0.10.2",
        "miscomputes some programs on a CPU (jax issues 39103 and 40412), none of "
        "jaxrnn's that are known",
        f"for your own, use a newer jax, or set XLA_FLAGS={_NO_YNN} before jax is "
        "imported",
        _NO_YNN,
    ),
    Fault(
        "0.11.1",
        "takes time quadratic in the steps for a scan that stacks less than 256 bytes "
        "a step on a CPU (jax issue 40101), jaxrnn's among them",
        "use jax and jaxlib 0.11.2 or newer",
    ),
)


def faults_here() -> list[Fault]:
    """The known faults of this jax, unless a flag cures them or it runs elsewhere."""
    flags = os.environ.get("XLA_FLAGS", "")
    if jax.default_backend() != "cpu":
        return []
    mine = (fault for fault in FAULTS if fault.version == jax.__version__)
    return [fault for fault in mine if not fault.flag or fault.flag not in flags]


@cache
def warn_of_compiler() -> None:
    """Warn once if this jax has a known fault."""
    for fault in faults_here():
        warnings.warn(f"jax {fault.version} {fault.what}; {fault.cure}", stacklevel=3)

"""Compilers with known faults."""

import os
import warnings
from functools import cache

import jax

_CURE = "--xla_cpu_experimental_ynn_fusion_type="


@cache
def warn_of_compiler() -> None:
    """Warn once about the jax version that miscomputes some programs on a CPU."""
    cured = _CURE in os.environ.get("XLA_FLAGS", "")
    if jax.__version__ == "0.10.2" and jax.default_backend() == "cpu" and not cured:
        warnings.warn(
            "jax 0.10.2 miscomputes some programs on a CPU (jax issues 39103 and "
            "40412), none of jaxrnn's that are known; for your own, use a newer jax, "
            f"or set XLA_FLAGS={_CURE} before jax is imported",
            stacklevel=3,
        )

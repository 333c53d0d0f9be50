"""Shared settings: 8 CPU devices, strict promotion of dtypes and ranks, fixed keys."""

import hypothesis
import jax
import pytest

# Before JAX starts its backend.
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

hypothesis.settings.register_profile(
    "fixed", deadline=None, derandomize=True, max_examples=10, database=None
)
hypothesis.settings.load_profile("fixed")


@pytest.fixture
def key():
    """The same key in every run."""
    return jax.random.key(20)


@pytest.fixture
def x64():
    """float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def compile_fast():
    """Skip XLA's optimisations, in tests that check only the mathematics."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    jax.clear_caches()  # no other module may run these programs, nor this one theirs
    yield
    jax.config.update("jax_disable_most_optimizations", before)
    jax.clear_caches()


@pytest.fixture
def optax_promotes():
    """JAX's own rules: optax.adam raises a float to an int32, which strict forbids."""
    with jax.numpy_dtype_promotion("standard"):
        yield

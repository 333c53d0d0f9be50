"""Mixed precision: products in bfloat16, everything else in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike

from jaxrnn import elman, lstm, mixed_precision, unroll

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("cell", [elman(), lstm()], ids=str)
def test_mixed_precision_rounds_products_and_never_weight_gradients(cell):
    """Nearer to float64 than a run that is in bfloat16 throughout."""
    low = mixed_precision(cell)
    params = cell.init(jax.random.key(0), 8, 16, dtype=jnp.float32)
    xs = jax.random.normal(jax.random.key(1), (100, 4, 8), jnp.float32)
    w = jax.random.normal(jax.random.key(2), (100, 4, 16), jnp.float32)

    def slope(cell, dtype, gradient="manual"):
        p, x, ws = jax.tree.map(lambda a: a.astype(dtype), (params, xs, w))

        def loss(p):
            hs, final = unroll(cell, p, x, gradient=gradient)
            assert {a.dtype for a in jax.tree.leaves((hs, final))} == {jnp.dtype(dtype)}
            return (hs * ws).sum() / 100

        return jax.jit(jax.grad(loss))(p)

    exact = slope(cell, jnp.float64)
    by_hand = slope(low, jnp.float32)
    assert_alike(by_hand, slope(low, jnp.float32, "autodiff"), 0.02)

    def off(g):
        return max(
            float(np.linalg.norm(np.float64(a) - b) / np.linalg.norm(b))
            for a, b in zip(g[:2], exact[:2], strict=True)
        )

    assert off(by_hand) < 0.01 and off(by_hand) < 0.7 * off(slope(cell, jnp.bfloat16))
    for g in jax.tree.leaves(by_hand):  # the control: it is no bfloat16 number
        assert g.dtype == jnp.float32
        assert (g != g.astype(jnp.bfloat16).astype(g.dtype)).mean() > 0.9
    assert off(by_hand) > 1e-5 > off(slope(cell, jnp.float32))


def test_mixed_precision_multiplies_in_its_dtype_and_nothing_else():
    """Seen in the program: every product reads bfloat16 and sums in float32."""
    cell = mixed_precision(lstm(), "bfloat16")
    assert cell == mixed_precision(lstm())
    params = cell.init(jax.random.key(0), 8, 16, dtype=jnp.float32)
    xs = jnp.ones((30, 4, 8), jnp.float32)
    loss = jax.grad(lambda p: unroll(cell, p, xs)[0].sum())
    text = str(jax.make_jaxpr(loss)(params))
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert len(products) >= 5
    at = text.count("preferred_element_type=float32")
    assert at == len(products) == text.count("dot_general[")
    for wrong in ("bfloat17", "int8", None, jnp.float64):
        with pytest.raises(ValueError, match="compute_dtype: expected bfloat16"):
            mixed_precision(lstm(), wrong)
    same, plain = mixed_precision(lstm(), jnp.float32), lstm()
    assert_alike(unroll(same, params, xs)[0], unroll(plain, params, xs)[0], 1e-6)

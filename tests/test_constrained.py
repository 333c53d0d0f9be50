"""Constrained layers, and layers without memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike

import jaxrnn
from jaxrnn import gradient_flow, online, parallel

pytestmark = pytest.mark.usefixtures("compile_fast")

T, B, D, H = 6, 2, 3, 5
EXACT = 1e-12
SIGNS = np.where(np.arange(H) < 4, 1.0, -1.0)
MASK = np.eye(H, k=1) + np.eye(H, k=-1)


def dale(params):
    return params._replace(w_s=jnp.abs(params.w_s) * SIGNS[:, None])


def masked(params):
    return params._replace(w_s=params.w_s * MASK)


def product(params):
    left, right = params.w_s
    return params._replace(w_s=left @ right.T)


def factors(params):
    return params._replace(w_s=(params.w_s[:, :2], params.w_s[:, 2:4]))


def orthogonal(params):
    skew = params.w_s - params.w_s.T
    return params._replace(w_s=jax.scipy.linalg.expm(skew))


@pytest.fixture(params=["dale", "masked", "product", "orthogonal"])
def drawn(request, x64):
    constrain = globals()[request.param]
    raw = factors if constrain is product else None
    layer = jaxrnn.constrained(jaxrnn.elman(), constrain, raw=raw)
    params = layer.init(jax.random.key(0), D, H, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    return layer, constrain, params, xs


def test_every_run_and_gradient_is_that_of_the_constrained_parameters(drawn):
    layer, constrain, params, xs = drawn

    def ours(params):
        return jnp.sin(jaxrnn.unroll(layer, params, xs)[0]).sum()

    def theirs(params):
        made = constrain(params)
        h, total = jnp.zeros((B, H)), 0.0
        for x in xs:
            h = jnp.tanh(x @ made.w_x + h @ made.w_s + made.b[None])
            total += jnp.sin(h).sum()
        return total

    wanted = jax.value_and_grad(theirs)(params)
    assert_alike(jax.value_and_grad(ours)(params), wanted, EXACT)
    hs, _ = jaxrnn.unroll(layer, params, xs)
    back = jaxrnn.bptt(layer, params, xs, cotangents=jnp.cos(hs))
    assert_alike(back.params, wanted[1], EXACT)
    assert_alike(parallel.bptt(layer, params, xs, cotangents=jnp.cos(hs)), back, EXACT)
    start = layer.initial_state(params, (B,))
    found = online.gradient(online.rtrl(layer), params, xs, start, jnp.cos(hs))
    assert_alike(found, wanted[1], EXACT)


def test_instruments_see_the_constrained_parameters(drawn):
    layer, constrain, params, xs = drawn
    ours = gradient_flow.step_jacobians(layer, params, xs)
    theirs = gradient_flow.step_jacobians(jaxrnn.elman(), constrain(params), xs)
    assert_alike(ours, theirs, EXACT)
    net = jaxrnn.network(layer)
    whole = net.init(jax.random.key(0), D, H, 2, dtype=jnp.float64)
    report = jaxrnn.check_gradients(net, whole, xs, jnp.ones((T, B, 2)))
    report.assert_close()


def test_control_without_the_constraint_the_run_differs(drawn):
    layer, constrain, params, xs = drawn
    if constrain is product:
        pytest.skip("its raw parameters are no cell's")
    with pytest.raises(AssertionError):
        assert_alike(
            jaxrnn.unroll(layer, params, xs),
            jaxrnn.unroll(jaxrnn.elman(), params, xs),
            EXACT,
        )


def test_entries_that_a_mask_leaves_out_have_no_gradient(x64):
    layer = jaxrnn.constrained(jaxrnn.elman(), masked)
    params = layer.init(jax.random.key(0), D, H, dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    grad = jax.grad(lambda p: jaxrnn.unroll(layer, p, xs)[0].sum())(params).w_s
    assert not np.any(np.asarray(grad)[MASK == 0])
    assert np.all(np.asarray(grad)[MASK == 1])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((jaxrnn.elman(), None), "constrain: expected a function, got NoneType"),
        ((jaxrnn.elman, dale), "layer: expected a Cell or a Layer"),
    ],
)
def test_wrong_calls_are_named(args, said):
    with pytest.raises(TypeError, match=said):
        jaxrnn.constrained(*args)


# Without a memory -------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh"])
def test_a_dense_layer_between_recurrent_ones_of_other_sizes(activation, x64):
    layer = jaxrnn.stack(jaxrnn.lstm(), jaxrnn.dense(activation), jaxrnn.gru())
    params = layer.init(jax.random.key(0), D, (7, 6, 4), dtype=jnp.float64)
    xs = jax.random.normal(jax.random.key(1), (T, B, D))
    _, dense, above = params
    phi = getattr(jax.nn, activation)

    def ours(params):
        return jaxrnn.unroll(layer, params, xs)[0].sum()

    def theirs(params):
        below, dense, above = params
        hs, _ = jaxrnn.unroll(jaxrnn.lstm(), below, xs, gradient="autodiff")
        hs = phi(hs @ dense.w + dense.b[None, None])
        return jaxrnn.unroll(jaxrnn.gru(), above, hs, gradient="autodiff")[0].sum()

    assert dense.w.shape == (7, 6) and above.w_s.shape[0] == 4
    wanted = jax.value_and_grad(theirs)(params)
    assert_alike(jax.value_and_grad(ours)(params), wanted, EXACT)


def test_what_a_dense_layer_puts_out_past_the_length_is_zero():
    layer = jaxrnn.stack(jaxrnn.lstm(), jaxrnn.dense())
    lower, upper = layer.init(jax.random.key(0), D, (H, 4))
    params = lower, upper._replace(b=jnp.ones(4))
    hs, _ = jaxrnn.unroll(layer, params, jnp.ones((T, 2, D)), lengths=[2, T])
    assert not hs[2:, 0].any() and hs[:2, 0].all() and hs[:, 1].all()

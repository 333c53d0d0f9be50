"""Working with other code: modules of flax and equinox, optax masks, vmapped seeds, a
whole training in one scan."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from table import assert_alike

import jaxrnn

T, B, D, H = 8, 4, 3, 6


@pytest.fixture(autouse=True)
def loose_dtypes():
    """Adam and flax's modules mix integers with floats, and ranks."""
    loose = jax.numpy_dtype_promotion("standard")
    with loose, jax.numpy_rank_promotion("allow"):
        yield


XS = np.random.default_rng(0).standard_normal((T, B, D)).astype("float32")
TARGETS = XS[:, :, :1].cumsum(0)

NET = jaxrnn.network(jaxrnn.lstm())


def trained(optimizer, params, steps=60):
    """A whole training in one scan: the last parameters and every error."""

    def update(carry, _):
        params, state = carry
        error, grads = NET.gradients(params, XS, TARGETS)
        updates, state = optimizer.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), error

    start = params, optimizer.init(params)
    (params, _), errors = lax.scan(update, start, length=steps)
    return params, errors


def test_a_whole_training_is_one_scan_and_seeds_are_one_vmap():
    optimizer = jaxrnn.optim.recurrent(optax.adam(3e-2), clip_norm=1.0)
    keys = jax.random.split(jax.random.key(0), 3)
    init = partial(NET.init, input_size=D, hidden_size=H, output_size=1)
    many = jax.vmap(init)(keys)
    params, errors = jax.jit(jax.vmap(partial(trained, optimizer)))(many)
    assert errors.shape == (3, 60)
    assert (errors[:, -1] < 0.5 * errors[:, 0]).all()
    alone, _ = jax.jit(partial(trained, optimizer))(init(keys[1]))
    assert_alike(jax.tree.map(lambda a: a[1], params), alone, 1e-4)


def test_weight_decay_on_w_s_only_by_its_name():
    params = NET.init(jax.random.key(0), D, H, 1)

    def recurrent_only(tree):
        def named(path, leaf):
            del leaf
            return "w_s" in jax.tree_util.keystr(path)

        return jax.tree_util.tree_map_with_path(named, tree)

    decay = optax.add_decayed_weights(0.1, mask=recurrent_only)
    nothing = jax.tree.map(jnp.zeros_like, params)
    updates, _ = decay.update(nothing, decay.init(params), params)
    np.testing.assert_allclose(updates.cell.w_s, 0.1 * params.cell.w_s, rtol=1e-6)
    assert not np.any(updates.cell.w_x) and not np.any(updates.readout.w_y)


def test_a_module_of_equinox():
    eqx = pytest.importorskip("equinox")

    class Recurrent(eqx.Module):
        params: jaxrnn.NetworkParams
        net: jaxrnn.Network = eqx.field(static=True)

        def __init__(self, net, key):
            self.net = net
            self.params = net.init(key, D, H, 1)

        def __call__(self, xs):
            return self.net.apply(self.params, xs)[0]

    model = Recurrent(NET, jax.random.key(0))
    optimizer = optax.adam(3e-2)
    state = optimizer.init(eqx.filter(model, eqx.is_array))

    @eqx.filter_jit
    def update(model, state):
        def loss(model):
            return ((model(XS) - TARGETS) ** 2).mean()

        error, grads = eqx.filter_value_and_grad(loss)(model)
        updates, state = optimizer.update(grads, state)
        return eqx.apply_updates(model, updates), state, error

    errors = []
    for _ in range(60):
        model, state, error = update(model, state)
        errors.append(float(error))
    assert errors[-1] < 0.5 * errors[0]


def test_a_module_of_flax_nnx():
    nnx = pytest.importorskip("flax.nnx")

    class Recurrent(nnx.Module):
        def __init__(self, net, rngs):
            self.net = net
            params = net.init(rngs.params(), D, H, 1)
            leaves, self.tree = jax.tree.flatten(params)
            self.leaves = nnx.List([nnx.Param(a) for a in leaves])

        def __call__(self, xs):
            params = jax.tree.unflatten(self.tree, [p[...] for p in self.leaves])
            return self.net.apply(params, xs)[0]

    model = Recurrent(NET, nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-2), wrt=nnx.Param)

    @nnx.jit
    def update(model, optimizer):
        def loss(model):
            return ((model(XS) - TARGETS) ** 2).mean()

        error, grads = nnx.value_and_grad(loss)(model)
        optimizer.update(model, grads)
        return error

    errors = [float(update(model, optimizer)) for _ in range(60)]
    assert errors[-1] < 0.5 * errors[0]

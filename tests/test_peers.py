"""Every peer runs the library's cells: equal outputs and gradients on equal weights."""

import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrnn
from experiments.peers import JAX_PEERS, jax_peers

T, B, D, H = 5, 3, 2, 4
CELLS = {"elman": jaxrnn.elman(), "lstm": jaxrnn.lstm(), "gru": jaxrnn.gru()}
# The gates r, z, n whose bias on the recurrent side the library's GRU holds
GRU_B_S = {"flax linen": (0, 0, 1), "flax nnx": (0, 0, 0), "equinox": (0, 0, 1)}

pytestmark = pytest.mark.usefixtures("compile_fast")


@pytest.fixture(params=JAX_PEERS)
def name(request):
    """The name of a peer."""
    return request.param


@pytest.fixture(params=CELLS)
def cell(request):
    """The name of a cell."""
    return request.param


@pytest.fixture
def peer(name, cell):
    """That cell in that library."""
    found = jax_peers(cell, H).get(name)
    if found is None:
        pytest.skip(f"{name} is not installed, or has no {cell}")
    return found


@pytest.fixture
def params(key, name, cell):
    """Fresh weights with random biases, as many as the peer holds."""
    fresh = CELLS[cell].init(key, D, H)
    k_b, k_b_s = jax.random.split(key)
    b_s = fresh.b_s
    if b_s is not None:
        held = jnp.repeat(jnp.array(GRU_B_S.get(name, (1, 1, 1)), jnp.float32), H)
        b_s = held * jax.random.normal(k_b_s, b_s.shape)
    return fresh._replace(b=jax.random.normal(k_b, fresh.b.shape), b_s=b_s)


@pytest.fixture
def xs(key):
    """Inputs [T, B, D]."""
    return jax.random.normal(key, (T, B, D))


def outputs(peer, params, xs):
    """The peer's hs [T, B, H], whatever its own layout."""
    if not peer.batch_first:
        return peer.run(peer.convert(params), xs)
    hs = peer.run(peer.convert(params), jnp.swapaxes(xs, 0, 1))
    return jnp.swapaxes(hs, 0, 1)


def apart(found, wanted):
    """The relative distance of two arrays."""
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def test_a_peer_agrees(peer, cell, params, xs, key):
    w = jax.random.normal(key, (T, B, H))

    def ours(params):
        hs = jaxrnn.unroll(CELLS[cell], params, xs, gradient="autodiff")[0]
        return (w * hs).sum(), hs

    def theirs(params):
        hs = outputs(peer, params, xs)
        return (w * hs).sum(), hs

    wanted, wanted_hs = jax.jit(jax.grad(ours, has_aux=True))(params)
    found, found_hs = jax.jit(jax.grad(theirs, has_aux=True))(params)
    assert found_hs.shape == (T, B, H)
    assert apart(found_hs, wanted_hs) < 1e-4
    for part in ("w_x", "w_s", "b"):
        assert apart(getattr(found, part), getattr(wanted, part)) < 1e-4, part


def test_a_peer_with_two_gates_swapped_does_not_agree(peer, cell, params, xs):
    wide = H if CELLS[cell].gates > 1 else H // 2  # or an only gate's two halves

    def swapped(a):
        return jnp.concatenate(
            [a[..., wide : 2 * wide], a[..., :wide], a[..., 2 * wide :]], axis=-1
        )

    wrong = params._replace(
        w_x=swapped(params.w_x), w_s=swapped(params.w_s), b=swapped(params.b)
    )
    wanted = jaxrnn.unroll(CELLS[cell], params, xs)[0]
    assert apart(jax.jit(outputs, static_argnums=0)(peer, wrong, xs), wanted) > 1e-2


def test_keras_on_another_backend_is_refused(monkeypatch):
    loaded = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", loaded)
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(RuntimeError, match="expected the backend 'jax', got 'torch'"):
        JAX_PEERS["keras"]("lstm", H)

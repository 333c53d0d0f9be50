"""Transitions that are not cells, as researchers write them: one row, any pytrees."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrnn import Transition, transition

H, D, N = 6, 3, 4  # units, inputs, slots or columns of a memory


class Case(NamedTuple):
    """A transition, its parameters, and `draw(key, axes) -> xs`."""

    layer: Transition
    params: Any
    draw: Callable[..., Any]


def vectors(key, axes, dtype=None):
    return jax.random.normal(key, (*axes, D), dtype)


def weights(dtype=None, **shapes):
    """Matrices of variance 1/rows, vectors of small numbers."""
    keys = jax.random.split(jax.random.key(1), len(shapes))
    return {
        name: jax.random.normal(key, shape, dtype) / jnp.sqrt(shape[0]).astype(dtype)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def leaky(params, s, x):
    """A leaky rate network with noise drawn from a key, its signs by Dale's law."""
    signs = jnp.where(jnp.arange(H) < 4, 1.0, -1.0).astype(s.dtype)
    drive = (
        jnp.tanh(s) @ (jnp.abs(params["w_s"]) * signs[:, None]) + x["x"] @ params["w_x"]
    )
    noise = 0.1 * jax.random.normal(x["key"], s.shape, s.dtype)
    s = s + x["dt"] * (drive + params["b"] - s) + noise
    return s, jnp.tanh(s)


def leaky_inputs(key, axes, dtype=None):
    k_x, k_dt, k_key = jax.random.split(key, 3)
    dt = jax.random.uniform(k_dt, axes, dtype, 0.1, 0.3)
    return {
        "dt": dt,
        "key": jax.random.split(k_key, axes),
        "x": vectors(k_x, axes, dtype),
    }


def low_rank(params, h, x):
    """A network whose W_s has rank 2."""
    h = jnp.tanh((h @ params["m"]) @ params["n"].T + x @ params["w_x"])
    return h, h


def integration(params, h, x):
    """Multiplicative integration (Wu et al. 2016, arXiv 1606.06630, equation 4)."""
    u, v = x @ params["w_x"], h @ params["w_s"]
    p = params
    h = jnp.tanh(p["a"] * u * v + p["b1"] * u + p["b2"] * v + p["b"])
    return h, h


class Stabilised(NamedTuple):
    h: Any
    c: Any
    n: Any
    m: Any


def exponential(params, s, x):
    """Exponential gates with a stabiliser (Beck et al. 2024, 2405.04517, §2.2)."""
    i, f, z, o = jnp.split(x @ params["w_x"] + s.h @ params["w_s"] + params["b"], 4)
    m = jnp.maximum(f + s.m, i)
    i, f = jnp.exp(i - m), jnp.exp(f + s.m - m)
    c, n = f * s.c + i * jnp.tanh(z), f * s.n + i
    h = jax.nn.sigmoid(o) * c / n
    return Stabilised(h, c, n, m), h


def matrix_memory(params, memory, x):
    """A matrix memory, written by a key and a value and read by a query, two heads."""
    q, k, v = (x @ params[name] for name in "qkv")
    keep = jax.nn.sigmoid(x @ params["f"])
    memory = {"c": keep[:, None] * memory["c"] + jnp.outer(v, k)}
    read = jnp.tanh(memory["c"] @ q)
    return memory, {"read": read, "energy": (read**2).sum()}


def attention(params, s, x):
    """A controller that reads slots of a memory by attention and writes the next."""
    slots, step = s["slots"], s["step"]
    seen = jax.nn.softmax(slots @ (s["h"] @ params["q"]))
    h = jnp.tanh(
        x @ params["w_x"] + s["h"] @ params["w_s"] + (seen @ slots) @ params["r"]
    )
    slots = slots.at[step % N].set(h @ params["v"])
    return {"h": h, "slots": slots, "step": step + 1}, h


def agent(params, s, x):
    """An agent: an image, an action and a reward in; a policy and a value out."""
    seen = jnp.einsum("ijc,ijcd->d", x["image"], params["eye"])
    action = jax.nn.one_hot(x["action"], 3, dtype=seen.dtype)
    reads = jnp.concatenate([seen, action, x["reward"][None]])
    z = jax.nn.sigmoid(s @ params["w_z"])
    s = (1 - z) * s + z * jnp.tanh(reads @ params["w_x"] + s @ params["w_s"])
    return s, {"policy": s @ params["pi"], "value": s @ params["v"]}


def observations(key, axes, dtype=None):
    k_image, k_action, k_reward = jax.random.split(key, 3)
    return {
        "action": jax.random.randint(k_action, axes, 0, 3),
        "image": jax.random.normal(k_image, (*axes, 2, 2, 3), dtype),
        "reward": jax.random.normal(k_reward, axes, dtype),
    }


def one_vector(params):
    leaf = jax.tree.leaves(params)[0]
    return jnp.zeros(H, leaf.dtype)


def case(name, dtype=None) -> Case:
    w = lambda **shapes: weights(dtype, **shapes)  # noqa: E731
    if name == "leaky":
        params = w(w_x=(D, H), w_s=(H, H), b=(H,))
        layer = transition(leaky, initial_state=one_vector, x_ndim=(0, 0, 1))
        return Case(layer, params, leaky_inputs)
    if name == "low rank":
        layer = transition(low_rank, initial_state=one_vector)
        return Case(layer, w(w_x=(D, H), m=(H, 2), n=(H, 2)), vectors)
    if name == "integration":
        params = w(w_x=(D, H), w_s=(H, H), a=(H,), b1=(H,), b2=(H,), b=(H,))
        return Case(transition(integration, initial_state=one_vector), params, vectors)
    if name == "exponential":
        params = w(w_x=(D, 4 * H), w_s=(H, 4 * H), b=(4 * H,))
        return Case(transition(exponential, initial_state=stabilised), params, vectors)
    if name == "matrix memory":
        params = w(q=(D, N), k=(D, N), v=(D, H), f=(D, H))
        layer = transition(
            matrix_memory,
            initial_state=empty_memory,
            output_size=memory_width,
        )
        return Case(layer, params, vectors)
    if name == "attention":
        params = w(w_x=(D, H), w_s=(H, H), q=(H, H), r=(H, H), v=(H, H))
        return Case(transition(attention, initial_state=slots), params, vectors)
    params = w(eye=(2, 2, 3, 5), w_x=(9, H), w_s=(H, H), w_z=(H, H), pi=(H, 3), v=(H,))
    layer = transition(agent, initial_state=one_vector, x_ndim=(0, 3, 0))
    return Case(layer, params, observations)


def stabilised(params):
    zero = jnp.zeros(H, params["b"].dtype)
    return Stabilised(zero, zero, zero + 1, zero)


def empty_memory(params):
    return {"c": jnp.zeros((H, N), params["q"].dtype)}


def memory_width(params):
    return params["v"].shape[1]


def slots(params):
    dtype = params["w_s"].dtype
    return {"h": jnp.zeros(H, dtype), "slots": jnp.zeros((N, H), dtype), "step": 0}


NAMES = (
    "leaky",
    "low rank",
    "integration",
    "exponential",
    "matrix memory",
    "attention",
    "agent",
)

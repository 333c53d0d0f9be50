"""`scan` in place of `lax.scan`, and a decoder fed with its own outputs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from table import assert_alike, assert_equal

import jaxrnn

T, B, H = 9, 3, 4
EXACT = 1e-13


def step(params, carry, x):
    """A step of a whole batch, with a counter, whose input may be None."""
    h, count = carry
    seen = 0.0 if x is None else x["x"] @ params["w_x"]
    h = jnp.tanh(h @ params["w_s"] + seen + params["b"][None])
    return (h, count + 1), {"h": h, "mean": h.mean()}


@pytest.fixture
def drawn(x64):
    keys = iter(jax.random.split(jax.random.key(0), 5))
    params = {"w_s": (H, H), "w_x": (2, H), "b": (H,)}
    params = {n: jax.random.normal(next(keys), s) for n, s in params.items()}
    start = jax.random.normal(next(keys), (B, H)), jnp.int32(0)
    return params, start, {"x": jax.random.normal(next(keys), (T, B, 2))}


def error(run, params, h, xs):
    (last, count), ys = run(step, params, (h, jnp.int32(0)), xs)
    total = jnp.sin(last).sum() + (ys["h"] ** 2).sum() + jnp.cos(ys["mean"]).sum()
    return total, (count, ys)


def by_lax(f, params, state, xs, **options):
    return lax.scan(partial(f, params), state, xs, **options)


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_one_line_changed_gives_the_same_numbers(drawn, reverse, checkpoint):
    params, (h, _), xs = drawn
    ours = partial(jaxrnn.scan, reverse=reverse, checkpoint=checkpoint)
    theirs = partial(by_lax, reverse=reverse)

    def both(run):
        of = partial(error, run)
        return jax.value_and_grad(of, (0, 1, 2), has_aux=True)(params, h, xs)

    assert_alike(both(ours), both(theirs), EXACT)


def test_control_a_stopped_state_is_another_gradient(drawn):
    params, (h, _), xs = drawn

    def stopped(params, carry, x):
        return step(params, lax.stop_gradient(carry), x)

    def of(f):
        def total(params):
            return jaxrnn.scan(f, params, (h, jnp.int32(0)), xs)[1]["h"].sum()

        return jax.grad(total)(params)

    with pytest.raises(AssertionError):
        assert_alike(of(stopped), of(step), EXACT)


def test_steps_may_be_counted_in_the_place_of_inputs(drawn):
    params, start, _ = drawn
    given = jaxrnn.scan(step, params, start, length=T)
    assert_alike(given, by_lax(step, params, start, None, length=T), EXACT)


def test_it_runs_inside_jit_vmap_and_another_scan(drawn):
    params, start, xs = drawn

    def inner(run, params):
        def outer(carry, scale):
            scaled = jax.tree.map(lambda w: w * scale, params)
            carry, ys = run(step, scaled, carry, xs)
            return carry, ys["h"][-1]

        return lax.scan(outer, start, jnp.linspace(0.5, 1.0, 3))[1].sum()

    def of(run):
        many = jax.tree.map(lambda w: jnp.stack([w, w / 2]), params)
        return jax.jit(jax.vmap(jax.grad(partial(inner, run))))(many)

    assert_alike(of(jaxrnn.scan), of(by_lax), EXACT)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"xs": None}, "length: expected the number of steps"),
        ({"length": 3}, "length: expected 9, the steps of xs, got 3"),
        ({"f": None}, "f: expected a function, got NoneType"),
        ({"checkpoint": 1}, "checkpoint: expected True or False, got 1"),
        ({"f": lambda p, s, x: s[0]}, r"step: expected it to return \(state, output\)"),
        ({"f": lambda p, s, x: (s[0], x)}, "step: expected a state like the one"),
        ({"xs": {"x": jnp.ones(())}}, r"xs\['x'\]: expected .* got shape \[\]"),
    ],
)
def test_wrong_calls_are_named(drawn, change, said):
    params, start, xs = drawn
    call = {"f": step, "params": params, "state": start, "xs": xs} | change
    with pytest.raises((TypeError, ValueError), match=said):
        jaxrnn.scan(**call)


# Generation -----------------------------------------------------------------------


def test_a_decoder_feeds_on_its_own_output_and_so_does_its_gradient(x64):
    net = jaxrnn.network(jaxrnn.stack(jaxrnn.gru(), jaxrnn.lstm()))
    params = net.init(jax.random.key(0), 2, 4, 2, dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(1), (B, 2))

    def feed(params, h, key):
        return jaxrnn.readout(params.readout, h) + jax.random.normal(key, x.shape) / 9

    keys = jax.random.split(jax.random.key(2), T)

    def ours(params, x):
        hs, xs, final = jaxrnn.generate(
            net.cell,
            params,
            x,
            feed,
            length=T,
            key=jax.random.key(2),
            layer_params=lambda p: p.cell,
            checkpoint=True,
        )
        return (xs**2).sum() + jnp.sin(hs).sum(), final

    def theirs(params, x):
        state, total = net.cell.initial_state(params.cell, (B,)), 0.0
        for key in keys:
            state, h = jaxrnn.step(net.cell, params.cell, state, x)
            x = feed(params, h, key)
            total += (x**2).sum() + jnp.sin(h).sum()
        return total, state

    def both(f):
        return jax.value_and_grad(f, (0, 1), has_aux=True)(params, x)

    assert_alike(both(ours), both(theirs), EXACT)


def test_a_fed_input_must_be_like_the_first():
    cell = jaxrnn.elman()
    params = cell.init(jax.random.key(0), 3, 4)
    with pytest.raises(ValueError, match=r"feed: expected shape \[3\], got \[4\]"):
        jaxrnn.generate(
            cell, params, jnp.ones(3), lambda p, h, key: h, length=2, key=None
        )


def test_without_a_key_nothing_is_drawn():
    cell = jaxrnn.elman()
    params = cell.init(jax.random.key(0), 4, 4)
    hs, xs, final = jaxrnn.generate(
        cell,
        params,
        jnp.ones(4),
        lambda p, h, key: h if key is None else -h,
        length=3,
        key=None,
    )
    assert_equal(hs, xs)
    np.testing.assert_array_equal(final.h, hs[-1])

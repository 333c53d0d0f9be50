"""Any pure step as a layer: the same numbers as its scan, and all options of cells."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, assert_equal
from transitions import NAMES, case

import jaxrnn

pytestmark = pytest.mark.usefixtures("compile_fast")

T, B = 7, 3
EXACT = 1e-13


@pytest.fixture(params=NAMES)
def drawn(request, x64):
    found = case(request.param, jnp.float64)
    return found, found.draw(jax.random.key(2), (T, B), jnp.float64)


def real(tree):
    """The leaves that have a gradient."""
    return [a for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.inexact)]


def size(tree):
    """An error with a different slope in every number."""
    return sum(
        jnp.sin(a + jnp.arange(a.size, dtype=a.dtype).reshape(a.shape)).sum()
        for a in real(tree)
    )


def scanned(found, params, xs, state=None):
    """The same run written with `lax.scan`."""
    state = found.layer.initial_state(params) if state is None else state
    state = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *jnp.shape(a))), state)
    step = jax.vmap(found.layer.step, (None, 0, 0))
    return jax.lax.scan(lambda s, x: step(params, s, x), state, xs)


def gradients(f, params, xs):
    """∂f/∂params and ∂f/∂ the inputs that have a gradient."""
    leaves, tree = jax.tree.flatten(xs)
    inner = [jnp.issubdtype(a.dtype, jnp.inexact) for a in leaves]

    def of_real(params, some):
        some = iter(some)
        mixed = [next(some) if i else a for i, a in zip(inner, leaves, strict=True)]
        return f(params, jax.tree.unflatten(tree, mixed))

    return jax.value_and_grad(of_real, (0, 1))(params, real(xs))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunk_size": 3},
        {"store": "borders", "chunk_size": 2},
        {"store": "activations"},
        {"gradient": "autodiff"},
    ],
    ids=str,
)
def test_a_run_and_its_gradient_equal_those_of_a_scan_of_the_step(drawn, how):
    found, xs = drawn

    def ours(params, xs):
        hs, final = jaxrnn.unroll(found.layer, params, xs, **how)
        return size(hs) + size(final)

    def theirs(params, xs):
        final, hs = scanned(found, params, xs)
        return size(hs) + size(final)

    wanted = gradients(theirs, found.params, xs)
    given = gradients(ours, found.params, xs)
    assert_alike(given, wanted, EXACT)


def test_control_a_gradient_without_one_step_of_the_state_differs(x64):
    found = case("low rank", jnp.float64)
    xs = found.draw(jax.random.key(2), (T, B), jnp.float64)

    def cut(params, h, x):
        return found.layer.step(params, jax.lax.stop_gradient(h), x)

    def of(layer):
        return jax.grad(lambda p: size(jaxrnn.unroll(layer, p, xs)[0]))(found.params)

    wrong = jaxrnn.transition(cut, initial_state=found.layer.initial_state)
    with pytest.raises(AssertionError):
        assert_alike(of(wrong), of(found.layer), EXACT)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_any_number_of_batch_axes_is_one_row_at_a_time(batch, drawn):
    found, _ = drawn
    xs = found.draw(jax.random.key(2), (T, *batch), jnp.float64)
    hs, final = jaxrnn.unroll(found.layer, found.params, xs)
    for at in np.ndindex(*batch):
        row, h = (jax.tree.map(itemgetter((slice(None), *at)), a) for a in (xs, hs))
        one, last = jaxrnn.unroll(found.layer, found.params, row)
        assert_alike(h, one, EXACT)
        assert_alike(jax.tree.map(itemgetter(at), final), last, EXACT)


def by_rows(found, params, xs, lengths, resets, reverse):
    """Each row alone, cut at its resets and its length: outputs and final states."""
    rows = []
    for row in range(B):
        steps = list(range(int(lengths[row])))
        steps = steps[::-1] if reverse else steps
        state = start = jax.tree.map(jnp.asarray, found.layer.initial_state(params))
        outputs = {}
        for t in steps:
            state = start if resets[t, row] else state
            x = jax.tree.map(itemgetter((t, row)), xs)
            state, outputs[t] = found.layer.step(params, state, x)
        blank = jax.tree.map(jnp.zeros_like, outputs[steps[0]])
        rows.append(([outputs.get(t, blank) for t in range(T)], state))
    hs = [jax.tree.map(lambda *h: jnp.stack(h), *row) for row, _ in rows]
    hs = jax.tree.map(lambda *h: jnp.stack(h, 1), *hs)
    return hs, jax.tree.map(lambda *s: jnp.stack(s), *[state for _, state in rows])


@pytest.mark.parametrize("reverse", [False, True])
def test_lengths_and_resets_are_those_of_each_row_alone(drawn, reverse):
    found, xs = drawn
    lengths = np.array([4, T, 1])
    resets = np.zeros((T, B), bool)
    resets[2, 0] = resets[3, 1] = resets[6, 0] = True
    options = {"lengths": lengths, "resets": resets, "reverse": reverse}

    def ours(params, xs):
        hs, final = jaxrnn.unroll(found.layer, params, xs, chunk_size=3, **options)
        return size(hs) + size(final)

    def theirs(params, xs):
        hs, final = by_rows(found, params, xs, lengths, resets, reverse)
        return size(hs) + size(final)

    given = gradients(ours, found.params, xs)
    assert_alike(given, gradients(theirs, found.params, xs), EXACT)
    past = np.arange(T)[:, None] >= lengths
    spoilt = jax.tree.map(lambda a: spoil(a, past), xs)
    value, (d_params, d_xs) = gradients(ours, found.params, spoilt)
    assert_equal((value, d_params), (given[0], given[1][0]))
    assert_equal(d_xs, given[1][1])


def spoil(a, past):
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return a
    return jnp.where(past.reshape(past.shape + (1,) * (a.ndim - 2)), jnp.nan, a)


def test_pieces_of_a_stream_equal_the_whole_to_the_bit(drawn):
    found, xs = drawn
    hs, final = jaxrnn.unroll(found.layer, found.params, xs)
    state, pieces = None, []
    for piece in (slice(0, 2), slice(2, 3), slice(3, T)):
        part = jax.tree.map(itemgetter(piece), xs)
        h, state = jaxrnn.unroll(found.layer, found.params, part, state)
        pieces.append(h)
    joined = jax.tree.map(lambda *h: jnp.concatenate(h), *pieces)
    assert_alike((joined, state), (hs, final), 1e-15)


def test_bptt_gives_every_adjoint_and_the_same_gradients(drawn):
    found, xs = drawn
    hs, _ = jaxrnn.unroll(found.layer, found.params, xs)
    cotangents = jax.tree.map(jnp.cos, hs)
    back = jaxrnn.bptt(found.layer, found.params, xs, cotangents=cotangents)

    def error(params, nudges):
        state = found.layer.initial_state(params)
        state = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, *jnp.shape(a))), state)
        step = jax.vmap(found.layer.step, (None, 0, 0))

        def one(state, inputs):
            x, nudge = inputs
            state, output = step(params, state, x)
            state = jax.tree.map(lambda s, n: s if n is None else s + n, state, nudge)
            return state, output

        _, hs = jax.lax.scan(one, state, (xs, nudges))
        pairs = zip(*map(jax.tree.leaves, (hs, cotangents)), strict=True)
        return sum((h * c).sum() for h, c in pairs)

    nudges = jax.tree.map(jnp.zeros_like, back.adjoints)
    d_params, adjoints = jax.grad(error, (0, 1))(found.params, nudges)
    # An output that is a part of the state reads it before the nudge.
    if not any(name in found.layer.step.__name__ for name in ("low", "integ", "expon")):
        assert_alike(back.params, d_params, EXACT)
    assert jax.tree.structure(adjoints) == jax.tree.structure(back.adjoints)
    _, pull = jax.vjp(lambda p: jaxrnn.unroll(found.layer, p, xs)[0], found.params)
    assert_alike(back.params, pull(cotangents)[0], EXACT)
    assert_alike(back.adjoints, adjoints, EXACT)


@pytest.mark.parametrize("name", ["low rank", "matrix memory"])
def test_a_masked_step_holds_the_state_and_puts_the_last_output_out_again(name, x64):
    found = case(name, jnp.float64)
    xs = found.draw(jax.random.key(2), (T, B), jnp.float64)
    mask = np.array([[0, 1, 1, 0, 0, 1, 0], [1] * T, [1, 0, 1, 0, 1, 1, 1]], bool).T

    def ours(params, xs):
        hs, final = jaxrnn.unroll(found.layer, params, xs, mask=mask, chunk_size=3)
        return size(hs) + size(final)

    def theirs(params, xs):
        rows, finals = [], []
        for row in range(B):
            state = jax.tree.map(jnp.asarray, found.layer.initial_state(params))
            first = found.layer.step(params, state, xs[0, row])[1]
            output, outputs = jax.tree.map(jnp.zeros_like, first), []
            for t in range(T):
                if mask[t, row]:
                    state, output = found.layer.step(params, state, xs[t, row])
                outputs.append(output)
            rows.append(jax.tree.map(lambda *h: jnp.stack(h), *outputs))
            finals.append(state)
        hs = jax.tree.map(lambda *h: jnp.stack(h, 1), *rows)
        return size(hs) + size(jax.tree.map(lambda *s: jnp.stack(s), *finals))

    wanted = gradients(theirs, found.params, xs)
    assert_alike(gradients(ours, found.params, xs), wanted, EXACT)


def test_no_step_at_all_gives_the_initial_state_and_no_gradient(drawn):
    found, xs = drawn
    none = jax.tree.map(itemgetter(slice(0, 0)), xs)
    hs, final = jaxrnn.unroll(found.layer, found.params, none)
    assert all(len(h) == 0 for h in jax.tree.leaves(hs))
    start = jaxrnn.unroll(found.layer, found.params, xs, lengths=[0] * B)[1]
    assert_equal(final, start)
    grads = jax.grad(lambda p: size(jaxrnn.unroll(found.layer, p, none)[0]))(
        found.params
    )
    assert not any(np.any(g) for g in jax.tree.leaves(grads))

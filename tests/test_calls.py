"""A run's arguments: resets, masks, states of any rank, noise, casts, last outputs."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from jax.sharding import NamedSharding, PartitionSpec
from table import CELLS, assert_alike, assert_equal, draw

from jaxrnn import (
    LSTMState,
    bidirectional,
    bptt,
    custom_cell,
    elman,
    gru,
    last,
    learned_start,
    lru,
    lstm,
    network,
    noisy,
    online,
    parallel,
    stack,
    step,
    unroll,
)
from jaxrnn.gradient_flow import jacobian_norms, lag_norms, step_jacobians
from jaxrnn.layers import CellNoise, draw_noise

pytestmark = pytest.mark.usefixtures("compile_fast")

T, B, D, H = 6, 3, 2, 3
RESETS = np.zeros((T, B), bool)
RESETS[[0, 2, 4, 4], [1, 0, 0, 2]] = True


def case_of(layer, **sizes):
    return draw(layer, **{"steps": T, "batch": (B,), "units": H, **sizes})


# Resets -----------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_a_reset_goes_to_the_initial_state_whatever_was_carried_in(gradient, x64):
    # as recurrent reinforcement learning has it: windows of a stream, episodes in them
    case = case_of(lstm())
    run = partial(unroll, lstm(), case.params, gradient=gradient)
    hs, final = run(case.xs, case.state, resets=RESETS)
    for row in range(B):
        state = jax.tree.map(lambda a, row=row: a[row], case.state)
        for t in range(T):
            if RESETS[t, row]:
                state = lstm().initial_state(case.params)
            state, output = step(lstm(), case.params, state, case.xs[t, row])
            np.testing.assert_allclose(hs[t, row], output, atol=1e-13)
        assert_alike(jax.tree.map(lambda a, row=row: a[row], final), state, 1e-12)


def test_pieces_with_resets_equal_the_whole_to_the_bit():
    case = case_of(gru(), dtype=np.float32)
    run = jax.jit(partial(unroll, gru(), case.params))
    hs, final = run(case.xs, case.state, resets=RESETS)
    first, state = run(case.xs[:3], case.state, resets=RESETS[:3])
    second, end = run(case.xs[3:], state, resets=RESETS[3:])
    assert_equal((jnp.concatenate([first, second]), end), (hs, final))


@pytest.mark.parametrize("given", [False, True], ids=["learned", "carried"])
def test_a_learned_start_gets_the_gradient_of_every_reset(given, x64):
    layer = learned_start(gru())
    case = case_of(layer)
    state = case.state if given else None
    weights = np.random.default_rng(0).standard_normal((T, B, H))

    @jax.jit
    def gradients(params):
        def error(params, gradient):
            options = {"resets": RESETS, "gradient": gradient}
            hs, _ = unroll(layer, params, case.xs, state, **options)
            return (hs * weights).sum()

        call = layer, params, case.xs, state, weights
        by_hand = [f(*call, resets=RESETS).params for f in (bptt, parallel.bptt)]
        return *by_hand, *(jax.grad(error)(params, g) for g in ("manual", "autodiff"))

    *others, wanted = gradients(case.params)
    assert np.linalg.norm(wanted.start.h) > 0.1
    for found in others:
        assert_alike(found, wanted, 1e-11)


def test_a_step_can_be_reset():
    case = case_of(lstm(), dtype=np.float32)
    reset = np.array([1.0, 0.0, 1.0])  # as an environment gives its dones
    found, _ = step(lstm(), case.params, case.state, case.xs[0], reset=reset)
    kept, _ = step(lstm(), case.params, case.state, case.xs[0])
    zeros = jax.tree.map(np.zeros_like, case.state)
    anew, _ = step(lstm(), case.params, zeros, case.xs[0])
    rows = reset.astype(bool)[:, None]
    assert_alike(found, jax.tree.map(partial(np.where, rows), anew, kept), 1e-6)
    given, _ = step(
        lstm(), case.params, zeros, case.xs[0], reset=reset, reset_to=case.state
    )
    assert_alike(given, jax.tree.map(partial(np.where, rows), kept, anew), 1e-6)


@pytest.mark.parametrize("resets", [RESETS.astype("f4"), RESETS.astype(int)])
def test_dones_of_zeros_and_ones_are_resets(resets):
    case = case_of(elman(), dtype=np.float32)
    found = unroll(elman(), *case.inputs, resets=resets)
    assert_equal(found, unroll(elman(), *case.inputs, resets=RESETS))
    with pytest.raises(ValueError, match="resets: expected booleans, or numbers that"):
        unroll(elman(), *case.inputs, resets=0.5 * resets)


# States of any rank -----------------------------------------------------------------


class Memory(NamedTuple):
    """h [..., H], and a matrix [..., H, H]."""

    h: Array
    m: Array


def fast_weights(own, z, r, state_prev):
    del own
    k, v, q = (jnp.tanh(a) for a in jnp.split(z + r, 3, axis=-1))
    m = 0.8 * state_prev.m + k[..., :, None] * v[..., None, :]
    return Memory(jnp.tanh(q + (m @ q[..., None])[..., 0]), m)


def memory_start(params, batch_shape=()):
    units = params.w_s.shape[0]
    zeros = partial(jnp.zeros, dtype=params.w_s.dtype)
    return Memory(zeros((*batch_shape, units)), zeros((*batch_shape, units, units)))


MATRIX = custom_cell(fast_weights, gates=3, state=Memory)
MATRIX = MATRIX._replace(initial_state=memory_start)


def test_a_matrix_memory_with_lengths_and_resets_is_every_row_alone(x64):
    # the batch is as large as the memory's own axes, so that a wrong mask would fit
    case = case_of(MATRIX)
    lengths = [6, 4, 0]

    @partial(jax.jit, static_argnums=4)
    def out_and_gradient(params, xs, state, resets, options):
        def error(params, state):
            edges = {"resets": resets, **dict(options)}
            hs, final = unroll(MATRIX, params, xs, state, **edges)
            return jnp.sin(hs).sum() + jnp.cos(final.m).sum(), (hs, final)

        return jax.value_and_grad(error, (0, 1), has_aux=True)(params, state)

    for gradient in ("manual", "autodiff"):
        options = ("gradient", gradient), ("lengths", tuple(lengths))
        (_, (hs, final)), (d_params, d_state) = out_and_gradient(
            *case.inputs, RESETS, options
        )
        total = jax.tree.map(jnp.zeros_like, d_params)
        for row, length in enumerate(lengths):
            alone = jax.tree.map(
                lambda a, row=row: a[row], (case.state, d_state, final)
            )
            inputs = case.xs[:length, row], alone[0], RESETS[:length, row]
            (_, (own, end)), d = out_and_gradient(
                case.params, *inputs, (("gradient", gradient),)
            )
            assert_alike((hs[:length, row], alone[2]), (own, end), 1e-12)
            assert_alike(alone[1], d[1], 1e-11)
            total = jax.tree.map(jnp.add, total, d[0])
        assert_alike(d_params, total, 1e-11)


def test_instruments_take_a_matrix_memory(x64):
    case = case_of(MATRIX, steps=3, batch=(), units=2)
    final = case.d_final
    found = step_jacobians(MATRIX, *case.inputs)
    assert found.shape == (3, 6, 6)
    states, _ = unroll(MATRIX, *case.inputs, return_states=True)
    last_but_one = jax.tree.map(lambda a: a[1], states)

    def flat(state):
        return jnp.concatenate([state.h, state.m.ravel()])

    def one(vector):
        state = Memory(vector[:2], vector[2:].reshape(2, 2))
        return flat(step(MATRIX, case.params, state, case.xs[2])[0])

    np.testing.assert_allclose(found[2], jax.jacobian(one)(flat(last_but_one)), 1e-12)
    exact = bptt(MATRIX, *case.inputs, final=final)
    assert_alike(parallel.bptt(MATRIX, *case.inputs, final=final), exact, 1e-11)
    assert jacobian_norms(MATRIX, *case.inputs).shape == (4,)
    norm = np.sqrt(sum(np.square(a[0]).sum() for a in exact.adjoints))
    lags = lag_norms(MATRIX, *case.inputs, final=final)
    np.testing.assert_allclose(lags.adjoints[-1], norm, rtol=1e-11)
    d_hs = case.d_states.h
    by_rtrl = online.gradient(online.rtrl(MATRIX), *case.inputs, d_hs)
    assert_alike(by_rtrl, bptt(MATRIX, *case.inputs, d_hs).params, 1e-10)


# Masks ------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize(
    "layer", [lstm(), lru(), bidirectional(gru()), stack(gru(), elman())]
)
def test_a_masked_step_holds_the_state_and_puts_out_the_output_before(
    layer, reverse, x64
):
    case = case_of(layer, units=4)
    mask = np.random.default_rng(3).random((T, B)) < 0.6
    xs = np.where(mask[..., None], case.xs, np.nan)  # nothing there may matter
    weights = np.random.default_rng(1).standard_normal((T, B, 4))

    @jax.jit
    def gradients(params, xs, state):
        def error(params, state, f, gradient):
            options = {"mask": mask, "reverse": reverse, **gradient}
            hs, final = f(layer, params, xs, state, **options)[:2]
            wide = jnp.concatenate([weights] * (hs.shape[-1] // 4), -1)
            ends = sum(jnp.cos(s).sum() for s in jax.tree.leaves(final))
            return (hs * wide).sum() + ends, hs

        ways = [(unroll, {"gradient": g}) for g in ("autodiff", "manual")]
        ways.append((parallel.unroll, {}))
        grad = jax.value_and_grad(error, (0, 1), has_aux=True)
        return [grad(params, state, f, g) for f, g in ways]

    wanted, *others = gradients(case.params, xs, case.state)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(wanted))
    for found in others:
        assert_alike(found, wanted, 1e-10)
    if layer is not lstm():
        return
    hs = np.asarray(wanted[0][1])
    for row in range(B):  # each row alone, its masked steps left out
        taken = np.flatnonzero(mask[:, row])
        state = jax.tree.map(lambda a, row=row: a[row], case.state)
        own, _ = unroll(layer, case.params, case.xs[taken, row], state, reverse=reverse)
        held, steps = state.h, list(range(T))
        for t in reversed(steps) if reverse else steps:
            held = own[list(taken).index(t)] if t in taken else held
            np.testing.assert_allclose(hs[t, row], held, atol=1e-13)


def test_a_mask_and_lengths_and_a_reset_at_a_masked_step(x64):
    case = case_of(gru())
    mask = np.ones((T, B), bool)
    mask[2, 0] = False  # where row 0 is reset
    edges = {"lengths": [6, 4, 5], "mask": mask, "resets": RESETS}
    hs, _ = unroll(gru(), *case.inputs, **edges)
    assert not hs[4:, 1].any() and not hs[5:, 2].any()
    np.testing.assert_array_equal(hs[2, 0], 0)  # the reset took place all the same
    alone, _ = unroll(gru(), case.params, case.xs[3:4, 0])
    np.testing.assert_allclose(hs[3, 0], alone[0], atol=1e-13)
    net = network(gru())
    params = net.init(jax.random.key(0), D, H, 2, dtype=jnp.float64)
    targets = np.random.default_rng(0).standard_normal((T, B, 2))
    spoilt = np.where(mask[..., None], targets, np.nan)  # masked steps weigh nothing
    value, d = net.gradients(params, case.xs, spoilt, case.state, **edges)
    weights = mask * (np.arange(T)[:, None] < np.array([6, 4, 5]))
    given = {**edges, "weights": weights.astype(float), "gradient": "autodiff"}
    wanted = jax.value_and_grad(net.error)(
        params, case.xs, targets, case.state, **given
    )
    assert_alike((value, d), wanted, 1e-11)


# Noise ------------------------------------------------------------------------------


NOISY = stack(noisy(gru(), state=0.5), elman(), dropout=0.5)


def test_a_key_draws_the_noise_and_leaving_it_out_has_to_be_said():
    case = case_of(NOISY, dtype=np.float32)
    key = jax.random.key(3)
    by_key = unroll(NOISY, *case.inputs, noise=key)
    drawn = draw_noise(key, NOISY, case.params, case.xs)
    assert_equal(by_key, unroll(NOISY, *case.inputs, noise=drawn))
    evaluated, _ = unroll(NOISY, *case.inputs, noise=None)
    assert np.abs(evaluated - by_key[0]).max() > 0.01
    for f in (unroll, bptt, parallel.unroll, parallel.bptt):
        with pytest.raises(ValueError, match="noise: this layer has noise: give a key"):
            f(NOISY, *case.inputs)
    unroll(stack(noisy(gru()), elman()), *case.inputs)  # all rates 0: nothing to say
    assert_equal(by_key, unroll(NOISY, *case.inputs, noise=jax.random.PRNGKey(3)))


def test_the_noise_is_not_blamed_for_the_inputs():
    case = case_of(NOISY, dtype=np.float32)
    noise = draw_noise(jax.random.key(3), NOISY, case.params, case.xs)
    like = jax.ShapeDtypeStruct(case.xs.shape, case.xs.dtype)
    assert_equal(noise, draw_noise(jax.random.key(3), NOISY, case.params, like))
    for wrong in (case.xs.astype("f2"), case.xs.astype("c8"), case.xs[..., :1]):
        with pytest.raises((TypeError, ValueError), match=r"^xs: expected"):
            unroll(NOISY, case.params, wrong, noise=noise)
        for layer in (NOISY, noisy(gru()), gru(), bidirectional(gru())):
            params = layer.init(jax.random.key(0), D, H)
            draw_noise(jax.random.key(3), layer, params, case.xs)
            with pytest.raises((TypeError, ValueError), match=r"^xs: expected"):
                draw_noise(jax.random.key(3), layer, params, wrong)


def hold(share, dtype="f4", steps=T):
    part = np.full((steps, B, H), share, dtype)
    return CellNoise(hold=LSTMState(part, part))


@pytest.mark.parametrize(
    "noise, words",
    [
        (
            CellNoise(weights=np.ones((4, 1), "f4")),
            "noise.weights: expected shape [3, 1",
        ),
        (
            CellNoise(mask=np.ones(3, "f4")),
            "noise.mask: expected shape [3, 3], got [3]",
        ),
        (
            CellNoise(mask=np.ones((3, 3), bool)),
            "noise.mask: expected float32, got bool",
        ),
        (CellNoise(mask=3.0), "noise.mask: expected an array, got float"),
        (
            CellNoise(mask=np.ma.masked_array(np.ones((3, 3), "f4"))),
            "noise.mask: expected a plain array, got a masked one",
        ),
        (CellNoise(hold=2.5), "noise.hold: expected LSTMState(h, c)"),
        (hold(0.5, steps=5), "noise.hold.h: expected shape [6, 3, 3], got [5, 3, 3]"),
        (hold(1.5), "noise.hold.h: expected shares in 0..1, got 1.5..1.5"),
        (hold(np.nan), "noise.hold.h: expected shares in 0..1, got nan"),
        (hold(0.5, "f2"), "noise.hold.h: expected float32, got float16"),
        (jax.random.split(jax.random.key(0)), "noise: expected a random key"),
        (3, "noise: expected a key, CellNoise or None, got int"),
    ],
)
def test_noise_that_is_not_what_the_run_takes_is_named(noise, words):
    case = case_of(lstm(), dtype=np.float32)
    with pytest.raises((TypeError, ValueError)) as raised:
        unroll(lstm(), *case.inputs, noise=noise)
    assert words in str(raised.value)


# Casts, and what is refused -----------------------------------------------------------


def test_numpys_float64_and_swapped_bytes_are_cast_where_jax_would():
    case = case_of(lstm(), dtype=np.float32)
    wide = jax.tree.map(np.float64, case)
    wanted = unroll(lstm(), *case.inputs)
    assert_equal(unroll(lstm(), case.params, wide.xs, wide.state), wanted)
    swapped = case.xs.astype(">f4")
    assert_equal(unroll(lstm(), case.params, swapped, case.state), wanted)
    d = bptt(lstm(), *case.inputs, case.d_states)
    assert_equal(bptt(lstm(), *case.inputs, wide.d_states), d)
    assert_equal(unroll(lstm(), *case.inputs, chunk_size=np.int64(2)), wanted)


BAD = {
    "masked": (
        lambda c: {"xs": np.ma.array(c.xs)},
        "xs: expected a plain array, got a",
    ),
    "batch first": (
        lambda c: {"xs": c.xs.swapaxes(0, 1)},
        "state.h: expected shape [6, 3], got [3, 3], since xs is [T, ..., D]",
    ),
    "state a tuple": (
        lambda c: {"state": tuple(c.state)},
        "state: expected LSTMState(h, c), got a tuple of 2; a state is what initial_",
    ),
    "tokens": (
        lambda c: {"xs": np.zeros((T, B), int), "state": None},
        "integers are one-hot encoded or embedded first",
    ),
    "a gru's": (
        lambda c: {"params": c.params._replace(w_x=c.params.w_x[:, :9])},
        "params.w_x: expected shape [2, 12] for 4 gates",
    ),
    "own": (
        lambda c: {"params": c.params._replace(own=np.ones(3, "f4"))},
        "replace the cell's init as well",
    ),
    "mask": (
        lambda c: {"mask": np.ones(T, bool)},
        "mask: expected shape [6, 3], got [6]",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments_are_answered_with_a_remedy(name):
    change, words = BAD[name]
    case = case_of(lstm(), dtype=np.float32)
    call = {"params": case.params, "xs": case.xs, "state": case.state}
    with pytest.raises((TypeError, ValueError)) as raised:
        unroll(lstm(), **{**call, **change(case)})
    assert words in str(raised.value)
    assert not {"[Chex]", "PyTreeDef"} & set(str(raised.value).split())


def test_deleted_arrays_explicit_meshes_and_forward_mode_are_named():
    case = case_of(elman(), dtype=np.float32)
    gone = jnp.asarray(case.xs)
    gone.delete()
    with pytest.raises(ValueError, match="xs: got an array that has been deleted"):
        unroll(elman(), case.params, gone)
    mesh = jax.make_mesh((3,), ("rows",), devices=jax.devices()[:3])
    placed = jax.device_put(case.xs, NamedSharding(mesh, PartitionSpec(None, "rows")))
    with pytest.raises(ValueError, match="xs: expected no explicit mesh axes"):
        unroll(elman(), case.params, placed)

    def error(params, gradient="manual"):
        return unroll(elman(), params, case.xs, gradient=gradient)[0].sum()

    with pytest.raises(TypeError, match='give gradient="autodiff"'):
        jax.jvp(error, (case.params,), (case.params,))
    of_jax = partial(error, gradient="autodiff")
    assert np.isfinite(jax.jvp(of_jax, (case.params,), (case.params,))[1])


# The last outputs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "layer", [gru(), bidirectional(gru()), bidirectional(gru(), merge=None)]
)
def test_the_last_output_is_the_one_at_the_length(layer):
    case = case_of(layer, dtype=np.float32)
    lengths = np.array([6, 2, 0])
    hs, _ = unroll(layer, *case.inputs, lengths=lengths)
    for found, of in zip(*map(jax.tree.leaves, (last(hs, lengths), hs)), strict=True):
        np.testing.assert_array_equal(found, [of[5, 0], of[1, 1], 0 * of[0, 2]])
    assert_equal(last(hs), jax.tree.map(lambda a: a[-1], hs))
    final = unroll(gru(), *case_of(gru(), dtype=np.float32).inputs, lengths=lengths)
    assert_equal(last(final[0], lengths)[:2], final[1].h[:2])
    with pytest.raises(ValueError, match="lengths: expected shape"):
        last(hs, [1, 2])
    with pytest.raises(ValueError, match="hs: expected outputs"):
        last(jnp.zeros((0, 2)))


def test_every_cell_of_the_table_takes_a_mask(x64):
    for cell in CELLS.values():
        case = case_of(cell, batch=(2,))
        mask = np.array([[1, 1], [0, 1], [1, 0], [1, 1], [1, 1], [0, 0]], bool)
        hs, final = unroll(cell, *case.inputs, mask=mask)
        np.testing.assert_array_equal(hs[1, 0], hs[0, 0])
        np.testing.assert_array_equal(hs[5], final[0])

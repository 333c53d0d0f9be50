"""Layers: what they compute, and that their manual gradients equal JAX's."""

from functools import partial
from itertools import combinations
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import assert_alike, assert_equal, draw, relative_errors

from jaxrnn import (
    bidirectional,
    bptt,
    check_gradients,
    elman,
    gru,
    lstm,
    network,
    stack,
    step,
    unroll,
)
from jaxrnn.layers import (
    CellNoise,
    Directions,
    backward_only,
    draw_noise,
    learned_start,
    noisy,
)

pytestmark = pytest.mark.usefixtures("compile_fast")
LAYERS = {
    "stack": stack(lstm(), gru(), elman()),
    "residual": stack(lstm(), lstm(), skip="residual", dropout=0.3),
    "input": stack(gru(), lstm(), skip="input", dropout=0.3),
    "concat": bidirectional(lstm()),
    "sum": bidirectional(gru(), gru(), merge="sum"),
    "product": bidirectional(gru(), elman(), merge="product"),
    "mean": bidirectional(elman(), merge="mean"),
    "deep": stack(bidirectional(lstm()), bidirectional(stack(gru(), lstm()))),
    "masks": noisy(lstm(), inputs=0.2, state=0.3, weights=0.4),
    "zoneout": noisy(lstm(), zoneout=(0.2, 0.4)),
    "learned": learned_start(stack(noisy(gru(), state=0.3), gru(), dropout=0.2)),
}
T, ROWS, D, H = 6, 3, 2, 4
LENGTHS = np.array([6, 0, 4])
RESETS = np.random.default_rng(1).random((T, ROWS)) < 0.3
RESETS[3, 2] = True  # at a row's last step
EDGES = {"lengths": LENGTHS, "resets": RESETS, "reverse": True, "chunk_size": 4}


def case_of(layer, **options):
    return draw(layer, steps=T, batch=(ROWS,), inputs=D, units=H, **options)


def noise_of(layer, case, seed=3):
    return draw_noise(jax.random.key(seed), layer, case.params, jnp.asarray(case.xs))


def error(layer, options, gradient, params, xs, state, reset_to=None, noise=None):
    given = {"gradient": gradient, "reset_to": reset_to, "noise": noise}
    hs, final = unroll(layer, params, xs, state, **given, **options)
    ends = sum(jnp.cos(1.3 * s).sum() for s in jax.tree.leaves(final))
    return jnp.sin(hs).sum() + ends


@pytest.mark.parametrize("chance", [False, True], ids=["plain", "noise-and-edges"])
@pytest.mark.parametrize("name", LAYERS)
def test_manual_gradient_equals_autodiff(name, chance, x64):
    layer, options = LAYERS[name], EDGES if chance else {}
    case = case_of(layer)
    noise = noise_of(layer, case) if chance else None
    restart = case_of(layer, seed=1).state

    @jax.jit
    def both(params, xs, state, reset_to, noise):
        inputs = params, xs, state
        manual, auto = (
            jax.grad(partial(error, layer, options, g), (0, 1, 2, 3))(
                *inputs, reset_to, noise
            )
            for g in ("manual", "autodiff")
        )
        given = {"reset_to": reset_to, "noise": noise, **options}
        hs, final = unroll(layer, *inputs, **given)
        pulls = jnp.cos(hs), jax.tree.map(lambda s: -1.3 * jnp.sin(1.3 * s), final)
        by_hand = bptt(layer, *inputs, pulls[0], final=pulls[1], **given)
        return manual, auto, by_hand

    manual, auto, by_hand = both(*case.inputs, restart, noise)
    assert_alike(manual, auto, 1e-10)
    assert_alike((by_hand.params, by_hand.xs, by_hand.state), auto[:3], 1e-10)
    assert any(np.any(d) for d in jax.tree.leaves(auto[3])) == chance


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_restart_of_its_own_has_the_gradient_of_a_loop_over_rows_and_steps(
    reverse, x64
):
    cells = elman(), lstm()
    layer = bidirectional(*cells, merge=None)
    case, restart = case_of(layer), case_of(layer, seed=1).state
    # at a row's first step, inside, at its last and past it
    resets = np.zeros((T, ROWS), bool)
    resets[[0, 3, 3, 5, 2], [0, 0, 2, 2, 1]] = True
    edges = {"lengths": LENGTHS, "resets": resets, "reverse": reverse}

    def loop(params, xs, state, restart):
        total = 0.0
        for row, k in np.ndindex(ROWS, 2):
            order = list(range(LENGTHS[row]))
            if reverse != (k == 1):
                order.reverse()
            # a reset separates the same two steps in both directions
            at = order if k == 0 else [None, *order[:-1]]
            now, anew = jax.tree.map(itemgetter(row), (state[k], restart[k]))
            for t, cut in zip(order, at, strict=False):
                now = anew if cut is not None and resets[cut, row] else now
                now, _ = step(cells[k], params[k], now, xs[t, row])
                total += jnp.sin(now[0]).sum()
            total += sum(jnp.cos(1.3 * s).sum() for s in now)
        return total

    def summed(gradient, params, xs, state, restart):
        given = {"gradient": gradient, "reset_to": restart, **edges}
        hs, final = unroll(layer, params, xs, state, **given)
        ends = sum(jnp.cos(1.3 * s).sum() for s in jax.tree.leaves(final))
        return sum(jnp.sin(h).sum() for h in hs) + ends

    @jax.jit
    def gradients(*inputs):
        errors = loop, partial(summed, "manual"), partial(summed, "autodiff")
        return [jax.value_and_grad(e, (0, 1, 2, 3))(*inputs) for e in errors]

    wanted, manual, auto = gradients(*case.inputs, restart)
    assert_alike(manual, wanted, 1e-10)
    assert_alike(auto, wanted, 1e-10)


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
@pytest.mark.parametrize("name", ["input", "product", "deep", "masks", "learned"])
def test_nan_in_padding_reaches_no_output_and_no_gradient(name, gradient, x64):
    layer, case = LAYERS[name], case_of(LAYERS[name])
    noise = noise_of(layer, case)
    past = np.arange(T)[:, None, None] >= LENGTHS[None, :, None]

    @jax.jit
    def pulled(xs):
        def run(params, xs, state):
            return unroll(
                layer,
                params,
                xs,
                state,
                lengths=LENGTHS,
                gradient=gradient,
                noise=noise,
            )

        out, pull = jax.vjp(run, case.params, xs, case.state)
        return out, pull(jax.tree.map(jnp.cos, out))

    clean = pulled(np.where(past, 0, case.xs))
    for poison in (np.nan, np.inf):
        assert_equal(pulled(np.where(past, poison, case.xs)), clean)
    hs, d_xs = clean[0][0], clean[1][1]
    assert np.isfinite(hs).all() and not np.where(past, hs, 0).any()
    assert not np.where(past, d_xs, 0).any()


def test_control_a_gradient_without_a_mask_is_found(x64):
    layer = LAYERS["masks"]
    case = case_of(layer)
    noise = noise_of(layer, case)
    unmasked = noise._replace(cell=noise.cell._replace(mask=None))
    grads = (
        jax.grad(partial(error, layer, {}, "manual"))(*case.inputs, noise=n)
        for n in (noise, unmasked._replace(cell=CellNoise(noise.cell.weights)))
    )
    with pytest.raises(TypeError, match="noise"):
        list(grads)
    full = jnp.ones_like(noise.cell.mask)
    other = noise._replace(cell=noise.cell._replace(mask=full))
    right, wrong = (
        jax.grad(partial(error, layer, {}, "manual"))(*case.inputs, noise=n)
        for n in (noise, other)
    )
    assert max(relative_errors(right, wrong).values()) > 1e-3


@pytest.mark.parametrize("name", ["stack", "deep", "zoneout", "learned"])
def test_deltas_nest_as_params_and_adjoints_as_the_state(name):
    layer = LAYERS[name]
    case = case_of(layer, dtype=np.float32)
    hs, _ = unroll(layer, *case.inputs, noise=None)
    found = bptt(layer, *case.inputs, jnp.ones_like(hs), noise=None)
    assert jax.tree.structure(found.adjoints) == jax.tree.structure(case.state)
    for part, adjoint in zip(
        jax.tree.leaves(case.state), jax.tree.leaves(found.adjoints), strict=True
    ):
        assert adjoint.shape == (T, *part.shape)
    if name == "stack":
        wide = [(d.z.shape[-1], d.r.shape[-1]) for d in found.deltas]
        assert wide == [(4 * H, 4 * H), (3 * H, 3 * H), (H, H)]


def test_deltas_and_adjoints_of_a_stack_are_those_of_its_cells_one_by_one(x64):
    cells = lstm(), gru()
    case = case_of(stack(*cells))
    found = bptt(stack(*cells), *case.inputs, case.d_states[-1].h)
    below, _ = unroll(cells[0], case.params[0], case.xs, case.state[0])
    top = bptt(cells[1], case.params[1], below, case.state[1], case.d_states[-1].h)
    low = bptt(cells[0], case.params[0], case.xs, case.state[0], top.xs)
    assert_alike(found.deltas, (low.deltas, top.deltas), 1e-12)
    assert_alike(found.adjoints, (low.adjoints, top.adjoints), 1e-12)


# What they compute ----------------------------------------------------------------


@pytest.mark.parametrize("skip", [None, "residual", "input"])
def test_a_stack_is_its_layers_one_after_the_other(skip, x64):
    cells = lstm(), gru(), elman()
    case = case_of(stack(*cells, skip=skip))
    hs, final = unroll(stack(*cells, skip=skip), *case.inputs)
    below, finals = case.xs, []
    for i, cell in enumerate(cells):
        reads = below
        if i and skip == "input":
            reads = np.concatenate([case.xs, below], axis=-1)
        below, end = unroll(cell, case.params[i], reads, case.state[i])
        if i and skip == "residual":
            below = np.asarray(below) + reads
        finals.append(end)
    assert_alike((hs, final), (below, tuple(finals)), 1e-12)


@pytest.mark.parametrize("merge", ["concat", "sum", "product", "mean", None])
def test_a_bidirectional_layer_turns_each_row_inside_its_length(merge, x64):
    layer = bidirectional(gru(), lstm(), merge=merge)
    case = case_of(layer)
    hs, final = unroll(layer, *case.inputs, lengths=LENGTHS)
    join = {
        "concat": lambda a, b: np.concatenate([a, b], axis=-1),
        "sum": np.add,
        "product": np.multiply,
        "mean": lambda a, b: (a + b) / 2,
        None: lambda a, b: np.stack([a, b]),
    }[merge]
    given = np.stack(hs) if merge is None else np.asarray(hs)
    for row, length in enumerate(LENGTHS):
        xs = case.xs[:length, row]
        starts = jax.tree.map(lambda s, row=row: s[row], case.state)
        ahead, end = unroll(gru(), case.params[0], xs, starts[0])
        back, begin = unroll(lstm(), case.params[1], xs[::-1], starts[1])
        wanted = join(np.asarray(ahead), np.asarray(back)[::-1])
        time = 1 if merge is None else 0
        seen = np.moveaxis(given, time, 0)[:, ..., row, :]
        np.testing.assert_allclose(seen[:length], np.moveaxis(wanted, time, 0))
        assert not seen[length:].any()
        of_row = jax.tree.map(lambda s, row=row: s[row], final)
        assert_alike(of_row, Directions(end, begin), 1e-12)


def test_a_reset_separates_the_same_two_steps_in_both_directions(x64):
    layer = bidirectional(elman(), merge=None)
    case = case_of(layer)
    cut = 4
    resets = np.zeros((T, ROWS), bool)
    resets[cut] = True
    hs, _ = unroll(layer, *case.inputs, resets=resets, reset_to=case.state)
    pieces = [
        unroll(layer, case.params, xs, case.state)[0]
        for xs in (case.xs[:cut], case.xs[cut:])
    ]
    wanted = jax.tree.map(lambda *a: jnp.concatenate(a), *pieces)
    assert_alike(hs, wanted, 1e-12)


def test_zoneout_keeps_whole_units_in_a_run_with_noise_and_shares_without(x64):
    layer = noisy(lstm(), zoneout=(0.3, 0.6))
    case = case_of(layer)
    noise = noise_of(layer, case)
    holds = noise.cell.hold
    assert {*np.unique(holds.h), *np.unique(holds.c)} == {0.0, 1.0}
    shares = type(holds)(np.full(holds.h.shape, 0.3), np.full(holds.c.shape, 0.6))
    for drawn, hold in ((noise, holds), (None, shares)):
        states, final = unroll(layer, *case.inputs, noise=drawn, return_states=True)
        state = case.state
        for t in range(T):
            new, _ = step(lstm(), case.params, state, jnp.asarray(case.xs[t]))
            mixed = (
                w[t] * s + (1 - w[t]) * n
                for w, s, n in zip(hold, state, new, strict=True)
            )
            state = type(state)(*mixed)
            assert_alike(jax.tree.map(lambda s, t=t: s[t], states), state, 1e-12)
        assert_alike(final, state, 1e-12)


def test_one_step_of_a_layer_is_a_run_of_one_step(x64):
    layer = stack(noisy(lstm(), zoneout=0.2), gru(), skip="input")
    case = case_of(layer)
    state = case.state
    for t in range(T):
        state, output = step(layer, case.params, state, jnp.asarray(case.xs[t]))
    hs, final = unroll(layer, *case.inputs, noise=None)
    assert_alike((output, state), (hs[-1], final), 1e-12)
    with pytest.raises((TypeError, ValueError), match="state"):
        step(layer, case.params, case.state[0], jnp.asarray(case.xs[0]))


BACKWARD = [
    bidirectional(gru()),
    backward_only(gru()),
    stack(gru(), bidirectional(gru())),
    learned_start(backward_only(gru())),
]


@pytest.mark.parametrize("layer", BACKWARD)
def test_a_layer_with_a_backward_direction_has_no_single_step(layer, x64):
    case = case_of(layer)
    with pytest.raises(ValueError, match="cell: expected one that runs forward"):
        step(layer, case.params, case.state, jnp.asarray(case.xs[0]))


def test_masks_are_one_for_all_steps_each_of_its_own_rate(x64):
    layer = noisy(gru(), inputs=0.2, state=0.4, weights=0.6)
    case = draw(layer, steps=T, batch=(ROWS,), inputs=5, units=H)
    noise = noise_of(layer, case)
    hs, _ = unroll(layer, *case.inputs, noise=noise)
    p, masks = case.params, noise.cell
    drawn = [
        (noise.mask, 0.2, (ROWS, 5)),
        (masks.mask, 0.4, (ROWS, H)),
        (masks.weights, 0.6, (H, 3 * H)),
    ]
    for mask, rate, shape in drawn:
        assert mask.shape == shape
        np.testing.assert_allclose(np.unique(mask), [0, 1 / (1 - rate)])
    h = np.asarray(case.state.h)
    for t in range(T):
        z = case.xs[t] * np.asarray(noise.mask) @ p.w_x + p.b
        r = (h * np.asarray(masks.mask)) @ (p.w_s * np.asarray(masks.weights)) + p.b_s
        (z_r, z_u, z_n), (r_r, r_u, r_n) = np.split(z, 3, -1), np.split(r, 3, -1)
        reset, update = (1 / (1 + np.exp(-a)) for a in (z_r + r_r, z_u + r_u))
        h = (1 - update) * np.tanh(z_n + reset * r_n) + update * h
        np.testing.assert_allclose(hs[t], h, rtol=1e-10)


def test_a_cell_takes_the_noise_that_a_noisy_cell_draws_for_it(x64):
    layer = noisy(lstm(), state=0.4, weights=0.4, zoneout=0.3)
    case = case_of(layer)
    noise = noise_of(layer, case)
    found = unroll(lstm(), *case.inputs, noise=noise.cell)
    assert_equal(found, unroll(layer, *case.inputs, noise=noise))
    plain = unroll(lstm(), *case.inputs)  # control
    assert max(relative_errors(found, plain).values()) > 0.01


def test_a_backward_layer_is_its_layer_on_inputs_and_zoneout_turned(x64):
    inner = noisy(lstm(projection=2), inputs=0.3, state=0.4, zoneout=0.3)
    case = case_of(inner)
    noise = noise_of(inner, case)
    turned = backward_only(inner)
    assert_equal(noise_of(turned, case), noise)
    found, final = unroll(turned, *case.inputs, noise=noise)
    params, xs, state = case.inputs
    # zoneout's shares stand beside the steps that they are for, as xs do
    hold = jax.tree.map(lambda share: share[::-1], noise.cell.hold)
    noise = noise._replace(cell=noise.cell._replace(hold=hold))
    hs, end = unroll(inner, params, xs[::-1], state, noise=noise)
    assert_equal((found[::-1], final), (hs, end))
    assert_equal(
        unroll(inner, *case.inputs, noise=noise_of(inner, case), reverse=True),
        unroll(turned, *case.inputs, noise=noise_of(inner, case)),
    )


def test_a_network_takes_a_backward_layer_below_another_with_noise(x64):
    below = backward_only(noisy(lstm(projection=2), inputs=0.3, state=0.4))
    layer = stack(below, gru(), dropout=0.3)
    net = network(layer)
    params = net.init(jax.random.key(0), D, H, 2, dtype=jnp.float64)
    assert params.cell[1].w_x.shape == (2, 3 * H)  # as wide as the projection
    xs = np.random.default_rng(0).standard_normal((T, ROWS, D))
    noise = draw_noise(jax.random.key(1), layer, params.cell, jnp.asarray(xs))

    @jax.jit
    def both(params, noise):
        by_jax = jax.value_and_grad(partial(net.error, gradient="autodiff"))
        given = params, xs, xs
        return net.gradients(*given, noise=noise), by_jax(*given, noise=noise)

    assert_alike(*both(params, noise), 1e-10)
    without = jax.tree.map(jnp.ones_like, noise)  # control
    assert abs(both(params, noise)[0][0] - both(params, without)[0][0]) > 1e-3


def test_dropout_between_layers_drops_at_every_step_anew_and_keeps_the_mean():
    layer = stack(elman(), elman(), elman(), dropout=0.25)
    params = layer.init(jax.random.key(0), D, 50)
    xs = jnp.zeros((100, 8, D))
    between = draw_noise(jax.random.key(1), layer, params, xs).between
    for mask in between:
        assert mask.shape == (100, 8, 50)
        assert set(np.unique(mask)) == {0.0, np.float32(1 / 0.75)}
        # 40,000 draws: the mean's standard error is 0.003
        assert abs(float(mask.mean()) - 1) < 0.015
        assert not (mask[0] == mask[1]).all()
    assert not (between[0] == between[1]).all()


@pytest.mark.parametrize("skip", [None, "residual", "input"])
def test_what_is_dropped_between_layers_reaches_neither_the_next_one_nor_the_sum(
    skip, x64
):
    cells = gru(), elman(), gru()
    layer = stack(*cells, skip=skip, dropout=0.4)
    case = case_of(layer)
    noise = noise_of(layer, case)
    hs, _ = unroll(layer, *case.inputs, noise=noise)
    below, _ = unroll(cells[0], case.params[0], case.xs, case.state[0])
    for i, mask in enumerate(noise.between, 1):
        dropped = below * mask
        reads = dropped
        if skip == "input":
            reads = jnp.concatenate([case.xs, dropped], axis=-1)
        below, _ = unroll(cells[i], case.params[i], reads, case.state[i])
        if skip == "residual":
            below = below + dropped
    assert_alike(hs, below, 1e-12)


def all_differ(*trees):
    """Whether no two leaves are equal."""
    pairs = combinations(map(jax.tree.leaves, trees), 2)
    return all((a != b).any() for pair in pairs for a, b in zip(*pair, strict=True))


def test_layers_and_directions_start_with_draws_of_their_own(key):
    # without biases, so that no leaf is a constant
    layers = stack(gru(), gru(), gru()).init(key, H, H, bias=False)
    assert all_differ(*layers)
    both = bidirectional(gru()).init(key, D, H, bias=False)
    assert all_differ(*both)


def test_layers_directions_and_parts_of_a_state_are_disturbed_on_their_own(key):
    chance = noisy(lstm(), inputs=0.5, state=0.5, weights=0.5, zoneout=0.5)
    xs = jnp.zeros((20, ROWS, 4))
    layer = stack(chance, chance, chance)
    above = draw_noise(key, layer, layer.init(key, 4, 4), xs)
    assert all_differ(*above.layers)
    layer = bidirectional(chance)
    both = draw_noise(key, layer, layer.init(key, 4, 4), xs)
    assert all_differ(*both)
    assert all_differ(*both.forward.cell.hold)


def test_without_noise_rates_of_dropout_change_nothing(x64):
    plain = stack(lstm(), gru())
    case = case_of(plain)
    dropped = stack(
        noisy(lstm(), inputs=0.5, state=0.5, weights=0.5), gru(), dropout=0.5
    )
    found = unroll(dropped, *case.inputs, noise=None)
    assert_equal(found, unroll(plain, *case.inputs))


def test_a_learned_start_is_what_a_run_begins_with_and_gets_the_rows_gradient(x64):
    layer = learned_start(lstm())
    case = case_of(layer)
    params, xs = case.params, case.xs
    spread = jax.tree.map(lambda s: np.tile(s, (ROWS, 1)), params.start)
    assert_equal(unroll(layer, params, xs), unroll(lstm(), params.layer, xs, spread))

    def of(params, gradient):
        return jnp.sin(unroll(layer, params, xs, gradient=gradient)[0]).sum()

    manual, auto = (jax.grad(of)(params, g) for g in ("manual", "autodiff"))
    assert_alike(manual, auto, 1e-10)
    hs, _ = unroll(layer, params, xs)
    found = bptt(layer, params, xs, None, jnp.cos(hs))
    assert_alike(found.params, auto, 1e-10)
    rows = bptt(lstm(), params.layer, xs, spread, jnp.cos(hs)).state
    assert_alike(manual.start, jax.tree.map(lambda s: s.sum(0), rows), 1e-10)


def test_every_state_of_every_layer_on_request(x64):
    layer = LAYERS["deep"]
    case = case_of(layer)
    states, final = unroll(layer, *case.inputs, return_states=True)
    assert jax.tree.structure(states) == jax.tree.structure(case.state)
    for every, start in zip(
        jax.tree.leaves(states), jax.tree.leaves(case.state), strict=True
    ):
        assert every.shape == (T, *start.shape)
    top = states[-1].forward[-1]
    assert_equal(top.c[-1], final[-1].forward[-1].c)
    assert_equal(states[-1].backward[-1].c[0], final[-1].backward[-1].c)


# With the rest of the library -----------------------------------------------------


@pytest.mark.parametrize(
    "name", [pytest.param("deep", marks=pytest.mark.slow), "learned", "zoneout"]
)
def test_networks_and_check_gradients_take_layers(name):
    net = network(LAYERS[name], "softmax_cross_entropy")
    params = net.init(jax.random.key(0), D, H, 5)
    xs = np.random.default_rng(0).standard_normal((T, ROWS, D)).astype("f4")
    labels = np.random.default_rng(1).integers(0, 5, (T, ROWS))
    check_gradients(net, params, xs, labels, noise=None).assert_close()


def test_a_network_trains_with_noise(x64):
    layer = stack(noisy(lstm(), state=0.2, zoneout=0.1), lstm(), dropout=0.2)
    net = network(layer)
    params = net.init(jax.random.key(0), D, H, 2, dtype=jnp.float64)
    xs = np.random.default_rng(0).standard_normal((T, ROWS, D))
    noise = draw_noise(jax.random.key(1), layer, params.cell, jnp.asarray(xs))
    value, grads = net.gradients(params, xs, xs, noise=noise)
    wanted = jax.value_and_grad(net.error)(
        params, xs, xs, noise=noise, gradient="autodiff"
    )
    assert_alike((value, grads), wanted, 1e-10)

"""The hand-derived backward pass against autodiff, NumPy loops and differences.

Beside the equalities stand controls: the derivative broken on purpose, which must
differ. All in float64 but where a test's name says otherwise.
"""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, PartitionSpec
from table import CELLS, Case, assert_alike, cells, draw, relative_errors

from jaxrnn import Params, bptt, elman, gru, lstm, unroll

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def pull_both(cell, chunk, store, return_states, case):
    """∂E/∂ (params, xs, state), by hand and by JAX, for given cotangents."""

    def pull(**options):
        run = partial(unroll, cell, return_states=return_states, **options)
        direct = case.d_states if return_states else case.d_states[0]
        return jax.vjp(run, *case.inputs)[1]((direct, case.d_final))

    return pull(chunk_size=chunk, store=store), pull(gradient="autodiff")


def pull_oracle(name: str, case: Case):
    answer = oracles.run(name, *case)
    return Params(**answer.params), answer.xs, type(case.state)(*answer.state)


def h_only(case: Case) -> Case:
    """The same, with cotangents of h only."""
    h, *others = case.d_states
    hidden = (np.zeros_like(part) for part in others)
    return case._replace(d_states=type(case.state)(h, *hidden))


# bias, batch, steps, chunk_size, store, return_states: chunks that divide T, that do
# not, and the default
CONFIGS = {
    "remainder": (True, (2,), 7, 3, "states", True),
    "activations": (True, (2,), 7, 3, "activations", True),
    "borders": (True, (2,), 7, 3, "borders", True),
    "no-bias-no-batch": (False, (), 5, None, None, False),
    "two-batch-axes": (True, (2, 1), 6, 2, "borders", False),
}
CELLS_OF = {
    "remainder": list(CELLS),
    "activations": ["elman-sin", "lstm", "gru", "custom", "peephole"],
    "borders": ["elman-tanh", "elman-sin", "lstm", "gru", "custom", "peephole"],
    "no-bias-no-batch": ["elman-tanh", "lstm", "gru", "peephole"],
    "two-batch-axes": ["elman-tanh", "gru"],
}
PULLS = [
    pytest.param(name, config, id=f"{name}-{config}")
    for config, names in CELLS_OF.items()
    for name in names
]


@pytest.mark.parametrize("name, config", PULLS)
def test_59_60_manual_gradient_equals_autodiff_and_the_numpy_loop(name, config):
    bias, batch, steps, chunk, store, return_states = CONFIGS[config]
    case = draw(CELLS[name], steps=steps, batch=batch, bias=bias)
    if not return_states:
        case = h_only(case)
    manual, autodiff = pull_both(CELLS[name], chunk, store, return_states, case)
    assert_alike(manual, autodiff, 1e-10)
    if name in oracles.ORACLES:
        assert_alike(manual, pull_oracle(name, case), 1e-10)


@jax.jit
def gap(a, b):
    """Largest difference over all leaves."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.stack([jnp.abs(x - y).max() for x, y in pairs]).max()


def test_the_chunk_size_changes_no_gradient():
    case = draw(elman(), steps=5)

    @jax.jit
    def errors(case):
        pull = partial(bptt, elman(), *case.inputs, case.d_states, final=case.d_final)
        whole = pull()
        return [gap(pull(chunk_size=chunk), whole) for chunk in (1, 4, 9)]

    assert max(errors(case)) < 1e-13


@pytest.mark.parametrize("chunk", [2, 9])
def test_what_is_stored_changes_no_gradient_called_by_hand(chunk):
    case = draw(gru(), steps=5)

    @jax.jit
    def errors(case):
        pull = partial(bptt, gru(), *case.inputs, case.d_states, final=case.d_final)
        whole = pull()
        stores = ("activations", "states", "borders")
        return [gap(pull(chunk_size=chunk, store=s), whole) for s in stores]

    assert max(errors(case)) < 1e-13


def stored(steps, rows, units, **options):
    """The numbers per unit that an LSTM's forward pass stores beside its inputs."""
    case = draw(lstm(), steps=steps, batch=(rows,), units=units)
    run = partial(unroll, lstm(), **options)
    pull = jax.eval_shape(lambda *inputs: jax.vjp(run, *inputs)[1], *case.inputs)
    given = jax.tree.leaves((case.params, case.xs))
    count = sum(a.size for a in jax.tree.leaves(pull)) - sum(a.size for a in given)
    return count / (rows * units)


def test_stored_memory_is_what_each_choice_says():
    steps, sizes = 64, (64, 2, 3)
    borders = 8 * 2  # an LSTM has h and c, and keeps four gates
    assert stored(*sizes, chunk_size=8, store="borders") == borders
    assert stored(*sizes, chunk_size=8, store="states") == borders + 2 * steps
    assert stored(*sizes, chunk_size=8, store="activations") == borders + 6 * steps


@pytest.mark.parametrize(
    "steps, rows, chunks",
    # 1024 rows a chunk at most, in even chunks where there are some
    [
        (64, 2, 1),
        (32, 32, 1),
        (96, 32, 3),
        (100, 32, 4),
        (95, 32, 5),
        (97, 32, 4),
        (3, 2000, 3),
    ],
)
def test_chunks_by_default_are_as_long_as_1024_rows_allow(steps, rows, chunks):
    assert stored(steps, rows, 1, store="borders") == 2 * chunks


def test_narrow_layers_store_states_and_wide_ones_activations():
    # two inputs beside the units; one border
    assert stored(4, 1, 189) == 2 + 2 * 4
    assert stored(4, 1, 190) == 2 + 6 * 4


@cells("elman-tanh", "lstm", "gru", "peephole")
def test_manual_gradient_equals_central_differences(name):
    case = draw(CELLS[name], steps=4)

    @jax.jit
    def error(*inputs):
        states, final = unroll(CELLS[name], *inputs, return_states=True)
        pairs = zip((*states, *final), (*case.d_states, *case.d_final), strict=True)
        return sum(jnp.vdot(a, d) for a, d in pairs)

    d = bptt(CELLS[name], *case.inputs, case.d_states, final=case.d_final)
    leaves, tree = jax.tree.flatten(case.inputs)
    differences = []
    for k, leaf in enumerate(leaves):
        # cbrt(eps) of the leaf's size balances truncation, h², and rounding, eps/h.
        h = 6e-6 * np.abs(leaf).max()
        slope = np.zeros_like(leaf)
        for at in np.ndindex(leaf.shape):
            values = []
            for by in (h, -h):
                moved = list(leaves)
                moved[k] = leaf.copy()
                moved[k][at] += by
                values.append(float(error(*jax.tree.unflatten(tree, moved))))
            slope[at] = (values[0] - values[1]) / (2 * h)
        differences.append(slope)
    assert_alike((d.params, d.xs, d.state), jax.tree.unflatten(tree, differences), 1e-6)


@cells("lstm", "gru")
def test_float32_gradient_is_within_a_rounding_budget(name):
    case = draw(CELLS[name], steps=60, batch=(3,), units=4)
    case = jax.tree.map(np.float32, case)
    d = bptt(CELLS[name], *case.inputs, case.d_states, final=case.d_final)
    wide = pull_oracle(name, jax.tree.map(np.float64, case))
    # 60 steps of a few roundings of 6e-8 each, which partly cancel
    assert_alike((d.params, d.xs, d.state), wide, 60 * 6e-8)


# What bptt returns ----------------------------------------------------------------


@cells("elman-tanh", "lstm", "gru")
def test_adjoints_and_deltas_are_gradients_of_perturbations(name):
    cell = CELLS[name]
    case = draw(cell, steps=4)

    def error(by, case):
        """E with `by` added to each step's z, r and state, as a loop over time."""
        params, xs, state = case.inputs
        b, b_s = (0 if b is None else b[None] for b in (params.b, params.b_s))
        total = 0
        for t in range(4):
            z = xs[t] @ params.w_x + b + by["z"][t]
            r = state[0] @ params.w_s + b_s + by["r"][t]
            state, _ = cell.gate(params.own, z, r, state)
            state = jax.tree.map(lambda s, p, t=t: s + p[t], state, by["state"])
            direct = jax.tree.map(lambda d, t=t: d[t], case.d_states)
            total += sum(map(jnp.vdot, state, direct))
        return total + sum(map(jnp.vdot, state, case.d_final))

    wide = np.zeros((4, 2, cell.gates * 3))
    nothing = {
        "z": wide,
        "r": wide,
        "state": jax.tree.map(np.zeros_like, case.d_states),
    }

    def by_hand(case):
        d = bptt(cell, *case.inputs, case.d_states, final=case.d_final, chunk_size=3)
        return {"z": d.deltas.z, "r": d.deltas.r, "state": d.adjoints}

    ours, theirs = jax.jit(
        lambda case: (by_hand(case), jax.grad(error)(nothing, case))
    )(case)
    assert_alike(ours, theirs, 1e-10)


def test_cotangents_may_be_left_out_part_by_part():
    case = draw(lstm(), steps=3)
    zeros = jax.tree.map(np.zeros_like, (case.d_states, case.d_final))

    @jax.jit
    def errors(case):
        def pull(cotangents, final):
            return bptt(lstm(), *case.inputs, cotangents, final=final)

        h, c = case.d_states
        (no_h, no_c), no_final = zeros
        state = type(case.state)
        return [
            gap(pull(h, case.d_final), pull(state(h, no_c), case.d_final)),
            gap(pull((None, c), None), pull(state(no_h, c), no_final)),
            gap(pull(None, case.d_final), pull(state(no_h, no_c), case.d_final)),
        ]

    assert max(errors(case)) < 1e-15


@pytest.mark.parametrize(
    "wrong, error, words",
    [
        ({"cotangents": np.zeros((4, 2, 3))}, ValueError, "cotangents.h"),
        ({"cotangents": np.zeros((3, 2, 3), "f4")}, TypeError, "cotangents.h"),
        ({"cotangents": [1.0]}, TypeError, "cotangents.h"),
        ({"cotangents": (None,)}, ValueError, "cotangents: expected 2 parts"),
        ({"cotangents": (None, np.zeros((3, 2, 4)))}, ValueError, "cotangents.c"),
        ({"final": np.zeros((2, 3))}, TypeError, "final: expected LSTMState"),
        (
            {"final": (np.zeros((2, 3)),) * 2},
            TypeError,
            "final: expected",
        ),
        ({"chunk_size": 0}, ValueError, "chunk_size: expected a positive integer"),
        ({"state": np.zeros((2, 3))}, TypeError, "state: expected LSTMState"),
        ({"xs": np.zeros((3, 2, 5))}, ValueError, "xs: expected shape"),
    ],
)
def test_wrong_calls_of_bptt_are_named(wrong, error, words):
    case = draw(lstm(), steps=3)
    arguments = {"params": case.params, "xs": case.xs, **wrong}
    with pytest.raises(error) as raised:
        bptt(lstm(), **arguments)
    assert words in str(raised.value)


# Accumulation ---------------------------------------------------------------------


def test_bfloat16_weight_gradients_are_the_wide_sum_of_the_deltas_over_1000_steps():
    case = jax.tree.map(
        lambda a: jnp.asarray(a, jnp.bfloat16),
        draw(lstm(), steps=1000, batch=(), seed=3),
    )
    d = bptt(lstm(), *case.inputs, case.d_states)
    states, _ = unroll(lstm(), *case.inputs, return_states=True)
    h = np.concatenate([np.float64(case.state.h)[None], np.float64(states.h)[:-1]])
    rows = {"w_x": np.float64(case.xs), "w_s": h, "b": np.ones((1000, 1))}
    delta = np.float64(d.deltas.z)
    for leaf, row in rows.items():
        terms = row[:, :, None] * delta[:, None, :]
        wide, walk = terms.sum(0), np.sqrt((terms**2).sum(0))
        ours = np.float64(getattr(d.params, leaf)).reshape(wide.shape)
        # One rounding of the sum to bfloat16, and a random walk of one a step, since
        # XLA may multiply by a delta before it rounds it to what it returns.
        assert (np.abs(ours - wide) <= 2**-8 * (np.abs(wide) + 2 * walk)).all()
        assert np.linalg.norm(ours - wide) <= 2**-8 * np.linalg.norm(wide)
        # Control: a sum held in bfloat16, as autodiff's inside the loop, is not it.
        narrow = np.zeros(wide.shape, jnp.bfloat16)
        for term in terms.astype(jnp.bfloat16):
            narrow = narrow + term
        error = np.linalg.norm(np.float64(narrow) - wide) / np.linalg.norm(wide)
        assert error > 0.01


def test_bfloat16_weight_gradients_of_many_chunks_are_rounded_once():
    steps, cell = 200, elman("identity")
    case = draw(cell, steps=steps, batch=(), inputs=6, units=8, dtype=jnp.bfloat16)
    # No state reaches the next one, so that each δ is its cotangent, unrounded.
    alone = case.params._replace(w_s=np.zeros_like(case.params.w_s))
    inputs = alone, case.xs, case.state
    d = bptt(cell, *inputs, case.d_states, chunk_size=8)
    states, _ = unroll(cell, *inputs)
    delta = np.float64(case.d_states.h)
    before = np.concatenate([np.float64(case.state.h)[None], np.float64(states)[:-1]])
    rows = {"w_x": np.float64(case.xs), "w_s": before, "b": np.ones((steps, 1))}
    for leaf, row in rows.items():
        terms = row[:, :, None] * delta[:, None, :]
        ours = np.float64(getattr(d.params, leaf)).reshape(terms.shape[1:])
        wide, walk = terms.sum(0), np.sqrt((terms**2).sum(0))
        # half of the last bit, and the roundings of a sum in float32
        budget = 2.0 ** (np.floor(np.log2(np.abs(wide))) - 8) + 1e-6 * walk
        assert (np.abs(ours - wide) <= budget).all()
        # Control: each chunk's sum rounded by itself leaves the budget.
        chunks = terms.reshape(steps // 8, 8, *terms.shape[1:]).sum(1)
        narrow = np.float64(chunks.astype(jnp.bfloat16)).sum(0)
        assert (np.abs(narrow - wide) > budget).any()


def test_bfloat16_weight_products_are_asked_for_in_float32():
    # A CPU keeps float32 inside whatever is asked for; another device may not.
    case = draw(elman(), steps=12, inputs=6, units=8, dtype=jnp.bfloat16)
    run = jax.jit(partial(bptt, elman(), chunk_size=3))
    text = run.lower(*case.inputs, case.d_states).as_text()
    products = re.findall(r"dot_general.* -> tensor<(6x8|8x8)x(\w+)>", text)
    assert set(products) == {("6x8", "f32"), ("8x8", "f32")}


# Controls: one thing broken, and the equality must fail ---------------------------


def dropped_slope(cell):
    def pullback(own, slope, adjoint):
        return adjoint.h, adjoint.h, type(adjoint)(jnp.zeros_like(adjoint.h))

    return cell._replace(pullback=pullback)


def flipped_sign(cell):
    def pullback(own, coefficients, adjoint):
        d_z, d_r, previous = cell.pullback(own, coefficients, adjoint)
        return -d_z, d_r, previous

    return cell._replace(pullback=pullback)


def previous_state_off_by_one(cell):
    def linearize(own, kept, state_prev, state):
        return cell.linearize(own, kept, state, state)

    return cell._replace(linearize=linearize)


def lost_carry(cell):
    def pullback(own, coefficients, adjoint):
        d_z, d_r, previous = cell.pullback(own, coefficients, adjoint)
        return d_z, d_r, jax.tree.map(jnp.zeros_like, previous)

    return cell._replace(pullback=pullback)


def swapped_maps(cell):
    def pullback(own, coefficients, adjoint):
        d_z, d_r, previous = cell.pullback(own, coefficients, adjoint)
        return d_r, d_z, previous

    return cell._replace(pullback=pullback)


@pytest.mark.parametrize(
    "name, broken, wrong_leaves",
    [
        ("elman-tanh", dropped_slope, {"0.w_x", "0.w_s", "0.b", "1", "2.h"}),
        ("elman-sigmoid", flipped_sign, {"0.w_x", "0.b", "1"}),
        ("lstm", previous_state_off_by_one, {"0.w_x", "0.w_s", "0.b", "1", "2.h"}),
        ("lstm", lost_carry, {"0.w_x", "0.w_s", "0.b", "1", "2.h", "2.c"}),
        ("gru", previous_state_off_by_one, {"0.w_x", "0.w_s", "0.b", "1", "2.h"}),
        ("gru", lost_carry, {"0.w_x", "0.w_s", "0.b", "1", "2.h"}),
        ("gru", swapped_maps, {"0.w_x", "0.w_s", "0.b", "0.b_s", "1", "2.h"}),
    ],
)
def test_control_a_broken_derivative_differs(name, broken, wrong_leaves):
    case = draw(CELLS[name], steps=4)
    d = bptt(broken(CELLS[name]), *case.inputs, case.d_states, final=case.d_final)
    errors = relative_errors((d.params, d.xs, d.state), pull_oracle(name, case))
    assert wrong_leaves <= {leaf for leaf, error in errors.items() if error > 1e-3}


# Composition ----------------------------------------------------------------------


def squares(cell, params, xs, state=None, *, gradient="manual", chunk_size=None):
    """A nonlinear error, so that second derivatives have every term."""
    options = {"gradient": gradient, "chunk_size": chunk_size}
    hs, final = unroll(cell, params, xs, state, **options)
    return jnp.sum(jnp.sin(hs)) + jnp.sum(final[-1] ** 2)


@pytest.mark.parametrize(
    "name, kind",
    [("elman-tanh", "hessian"), ("gru", "hessian"), ("elman-tanh", "grad of grad")],
)
def test_second_derivatives_equal_autodiffs(name, kind):
    case = draw(CELLS[name], steps=3, batch=(), inputs=1, units=2)
    flat, unflatten = ravel_pytree(case.params)

    def second(gradient):
        def error(flat):
            return squares(CELLS[name], unflatten(flat), case.xs, gradient=gradient)

        if kind == "hessian":
            return jax.hessian(error)(flat)  # forward mode over the manual gradient
        return jax.grad(lambda p: jnp.sum(jax.grad(error)(p) ** 3))(flat)

    manual, autodiff = jax.jit(lambda: (second("manual"), second("autodiff")))()
    assert_alike(manual, autodiff, 1e-10)


def test_vmap_of_grad_gives_each_samples_gradient():
    case = draw(lstm(), steps=3, batch=(3,))
    per_sample = jax.jit(
        jax.vmap(jax.grad(partial(squares, lstm())), in_axes=(None, 1, 0))
    )(*case.inputs)
    one = jax.jit(jax.grad(partial(squares, lstm())))
    for row in range(3):
        state = jax.tree.map(lambda a, row=row: a[row], case.state)
        alone = one(case.params, case.xs[:, row], state)
        assert_alike(jax.tree.map(lambda g, row=row: g[row], per_sample), alone, 1e-12)


def test_grad_of_vmap_equals_the_batchs_gradient():
    case = draw(elman(), steps=3, batch=(3,))

    @jax.jit
    def both(params, xs, state):
        def mapped(params):
            error = partial(squares, elman(), params)
            return jax.vmap(error, in_axes=(1, 0))(xs, state).sum()

        whole = jax.grad(partial(squares, elman()))(params, xs, state)
        return jax.grad(mapped)(params), whole

    assert_alike(*both(*case.inputs), 1e-12)


def test_forward_mode_is_for_autodiff_alone():
    case = draw(elman(), steps=3)

    def push(gradient):
        run = partial(squares, elman(), xs=case.xs, gradient=gradient)
        return jax.jvp(run, (case.params,), (case.params,))

    with pytest.raises(TypeError, match="autodiff"):
        push("manual")
    _, along = jax.jit(push, static_argnums=0)("autodiff")
    d = jax.jit(jax.grad(partial(squares, elman())))(case.params, case.xs)
    inner = sum(jax.tree.leaves(jax.tree.map(jnp.vdot, d, case.params)))
    assert along == pytest.approx(float(inner), rel=1e-12)


@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_a_batch_split_over_devices_has_the_whole_batchs_gradient(gradient):
    case = draw(lstm(), steps=5, batch=(4,))
    mesh = Mesh(np.array(jax.devices()[:2]), ("batch",))
    everywhere, rows = PartitionSpec(), PartitionSpec(None, "batch")
    shard = partial(jax.shard_map, mesh=mesh, in_specs=(everywhere, rows))
    # two chunks and a shorter one: their sums must vary over the mesh as well
    error = partial(squares, lstm(), gradient=gradient, chunk_size=2)

    @partial(shard, out_specs=everywhere)
    def total(params, xs):
        return jax.lax.psum(error(params, xs), "batch")

    @partial(shard, out_specs=(everywhere, rows))
    def grad_inside(params, xs):
        def total(params, xs):
            return jax.lax.psum(error(params, xs), "batch")

        return jax.grad(total, (0, 1))(params, xs)

    @jax.jit
    def all_three(params, xs):
        arguments = params, xs
        return (
            jax.grad(error, (0, 1))(*arguments),
            jax.grad(total, (0, 1))(*arguments),
            grad_inside(*arguments),
        )

    whole, outside, inside = all_three(case.params, case.xs)
    assert_alike(outside, whole, 1e-12)
    assert_alike(inside, whole, 1e-12)


def test_it_runs_without_jit():
    case = draw(elman(), steps=3)
    arguments = *case.inputs, case.d_states
    compiled = bptt(elman(), *arguments)
    with jax.disable_jit():
        plain = bptt(elman(), *arguments)
    assert_alike(plain, compiled, 1e-12)

"""`unroll` against `step`; pieces, batches, chunks and edges."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from table import CELLS, assert_alike, assert_equal, cells, draw, each_cell

from jaxrnn import LSTMState, State, custom_cell, elman, gru, lstm, step, unroll


def all_states(cell, params, xs, state=None, **options):
    return unroll(cell, params, xs, state, return_states=True, **options)


# Folded and unfolded --------------------------------------------------------------


@each_cell
def test_56_stepping_equals_unrolling_and_both_gradients_give_the_same_bits(name):
    cell = CELLS[name]
    case = draw(cell, dtype=np.float32)
    manual = all_states(cell, *case.inputs)
    assert_equal(all_states(cell, *case.inputs, gradient="autodiff"), manual)
    states, final = manual
    assert_equal(final, jax.tree.map(lambda a: a[-1], states))

    one = jax.jit(partial(step, cell))
    state = case.state
    for t, x in enumerate(case.xs):
        state, output = one(case.params, state, x)
        assert_equal(output, state[0])
        # five steps' roundings in float32, in another order
        assert_alike(state, jax.tree.map(lambda a, t=t: a[t], states), 1e-6)


@cells(*oracles.ORACLES)
def test_56_states_equal_the_numpy_loops(name, x64):
    case = draw(CELLS[name])
    states, _ = jax.jit(partial(all_states, CELLS[name], chunk_size=2))(*case.inputs)
    answer = oracles.run(name, *case.inputs)
    assert_alike(states, type(case.state)(*answer.states), 1e-13)


def test_hs_is_the_first_part_of_the_states():
    case = draw(lstm(), dtype=np.float32)
    states, final = all_states(lstm(), *case.inputs)
    assert_equal(unroll(lstm(), *case.inputs), (states.h, final))


def test_the_default_state_is_the_cells_initial_state():
    case = draw(lstm(), dtype=np.float32)
    zeros = jax.tree.map(np.zeros_like, case.state)
    given_zeros = unroll(lstm(), case.params, case.xs, zeros)
    assert_equal(unroll(lstm(), case.params, case.xs), given_zeros)


def test_jit_equals_eager():
    case = draw(gru(), steps=3, dtype=np.float32)
    with jax.disable_jit():
        plain = unroll(gru(), *case.inputs)
    within = jax.jit(partial(unroll, gru()))(*case.inputs)
    assert_equal(within, unroll(gru(), *case.inputs))
    assert_alike(within, plain, 1e-6)  # float32, fused and not


def test_autodiff_and_manual_give_the_same_bits_inside_jit_and_with_chunks():
    case = draw(lstm(), steps=7, dtype=np.float32)

    def run(gradient):
        options = {"gradient": gradient, "chunk_size": 3}
        return jax.jit(partial(all_states, lstm(), **options))(*case.inputs)

    assert_equal(run("manual"), run("autodiff"))


# Pieces ---------------------------------------------------------------------------


def test_pieces_of_default_chunks_equal_the_whole():
    case = draw(gru(), steps=6, dtype=np.float32)
    whole, final = unroll(gru(), *case.inputs)
    first, between = unroll(gru(), case.params, case.xs[:4], case.state)
    second, end = unroll(gru(), case.params, case.xs[4:], between)
    # A product over 4 steps' rows may add in another order than one over 6.
    assert_alike((np.concatenate([first, second]), end), (whole, final), 1e-6)


def test_control_a_piece_that_starts_anew_differs():
    case = draw(lstm(), steps=6, dtype=np.float32)
    whole, _ = unroll(lstm(), *case.inputs)
    second, _ = unroll(lstm(), case.params, case.xs[4:])
    assert np.abs(second - whole[4:]).max() > 1e-2


# Batches, chunks, edges -----------------------------------------------------------


@cells("lstm", "custom", "peephole")
def test_batch_axes_equal_vmap_equals_a_loop_over_rows(name, x64):
    cell = CELLS[name]
    case = draw(cell, batch=(2, 3))
    run = partial(all_states, cell, case.params)

    @jax.jit
    def every_way(xs, state):
        whole = run(xs, state)
        # over both axes of the batch; time stays first
        over = partial(jax.vmap, in_axes=(1, 0), out_axes=(1, 0))
        return whole, over(over(run))(xs, state)

    whole, mapped = every_way(case.xs, case.state)
    assert_alike(mapped, whole, 1e-13)
    alone = jax.jit(run)
    for row in np.ndindex(2, 3):
        states, final = alone(
            case.xs[:, *row], jax.tree.map(lambda a, row=row: a[row], case.state)
        )
        here = jax.tree.map(lambda a, row=row: a[:, *row], whole[0])
        assert_alike(states, here, 1e-13)
        assert_alike(final, jax.tree.map(lambda a, row=row: a[row], whole[1]), 1e-13)


def test_the_chunk_size_changes_no_output(x64):
    case = draw(gru(), steps=6)

    @jax.jit
    def runs(*inputs):  # that divide T or not, one, all, and more than there are
        run = partial(all_states, gru(), *inputs, store="borders")
        return [run(chunk_size=c) for c in (None, 1, 3, 4, 9)]

    whole, *others = runs(*case.inputs)
    for other in others:
        assert_alike(other, whole, 1e-13)


@cells("elman-tanh", "gru", "peephole")
def test_an_input_map_ahead_of_the_loop_changes_no_output(name, x64, monkeypatch):
    # Off a CPU the product runs ahead of the loop. A batch that no other test has, so
    # that the second run is not the first one's program.
    case = draw(CELLS[name], steps=6, batch=(7,))

    def run(chunk_size):
        def all_of_it(*inputs):
            return all_states(CELLS[name], *inputs, chunk_size=chunk_size)

        out, pull = jax.vjp(all_of_it, *case.inputs)
        return out, pull(jax.tree.map(jnp.ones_like, out))

    inside = run(5)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert_alike(run(4), inside, 1e-13)


@cells("elman-tanh", "lstm", "peephole")
@pytest.mark.parametrize("gradient", ["manual", "autodiff"])
def test_no_steps_or_no_rows_give_empty_outputs_and_zero_gradients(name, gradient):
    cell = CELLS[name]
    case = draw(cell, dtype=np.float32)
    run = partial(all_states, cell, gradient=gradient)

    @jax.jit
    def out_and_pull(params, xs, state):
        out, pull = jax.vjp(run, params, xs, state)
        return out, pull(jax.tree.map(jnp.ones_like, out))

    # T = 0
    (states, final), (d_params, d_xs, d_state) = out_and_pull(
        case.params, case.xs[:0], case.state
    )
    assert all(part.shape == (0, 2, 3) for part in states)
    assert_equal(final, jax.tree.map(jnp.asarray, case.state))
    assert not any(g.any() for g in jax.tree.leaves(d_params))
    assert d_xs.shape == (0, 2, 2)
    # the final state is the initial one, so its cotangent comes back as it was
    assert_equal(d_state, jax.tree.map(jnp.ones_like, final))

    # a batch of no rows
    (states, final), (d_params, d_xs, d_state) = out_and_pull(
        case.params, case.xs[:, :0], jax.tree.map(lambda a: a[:0], case.state)
    )
    assert all(part.shape == (5, 0, 3) for part in states)
    assert all(part.shape == (0, 3) for part in final)
    assert jax.tree.map(jnp.shape, d_params) == jax.tree.map(np.shape, case.params)
    assert not any(g.any() for g in jax.tree.leaves(d_params))
    assert d_xs.shape == (5, 0, 2) and d_state[0].shape == (0, 3)


def test_one_step_is_step():
    case = draw(lstm(), steps=1, dtype=np.float32)
    states, final = all_states(lstm(), *case.inputs)
    assert_alike(final, step(lstm(), case.params, case.state, case.xs[0])[0], 1e-6)
    assert_equal(final, jax.tree.map(lambda a: a[0], states))


def test_nan_flows_from_its_step_on_and_no_further_than_its_row():
    case = draw(elman(), dtype=np.float32)
    xs = case.xs.copy()
    xs[2, 1, 0] = np.nan
    hs, _ = unroll(elman(), case.params, xs)
    wanted = np.zeros(hs.shape, bool)
    wanted[2:, 1] = True
    np.testing.assert_array_equal(np.isnan(hs), wanted)


# Tracing --------------------------------------------------------------------------


def test_a_shape_is_traced_once():
    traces = 0

    def gate(own, z, r, state_prev):
        nonlocal traces
        traces += 1
        return State(jnp.tanh(z + r))

    cell = custom_cell(gate)
    case = draw(cell, dtype=np.float32)
    unroll(cell, *case.inputs)
    first = traces
    assert first > 0
    unroll(cell, *case.inputs)
    unroll(cell, case.params, 2 * case.xs)  # its zero state has the same shape
    assert traces == first
    unroll(cell, case.params, case.xs[:3])  # control: another shape is another trace
    assert traces > first

    @jax.jit
    def grad(params, xs):
        return jax.grad(lambda p: unroll(cell, p, xs)[0].sum())(params)

    grad(case.params, case.xs)
    before = traces
    grad(case.params, case.xs + 1)
    assert traces == before


# Wrong calls ----------------------------------------------------------------------

CASE = draw(lstm(), dtype=np.float32)
P = CASE.params


def of(cell):
    return draw(cell, dtype=np.float32).params


def wrong(error, *words, **arguments):
    """A call of an LSTM with 2 inputs and 3 units on xs [5, 2, 2], changed."""
    return pytest.param(arguments, error, words, id="-".join(arguments) + words[0][:20])


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        wrong(TypeError, "cell: expected a Cell or a Layer", "got str", cell="lstm"),
        wrong(TypeError, "cell: expected", "got the function", cell=lstm),
        wrong(
            TypeError, "params: expected jaxrnn.Params", "got a tuple", params=(1, 2)
        ),
        wrong(TypeError, "params: expected", "got None", params=None),
        wrong(ValueError, "params: expected", "[3]", params=P._replace(w_x=np.ones(3))),
        wrong(ValueError, "params.w_x", "[2, 12]", "[2, 9]", params=of(gru())),
        wrong(ValueError, "params.w_x", "[2, 12]", "[2, 3]", params=of(elman())),
        wrong(TypeError, "params.w_s: got float64", "x64", params=draw(lstm()).params),
        wrong(ValueError, "params.w_s", params=P._replace(w_s=P.w_s[:2])),
        wrong(ValueError, "params.w_x", "[2, 12]", params=P._replace(w_x=P.w_x[:, 1:])),
        wrong(
            ValueError,
            "params.b: expected",
            "[12]",
            "[3]",
            params=P._replace(b=P.b[:3]),
        ),
        wrong(
            ValueError,
            "params.b_s",
            "[12]",
            "[1, 12]",
            params=P._replace(b_s=P.b[None]),
        ),
        wrong(TypeError, "params.b", "got list", params=P._replace(b=[0.0] * 12)),
        wrong(
            TypeError,
            "params.w_x: expected float32, got float16",
            params=P._replace(w_x=P.w_x.astype("f2")),
        ),
        wrong(
            TypeError,
            "params.b: expected float32, got float64",
            params=P._replace(b=P.b.astype("f8")),
        ),
        wrong(
            TypeError,
            "params.w_s: expected a floating dtype, got int32",
            params=P._replace(w_s=P.w_s.astype("i4")),
        ),
        wrong(TypeError, "xs: expected an array", "got list", xs=[[1.0, 2.0]]),
        wrong(
            ValueError, "xs: expected an array [T, ..., D]", "[5]", xs=np.ones(5, "f4")
        ),
        wrong(ValueError, "xs: expected", "[5, 2, 3]", xs=np.ones((5, 2, 3), "f4")),
        wrong(TypeError, "xs: expected float32", "got int32", xs=np.ones((5, 2), "i4")),
        wrong(
            TypeError,
            "xs: expected float32",
            "got bfloat16",
            xs=np.ones((5, 2), jnp.bfloat16),
        ),
        wrong(TypeError, "state: expected LSTMState(h, c)", state=P.b),
        wrong(
            TypeError,
            "state: expected LSTMState(h, c)",
            "State",
            state=State(CASE.state.h),
        ),
        wrong(TypeError, "state: expected", state=LSTMState(CASE.state.h, None)),
        wrong(
            TypeError, "state.h: expected an array", "float", state=LSTMState(0.0, 0.0)
        ),
        wrong(
            ValueError,
            "state.c",
            "[2, 3]",
            "[3]",
            state=CASE.state._replace(c=CASE.state.c[0]),
        ),
        wrong(
            TypeError,
            "state.c: expected float32, got float16",
            state=CASE.state._replace(c=CASE.state.c.astype("f2")),
        ),
        wrong(ValueError, "chunk_size: expected a positive integer", chunk_size=0),
        wrong(ValueError, "chunk_size: expected", "got 2.0", chunk_size=2.0),
        wrong(ValueError, "chunk_size: expected", "got True", chunk_size=True),
        wrong(ValueError, "store: expected 'activations'", "got 'all'", store="all"),
        wrong(
            ValueError,
            "gradient: expected 'manual' or 'autodiff', got 'auto'",
            gradient="auto",
        ),
    ],
)
def test_wrong_calls_are_named(arguments, error, words):
    call = {"cell": lstm(), "params": CASE.params, "xs": CASE.xs, **arguments}
    with pytest.raises(error) as raised:
        unroll(**call)
    for word in words:
        assert word in str(raised.value)


def test_a_state_of_another_cell_is_named_by_its_structure():
    case = draw(elman(), dtype=np.float32)
    with pytest.raises(TypeError, match="state: expected State"):
        unroll(elman(), case.params, case.xs, (case.state.h,))
    unroll(elman(), case.params, case.xs, State(case.state.h))


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        wrong(TypeError, "cell: expected", cell="lstm"),
        wrong(
            ValueError, "x: expected shape [..., 2]", "[2, 3]", x=np.ones((2, 3), "f4")
        ),
        wrong(ValueError, "x: expected an array [..., D]", "[]", x=np.float32(1)),
        wrong(TypeError, "state: expected LSTMState(h, c)", state=None),
        wrong(ValueError, "state.h", x=np.ones((3, 2), "f4")),
    ],
)
def test_wrong_steps_are_named(arguments, error, words):
    call = {"cell": lstm(), "params": P, "state": CASE.state, "x": CASE.xs[0]}
    with pytest.raises(error) as raised:
        step(**{**call, **arguments})
    for word in words:
        assert word in str(raised.value)

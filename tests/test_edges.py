"""Lengths, resets, direction and padding, against NumPy loops.

The oracle runs each row alone, over its own steps, in pieces between its resets, each
piece from the row's initial state.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from table import CELLS, Case, assert_alike, cells, draw, each_cell

from jaxrnn import Params, bptt, elman, gru, lstm, network, unroll

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

STEPS, ROWS = 5, 3
POISON = (np.nan, np.inf, -np.inf)
WITH_ORACLE = [name for name in CELLS if name in oracles.ORACLES]


def by_rows(name, case: Case, lengths, resets, reverse):
    """(states, final), and gradients of params, xs and state, by loops over rows."""
    shapes = jax.tree.map(np.zeros_like, (case.d_states, case.state))
    states, final = shapes
    found: list[Params] = []
    d_xs, d_state = np.zeros_like(case.xs), jax.tree.map(np.zeros_like, case.state)
    for row in range(ROWS):
        order = list(range(lengths[row]))
        order = order[::-1] if reverse else order
        pieces: list[list[int]] = [[]]
        for t in order:
            if resets[t, row]:
                pieces.append([])
            pieces[-1].append(t)
        for part, start in zip(final, case.state, strict=True):
            part[row] = start[row]
        for piece in pieces:
            last = piece is pieces[-1]
            own = [d[row] if last else np.zeros_like(d[row]) for d in case.d_final]
            answer = oracles.run(
                name,
                case.params,
                case.xs[piece, row],
                [start[row] for start in case.state],
                [d[piece, row] for d in case.d_states],
                own,
            )
            for k, part in enumerate(answer.states):
                states[k][piece, row] = part
                final[k][row] = part[-1] if len(piece) else case.state[k][row]
                d_state[k][row] += answer.state[k]
            d_xs[piece, row] = answer.xs
            found.append(Params(**answer.params))
    d_params = jax.tree.map(lambda *parts: sum(parts), *found)
    return (states, final), (d_params, d_xs, d_state)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def pulled(cell, store, gradient, reverse, case, lengths, resets):
    """The results of `by_rows`, by `unroll` and its pull-back."""

    def run(params, xs, state):
        return unroll(
            cell,
            params,
            xs,
            state,
            lengths=lengths,
            resets=resets,
            reset_to=state,
            reverse=reverse,
            store=store,
            chunk_size=2,
            gradient=gradient,
            return_states=True,
        )

    out, pull = jax.vjp(run, *case.inputs)
    return out, pull((case.d_states, case.d_final))


def poisoned(case: Case, lengths) -> Case:
    """Put NaN and inf into every step past a row's length, inputs and cotangents."""
    past = np.arange(STEPS)[:, None] >= lengths

    def spoil(a):
        return np.where(past[..., None], np.resize(POISON, a.shape), a)

    return case._replace(xs=spoil(case.xs), d_states=jax.tree.map(spoil, case.d_states))


def drawn_edges(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, STEPS + 1, ROWS), rng.random((STEPS, ROWS)) < 0.3


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "store, gradient",
    [
        ("states", "manual"),
        ("activations", "manual"),
        ("borders", "manual"),
        ("states", "autodiff"),
    ],
)
@cells(*WITH_ORACLE)
def test_padding_lengths_and_resets_equal_loops_over_rows(
    name, store, gradient, reverse
):
    case = draw(CELLS[name], steps=STEPS, batch=(ROWS,))
    # empty, whole, and in between; then five draws
    edges = [(np.array([0, 3, STEPS]), np.zeros((STEPS, ROWS), bool))]
    edges += [drawn_edges(seed) for seed in range(5)]
    for lengths, resets in edges:
        given = poisoned(case, lengths)
        ours = pulled(CELLS[name], store, gradient, reverse, given, lengths, resets)
        assert_alike(ours, by_rows(name, case, lengths, resets, reverse), 1e-10)


@cells("custom", "peephole")
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_users_cell_has_the_same_gradient_by_hand_and_by_jax(name, reverse):
    case = draw(CELLS[name], steps=STEPS, batch=(ROWS,))
    lengths, resets = drawn_edges(7)
    case = poisoned(case, lengths)
    run = partial(pulled, CELLS[name])
    manual = run("activations", "manual", reverse, case, lengths, resets)
    assert_alike(
        manual, run("states", "autodiff", reverse, case, lengths, resets), 1e-10
    )


@given(
    lengths=st.lists(st.integers(0, STEPS), min_size=ROWS, max_size=ROWS),
    resets=st.lists(st.booleans(), min_size=STEPS * ROWS, max_size=STEPS * ROWS),
    reverse=st.booleans(),
)
@example(lengths=[0] * ROWS, resets=[True] * (STEPS * ROWS), reverse=False)
@example(lengths=[STEPS] * ROWS, resets=[True] * (STEPS * ROWS), reverse=True)
def test_any_lengths_and_resets_equal_loops_over_rows(lengths, resets, reverse):
    lengths, resets = np.array(lengths), np.array(resets).reshape(STEPS, ROWS)
    case = draw(lstm(), steps=STEPS, batch=(ROWS,))
    given = poisoned(case, lengths)
    ours = pulled(lstm(), "borders", "manual", reverse, given, lengths, resets)
    assert_alike(ours, by_rows("lstm", case, lengths, resets, reverse), 1e-10)


@each_cell
def test_bptt_called_by_hand_takes_the_same_edges(name):
    case = draw(CELLS[name], steps=STEPS, batch=(ROWS,))
    lengths, resets = drawn_edges(3)
    case = poisoned(case, lengths)
    edges = {"lengths": lengths, "resets": resets}

    @partial(jax.jit, static_argnums=0)
    def by_hand(reverse, case):
        run = partial(
            bptt, CELLS[name], *case.inputs, case.d_states, final=case.d_final
        )
        return run(reverse=reverse, chunk_size=2, **edges)

    @partial(jax.jit, static_argnums=0)
    def by_jax(reverse, case):
        options = {**edges, "reverse": reverse, "gradient": "autodiff"}
        run = partial(unroll, CELLS[name], return_states=True, **options)
        return jax.vjp(run, *case.inputs)[1]((case.d_states, case.d_final))

    for reverse in (False, True):
        d = by_hand(reverse, case)
        assert_alike(d[:3], by_jax(reverse, case), 1e-10)
        past = np.arange(STEPS)[:, None] >= lengths
        for part in (*d.deltas, *d.adjoints):
            assert not part[past].any() and np.isfinite(part).all()


# Controls: what the equalities above would not forgive ----------------------------


def test_control_a_length_or_a_reset_moved_by_one_differs():
    case = draw(gru(), steps=STEPS, batch=(ROWS,))
    lengths, resets = np.array([2, 3, 5]), np.zeros((STEPS, ROWS), bool)
    resets[2, 2] = True
    wanted = by_rows("gru", case, lengths, resets, False)
    run = partial(pulled, gru(), "states", "manual")
    assert_alike(run(False, case, lengths, resets), wanted, 1e-10)
    others = [
        (False, lengths - [0, 1, 0], resets),
        (False, lengths, np.roll(resets, 1, axis=0)),
        (True, lengths, resets),
    ]
    for reverse, moved, restarted in others:
        with pytest.raises(AssertionError):
            assert_alike(run(reverse, case, moved, restarted), wanted, 1e-2)


def test_a_traced_length_outside_the_sequence_is_clamped():
    case = draw(elman(), steps=STEPS, batch=(ROWS,))
    run = jax.jit(lambda lengths: unroll(elman(), *case.inputs, lengths=lengths))
    assert_alike(run(np.array([-1, 2, 9])), run(np.array([0, 2, STEPS])), 0)


def test_rows_of_no_batch_axis_and_of_two_take_lengths():
    case = draw(lstm(), steps=STEPS, batch=(2, 2))
    lengths = np.array([[0, 5], [3, 1]])
    hs, final = jax.jit(partial(unroll, lstm()))(*case.inputs, lengths=lengths)
    for at in np.ndindex(2, 2):
        alone = jax.tree.map(lambda a, at=at: a[at], case.state)
        xs = case.xs[:, *at]
        mine, last = unroll(lstm(), case.params, xs, alone, lengths=lengths[at])
        assert_alike(hs[:, *at], mine, 1e-13)
        assert_alike(jax.tree.map(lambda a, at=at: a[at], final), last, 1e-13)


@pytest.mark.parametrize("length, rows", [(0, 2), (4, 0)])
def test_no_steps_and_no_rows_give_empty_outputs_and_zero_gradients(length, rows):
    case = draw(gru(), steps=length, batch=(rows,))
    edges = {
        "lengths": np.full(rows, length),
        "resets": np.ones((length, rows), bool),
        "reverse": True,
    }

    def error(*inputs):
        hs, final = unroll(gru(), *inputs, **edges)
        return hs.sum() + final.h.sum(), (hs, final)

    grads, (hs, final) = jax.jit(jax.grad(error, (0, 1, 2), has_aux=True))(*case.inputs)
    assert hs.shape == (length, rows, 3)
    assert_alike(final, case.state, 0)
    assert not any(a.any() for a in jax.tree.leaves(grads[:2]))
    assert grads[2].h.all()  # the final state is the initial one


# The whole network ----------------------------------------------------------------


@pytest.mark.parametrize("error", ["squared", "softmax_cross_entropy"])
def test_a_networks_error_leaves_out_what_is_past_each_length(error, key):
    net = network(gru(), error)
    params = net.init(key, 2, 3, 4, dtype=jnp.float64)
    shift = np.arange(1.0, 5.0)  # what a padded step would put out
    params = params._replace(readout=params.readout._replace(b_y=shift))
    case = draw(gru(), steps=STEPS, batch=(ROWS,))
    lengths, resets = np.array([2, 5, 0]), drawn_edges(1)[1]
    past = np.arange(STEPS)[:, None] >= lengths
    rng = np.random.default_rng(0)
    if error == "squared":
        targets = rng.standard_normal((STEPS, ROWS, 4))
        spoiled = np.where(past[..., None], np.nan, targets)
    else:
        targets = rng.integers(0, 4, (STEPS, ROWS))
        spoiled = np.where(past, 999, targets)
    weights = rng.random((STEPS, ROWS))
    given = (params, poisoned(case, lengths).xs, spoiled)
    edges = {"lengths": lengths, "resets": resets}
    for w in (None, np.where(past, np.nan, weights)):
        value, grads = net.gradients(*given, weights=w, **edges)
        # the same by weights alone, on clean data
        clean = np.where(past, 0.0, 1.0 if w is None else weights)
        run = partial(net.error, gradient="autodiff", resets=resets)
        wanted = jax.value_and_grad(run)(params, case.xs, targets, weights=clean)
        assert_alike((value, grads), wanted, 1e-10)
        assert_alike(net.error(*given, weights=w, **edges), wanted[0], 1e-10)
    ys, _ = net.apply(*given[:2], lengths=lengths)
    assert not ys[past].any() and np.isfinite(ys).all() and ys[~past].all()

"""Accumulation (equation 61) and clipping (Algorithm 1) against slow NumPy loops."""

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from table import draw_params

from jaxrnn import elman, network
from jaxrnn.optim import accumulate, clip_by_global_norm, flush, global_norm, recurrent

EPS = float(np.finfo(np.float32).eps)


pytestmark = pytest.mark.usefixtures("compile_fast", "optax_promotes")


def tree_of(seed, size=1.0):
    rng = np.random.default_rng(seed)
    return {
        "a": jnp.asarray(size * rng.standard_normal((3, 2)), jnp.float32),
        "b": jnp.asarray(size * rng.standard_normal(4), jnp.float32),
    }


def assert_trees(actual, expected, rtol=0.0, atol=0.0):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(
            np.asarray(a, np.float64), np.asarray(b, np.float64), rtol, atol
        ),
        actual,
        expected,
    )


def is_zero(tree):
    return not any(np.any(leaf) for leaf in jax.tree.leaves(tree))


def is_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def compiled(optimizer):
    """The update, with weight and flush traced."""

    @jax.jit
    def update(gradients, state, params, weight=1.0, flush=False):
        return optimizer.update(gradients, state, params, weight=weight, flush=flush)

    return update


def play(optimizer, gradients, params, weights=None):
    """Every update and every state of a sequence of gradients."""
    update = compiled(optimizer)
    state = optimizer.init(params)
    weights = [1.0] * len(gradients) if weights is None else weights
    updates, states = [], []
    for g, w in zip(gradients, weights, strict=True):
        u, state = update(g, state, params, w)
        updates.append(u)
        states.append(state)
    return updates, states


# Algorithm 1 ---------------------------------------------------------------------


def algorithm_1(tree, threshold):
    """Pascanu et al. (2013), Algorithm 1, one number at a time in float64."""
    total = 0.0
    for leaf in tree.values():
        for value in np.asarray(leaf, np.float64).ravel():
            total += value * value
    norm = math.sqrt(total)
    scale = threshold / norm if norm >= threshold else 1.0
    return {k: np.asarray(v, np.float64) * scale for k, v in tree.items()}, norm


@pytest.mark.parametrize("ratio", [0.3, 0.999, 1.001, 50.0])
def test_clip_is_algorithm_1_and_in_float32_is_that_of_optax(ratio):
    tree = tree_of(0)
    threshold = algorithm_1(tree, 1.0)[1] / ratio
    clip = clip_by_global_norm(threshold)
    clipped, state = clip.update(tree, clip.init(tree))
    expected, norm = algorithm_1(tree, threshold)
    assert_trees(clipped, expected, rtol=8 * EPS)
    assert float(state.norm) == pytest.approx(norm, rel=8 * EPS)
    theirs = optax.clip_by_global_norm(threshold)
    assert_trees(clipped, theirs.update(tree, theirs.init(tree))[0], rtol=8 * EPS)


def test_clip_at_the_threshold_takes_the_scaling_branch():
    clip = clip_by_global_norm(5.0)
    tree = {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}  # norm 5, by Pythagoras
    clipped, state = clip.update(tree, clip.init(tree))
    assert_trees(clipped, tree)
    assert int(state.clipped) == 1


@pytest.mark.parametrize(
    ("dtype", "value", "count", "theirs"),
    [
        (jnp.float16, 100.0, 8, math.inf),  # the sum of squares, 8e4, is past 65504
        (jnp.float16, 300.0, 4, math.inf),  # each square, 9e4, is
        (jnp.float16, 1e-4, 100, 0.0),  # each square, 1e-8, underflows
        (jnp.float16, 8.0, 2000, math.inf),  # 1.28e5
        (jnp.bfloat16, 1.0, 1000, 31.625),  # √1000 to bfloat16's 8 bits
    ],
)
def test_norm_of_narrow_leaves_is_taken_in_float32(dtype, value, count, theirs):
    tree = {"a": jnp.full(count, value, dtype)}
    exact = float(tree["a"][0]) * math.sqrt(count)
    norm = global_norm(tree)
    assert norm.dtype == jnp.float32
    assert float(norm) == pytest.approx(exact, rel=8 * EPS)
    # Control: the norm in the leaf's own dtype is wrong.
    assert float(optax.tree.norm(tree)) == theirs
    assert theirs != pytest.approx(exact, rel=1e-5)


def test_clip_of_float16_does_not_zero_the_update_as_optax_does():
    tree = {"a": jnp.full(8, 100.0, jnp.float16)}
    clip, theirs = clip_by_global_norm(1.0), optax.clip_by_global_norm(1.0)
    clipped, _ = clip.update(tree, clip.init(tree))
    assert clipped["a"].dtype == jnp.float16
    # 1/√8, to float16's 11 bits
    np.testing.assert_allclose(np.asarray(clipped["a"], float), 8**-0.5, rtol=2**-11)
    assert is_zero(theirs.update(tree, theirs.init(tree))[0])  # control


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_a_clipped_gradient_of_few_bits_is_rounded_once(dtype):
    draws = np.random.default_rng(0).standard_normal(1000)
    gradient = jnp.asarray(draws, dtype)
    clip = clip_by_global_norm(0.7)
    clipped = np.float64(clip.update(gradient, clip.init(gradient))[0])
    wide = np.float64(gradient)
    exact = wide * (0.7 / np.linalg.norm(wide))
    # half of the last bit of each, of which float32's own roundings are a 1000th
    half = 2.0 ** np.floor(np.log2(np.abs(exact))) * float(jnp.finfo(dtype).eps) / 2
    half = np.maximum(half, float(jnp.finfo(dtype).smallest_subnormal) / 2)
    assert (np.abs(clipped - exact) <= half * (1 + 1e-3)).all()
    # Control: a factor of as few bits is another one.
    factor = np.float64(jnp.asarray(0.7 / np.linalg.norm(wide), dtype))
    assert (np.abs(wide * factor - exact) > half).any()


@pytest.mark.parametrize("value", [1e30, 1e-30, 1e38])
def test_norm_survives_squares_that_leave_float32(value):
    # 1e38 has a subnormal reciprocal, which the CPU flushes to zero
    tree = {"a": jnp.full(4, value), "b": jnp.zeros(3)}
    assert float(global_norm(tree)) == pytest.approx(2 * value, rel=8 * EPS)
    clip = clip_by_global_norm(value)
    clipped, _ = clip.update(tree, clip.init(tree))
    np.testing.assert_allclose(clipped["a"], value / 2, rtol=8 * EPS)
    assert float(optax.tree.norm(tree)) in (0.0, math.inf)  # control


def test_clip_of_zero_gradients_and_empty_trees():
    clip = clip_by_global_norm(1.0)
    for tree in ({"a": jnp.zeros(3)}, {}, {"a": jnp.zeros((0, 3)), "b": None}):
        clipped, state = clip.update(tree, clip.init(tree))
        assert jax.tree.structure(clipped) == jax.tree.structure(tree)
        assert is_zero(clipped) and is_finite(clipped)
        assert (float(state.norm), int(state.clipped), int(state.seen)) == (0, 0, 1)


def test_empty_leaves_do_not_change_the_norm():
    tree = {"a": jnp.zeros((0, 3)), "b": jnp.array([3.0, 4.0])}
    assert float(global_norm(tree)) == 5.0  # by Pythagoras


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_norm_makes_every_leaf_non_finite(bad):
    # An inf whose scale is threshold/inf = 0 would silently zero all other leaves.
    tree = {"a": jnp.array([bad, 1.0]), "b": jnp.ones(2)}
    clip = clip_by_global_norm(1.0)
    clipped, state = clip.update(tree, clip.init(tree))
    assert not any(np.isfinite(leaf).any() for leaf in clipped.values())
    assert not math.isfinite(float(state.norm))


def test_finite_gradients_whose_norm_overflows_are_not_silently_zeroed():
    tree = {"a": jnp.full(1000, 2e38)}  # norm 6.3e39, past float32's 3.4e38
    clip = clip_by_global_norm(1.0)
    clipped, _ = clip.update(tree, clip.init(tree))
    assert not np.isfinite(clipped["a"]).any()


def test_clip_state_counts_and_holds_the_norm_before_clipping():
    clip = clip_by_global_norm(2.0)
    update = jax.jit(clip.update)
    state = clip.init(None)
    seen = []
    for norm in (1.0, 5.0, 0.0, 2.0, 7.0):
        _, state = update({"a": jnp.array([0.0, norm])}, state)
        seen.append((float(state.norm), int(state.clipped), int(state.seen)))
    assert seen == [(1, 0, 1), (5, 1, 2), (0, 1, 3), (2, 2, 4), (7, 3, 5)]


def test_state_is_readable_from_the_whole_chain():
    optimizer = recurrent(optax.adam(0.1), accumulate=2, clip_norm=1.0)
    params = {"a": jnp.zeros(2)}
    _, states = play(optimizer, [{"a": jnp.array([3.0, 4.0])}] * 2, params)
    read = {
        name: float(optax.tree.get(states[-1], name))
        for name in ("norm", "clipped", "seen", "updates", "skipped")
    }
    assert read == {"norm": 5, "clipped": 1, "seen": 1, "updates": 1, "skipped": 0}


@pytest.mark.parametrize("threshold", [0.0, -1.0, math.nan])
def test_clip_refuses_a_threshold_that_is_not_positive(threshold):
    with pytest.raises(ValueError, match="threshold"):
        clip_by_global_norm(threshold)


# Equation 61 ---------------------------------------------------------------------


def test_accumulate_is_equation_61():
    gradients = [tree_of(seed) for seed in range(6)]
    updates, states = play(accumulate(optax.sgd(1.0), 3), gradients, tree_of(9))
    for start in (0, 3):
        window = gradients[start : start + 3]
        mean = jax.tree.map(lambda *g: -sum(np.float64(a) for a in g) / 3, *window)
        assert_trees(updates[start + 2], mean, rtol=4 * EPS, atol=4 * EPS)
        assert is_zero(updates[start]) and is_zero(updates[start + 1])
    assert [int(s.count) for s in states] == [1, 2, 0, 1, 2, 0]
    assert [int(s.updates) for s in states] == [0, 0, 1, 1, 1, 2]


def test_accumulate_agrees_with_multi_steps_over_windows_of_adam():
    gradients = [tree_of(seed) for seed in range(12)]
    params = tree_of(99)
    ours, states = play(accumulate(optax.adam(0.1), 3), gradients, params)
    theirs = optax.MultiSteps(optax.adam(0.1), 3)
    update, state = jax.jit(theirs.update), theirs.init(params)
    for u, g in zip(ours, gradients, strict=True):
        expected, state = update(g, state, params)
        assert_trees(u, expected, rtol=1e-5, atol=1e-7)
    # The inner optimiser counts updates, not gradients.
    assert [int(optax.tree.get(s.inner, "count")) for s in states] == [
        *(0, 0, 1, 1, 1, 2),
        *(2, 2, 3, 3, 3, 4),
    ]


ROWS = 12
SUM_WINDOW = accumulate(optax.sgd(1.0), 1000)  # closed by flush alone
SUM_UPDATE = compiled(SUM_WINDOW)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.sets(st.integers(1, ROWS - 1), max_size=ROWS - 1),
    tokens=st.lists(
        st.one_of(st.just(0), st.integers(1, 1000)), min_size=ROWS, max_size=ROWS
    ),
)
def test_micro_batches_of_any_split_and_weights_equal_one_big_batch(seed, cuts, tokens):
    rows = np.random.default_rng(seed).standard_normal((ROWS, 5)).astype(np.float32)
    tokens = np.array(tokens, np.float64)
    params = jnp.zeros(5)
    state = SUM_WINDOW.init(params)
    edges = [0, *sorted(cuts), ROWS]
    for start, stop in pairwise(edges):
        w = tokens[start:stop]
        part = w @ rows[start:stop] / max(w.sum(), 1)
        update, state = SUM_UPDATE(
            jnp.asarray(part, jnp.float32), state, params, w.sum(), stop == ROWS
        )
    expected = -(tokens @ rows) / max(tokens.sum(), 1)
    # The budget: a part is rounded once and each running mean three times, every
    # rounding at most eps/2 of the largest element.
    budget = 2 * (len(edges) + 1) * EPS * np.abs(rows).max()
    np.testing.assert_allclose(update, expected, rtol=0, atol=budget)
    assert int(state.count) == 0


def test_uneven_rows_of_a_network_equal_the_whole_batch():
    net = network(elman())
    params = draw_params(net)
    draws = np.random.default_rng(0).standard_normal((2, 3, 8, 2))
    xs, targets = jnp.asarray(draws, jnp.float32)
    _, whole = net.gradients(params, xs, targets)
    optimizer = accumulate(optax.sgd(1.0), 2)
    parts = [slice(0, 3), slice(3, 8)]
    grads = [net.gradients(params, xs[:, p], targets[:, p])[1] for p in parts]
    by_rows, _ = play(optimizer, grads, params, weights=[3.0, 5.0])
    # The budget: two different orders of summing 24 terms.
    largest = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(whole))
    expected = jax.tree.map(jnp.negative, whole)
    assert_trees(by_rows[-1], expected, atol=16 * EPS * largest)
    # Control: the mean of means is not the mean.
    unweighted, _ = play(optimizer, grads, params)
    with pytest.raises(AssertionError):
        assert_trees(unweighted[-1], expected, atol=1e-3 * largest)


def test_weights_lose_nothing_in_float64():
    with jax.enable_x64(True):
        gradients = [jnp.array([3.0, 1.0]), jnp.array([1.0, 7.0])]
        updates, _ = play(
            accumulate(optax.sgd(1.0), 2), gradients, jnp.zeros(2), weights=[3.0, 4.0]
        )
        assert updates[-1].dtype == jnp.float64
        # (3·3 + 4·1)/7 and (3·1 + 4·7)/7
        np.testing.assert_allclose(updates[-1], [-13 / 7, -31 / 7], rtol=1e-15)


def test_own_transformations_keep_strict_promotion():
    optimizer = recurrent(optax.sgd(0.5), accumulate=2, clip_norm=1.0)
    with jax.numpy_dtype_promotion("strict"):
        for dtype in (jnp.float32, jnp.bfloat16):
            params = jnp.zeros(2, dtype)
            updates, _ = play(optimizer, [jnp.array([3, 4], dtype)] * 2, params)
            assert updates[-1].dtype == dtype


# What is skipped -----------------------------------------------------------------


@pytest.fixture(scope="module")
def of_three():
    optimizer = accumulate(optax.adam(0.1), 3)
    return optimizer, compiled(optimizer)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_bad_gradient_anywhere_is_as_if_it_had_never_been(of_three, bad):
    optimizer, update = of_three
    params = tree_of(9)
    gradients = [tree_of(seed) for seed in range(6)]

    def run(place):
        state, emitted = optimizer.init(params), []
        for i, g in enumerate(gradients):
            if i == place:
                broken = {**g, "b": g["b"].at[1].set(bad)}
                u, after = update(broken, state, params)
                assert is_zero(u) and is_finite(u)
                assert int(after.skipped) == 1
                assert_trees(after._replace(skipped=state.skipped), state)
                state = after
            u, state = update(g, state, params)
            emitted.append(u)
        return emitted, state

    clean, clean_state = run(None)
    for place in range(6):
        emitted, state = run(place)
        assert_trees(emitted, clean)
        assert_trees(state._replace(skipped=clean_state.skipped), clean_state)


def test_multi_steps_without_a_skip_is_poisoned_for_ever():
    # The control of the test above: why `accumulate` resets by where, not by 0·mean.
    optimizer = optax.MultiSteps(optax.sgd(0.1), 2)
    update = jax.jit(optimizer.update)
    params = jnp.zeros(2)
    state = optimizer.init(params)
    for i in range(8):
        g = jnp.array([math.nan, 1.0]) if i == 0 else jnp.ones(2)
        u, state = update(g, state, params)
    assert np.isnan(u[0])


@pytest.mark.parametrize("weight", [math.nan, math.inf])
def test_bad_weight_is_skipped_like_a_bad_gradient(of_three, weight):
    optimizer, update = of_three
    params, g = tree_of(9), tree_of(1)
    _, state = update(g, optimizer.init(params), params, 5.0)
    u, after = update(g, state, params, weight)
    assert is_zero(u) and int(after.skipped) == 1
    assert_trees(after._replace(skipped=state.skipped), state)


def test_without_skipping_nan_flows_but_only_in_its_window():
    optimizer = accumulate(optax.sgd(1.0), 2, skip_nonfinite=False)
    bad, good = jnp.array([math.nan, 1.0]), jnp.ones(2)
    updates, states = play(optimizer, [bad, good, good, good], jnp.zeros(2))
    np.testing.assert_array_equal(updates[1], [math.nan, -1.0])
    np.testing.assert_array_equal(updates[3], [-1.0, -1.0])
    assert int(states[-1].skipped) == 0


# Partial and empty windows -------------------------------------------------------


def test_flush_closes_a_partial_window_with_the_mean_of_what_is_there():
    optimizer = accumulate(optax.sgd(1.0), 4)
    gradients = [jnp.array([1.0, 2.0]), jnp.array([4.0, -4.0])]
    params = jnp.zeros(2)
    _, states = play(optimizer, gradients, params, weights=[1.0, 3.0])
    by_function, after = flush(optimizer, states[-1], params)
    # (1·1 + 3·4)/4 and (1·2 - 3·4)/4
    np.testing.assert_allclose(by_function, [-3.25, 2.5], rtol=4 * EPS)
    update = compiled(optimizer)
    _, state = update(gradients[0], optimizer.init(params), params, 1.0)
    by_option, state = update(gradients[1], state, params, 3.0, True)
    assert_trees(by_option, by_function)
    assert_trees(state, after)
    assert int(after.updates) == 1 and is_zero((after.mean, after.weight, after.count))


def test_flush_of_an_empty_window_does_not_let_the_momentum_move_params(of_three):
    optimizer, update = of_three
    params = tree_of(9)
    state = optimizer.init(params)
    for seed in range(3):
        u, state = update(tree_of(seed), state, params)
    assert not is_zero(u)  # so that adam has a momentum
    u, after = flush(optimizer, state, params)
    assert is_zero(u)
    assert_trees(after, state)
    moved, _ = optax.adam(0.1).update(jax.tree.map(jnp.zeros_like, u), state.inner)
    assert not is_zero(moved)  # control: adam given zeros does move


def test_flush_with_a_skipped_gradient_emits_the_good_ones_before_it(of_three):
    optimizer, update = of_three
    params, good = tree_of(9), tree_of(1)
    bad = {**good, "a": good["a"] * math.nan}
    _, state = update(good, optimizer.init(params), params)
    u, state = update(bad, state, params, 1.0, True)
    expected, _ = update(good, optimizer.init(params), params, 1.0, True)
    assert_trees(u, expected, rtol=1e-6)
    assert (int(state.updates), int(state.skipped), int(state.count)) == (1, 1, 0)


def test_window_of_zero_weights_makes_no_update(of_three):
    optimizer, update = of_three
    params, g = tree_of(9), tree_of(1)
    state = optimizer.init(params)
    for _ in range(3):
        u, state = update(g, state, params)
    before = state
    for _ in range(3):
        u, state = update(g, state, params, 0.0)
        assert is_zero(u) and is_finite(u)
    assert_trees(state, before)  # adam's count and momentum among it


# Order, dtypes, transformations --------------------------------------------------


def test_the_mean_is_clipped_and_not_its_parts():
    gradients = [jnp.array([3.0, 0.0]), jnp.array([0.0, 4.0])]
    ours = recurrent(optax.sgd(1.0), accumulate=2, clip_norm=1.0)
    updates, _ = play(ours, gradients, jnp.zeros(2))
    # the mean (1.5, 2) has norm 2.5
    np.testing.assert_allclose(updates[-1], [-0.6, -0.8], rtol=4 * EPS)
    # Control: each part clipped to norm 1 gives another direction.
    parts = optax.chain(clip_by_global_norm(1.0), accumulate(optax.sgd(1.0), 2))
    updates, _ = play(parts, gradients, jnp.zeros(2))
    np.testing.assert_allclose(updates[-1], [-0.5, -0.5], rtol=4 * EPS)


def test_recurrent_with_no_option_is_the_optimizer_itself():
    gradients = [tree_of(seed) for seed in range(3)]
    params = tree_of(9)
    ours, states = play(recurrent(optax.adam(0.1)), gradients, params)
    theirs, _ = play(optax.with_extra_args_support(optax.adam(0.1)), gradients, params)
    assert_trees(ours, theirs, rtol=1e-6)
    assert optax.tree.get(states[-1], "norm") is None  # no clipping, so no norm


def test_recurrent_can_let_nan_through():
    bad = jnp.array([math.nan])
    for skip, finite in ((True, True), (False, False)):
        optimizer = recurrent(optax.sgd(1.0), clip_norm=1.0, skip_nonfinite=skip)
        updates, states = play(optimizer, [bad], jnp.zeros(1))
        assert is_finite(updates) == finite
        assert int(states[-1].skipped) == skip


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, "2", None])
def test_steps_must_be_a_positive_integer(steps):
    with pytest.raises(ValueError, match="steps"):
        accumulate(optax.sgd(1.0), steps)
    with pytest.raises(ValueError, match="accumulate: expected a positive integer"):
        recurrent(optax.sgd(1.0), accumulate=steps)


def test_recurrent_refuses_a_threshold_that_is_not_positive():
    with pytest.raises(ValueError, match="clip_norm: expected a positive number"):
        recurrent(optax.sgd(1.0), clip_norm=0.0)


def test_a_thousand_bfloat16_gradients_average_in_float32():
    draws = np.random.default_rng(0).uniform(0.5e-3, 1.5e-3, (1000, 3))
    gradients = jnp.asarray(draws, jnp.bfloat16)
    exact = np.asarray(gradients, np.float64).mean(0)
    params = jnp.zeros(3, jnp.bfloat16)
    optimizer = accumulate(optax.sgd(1.0), 1001)

    @jax.jit
    def run(gradients):
        def one(state, g):
            update, state = optimizer.update(g, state, params)
            return state, update

        state, updates = lax.scan(one, optimizer.init(params), gradients)
        return state, updates, optimizer.update(gradients[0], state, params)[0]

    state, updates, last = run(gradients)
    assert state.mean.dtype == jnp.float32
    # The budget: 1000 running means of two roundings each, which do not conspire.
    np.testing.assert_allclose(state.mean, exact, rtol=100 * EPS)
    assert updates.dtype == last.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(last, float), -exact, rtol=2**-7)
    # Control: a running sum in bfloat16 stalls once an addend is under half its ulp.
    narrow, _ = lax.scan(lambda s, g: (s + g, None), params, gradients)
    assert (np.abs(np.asarray(narrow, float) / 1000 - exact) > 0.2 * exact).all()


def test_scan_and_vmap_give_what_a_loop_gives():
    optimizer = recurrent(optax.adam(0.1), accumulate=2, clip_norm=1.0)
    gradients = jnp.asarray(np.random.default_rng(0).standard_normal((3, 5, 2)))
    gradients = gradients.astype(jnp.float32).at[1, 2, 0].set(jnp.nan)
    weights = jnp.arange(1.0, 16.0).reshape(3, 5)
    params = jnp.zeros((3, 2))

    def run(params, gradients, weights):
        def one(carry, inputs):  # scan raises unless structure and dtypes are stable
            params, state = carry
            g, w = inputs
            u, state = optimizer.update(g, state, params, weight=w)
            return (optax.apply_updates(params, u), state), u

        carry = (params, optimizer.init(params))
        (_, state), updates = lax.scan(one, carry, (gradients, weights))
        return updates, state

    updates, states = jax.jit(jax.vmap(run))(params, gradients, weights)
    update = compiled(optimizer)
    for lane in range(3):
        p = params[lane]
        state = optimizer.init(p)
        for t in range(5):
            u, state = update(gradients[lane, t], state, p, weights[lane, t])
            p = optax.apply_updates(p, u)
            assert_trees(updates[lane, t], u, rtol=1e-5, atol=1e-7)
        assert_trees(
            jax.tree.map(lambda a, i=lane: a[i], states), state, rtol=1e-5, atol=1e-7
        )
    assert states.skipped.tolist() == [0, 1, 0]  # each lane closes on its own


def test_schedule_inside_advances_once_a_window():
    optimizer = accumulate(optax.sgd(lambda count: 1 / (count + 1.0)), 2)
    updates, _ = play(optimizer, [jnp.ones(1)] * 6, jnp.zeros(1))
    np.testing.assert_allclose(
        np.concatenate(updates), [0, -1, 0, -1 / 2, 0, -1 / 3], rtol=4 * EPS
    )


def test_extra_arguments_reach_the_inner_optimizer():
    def update(updates, state, params=None, *, value, **extra):
        assert not extra  # weight and flush are for the window, not for what is in it
        return jax.tree.map(lambda g: g * value, updates), state

    inner = optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)
    optimizer = recurrent(inner, clip_norm=10.0)
    params = jnp.zeros(1)
    u, _ = optimizer.update(jnp.ones(1), optimizer.init(params), params, value=3.0)
    assert float(u[0]) == 3.0


# What is refused, and what overflows ----------------------------------------------


@pytest.mark.parametrize(
    "gradients",
    [
        [np.full(4, 3e38)],  # the norm, 6e38, is no float32
        [np.full(4, 3e37), np.array([3e38, 0, 0, 0]), np.array([-3e38, 0, 0, 0])],
    ],
    ids=["norm", "mean"],
)
def test_finite_gradients_that_overflow_are_skipped_and_counted(gradients):
    optimizer = recurrent(optax.sgd(1.0), accumulate=len(gradients), clip_norm=1.0)
    gradients = [jnp.asarray(g, jnp.float32) for g in gradients]
    updates, states = play(optimizer, gradients, jnp.ones(4))
    assert all(is_zero(u) for u in updates)
    assert [int(s.skipped) for s in states] == [*[0] * (len(gradients) - 1), 1]
    # Control: without the skip they reach the parameters.
    optimizer = recurrent(
        optax.sgd(1.0), accumulate=len(gradients), clip_norm=1.0, skip_nonfinite=False
    )
    assert not is_finite(play(optimizer, gradients, jnp.ones(4))[0])


def test_a_traced_negative_weight_is_skipped_and_a_known_one_refused():
    optimizer = accumulate(optax.sgd(1.0), 1)
    params = jnp.ones(2)
    state = optimizer.init(params)
    u, after = compiled(optimizer)(jnp.ones(2), state, params, -1.0)
    assert is_zero(u) and int(after.skipped) == 1 and float(after.weight) == 0
    with pytest.raises(ValueError, match="weight: expected a number of 0 or more"):
        optimizer.update(jnp.ones(2), state, params, weight=-1.0)


def test_flags_of_numpy_and_of_jax_flush():
    optimizer = accumulate(optax.sgd(1.0), 9)
    params = jnp.ones(2)
    for flag in (True, np.True_, np.array(True), jnp.array(True)):
        u, _ = optimizer.update(jnp.ones(2), optimizer.init(params), params, flush=flag)
        np.testing.assert_array_equal(u, -np.ones(2))


def _update(gradients=None, **options):
    params = {"a": jnp.ones(2), "b": jnp.ones(3)}
    optimizer = accumulate(optax.sgd(1.0), 2)
    return optimizer.update(gradients or params, optimizer.init(params), **options)


A, B = jnp.ones(2), jnp.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: _update(flush=2), TypeError, "flush: expected True or False, got 2"),
        (lambda: _update(flush="no"), TypeError, "flush: expected True or False"),
        (lambda: _update(weight="1"), TypeError, "weight: expected a number, got str"),
        (lambda: _update(weight=A), ValueError, "weight: expected a scalar, got sha"),
        (lambda: _update({"a": A}), ValueError, "gradients: expected the tree of"),
        (lambda: _update({"a": A, "b": A}), ValueError, "gradients['b']: expected sha"),
        (
            lambda: _update({"a": A, "b": B.astype(int)}),
            TypeError,
            "gradients['b']: expected a float that sums in float32, got int32",
        ),
        (
            lambda: _update({"a": A.astype(complex), "b": B}),
            TypeError,
            "gradients['a']: expected a float that sums in float32, got complex64",
        ),
        (
            lambda: recurrent(1e-3),
            TypeError,
            "optimizer: expected an Optax optimiser such as optax.adam(1e-3), got flo",
        ),
        (
            lambda: _update({"a": np.ma.ones(2, "f4"), "b": B}),
            TypeError,
            "gradients['a']: expected a plain array, got a masked one",
        ),
        (
            lambda: accumulate(optax.sgd(1.0), 2).update(A, (), A),
            TypeError,
            "state: expected AccumulateState, as init gives it, got a tuple of 0",
        ),
        (
            lambda: clip_by_global_norm(1.0).update(A, None),
            TypeError,
            "state: expected ClipState, as init gives it, got None",
        ),
        (
            lambda: global_norm([A, B.astype(complex)]),
            TypeError,
            "tree[1]: expected a floating dtype, got complex64",
        ),
        (
            lambda: flush(optax.sgd(1.0), accumulate(optax.sgd(1.0), 2).init(A), A),
            TypeError,
            "optimizer: expected that of accumulate(...) or recurrent(...)",
        ),
        (lambda: accumulate(optax.adam, 2), TypeError, "optimizer: expected an Opta"),
        (lambda: clip_by_global_norm("1"), TypeError, "threshold: expected a positive"),
        (
            lambda: flush(optax.sgd(1.0), optax.sgd(1.0).init(A), A),
            TypeError,
            "state: expected that of accumulate",
        ),
        *(
            (
                lambda flag=flag: recurrent(optax.sgd(1.0), skip_nonfinite=flag),
                TypeError,
                "skip_nonfinite: expected True or False",
            )
            for flag in (1, "no", None)
        ),
    ],
)
def test_wrong_calls_are_named(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)

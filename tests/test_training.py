"""The compiled step against a loop written by hand, and a mesh against one device."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh, PartitionSpec
from table import draw_params

from jaxrnn import State, elman, network
from jaxrnn.optim import accumulate, recurrent
from jaxrnn.training import Outcome, init_train_state, train_step

NET = network(elman())
T, B = 4, 8


pytestmark = pytest.mark.usefixtures("compile_fast", "optax_promotes")


def data(dtype="float32"):
    """Inputs, targets, and a mask that leaves the rows 1, 2, ... 4 steps each."""
    rng = np.random.default_rng(0)
    xs, targets = (jnp.asarray(rng.standard_normal((T, B, 2)), dtype) for _ in "xt")
    lengths = np.array([1, 1, 1, 2, 3, 4, 4, 4])
    return xs, targets, jnp.asarray(np.arange(T)[:, None] < lengths[None], dtype)


def masked_loss(gradient="manual", weigh=True):
    """The mean error of the steps in the mask, whose number is the weight."""

    def loss(params, state, batch):
        xs, targets, mask = batch
        error, state = NET.error(
            params, xs, targets, state, weights=mask, gradient=gradient,
            return_state=True,
        )  # fmt: skip
        return error, Outcome(state, mask.sum() if weigh else 1.0)

    return loss


def start(optimizer, dtype="float32"):
    params = draw_params(NET, dtype)
    state = State(jnp.full((B, 3), 0.1, dtype))
    return init_train_state(params, optimizer, state)


def mesh_of(devices, name="data"):
    return Mesh(np.array(jax.devices()[:devices]), (name,))


def one_step(mesh, dtype="float32", **options):
    """A step of plain gradient descent, so that the change is the gradient."""
    optimizer = optax.sgd(1.0)
    step = train_step(masked_loss(**options), optimizer, mesh)
    return jax.device_get(step(start(optimizer, dtype), data(dtype)))


@cache
def alone(dtype):
    return one_step(None, dtype)


def assert_trees(actual, expected, atol):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=atol),
        jax.device_get(actual),
        jax.device_get(expected),
    )


def scalar_loss(params, state, batch):
    """(θ - d)², its mean over the labels [B]."""
    return jnp.mean((params - batch) ** 2), Outcome(state, batch.shape[0])


# One device ----------------------------------------------------------------------


def test_training_equals_a_loop_by_hand_lowers_the_error_and_compiles_once():
    xs, _, mask = data()
    targets = jnp.concatenate([jnp.zeros_like(xs[:1]), xs[:-1]])  # say what came before
    batch, traces = (xs, targets, mask), []
    loss = masked_loss()

    def counted(*args):
        traces.append(1)
        return loss(*args)

    optimizer = optax.adam(0.03)
    train_state = start(optimizer)
    params, opt, state = jax.tree.map(
        jnp.copy, (train_state.params, train_state.opt_state, train_state.state)
    )

    @jax.jit
    def by_hand(params, opt, state):
        (error, outcome), grads = jax.value_and_grad(loss, has_aux=True)(
            params, state, batch
        )
        updates, opt = optimizer.update(grads, opt, params)
        return optax.apply_updates(params, updates), opt, outcome.state, error

    step = train_step(counted, optimizer)
    errors = []
    for i in range(40):
        train_state, (error, *_) = step(train_state, batch)
        errors.append(float(error))
        if i < 5:
            params, opt, state, expected = by_hand(params, opt, state)
            assert float(error) == pytest.approx(float(expected), rel=1e-6)
            # The budget: adam divides by √v, which magnifies a gradient's rounding.
            assert_trees(
                (train_state.params, train_state.state), (params, state), atol=1e-5
            )
    assert errors[-1] < 0.5 * errors[0]
    assert int(train_state.step) == 40
    assert len(traces) == 1


def test_step_donates_its_state_but_not_what_the_state_was_made_of():
    params = jnp.ones(())
    optimizer = recurrent(optax.adam(0.1), accumulate=2, clip_norm=1.0)
    carried = jnp.ones((4, 2))
    before = init_train_state(params, optimizer, carried)
    after, _ = train_step(scalar_loss, optimizer)(before, jnp.ones(4))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))
    assert not params.is_deleted() and not carried.is_deleted()


def test_weights_make_accumulated_steps_equal_the_whole_batch_and_flush_the_rest():
    # θ = 0, labels d: the gradient is -2 mean(d), so sgd(½) moves θ to mean(d).
    optimizer = accumulate(optax.sgd(0.5), 2)
    step = train_step(scalar_loss, optimizer)
    state = init_train_state(jnp.zeros(()), optimizer)
    state, _ = step(state, jnp.array([6.0, 0.0, 0.0]))
    assert float(state.params) == 0.0
    state, _ = step(state, jnp.array([4.0]))
    # (6+0+0+4)/4, where the mean of the two means is 3
    assert float(state.params) == pytest.approx(2.5, rel=1e-6)
    state, _ = step(state, jnp.array([5.0]), flush=True)
    assert float(state.params) == pytest.approx(5.0, rel=1e-6)
    assert int(state.opt_state.updates) == 2 and int(state.step) == 3


def test_windows_with_a_carried_state_end_where_the_whole_sequence_ends():
    params = draw_params(NET)
    draws = np.random.default_rng(0).standard_normal((12, B, 2))
    xs = jnp.asarray(draws, jnp.float32)

    def loss(params, state, batch):
        error, state = NET.error(params, *batch, state, return_state=True)
        return error, Outcome(state)

    optimizer = optax.set_to_zero()  # params stay, so that the states compare
    step = train_step(loss, optimizer, mesh_of(2))
    zeros = State(jnp.zeros((B, 3)))
    train_state = init_train_state(params, optimizer, zeros)
    for window in jnp.split(xs, 3):
        train_state, _ = step(train_state, (window, window))
    _, final = NET.apply(params, xs)
    # The budget: 12 steps of a tanh network, each a few roundings of values below 1.
    assert_trees(train_state.state, final, atol=2e-6)
    assert_trees(train_state.params, params, atol=0)
    with pytest.raises(AssertionError):  # control: without the carry it ends elsewhere
        assert_trees(NET.apply(params, xs[8:])[1], final, atol=1e-3)


# A mesh --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("devices", "gradient", "dtype", "atol"),
    [
        # The budgets: a sum over rows in another order, of gradients of order 1.
        (2, "manual", "float32", 2e-6),
        (8, "manual", "float64", 1e-14),
        (2, "autodiff", "float64", 1e-14),
        (8, "autodiff", "float64", 1e-14),
    ],
)
def test_mesh_with_unequal_shards_equals_one_device(devices, gradient, dtype, atol):
    with jax.enable_x64(dtype == "float64"):
        on_mesh = one_step(mesh_of(devices), dtype, gradient=gradient)
        assert_trees(on_mesh, alone(dtype), atol=atol)


def test_mean_of_means_over_shards_would_be_wrong():
    # The control of the test above: weight 1 for every shard, as plain pmean has it.
    unweighted = one_step(mesh_of(2), weigh=False)
    moved = jax.tree.leaves(unweighted[0].params)
    right = jax.tree.leaves(alone("float32")[0].params)
    assert max(np.abs(a - b).max() for a, b in zip(moved, right, strict=True)) > 1e-2


def test_mesh_state_is_donated_stays_sharded_and_compiles_once():
    traces = []

    def loss(params, state, batch):
        traces.append(1)
        error, outcome = scalar_loss(params, state, batch)
        return error, outcome._replace(state=state + 1)

    optimizer = recurrent(optax.adam(0.1), clip_norm=1.0)
    step = train_step(loss, optimizer, mesh_of(2))
    state, _ = step(
        init_train_state(jnp.ones(()), optimizer, jnp.zeros((8, 2))), jnp.ones(8)
    )
    settled = len(traces)  # the first call's state may still lie on one device
    for _ in range(3):
        before = state
        state, _ = step(state, jnp.ones(8))
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(before))
    assert len(traces) == settled
    assert [s.data.shape for s in state.state.addressable_shards] == [(4, 2)] * 2
    assert state.params.is_fully_replicated
    np.testing.assert_array_equal(state.state, np.full((8, 2), 4.0))


def test_mesh_of_make_mesh_works_like_a_mesh_by_hand():
    # jax.make_mesh gives axes of another type (explicit) than Mesh does.
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    optimizer = optax.sgd(0.5)
    labels = jnp.arange(8.0)
    state = init_train_state(jnp.zeros(()), optimizer, jnp.zeros((8, 2)))
    step = train_step(scalar_loss, optimizer, mesh)
    for _ in range(2):
        state, _ = step(state, labels)
    assert float(state.params) == 3.5  # the mean label


def test_a_step_on_a_mesh_inside_set_mesh_is_named():
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    optimizer = optax.sgd(0.5)
    step = train_step(scalar_loss, optimizer, mesh)
    train_state = init_train_state(jnp.zeros(()), optimizer, jnp.zeros((8, 2)))
    with jax.set_mesh(mesh), pytest.raises(ValueError, match=r"mesh: expected no"):
        step(train_state, jnp.arange(8.0))


def test_default_spec_splits_labels_on_their_one_axis_and_replicates_scalars():
    def loss(params, state, batch):
        xs, labels, scale = batch
        assert (xs.shape, labels.shape, scale.shape) == ((3, 4, 2), (4,), ())
        ys = xs.sum((0, 2)) * params * scale
        return jnp.mean((ys - labels) ** 2), Outcome(state, labels.shape[0])

    optimizer = optax.sgd(1e-3)
    batch = (jnp.arange(48.0).reshape(3, 8, 2) / 48, jnp.arange(8.0), jnp.ones(()))
    step = train_step(loss, optimizer, mesh_of(2))
    state, (error, *_) = step(init_train_state(jnp.ones(()), optimizer), batch)
    ys, labels = np.asarray(batch[0]).sum((0, 2)), np.arange(8)
    assert float(error) == pytest.approx(((ys - labels) ** 2).mean(), rel=1e-6)
    slope = (2 * ys * (ys - labels)).mean()
    assert float(state.params) == pytest.approx(1 - 1e-3 * slope, rel=1e-6)


def test_batch_spec_splits_where_it_says():
    seen = []

    def loss(params, state, batch):
        seen.append((batch["rows"].shape, batch["all"].shape))
        return jnp.mean(params * batch["rows"]), Outcome(state)

    optimizer = optax.sgd(1.0)
    batch = {"rows": jnp.arange(24.0).reshape(8, 3), "all": jnp.ones(5)}
    spec = {"rows": PartitionSpec("data"), "all": PartitionSpec()}
    step = train_step(loss, optimizer, mesh_of(2), batch_spec=spec)
    state, (error, *_) = step(init_train_state(jnp.ones(()), optimizer), batch)
    assert set(seen) == {((4, 3), (5,))}
    assert float(error) == 11.5  # the mean of 0..23
    assert float(state.params) == 1 - 11.5


def kept_loss(params, state, batch):
    """(θ - d)², its mean over the labels [B] that are kept; 0/0 where none is."""
    labels, keep = batch
    total = keep.sum()
    return (keep * (params - labels) ** 2).sum() / total, Outcome(state, total)


def test_a_shard_without_weight_adds_nothing_whatever_its_mean_of_nothing_is():
    optimizer = optax.sgd(0.5)
    batch = (jnp.array([1.0, 3.0, 9.0, 9.0]), jnp.array([1.0, 1.0, 0.0, 0.0]))
    step = train_step(kept_loss, optimizer, mesh_of(2))
    state, _ = step(init_train_state(jnp.zeros(()), optimizer), batch)
    assert float(state.params) == 2.0  # the mean of the labels that are kept


def test_windows_on_a_mesh_weigh_as_all_of_its_devices_together():
    optimizer = accumulate(optax.sgd(0.5), 2)
    step = train_step(kept_loss, optimizer, mesh_of(2))
    state = init_train_state(jnp.zeros(()), optimizer)
    # Four labels, three on the first device; then two, one on each. Weighted by the
    # first device, the second, the larger or by none, the mean would be another.
    keep = jnp.array([[1.0, 1, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0]])
    for label, kept in zip((9.0, 3.0), keep, strict=True):
        state, _ = step(state, (jnp.full(6, label), kept))
    assert float(state.params) == pytest.approx((4 * 9 + 2 * 3) / 6, rel=1e-6)


def test_the_mean_over_devices_of_bfloat16_gradients_is_rounded_once():
    def loss(params, state, batch):
        slopes, weight = batch  # a device's gradient is its row of slopes
        return (params * slopes[0]).sum(), Outcome(state, weight[0])

    rng = np.random.default_rng(0)
    slopes = jnp.asarray(rng.standard_normal((8, 500)), jnp.bfloat16)
    weight = np.arange(1.0, 9.0, dtype=np.float32)
    spec = PartitionSpec("data")
    step = train_step(loss, optax.sgd(1.0), mesh_of(8), batch_spec=(spec, spec))
    start = init_train_state(jnp.zeros(500, jnp.bfloat16), optax.sgd(1.0))
    moved = -np.float64(step(start, (slopes, weight))[0].params)
    terms = np.float64(slopes) * (weight / weight.sum())[:, None]
    wide = terms.sum(0)
    # half of bfloat16's last bit, and the sum's own roundings in float32
    budget = 2**-9 * 2 ** np.ceil(np.log2(np.abs(wide))) + 1e-6
    assert (np.abs(moved - wide) <= budget).all()
    # Control: parts that are rounded before they are added leave the budget.
    narrow = np.float64(terms.astype(jnp.bfloat16)).sum(0)
    assert (np.abs(narrow - wide) > budget).mean() > 0.05


@pytest.mark.parametrize("batch", [jnp.ones((2, 5)), jnp.ones(3)])
def test_batch_that_does_not_divide_is_named(batch):
    optimizer = optax.sgd(1.0)
    step = train_step(scalar_loss, optimizer, mesh_of(2))
    with pytest.raises(ValueError, match="batch: expected axis"):
        step(init_train_state(jnp.ones(()), optimizer), batch)


def test_mesh_of_two_axes_is_refused():
    mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))
    with pytest.raises(ValueError, match="mesh: expected one axis"):
        train_step(scalar_loss, optax.sgd(1.0), mesh)


# What is skipped, and what is reported ---------------------------------------------


@pytest.mark.parametrize("devices", [None, 2])
def test_ten_bad_windows_of_a_thousand_are_as_if_they_had_never_been(devices):
    # A leaky sum whose state crosses windows: one NaN in it would stay for ever.
    def loss(params, state, batch):
        state = 0.5 * state + params * batch.mean(0)
        return jnp.mean((state - 1) ** 2), Outcome(state)

    optimizer = recurrent(optax.adam(0.01), clip_norm=1.0)
    mesh = None if devices is None else mesh_of(devices)
    step = train_step(loss, optimizer, mesh)
    draws = np.random.default_rng(0).standard_normal((1000, 2, 4)) + 1
    windows = np.asarray(draws, np.float32)
    bad = set(range(50, 1000, 100))

    def run(windows, bad):
        state = init_train_state(jnp.ones(()), optimizer, jnp.zeros(4))
        reports = []
        for i, window in enumerate(windows):
            state, report = step(state, window * np.nan if i in bad else window)
            reports.append(report)
        return jax.device_get((state, reports))

    state, reports = run(windows, bad)
    assert {i for i, r in enumerate(reports) if r.skipped} == bad
    assert int(state.opt_state.skipped) == 10 and int(state.opt_state.updates) == 990
    clean, _ = run([w for i, w in enumerate(windows) if i not in bad], ())
    assert_trees(state.params, clean.params, atol=0)
    assert_trees(state.state, clean.state, atol=0)
    assert_trees(state.opt_state.inner, clean.opt_state.inner, atol=0)
    # Control: where nothing is skipped, the first bad window is the end.
    loose = recurrent(optax.adam(0.01), clip_norm=1.0, skip_nonfinite=False)
    step, optimizer = train_step(loss, loose, mesh), loose
    assert np.isnan(run(windows[:60], bad)[0].state).all()


def test_metrics_are_of_this_step():
    def loss(params, state, batch):
        return (params * batch).mean(), Outcome(aux={"largest": batch.max()})

    optimizer = recurrent(optax.sgd(0.1), clip_norm=1.0)
    step = train_step(loss, optimizer)
    state = init_train_state(jnp.ones(()), optimizer)
    seen = []
    for value in (3.0, 0.5, np.nan, 0.25):
        state, metrics = step(state, jnp.full(2, value))
        seen.append(metrics)
    assert [bool(m.clipped) for m in seen] == [True, False, False, False]
    assert [bool(m.skipped) for m in seen] == [False, False, True, False]
    # before clipping; a skipped step has no update, and leaves the newest norm
    assert [float(m.norm) for m in seen] == [3.0, 0.5, 0.5, 0.25]
    assert float(seen[0].aux["largest"]) == 3.0
    # an optimiser without a clip: the norm of this step's gradient
    plain = train_step(loss, optax.sgd(0.1))
    _, metrics = plain(init_train_state(jnp.ones(()), optax.sgd(0.1)), jnp.full(2, 3.0))
    assert float(metrics.norm) == 3.0 and not metrics.clipped and not metrics.skipped


def test_a_key_is_folded_from_the_seed_and_the_step():
    def loss(params, state, batch, key):
        return (params * 0).sum() + jax.random.uniform(key), Outcome()

    optimizer = optax.sgd(1.0)

    def errors(seed, mesh=None):
        step = train_step(loss, optimizer, mesh, seed=seed)
        state = init_train_state(jnp.ones(()), optimizer)
        found = []
        for _ in range(3):
            state, metrics = step(state, jnp.ones(2))
            found.append(float(metrics.error))
        return found

    key = jax.random.key(7)
    wanted = [float(jax.random.uniform(jax.random.fold_in(key, i))) for i in range(3)]
    assert errors(7) == wanted and len(set(wanted)) == 3
    assert errors(8) != wanted
    keys = [jax.random.fold_in(jax.random.fold_in(key, 0), d) for d in range(2)]
    mean = np.mean([float(jax.random.uniform(k)) for k in keys])
    assert errors(7, mesh_of(2))[0] == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("devices", [None, 2, 8])
def test_a_sum_over_devices_is_the_sum(devices):
    def loss(params, state, batch):
        error = ((params - batch) ** 2).sum()
        return error, Outcome(weight=0.0, aux=batch.sum())

    mesh = None if devices is None else mesh_of(devices)
    optimizer = optax.sgd(0.5)
    step = train_step(loss, optimizer, mesh, reduce="sum")
    labels = jnp.arange(8.0)
    state, metrics = step(init_train_state(jnp.zeros(()), optimizer), labels)
    assert float(metrics.error) == 140 and float(metrics.aux) == 28
    assert float(state.params) == 28  # -½ Σ 2 (0 - d)


@pytest.mark.parametrize("devices", [None, 2])
def test_no_weight_at_all_is_no_error_no_update_and_no_skip(devices):
    optimizer = recurrent(optax.adam(0.5), clip_norm=1.0)
    mesh = None if devices is None else mesh_of(devices)
    step = train_step(kept_loss, optimizer, mesh)
    state = init_train_state(jnp.ones(()), optimizer)
    for keep, moves in ((jnp.ones(4), True), (jnp.zeros(4), False)):
        before = float(state.params)
        state, metrics = step(state, (jnp.arange(4.0), keep))
        assert (float(state.params) != before) == moves
    assert float(metrics.error) == 0 and not metrics.skipped
    assert int(state.opt_state.updates) == 1 and int(state.opt_state.skipped) == 0


def used_twice():
    optimizer = optax.sgd(1.0)
    state, step = start(optimizer), train_step(masked_loss(), optimizer)
    step(state, data())
    step(state, data())


def on_one(loss, batch, **options):
    optimizer = optax.sgd(1.0)
    state = init_train_state(jnp.ones(()), optimizer)
    return train_step(loss, optimizer)(state, batch, **options)


def test_a_batch_holds_keys_numbers_and_arrays_of_any_byte_order():
    def loss(params, state, batch):
        xs, scale, key = batch
        return (params * xs).mean() * scale + jax.random.uniform(key), Outcome()

    key = jax.random.key(0)
    wanted = float(jax.random.uniform(key)) + 5
    _, metrics = on_one(loss, (np.arange(5.0, dtype=">f4"), 2.5, key))
    assert float(metrics.error) == pytest.approx(wanted, rel=1e-6)


def on_two(loss, batch, state=None, **options):
    optimizer = optax.sgd(1.0)
    step = train_step(loss, optimizer, mesh_of(2), **options)
    step(init_train_state(jnp.ones(()), optimizer, state), batch)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            used_twice,
            ValueError,
            "train_state.step: got an array that has been del",
        ),
        (
            lambda: on_two(scalar_loss, jnp.ones(3), jnp.ones((3, 2))),
            ValueError,
            "batch: expected axis 0 of shape (3,) to divide by the mesh's 2 devices",
        ),
        (
            lambda: on_two(scalar_loss, jnp.ones(4), jnp.ones((3, 2))),
            ValueError,
            "state: expected axis 0 of shape (3, 2) to divide",
        ),
        (
            lambda: on_two(lambda p, s, x: (p * x).sum(), jnp.ones(4)),
            TypeError,
            "loss: expected (error, Outcome(...))",
        ),
        (
            lambda: on_two(
                lambda p, s, x: ((p * x).sum(), Outcome(s[:1])),
                jnp.ones(4),
                jnp.ones((4, 2)),
            ),
            ValueError,
            "Outcome.state",
        ),
        (
            lambda: on_two(
                lambda p, s, x: ((p * x).sum(), Outcome(aux={"n": 3})), jnp.ones(4)
            ),
            TypeError,
            "Outcome.aux['n']: expected floating, got int32",
        ),
        (
            lambda: on_two(
                lambda p, s, x: ((p * x).sum(), Outcome(weight=-1)), jnp.ones(4)
            ),
            ValueError,
            "weight: expected a number of 0 or more, got -1",
        ),
        (
            lambda: train_step(scalar_loss, optax.sgd(1.0), reduce="max"),
            ValueError,
            "reduce: expected 'mean' or 'sum'",
        ),
        (
            lambda: train_step(scalar_loss, optax.sgd(1.0), seed=1.5),
            TypeError,
            "seed: expected an integer or None",
        ),
        (lambda: train_step(scalar_loss, 1e-3), TypeError, "optimizer: expected an O"),
        (lambda: train_step(3, optax.sgd(1.0)), TypeError, "loss: expected a function"),
        (
            lambda: train_step(scalar_loss, optax.sgd(1.0), jax.devices()),
            TypeError,
            "mesh: expected a jax.sharding.Mesh or None",
        ),
        (
            lambda: on_two(scalar_loss, jnp.ones(4), batch_spec=PartitionSpec("rows")),
            ValueError,
            "batch_spec: expected a PartitionSpec over the mesh's axis 'data'",
        ),
        (
            lambda: on_two(scalar_loss, jnp.ones(4), batch_spec=[PartitionSpec()] * 2),
            ValueError,
            "batch_spec: expected a PartitionSpec, or a pytree of them that nests",
        ),
        (
            lambda: on_one(lambda p, s, x: (p * x, Outcome()), jnp.ones(4)),
            TypeError,
            "loss: expected an error that is one floating number, got float32[4]",
        ),
        (
            lambda: on_one(scalar_loss, np.ma.ones(4)),
            TypeError,
            "batch: expected a plain array, got a masked one",
        ),
        (
            lambda: on_one(scalar_loss, jnp.ones(4), flush="yes"),
            TypeError,
            "flush: expected True or False, got 'yes'",
        ),
        (
            lambda: on_one(scalar_loss, jnp.ones(4), flush=True),
            ValueError,
            "flush: expected False, since the optimizer is not one of",
        ),
        (
            lambda: train_step(scalar_loss, optax.sgd(1.0))((), jnp.ones(4)),
            TypeError,
            "train_state: expected a TrainState",
        ),
        (
            lambda: init_train_state(jnp.ones(2, int), optax.sgd(1.0)),
            TypeError,
            "params: expected a floating dtype, got int32",
        ),
    ],
)
def test_wrong_calls_are_named(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)

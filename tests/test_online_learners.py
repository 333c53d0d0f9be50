"""Learners: a step's loss and gradients, whose sum is the network's; resets, masks."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from table import assert_alike, assert_equal, relative_errors

from jaxrnn import (
    State,
    dense,
    elman,
    gru,
    layer_norm,
    learned_start,
    lstm,
    network,
    online,
    stack,
    transition,
)

pytestmark = pytest.mark.usefixtures("compile_fast", "x64")

T, B, D, H, OUT = 7, 3, 2, 4, 2
LENGTHS = np.array([T, 4, 0])
RESETS = np.zeros((T, B), bool)
RESETS[[0, 3, 2], [0, 0, 1]] = True
RESETS[4, 0] = True  # one step after another


def drawn(net, seed=0):
    """Params of which no leaf is zero, xs and targets [T, B, OUT]."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), D, H, OUT))
    params = jax.tree.map(
        lambda a: jnp.asarray(0.5 * rng.standard_normal(a.shape)), shapes
    )
    return params, rng.standard_normal((T, B, D)), rng.standard_normal((T, B, OUT))


def summed(learner, params, xs, targets, **marks):
    """The sum of all steps' losses and gradients, by a compiled scan."""

    @jax.jit
    def run(params, xs, targets, marks):
        def one(memory, step):
            x, target, marks = step
            return learner.update(params, memory, x, target, **marks)

        memory = learner.init(params, jnp.zeros_like(xs[0]))
        _, found = jax.lax.scan(one, memory, (xs, targets, marks))
        return jax.tree.map(lambda a: a.sum(0), found)

    return run(params, xs, targets, marks)


def times(factor, tree):
    return jax.tree.map(lambda a: factor * a, tree)


def by_bptt(net, params, xs, targets, lengths=None, weights=None, **edges):
    """E and the gradients of a network, as sums over steps of means over rows."""
    counts = np.ones((T, B)) if weights is None else np.array(weights)
    if lengths is not None:
        counts = counts * (np.arange(T)[:, None] < lengths)
    found = net.gradients(params, xs, targets, weights=counts, **edges)
    return times(counts.sum() / B, found)


def two_heads(ys, targets):
    """A value and a class."""
    error = optax.losses.softmax_cross_entropy_with_integer_labels
    return (ys[..., 0] - targets["value"]) ** 2 + error(ys, targets["class"])


def rotate(params, state, x):
    h = jnp.tanh(state["h"] @ params["w"] + x @ params["v"])
    return {"h": h, "count": state["count"] + 1}, h


def drawn_transition(key, input_size, hidden_size):
    keys = jax.random.split(key)
    shapes = {"w": (hidden_size, hidden_size), "v": (input_size, hidden_size)}
    both = zip(shapes.items(), keys, strict=True)
    made = {name: jax.random.normal(key, shape) for (name, shape), key in both}
    return made | {"start": jnp.zeros(hidden_size)}


LEARNED = transition(
    rotate,
    init=drawn_transition,
    initial_state=lambda p: {"count": jnp.int32(0), "h": jnp.sin(p["start"])},
    output_size=lambda p: p["w"].shape[0],
)

WINDOW = partial(online.truncated, k1=1, k2=T + 1)
EXACT = {
    "elman": (elman(), online.rtrl),
    "lstm": (lstm(), online.rtrl),
    "layer norm in a window": (layer_norm(gru()), WINDOW),
    "a stack in a window": (stack(lstm(), dense("tanh"), gru()), WINDOW),
    "a learned start": (stack(learned_start(elman()), gru()), online.rtrl),
    "a learned start in a window": (stack(learned_start(elman()), gru()), WINDOW),
    "a transition": (LEARNED, online.rtrl),
    "a transition in a window": (LEARNED, WINDOW),
}


@pytest.mark.parametrize("name", EXACT)
def test_the_sum_over_steps_is_bptt_with_lengths_and_resets(name):
    layer, method = EXACT[name]
    net = network(layer)
    learner, case = online.learner(net, method), drawn(net)
    marks = {"reset": RESETS, "mask": np.arange(T)[:, None] < LENGTHS}
    wanted = by_bptt(net, *case, lengths=LENGTHS, resets=RESETS)
    assert_alike(summed(learner, *case, **marks), wanted, 1e-12)
    if name in ("elman", "a transition in a window"):  # control: resets ignored
        found = summed(learner, *case, mask=marks["mask"])
        assert max(relative_errors(found, wanted).values()) > 1e-3


@pytest.mark.parametrize("name", ["a learned start", "a learned start in a window"])
def test_a_learned_start_is_learned(name):
    layer, method = EXACT[name]
    net = network(layer)
    _, grads = summed(online.learner(net, method), *drawn(net), reset=RESETS)
    assert np.abs(grads.cell[0].start.h).min() > 1e-3


def test_an_error_of_the_users_own_has_two_heads_and_weights():
    net = network(elman(), error=two_heads)
    params, xs, ys = drawn(net)
    targets = {"value": ys[..., 0], "class": (ys[..., 1] > 0).astype(int)}
    weights = np.random.default_rng(1).uniform(size=(T, B))
    case = params, xs, targets
    found = summed(online.learner(net, online.rtrl), *case, weights=weights)
    assert_alike(found, by_bptt(net, *case, weights=weights), 1e-12)
    assert max(relative_errors(found, by_bptt(net, *case)).values()) > 1e-3


METHODS = {
    "rtrl": online.rtrl,
    "snap1": online.snap1,
    "eprop": online.eprop,
    "rflo": partial(online.rflo, decay=0.5),
    "uoro": partial(online.uoro, jax.random.key(0)),
    "truncated": partial(online.truncated, k1=2, k2=3),
}
NET = network(elman(), "softmax_cross_entropy")


def labelled():
    params, xs, ys = drawn(NET)
    return params, xs, (ys[..., 0] > 0).astype(int)


@pytest.mark.parametrize("name", METHODS)
def test_a_row_that_is_reset_is_a_row_at_its_start(name):
    learner, (params, xs, labels) = online.learner(NET, METHODS[name]), labelled()
    first = learner.init(params, xs[0])
    update = jax.jit(learner.update)
    memory = update(
        params, update(params, first, xs[0], labels[0])[0], xs[1], labels[1]
    )[0]
    first = learner.init(params, xs[2])
    if name == "uoro":  # but the random signs go on
        first = first._replace(key=memory.key)
    anew = update(params, memory, xs[2], labels[2], reset=np.ones(B, bool))
    assert_equal(anew, update(params, first, xs[2], labels[2], reset=np.zeros(B, bool)))
    on = update(params, memory, xs[2], labels[2])  # control
    assert max(relative_errors(on[0].state, anew[0].state).values()) > 1e-3


@pytest.mark.parametrize("name", ["rtrl", "eprop", "truncated"])
def test_a_row_with_gaps_is_the_row_without_them(name):
    learner, (params, xs, labels) = online.learner(NET, METHODS[name]), labelled()
    taken = np.random.default_rng(1).random((T, B)) < 0.6
    poisoned = np.where(taken[..., None], xs, np.nan), np.where(taken, labels, -1)
    found = summed(learner, params, *poisoned, mask=taken)
    alone = [  # every row, only its own steps
        summed(learner, params, xs[taken[:, i], i], labels[taken[:, i], i])
        for i in range(B)
    ]
    assert_alike(found, times(1 / B, jax.tree.map(lambda *a: sum(a), *alone)), 1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_where_no_step_is_taken_nothing_moves(name):
    learner, (params, xs, labels) = online.learner(NET, METHODS[name]), labelled()
    update = jax.jit(learner.update)
    memory = update(params, learner.init(params, xs[0]), xs[0], labels[0])[0]
    after, found = update(params, memory, xs[1], labels[1], mask=np.zeros(B, bool))
    assert_equal(found, times(0.0, found))
    if name == "uoro":
        after = after._replace(key=memory.key)
    assert_equal(after, memory)


def test_uoro_with_resets_is_bptt_in_the_mean():
    net = network(elman())
    case = drawn(net)

    @jax.jit
    @jax.vmap
    def run(key):
        learner = online.learner(net, partial(online.uoro, key))
        return summed(learner, *case, reset=RESETS)[1].cell.w_s.ravel()

    found = np.asarray(run(jax.random.split(jax.random.key(0), 2000)))
    wanted = by_bptt(net, *case, resets=RESETS)[1].cell.w_s.ravel()
    deviation = found.std(0) / np.sqrt(len(found))
    assert (np.abs(found.mean(0) - wanted) < 5 * deviation).all()
    without = by_bptt(net, *case)[1].cell.w_s.ravel()  # control
    assert (np.abs(found.mean(0) - without) > 5 * deviation).any()


def counted(resets):
    """How many steps ago each row started."""
    counts = np.zeros(resets.shape, int)
    for t in range(1, len(resets)):
        counts[t] = np.where(resets[t], 0, counts[t - 1] + 1)
    return counts


@pytest.mark.parametrize("name", ["rtrl", "snap1"])
def test_a_learner_trained_at_every_step_learns_what_resets_tell(name):
    # Only a reset says when a row started, and the target is a wave since then.
    steps, rows = 1000, 4
    net = network(elman())
    learner = online.learner(net, METHODS[name])
    params = net.init(jax.random.key(1), 1, 8, 1)
    xs = np.ones((steps, rows, 1))
    resets = np.random.default_rng(0).random((steps, rows)) < 0.1
    targets = np.sin(counted(resets) * 0.7)[..., None]
    optimizer = optax.sgd(0.05)

    def trained(told):
        def one(carry, step):
            params, memory, optimizer_state = carry
            x, target, reset = step
            memory, (loss, grads) = learner.update(
                params, memory, x, target, reset=reset if told else None
            )
            updates, optimizer_state = optimizer.update(grads, optimizer_state)
            return (optax.apply_updates(params, updates), memory, optimizer_state), loss

        start = params, learner.init(params, xs[0]), optimizer.init(params)
        _, losses = jax.jit(partial(jax.lax.scan, one))(start, (xs, targets, resets))
        return losses

    losses, blind = trained(told=True), trained(told=False)
    assert losses[:100].mean() > 0.2
    assert losses[-100:].mean() < 0.05
    assert blind[-100:].mean() > 0.35  # control: about the variance of the target


def test_one_row_needs_no_batch_axis():
    learner, (params, xs, labels) = online.learner(NET, online.rtrl), labelled()
    one, many = (
        jax.jit(learner.update)(params, learner.init(params, x), x, d, mask=d >= 0)[1]
        for x, d in ((xs[0, 0], labels[0, 0]), (xs[0, :1], labels[0, :1]))
    )
    assert_alike(one, many, 1e-14)


def test_wrong_calls_name_their_argument():
    learner, (params, xs, labels) = online.learner(NET, online.rtrl), labelled()
    good = {"params": params, "memory": learner.init(params, xs[0])}
    good |= {"x": xs[0], "target": labels[0]}
    window = online.learner(NET, WINDOW)
    wrong = {
        "params: expected NetworkParams": {"params": params.cell},
        "x: expected shape": {"x": xs[0, :, :1]},
        r"x: expected the batch \[3\] of the": {
            "x": xs[0, :2],
            "target": labels[0, :2],
        },
        "target: expected the rows": {"target": labels[0, :2]},
        "targets: expected integer labels": {"target": xs[0, :, 0]},
        "weights: expected the rows": {"weights": np.ones(2)},
        "weights: expected float64": {"weights": np.ones(B, np.float32)},
        "reset: expected shape": {"reset": np.ones((B, 1), bool)},
        "mask: expected booleans": {"mask": np.full(B, 0.5)},
        "memory: expected what this method's": {
            "memory": window.init(params, xs[0]),
            "reset": np.ones(B, bool),
        },
    }
    jax.jit(learner.update)(**good)
    for said, changed in wrong.items():
        with pytest.raises((ValueError, TypeError), match=f"^{said}"):
            learner.update(**(good | changed))
    with pytest.raises(TypeError, match="network: expected a Network"):
        online.learner(lstm(), online.rtrl)
    for method in (online.rtrl(lstm()), "rtrl", lambda cell: cell):
        with pytest.raises(TypeError, match="method: expected a function of a layer"):
            online.learner(NET, method)
    with pytest.raises(ValueError, match="x: expected an input like those to come"):
        online.rtrl(elman()).init(params.cell, None)


def test_a_learned_start_is_refused_where_its_derivative_is_not_carried():
    def own_start(params, batch_shape=()):
        axes = (*batch_shape, params.w_s.shape[0])
        return State(jnp.broadcast_to(params.w_s[0], axes))

    learned = elman()._replace(initial_state=own_start)
    for name in ("snap1", "eprop", "rflo", "uoro"):
        layer = learned_start(elman()) if name == "uoro" else learned
        net = network(layer)
        learner, (params, xs, ys) = online.learner(net, METHODS[name]), drawn(net)
        with pytest.raises(ValueError, match=f"params: {name} expected an initial st"):
            learner.init(params, xs[0])
        state = elman().initial_state(getattr(params.cell, "layer", params.cell), (B,))
        memory = learner.init(params, xs[0], state)  # a given one is no parameter
        jax.eval_shape(learner.update, params, memory, xs[0], ys[0])
        with pytest.raises(ValueError, match=f"params: {name} expected an initial st"):
            learner.update(params, memory, xs[0], ys[0], reset=np.ones(B, bool))

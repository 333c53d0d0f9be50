"""Parallel in time against the loop: the backward scan, Newton's method, linear cells.

Beside the equalities stand controls, broken on purpose, which must differ; among them
the gradient of a quasi-Newton method that keeps only the diagonal of the Jacobians.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params
from table import (
    CELLS,
    MORE_CELLS,
    assert_alike,
    assert_equal,
    draw,
    relative_errors,
)

import jaxrnn
from experiments import parallel as experiment
from jaxrnn import (
    bidirectional,
    clipped,
    elman,
    gru,
    lru,
    lstm,
    mingru,
    parallel,
    stack,
)
from jaxrnn.layers import draw_noise, learned_start, noisy
from jaxrnn.parallel import newton, recurrence

pytestmark = pytest.mark.usefixtures("compile_fast")

ALL = {**CELLS, **MORE_CELLS}
LAYERS = {
    "stack": stack(lstm(), elman(), skip="residual"),
    "linear-stack": stack(mingru(), lru()),
    "bidirectional": bidirectional(elman()),
    "noisy": noisy(elman(), inputs=0.2),
}
BY_NEWTON = {
    "elman": elman(),
    "lstm": lstm(),
    "gru": gru(),
    "stack": LAYERS["stack"],
    "bidirectional": LAYERS["bidirectional"],
}


@partial(jax.jit, static_argnums=0)
def both_gradients(cell, params, xs, state, direct, final):
    """By the scan and by the loop; jitted, so that each is one program."""
    inputs = cell, params, xs, state, direct
    ends = {"final": final, "noise": None}
    return parallel.bptt(*inputs, **ends), jaxrnn.bptt(*inputs, **ends)


def case_of(cell, **sizes):
    """Inputs and cotangents; for a layer, of its outputs and not of every state."""
    case = draw(cell, units=4, **sizes)
    if isinstance(cell, jaxrnn.Cell):
        return case
    hs, _ = jax.eval_shape(partial(jaxrnn.unroll, cell, noise=None), *case.inputs)
    direct = np.random.default_rng(1).standard_normal(hs.shape)
    return case._replace(d_states=direct)


# The backward scan ------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ALL, *LAYERS])
def test_the_scan_of_jacobians_equals_bptt(name, x64):
    cell = {**ALL, **LAYERS}[name]
    assert_alike(*both_gradients(cell, *case_of(cell, steps=3)), 1e-12)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("cell", [lstm(), lru()], ids=["lstm", "lru"])
def test_a_sequence_of_no_step_or_of_few(cell, steps, x64):
    case = draw(cell, steps=steps, units=4, batch=())
    scan, loop = both_gradients(cell, *case)
    assert_alike(scan, loop, 1e-12)
    assert np.linalg.norm(scan.state[0]) > 0  # of the final state, even with no step
    hs, final, end = parallel.unroll(cell, *case.inputs)
    assert_alike((hs, final), jaxrnn.unroll(cell, *case.inputs), 1e-12)
    assert end.converged


def test_a_batch_of_no_row(x64):
    case = draw(elman(), batch=(0,))
    hs, _, end = parallel.unroll(elman(), *case.inputs)
    assert hs.shape == (5, 0, 3) and end.converged


def test_cotangents_of_the_outputs_alone_and_of_the_final_state_alone(x64):
    case = draw(elman(), steps=3)
    for direct, final in ((case.d_states.h, None), (None, case.d_final)):
        scan, loop = both_gradients(elman(), *case.inputs, direct, final)
        assert_alike(scan, loop, 1e-12)


def test_a_learned_start_gets_its_gradient(x64):
    layer = learned_start(elman())
    case = case_of(layer)

    @jax.jit
    def gradients(params):
        def error(params):
            hs = parallel.unroll(layer, params, case.xs)[0]
            return (hs * case.d_states).sum()

        inputs = layer, params, case.xs, None, case.d_states
        by_hand = parallel.bptt(*inputs).params, jaxrnn.bptt(*inputs).params
        return jax.grad(error)(params), *by_hand

    newtons, scan, loop = gradients(case.params)
    assert np.linalg.norm(loop.start.h) > 0
    assert_alike(scan, loop, 1e-12)
    assert_alike(newtons, loop, 1e-10)


EDGES = {
    "elman": elman(),
    "gru-before": gru(reset_after=False),
    "lstm": lstm(),
    "mingru": mingru(),
    "lru": lru(),
    "bidirectional": bidirectional(elman()),
    "noisy": noisy(lstm(), inputs=0.2, state=0.3, weights=0.2, zoneout=(0.3, 0.2)),
    "noisy-lru": noisy(lru(), zoneout=0.4),
}


@pytest.mark.parametrize("reverse", [False, True], ids=["ahead", "reverse"])
@pytest.mark.parametrize("name", EDGES)
def test_lengths_resets_and_noise_are_those_of_the_loop(name, reverse, x64):
    layer = EDGES[name]
    case = case_of(layer, steps=6, batch=(4,))
    xs = case.xs.copy()
    xs[4:, 1] = np.nan  # past a row's length
    resets = np.zeros((6, 4), bool)
    resets[[2, 3, 4], [0, 0, 2]] = True
    edges = {
        "lengths": np.array([6, 4, 5, 0]),
        "resets": resets,
        "reset_to": case.d_final,
        "reverse": reverse,
    }
    noise = draw_noise(jax.random.key(3), layer, case.params, xs)
    inputs = case.params, xs, case.state

    @jax.jit
    def gradients(params, xs, state, reset_to):
        call = layer, params, xs, state, case.d_states
        options = {**edges, "noise": noise, "reset_to": reset_to}
        both = [
            f(*call, final=case.d_final, **options)
            for f in (parallel.bptt, jaxrnn.bptt)
        ]

        def error(f, reset_to):
            options["reset_to"] = reset_to
            return error_of(partial(f, layer, **options), params, xs, state)[0]

        runs = parallel.unroll, jaxrnn.unroll
        outs = [f(*call[:-1], **options)[:2] for f in runs]
        return both, outs, [jax.grad(partial(error, f))(reset_to) for f in runs]

    for ours, theirs in gradients(*inputs, case.d_final):
        assert_alike(ours, theirs, 1e-10)


def broken(how):
    def jacobians(*args):
        return how(recurrence.jacobians(*args))

    return jacobians


@pytest.mark.parametrize(
    "batch, how",
    [
        (6, lambda a: jnp.swapaxes(a, -1, -2)),
        (7, lambda a: a.at[1].multiply(0.999)),
        (8, lambda a: jnp.concatenate([a[:1], a[:-1]])),
    ],
    ids=["transposed", "one-step-off-by-a-thousandth", "a-step-late"],
)
def test_control_a_scan_of_wrong_jacobians_differs(batch, how, x64, monkeypatch):
    case = draw(gru(), units=4, batch=(batch,))  # none's program is another's
    loop = jaxrnn.bptt(gru(), *case.inputs, case.d_states, final=case.d_final)
    monkeypatch.setattr(newton, "jacobians", broken(how))
    scan = parallel.bptt(gru(), *case.inputs, case.d_states, final=case.d_final)
    with pytest.raises(AssertionError):
        assert_alike(scan, loop, 1e-12)


# Newton's method --------------------------------------------------------------------


def error_of(run, params, xs, state):
    """A nonlinear function of every output and of the final state; and those."""
    hs, final, *end = run(params, xs, state)
    error = jnp.sin(hs).sum() + sum((s**2).sum() for s in jax.tree.leaves(final))
    return error, ((hs, final), *end)


def gradient(run, inputs):
    """The gradient by inputs and the outputs, in a separate program."""
    of = partial(error_of, run)
    return jax.jit(jax.grad(of, argnums=(0, 1, 2), has_aux=True))(*inputs)


def with_radius(radius: float, case, units: int):
    """The case with an Elman's W_s of this spectral radius."""
    w = np.random.default_rng(2).standard_normal((units, units))
    w *= radius / np.abs(np.linalg.eigvals(w)).max()
    return case._replace(params=case.params._replace(w_s=w.astype(case.xs.dtype)))


@pytest.mark.parametrize("name", BY_NEWTON)
def test_newtons_method_equals_the_loop_and_so_does_its_gradient(name, x64):
    cell = BY_NEWTON[name]
    case = draw(cell, steps=9, units=4)
    ours, (out, end) = gradient(partial(parallel.unroll, cell), case.inputs)
    theirs, (wanted,) = gradient(partial(jaxrnn.unroll, cell), case.inputs)
    assert end.converged and 1 < end.iterations < 9 and end.residual < 1e-13
    assert_alike(out, wanted, 1e-10)
    assert_alike(ours, theirs, 1e-10)


def test_newtons_method_at_spectral_radius_one_and_a_half(x64):
    case = with_radius(1.5, draw(elman(), steps=40, units=8), 8)
    ours, (out, end) = gradient(partial(parallel.unroll, elman()), case.inputs)
    theirs, (wanted,) = gradient(partial(jaxrnn.unroll, elman()), case.inputs)
    assert end.converged
    assert_alike(out, wanted, 1e-10)
    assert_alike(ours, theirs, 1e-10)


def anew(cell, limit):
    """`parallel.unroll`, traced again for a new limit, with any planted error."""
    return partial(parallel.unroll, cell, max_iterations=limit)


def test_control_the_diagonal_of_the_jacobians_gives_a_wrong_gradient(x64, monkeypatch):
    # A quasi-Newton method: its iteration converges to the right states, and a backward
    # pass that reuses its Jacobians is wrong.
    case = draw(gru(), steps=9, units=4)
    theirs, (wanted,) = gradient(partial(jaxrnn.unroll, gru()), case.inputs)

    def check(limit):
        ours, (out, end) = gradient(anew(gru(), limit), case.inputs)
        assert end.converged
        assert_alike(out, wanted, 1e-10)
        return ours

    assert_alike(check(50), theirs, 1e-10)
    diagonal = broken(lambda a: a * jnp.eye(4).reshape((1,) * (a.ndim - 2) + (4, 4)))
    monkeypatch.setattr(newton, "jacobians", diagonal)
    quasi = check(51)
    with pytest.raises(AssertionError):
        assert_alike(quasi, theirs, 1e-10)
    errors = relative_errors(quasi, theirs)
    print("the diagonal's relative errors:", errors)
    assert max(errors.values()) > 0.05


def test_where_the_jacobians_explode_the_guard_goes_on(monkeypatch):
    # From a guess of zeros, W_s to the power of 500 overflows float32.
    sizes = {"steps": 500, "units": 4, "batch": (), "dtype": np.float32}
    case = with_radius(2.0, draw(elman(), **sizes), 4)
    case = case._replace(xs=0.1 * case.xs, state=elman().initial_state(case.params))
    hs, final, end = anew(elman(), 500)(*case.inputs)
    assert end.converged and end.iterations < 100
    assert_alike((hs, final), jaxrnn.unroll(elman(), *case.inputs), 1e-4)
    # control: without it there is no answer, and it says so
    monkeypatch.setattr(newton, "_sound", lambda onward, after: onward == onward)
    hs, final, end = anew(elman(), 501)(*case.inputs)
    assert not end.converged and end.residual == np.inf
    assert np.isnan(hs).all() and np.isnan(final[0]).all()


@pytest.mark.parametrize("cell", [elman("relu"), stack(elman(), mingru())])
def test_what_has_not_converged_is_nan_and_so_is_its_gradient(cell, x64):
    case = draw(cell, steps=12, units=4)
    run = partial(parallel.unroll, cell, max_iterations=1)
    grads, (out, end) = gradient(run, case.inputs)
    assert end.iterations == 1 and not end.converged and end.residual > 1e-13
    for leaf in jax.tree.leaves(out):
        assert np.isnan(leaf[-1]).all()
    for leaf in jax.tree.leaves(grads):
        assert np.isnan(leaf).all()


@pytest.mark.parametrize(
    "layer",
    [stack(mingru(), elman()), bidirectional(elman(), mingru())],
    ids=["above", "beside"],
)
def test_one_cell_that_has_not_converged_is_enough(layer, x64):
    case = draw(layer, steps=12, units=4)
    *_, end = parallel.unroll(layer, *case.inputs, max_iterations=1)
    assert end.iterations == 1 and not end.converged and end.residual > 1e-13
    *_, end = parallel.unroll(layer, *case.inputs)  # control
    assert end.converged


def test_a_larger_tolerance_ends_sooner(x64):
    case = draw(elman(), steps=12, units=4)
    *_, near = parallel.unroll(elman(), *case.inputs, tolerance=0.01)
    *_, exact = parallel.unroll(elman(), *case.inputs)
    assert near.converged and near.iterations < exact.iterations
    assert exact.residual < 1e-13 < near.residual <= 0.01


def test_a_residual_of_nan_is_not_small():
    # XLA's maximum of a large array of NaN may be -inf, which any tolerance would pass.
    wrong = jnp.full((50_000, 4), jnp.nan)
    assert newton._residual(wrong, wrong) == np.inf
    assert newton._residual(jnp.full(3, jnp.inf), jnp.zeros(3)) == np.inf
    np.testing.assert_allclose(newton._residual(jnp.full(3, 4.0), jnp.ones(3)), 0.75)


def test_sweeps_that_carry_nothing_on_still_end_after_one_for_each_step(
    x64, monkeypatch
):
    # Every sweep makes one more step exact, whatever Newton's method is worth.
    case = with_radius(1.5, draw(elman(), steps=9, units=4), 4)
    nowhere = lambda onward, after: jnp.zeros_like(onward, dtype=bool)  # noqa: E731
    monkeypatch.setattr(newton, "_sound", nowhere)
    hs, _, end = anew(elman(), 51)(*case.inputs)
    assert end.converged and end.iterations <= 9
    assert_alike(hs, jaxrnn.unroll(elman(), *case.inputs)[0], 1e-14)


def test_the_derivative_can_be_taken_again(x64):
    case = draw(elman(), steps=6)

    def squared(run, xs):
        def error(xs):
            return jnp.sin(run(elman(), case.params, xs, case.state)[0]).sum()

        return (jax.grad(error)(xs) ** 2).sum()

    second = jax.jit(
        lambda xs: [
            jax.grad(partial(squared, run))(xs)
            for run in (parallel.unroll, jaxrnn.unroll)
        ]
    )
    assert_alike(*second(case.xs), 1e-10)


# Linear cells -----------------------------------------------------------------------


def test_linear_cells_are_scanned_without_newtons_method(x64):
    cell = LAYERS["linear-stack"]
    case = draw(cell, steps=17, units=4)
    ours, (out, end) = gradient(partial(parallel.unroll, cell), case.inputs)
    theirs, (wanted,) = gradient(partial(jaxrnn.unroll, cell), case.inputs)
    assert end.converged and end.iterations == 0 and end.residual < 1e-14
    assert_alike(out, wanted, 1e-12)
    assert_alike(ours, theirs, 1e-12)


def test_a_linear_cell_with_nan_among_its_inputs_has_not_converged(x64):
    case = draw(mingru(), steps=9, units=4)
    case.xs[4, 0] = np.nan
    grads, ((hs, _), end) = gradient(partial(parallel.unroll, mingru()), case.inputs)
    assert not end.converged and end.residual == np.inf
    for leaf in (hs, *jax.tree.leaves(grads)):
        assert np.isnan(leaf).all()


def test_control_a_rotation_that_does_not_turn_back_differs(x64, monkeypatch):
    case = draw(lru(), units=4)
    theirs, _ = gradient(partial(jaxrnn.unroll, lru()), case.inputs)
    kind = recurrence._COMPLEX._replace(transpose=lambda a: a)
    monkeypatch.setitem(recurrence._DIAGONAL, "complex", kind)
    ours, _ = gradient(anew(lru(), 50), case.inputs)
    with pytest.raises(AssertionError):
        assert_alike(ours, theirs, 1e-10)


def test_a_dense_linear_cell_takes_one_iteration(x64):
    cell = elman("identity")
    case = draw(cell, steps=20, units=4)
    hs, _, end = parallel.unroll(cell, *case.inputs)
    assert end.converged and end.iterations == 1
    assert_alike(hs, jaxrnn.unroll(cell, *case.inputs)[0], 1e-12)


def largest_array(f, *args) -> int:
    """The size of the largest array inside f, including loops and calls."""

    def walk(jaxpr):
        sizes = [v.aval.size for eqn in jaxpr.eqns for v in eqn.outvars]
        for eqn in jaxpr.eqns:
            sizes += map(walk, jaxprs_in_params(eqn.params))
        return max(sizes, default=0)

    return walk(jax.make_jaxpr(f)(*args).jaxpr)


def test_a_linear_cell_stores_no_matrix():
    steps, rows, units = 16, 2, 12

    def largest(cell):
        sizes = {"steps": steps, "batch": (rows,), "units": units}
        case = draw(cell, **sizes, dtype=np.float32)
        run = partial(parallel.unroll, cell)
        grad = jax.grad(lambda *inputs: error_of(run, *inputs)[0], argnums=(0, 1, 2))
        return largest_array(grad, *case.inputs) / (steps * rows * units)

    assert largest(mingru()) <= 2 and largest(lru()) <= 2  # [T, B, G·H] at most
    assert largest(elman()) >= units  # control


# Wrong calls, and the experiment ----------------------------------------------------


@pytest.mark.parametrize(
    "options, error",
    [
        ({"max_iterations": 0}, "max_iterations: expected a positive integer"),
        ({"max_iterations": True}, "max_iterations: expected a positive integer"),
        ({"tolerance": 0.0}, "tolerance: expected a positive float"),
        ({"tolerance": 1}, "tolerance: expected a positive float"),
        ({"tolerance": float("nan")}, "tolerance: expected a positive float"),
    ],
)
def test_wrong_options_are_named(options, error):
    case = draw(elman(), dtype=np.float32)
    with pytest.raises(ValueError, match=error):
        parallel.unroll(elman(), *case.inputs, **options)


def test_what_cannot_run_in_parallel_is_refused():
    case = draw(elman(), dtype=jnp.bfloat16)
    with pytest.raises(TypeError, match="state: expected float32 or float64, got bf"):
        parallel.unroll(elman(), *case.inputs)
    case = draw(elman(), dtype=np.float32)
    with pytest.raises(ValueError, match="got a clipped cell"):
        parallel.unroll(clipped(elman(), 0.1), *case.inputs)
    with pytest.raises(ValueError, match="got a clipped cell"):
        parallel.bptt(clipped(elman(), 0.1), *case.inputs, case.d_states)
    with pytest.raises(ValueError, match="xs"):
        parallel.unroll(elman(), case.params, case.xs[..., :1])
    with pytest.raises(ValueError, match="cotangents"):
        parallel.bptt(elman(), *case.inputs, case.d_states.h[1:])


def test_the_scan_takes_bfloat16():
    case = draw(gru(), dtype=jnp.bfloat16)
    scan, loop = both_gradients(gru(), *case)
    assert scan.params.w_s.dtype == jnp.bfloat16
    # Two roundings each: of λ_t, and of what is computed from it.
    assert_alike(scan, loop, 4 * 2.0**-8)


def test_a_scan_of_16_bits_rounds_once():
    # With J_t = 1, λ_t is a sum of whole numbers, which float32 holds.
    cell = elman("identity")
    case = draw(cell, steps=200, units=4, batch=(), dtype=jnp.bfloat16)
    params = case.params._replace(w_s=jnp.eye(4, dtype=jnp.bfloat16))
    direct = np.random.default_rng(0).integers(1, 9, (200, 4))
    cotangents = jnp.asarray(direct, jnp.bfloat16)
    scan = parallel.bptt(cell, params, case.xs, case.state, cotangents)
    exact = np.cumsum(direct[::-1], axis=0)[::-1]  # up to 968; 8 bits hold up to 256
    assert_equal(scan.adjoints.h, jnp.asarray(exact, jnp.float32).astype(jnp.bfloat16))


def test_the_experiment_prints_its_table(tmp_path, capsys, monkeypatch):
    for name in ("LINEAR_SIZES", "NEWTON_SIZES"):
        monkeypatch.setattr(experiment, name, ((3, 1, 2),))
    config = experiment.Config(("elman", "lru"), 0.0, tmp_path)
    rows = experiment.main(config)
    assert [row["iterations"] > 0 for row in rows] == [True, False]
    assert all(row["converged"] and len(row["seconds"]) == 5 for row in rows)
    assert max(row["outputs_differ"] for row in rows) < 1e-5
    assert max(row["gradients_differ"] for row in rows) < 1e-4
    assert "as fast as the loop" in capsys.readouterr().out

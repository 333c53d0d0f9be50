"""What every cell must satisfy: structure, initial parameters, derivative, errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import (
    CELLS,
    MORE_CELLS,
    PARTS,
    assert_alike,
    draw,
    each_cell,
    relative_errors,
    two_gates,
)

from jaxrnn import (
    Params,
    State,
    bidirectional,
    bptt,
    clipped,
    custom_cell,
    elman,
    gru,
    lru,
    lstm,
    network,
    stack,
    unroll,
)

pytestmark = pytest.mark.usefixtures("compile_fast")

OPTIONS = [
    ("bfloat16", True),
    ("float16", True),
    ("float32", True),
    ("float64", True),
    ("float32", False),
]


def shapes(tree):
    return jax.tree.map(lambda a: (a.shape, jnp.dtype(a.dtype)), tree)


# Structure ------------------------------------------------------------------------


@each_cell
@pytest.mark.parametrize("dtype, bias", OPTIONS)
def test_shapes_dtypes_and_structure_are_stable(name, dtype, bias, x64):
    cell, wide = CELLS[name], CELLS[name].gates * 3

    def everything():
        params = cell.init(jax.random.key(0), 2, 3, bias=bias, dtype=dtype)
        state = cell.initial_state(params, (4,))
        xs = jnp.ones((5, 4, 2), dtype)
        states, final = unroll(cell, params, xs, state, return_states=True)
        pulls = [
            jax.vjp(partial(unroll, cell, gradient=g), params, xs, state)[1]
            for g in ("manual", "autodiff")
        ]
        grads = [pull((states[0], final)) for pull in pulls]
        d = bptt(cell, params, xs, state, states, final=final)
        return params, state, states, final, grads, d

    # Nothing is compiled: the tracers say every shape and dtype.
    params, state, states, final, grads, d = shapes(jax.eval_shape(everything))
    dtype = jnp.dtype(dtype)
    has = {"b": bias, "b_s": bias and name == "gru"}
    assert params.w_x == ((2, wide), dtype) and params.w_s == ((3, wide), dtype)
    for leaf, there in has.items():
        assert getattr(params, leaf) == (((wide,), dtype) if there else None)
    part = ((4, 3), dtype)
    over_time = ((5, 4, 3), dtype)
    assert tuple(state) == (part,) * PARTS[name]
    assert final == state and type(final) is type(state)
    assert states == type(state)(*[over_time] * PARTS[name])
    xs = ((5, 4, 2), dtype)
    assert grads == [(params, xs, state)] * 2
    assert d[:3] == (params, xs, state)
    assert tuple(d.deltas) == (((5, 4, wide), dtype),) * 2
    assert d.adjoints == states


@each_cell
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_low_precision_gate_is_the_float32_gate_to_rounding(name, dtype):
    cell, (own, z, r, state, _) = CELLS[name], one_step(name, np.float32)
    low = jax.tree.map(lambda a: jnp.asarray(a, dtype), (own, z, r, state))
    gate = jax.jit(lambda *args: cell.gate(*args)[0])
    ours = gate(*low)
    wide = gate(*jax.tree.map(lambda a: a.astype(jnp.float32), low))
    assert all(a.dtype == dtype for a in ours)
    # a dozen operations' roundings
    assert_alike(ours, wide, 12 * float(jnp.finfo(dtype).eps))


# The first parameters -------------------------------------------------------------


def gates_of(w, gates):
    """The columns of each gate, which are drawn separately."""
    blocks = np.split(np.float64(w), gates, axis=1)
    for i, one in enumerate(blocks):
        assert all(np.abs(one - other).max() > 0.1 for other in blocks[:i])
    return blocks


@each_cell
def test_first_weights_are_drawn_gate_by_gate_and_the_recurrent_ones_orthogonal(
    name, key
):
    cell = CELLS[name]
    params = cell.init(key, 16, 16)
    inputs, recurrent = (gates_of(w, cell.gates) for w in params[:2])
    for w in recurrent:
        # float32's rounding of sums of 16 terms
        np.testing.assert_allclose(w.T @ w, np.eye(16), atol=1e-5)
    assert np.abs(inputs[0] - recurrent[0]).max() > 0.1


def test_first_input_weights_have_variance_one_over_inputs(key):
    w_x = np.float64(elman().init(key, 400, 50).w_x)
    # 20,000 draws: the variance is known to about 1 %, the mean to 0.7 % of one
    # standard deviation
    assert w_x.var() * 400 == pytest.approx(1, abs=0.04)
    assert abs(w_x.mean()) * 20 < 0.03


@each_cell
def test_first_biases_are_zero_or_absent_but_for_the_forget_gates(name, key):
    cell = CELLS[name]
    params = cell.init(key, 2, 3)
    wanted = np.zeros((cell.gates, 3))
    if name == "lstm":
        wanted[1] = 1  # i, f, g, o
    np.testing.assert_array_equal(params.b, wanted.ravel())
    assert (params.b_s is None) == (name != "gru")
    if name == "gru":
        np.testing.assert_array_equal(params.b_s, 0)
    absent = cell.init(key, 2, 3, bias=False)
    assert absent.b is None and absent.b_s is None


def test_the_forget_bias_is_as_asked(key):
    b = lstm(forget_bias=2.5).init(key, 2, 3).b
    np.testing.assert_array_equal(b, np.repeat([0, 2.5, 0, 0], 3))


def test_the_key_alone_decides_the_first_parameters(key):
    first, again, other = (elman().init(k, 2, 3) for k in (key, key, jax.random.key(1)))
    np.testing.assert_array_equal(first.w_s, again.w_s)
    assert (np.abs(first.w_s - other.w_s) > 0).any()


@each_cell
def test_the_initial_state_is_zeros_for_any_batch(name):
    params = jax.tree.map(jnp.asarray, draw(CELLS[name], dtype=np.float32).params)
    for batch in [(), (2,), (2, 0)]:
        state = CELLS[name].initial_state(params, batch)
        assert len(state) == PARTS[name]
        for part in state:
            assert part.shape == (*batch, 3) and part.dtype == jnp.float32
            assert not part.any()


# The derivative -------------------------------------------------------------------


def one_step(name, dtype=np.float64):
    """Draw own, z, r, state_prev and an adjoint, none of them zero."""
    cell = CELLS[name]
    case = draw(cell, steps=1, batch=(4,), dtype=dtype)
    rng = np.random.default_rng(1)
    z, r = rng.standard_normal((2, 4, cell.gates * 3)).astype(dtype)
    return case.params.own, z, r, case.state, case.d_final


def gate_derivatives(cell, own, z, r, state_prev, adjoint):
    """∂/∂z, ∂/∂r, ∂/∂state_prev by the cell, and by `jax.vjp` of its gate."""
    state, pull, kept = jax.vjp(partial(cell.gate, own), z, r, state_prev, has_aux=True)
    coefficients = cell.linearize(own, kept, state_prev, state)
    # As in the backward pass: linearised for all steps, pulled back for one.
    ours = jax.vmap(partial(cell.pullback, own))(coefficients, adjoint)
    return ours, pull(adjoint)


@each_cell
def test_the_hand_derived_pullback_equals_the_gates_vjp(name, x64):
    ours, theirs = jax.jit(partial(gate_derivatives, CELLS[name]))(*one_step(name))
    if name.startswith("elman"):  # its state acts through r alone: no gradient at all
        assert not ours[2].h.any() and not theirs[2].h.any()
    assert_alike(ours, theirs, 1e-13)


@pytest.mark.parametrize("name", ["elman-tanh", "lstm", "gru"])
def test_control_a_pullback_of_another_gate_differs(name, x64):
    own, z, r, state, adjoint = one_step(name)
    elsewhere, kept = CELLS[name].gate(own, 1.1 * z, r, state)

    def linearize(own, _, state_prev, after):
        return CELLS[name].linearize(own, kept, state_prev, elsewhere)

    other = CELLS[name]._replace(linearize=linearize)
    ours, theirs = jax.jit(partial(gate_derivatives, other))(own, z, r, state, adjoint)
    assert all(
        error > 1e-3 for error in list(relative_errors(ours, theirs).values())[:2]
    )


@each_cell
def test_the_pullback_is_linear_in_the_adjoint(name, x64):
    cell, (own, z, r, state, adjoint) = CELLS[name], one_step(name)

    @jax.jit
    def pulled(adjoint):
        after, kept = cell.gate(own, z, r, state)
        coefficients = cell.linearize(own, kept, state, after)
        return jax.vmap(partial(cell.pullback, own))(coefficients, adjoint)

    tripled = pulled(jax.tree.map(lambda a: 3 * a, adjoint))
    assert_alike(tripled, jax.tree.map(lambda a: 3 * a, pulled(adjoint)), 1e-14)


def test_relus_slope_at_zero_is_jaxs(x64):
    zero = np.zeros((1, 2))
    state, kept = elman("relu").gate(None, zero, zero, None)
    slope = elman("relu").linearize(None, kept, None, state)
    np.testing.assert_array_equal(slope, jax.vmap(jax.grad(jax.nn.relu))(zero[0])[None])


# The record -----------------------------------------------------------------------


def leaky(own, z, r, state_prev):
    del own
    return State(0.5 * state_prev.h + jnp.tanh(z + r))


SPELLINGS = {
    "elman": [lambda: elman(), lambda: elman("tanh", recurrent="orthogonal")],
    "callable": [lambda: elman(jnp.sin), lambda: elman(activation=jnp.sin)],
    "lstm": [
        lambda: lstm(),
        lambda: lstm(forget_bias=1),
        lambda: lstm(forget_bias=1.0),
    ],
    "gru": [lambda: gru(), lambda: gru(reset_after=True)],
    "lru": [lambda: lru(), lambda: lru(r_min=0, r_max=1)],
    "clipped": [lambda: clipped(lstm(), 1), lambda: clipped(lstm(), threshold=1.0)],
    "custom": [lambda: custom_cell(leaky), lambda: custom_cell(leaky, gates=1)],
    "stack": [lambda: stack(gru(), dropout=0), lambda: stack(gru(), skip=None)],
    "bidirectional": [
        lambda: bidirectional(gru()),
        lambda: bidirectional(layer=gru(reset_after=True), merge="concat"),
    ],
    "network": [lambda: network(gru()), lambda: network(gru(), error="squared")],
}


@pytest.mark.parametrize("spellings", SPELLINGS.values(), ids=SPELLINGS)
def test_however_it_is_spelled_a_record_is_one_object(spellings):
    first, *others = (make() for make in spellings)
    assert all(other is first for other in others)


def test_other_options_give_other_records():
    assert elman("relu") is not elman("tanh")
    assert lstm(forget_bias=0) is not lstm()
    assert custom_cell(leaky, gates=1) is not custom_cell(two_gates, gates=2)
    assert len({hash(cell) for cell in CELLS.values()}) == len(CELLS)


def test_no_record_is_forgotten():
    first = lstm(forget_bias=0.125)
    for k in range(300):
        lstm(forget_bias=2 + k)
    assert lstm(forget_bias=0.125) is first


def test_a_custom_cell_made_again_is_not_traced_again():
    traces = []

    def gate(own, z, r, state_prev):
        traces.append(1)
        return leaky(own, z, r, state_prev)

    case = draw(custom_cell(gate), dtype=np.float32)
    unroll(custom_cell(gate), *case.inputs)
    before = len(traces)
    assert before
    unroll(custom_cell(gate, gates=1, state=State), *case.inputs)
    assert len(traces) == before


def test_an_option_that_cannot_be_part_of_a_record_is_named():
    with pytest.raises(TypeError, match="activation: expected a hashable value, got l"):
        elman(["tanh"])


def keeps_to_units(cell) -> bool:
    """Whether unit j of the gate map reads only unit j, by its Jacobians."""
    units = 4  # even, as the LRU wants it
    case = draw(cell, steps=1, batch=(), units=units)
    own = case.params.own
    z, r = np.ones(cell.gates * units), np.ones(case.params.w_s.shape[1])
    if any(part.shape != (units,) for part in case.state) or len(r) % units:
        return False
    if any(leaf.ndim != 1 for leaf in jax.tree.leaves(own)):
        return False
    by_input = jax.jacfwd(lambda *args: cell.gate(*args)[0], (0, 1, 2, 3))
    blocks = jax.tree.leaves(by_input(own, z, r, case.state))
    apart = [~np.tile(np.eye(units, dtype=bool), b.shape[1] // units) for b in blocks]
    return not any(np.any(b[a]) for b, a in zip(blocks, apart, strict=True))


@pytest.mark.parametrize("name", [*CELLS, *MORE_CELLS])
def test_independent_units_are_declared_as_the_gate_map_has_them(name, x64):
    cell = {**CELLS, **MORE_CELLS}[name]
    assert cell.independent == keeps_to_units(cell)


def test_custom_cells_default_state_has_one_part():
    cell = custom_cell(lambda own, z, r, state: State(z + r))
    params = Params(jnp.ones((2, 3)), jnp.ones((3, 3)))
    assert cell.gates == 1
    assert isinstance(cell.initial_state(params), State)


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda key: elman("swish"), ValueError, "activation: expected one of"),
        (lambda key: elman("swish"), ValueError, "got 'swish'"),
        (lambda key: elman().init(key, 0, 3), ValueError, "input_size"),
        (
            lambda key: elman().init(key, 2, -1),
            ValueError,
            "hidden_size: expected a positive integer, got -1",
        ),
        (lambda key: lstm().init(key, 2, 0), ValueError, "hidden_size"),
        (lambda key: gru().init(key, 2, 3, dtype=jnp.int32), TypeError, "got int32"),
        (lambda key: lstm().init(key, 2, 3, dtype=bool), TypeError, "floating dtype"),
    ],
)
def test_wrong_calls_are_named(call, error, words, key):
    with pytest.raises(error) as raised:
        call(key)
    assert words in str(raised.value)

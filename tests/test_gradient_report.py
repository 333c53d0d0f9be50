"""The report's figures are the instruments', its parts those of the whole."""

import base64
import html.parser
import json
import re
import sys
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from table import CELLS, MORE_CELLS, assert_alike, draw, draw_params, relative_errors

from jaxrnn import (
    State,
    bidirectional,
    bptt,
    clipped,
    custom_cell,
    elman,
    gradient_flow,
    gru,
    lstm,
    network,
    stack,
    transition,
    unroll,
)
from jaxrnn.gradient_flow import health, report, vitals
from jaxrnn.gradient_flow.saturation import saturated
from jaxrnn.layers import constrained, dense, learned_start, noisy

pytestmark = pytest.mark.usefixtures("compile_fast")

T, B, D, H = 6, 3, 2, 3
EDGES = {
    "whole": {},
    "edges": {"lengths": [6, 2, 6], "resets": np.arange(T * B).reshape(T, B) == 7},
}


def errors_of(layer, case, seed=3):
    """∂E/∂hs and ∂E/∂ the final state."""
    rng = np.random.default_rng(seed)
    hs = jax.eval_shape(lambda: unroll(layer, *case.inputs, noise=None)[0])
    return tuple(
        jax.tree.map(lambda s: rng.standard_normal(s.shape), like)
        for like in (hs, case.state)
    )


def norm(tree):
    return np.sqrt(sum(np.sum(np.square(a)) for a in jax.tree.leaves(tree)))


def norms(tree):
    """At every step."""
    return [norm(jax.tree.map(lambda a, t=t: np.asarray(a[t]), tree)) for t in range(T)]


# One cell ----------------------------------------------------------------------------


def test_the_figures_of_a_cell_are_those_of_the_instruments(x64):
    cell = lstm()
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, d_final = errors_of(cell, case)
    more, of = EDGES["edges"], (cell, *case.inputs)
    found = report(*of[:3], state=case.state, cotangents=d_hs, final=d_final, **more)
    (layer,) = found.layers
    assert (layer.name, layer.kind) == ("cell", "lstm()")
    assert (found.steps, found.rows, found.window, found.error) == (T, B, T, None)

    lags = gradient_flow.lag_norms(*of, d_hs, final=d_final, **more)
    bias = gradient_flow.truncation_bias(*of, d_hs, final=d_final, **more)
    d = bptt(*of, d_hs, final=d_final, **more)
    whole = slice(None, None, 2)  # the longest rows
    exponents = gradient_flow.lyapunov_spectrum(
        cell,
        case.params,
        case.xs[:, whole],
        jax.tree.map(lambda s: s[whole], case.state),
        count=3,
        warmup=T // 4,
    )
    wanted = {
        "horizon": gradient_flow.effective_horizon(lags.adjoints),
        "rate": gradient_flow.decay_rate(lags.adjoints),
        "by_lag": lags.adjoints,
        "exponents": exponents.mean(0),
        "bias": bias.relative_error,
        "gradient": norm(d.params),
        "deltas": norms(d.deltas),
        "adjoints": norms(d.adjoints),
    }
    wanted = {name: np.asarray(value) for name, value in wanted.items()}
    ours = {name: np.asarray(getattr(layer, name)) for name in wanted}
    assert_alike(ours, wanted, 1e-10)
    # control: another cell's errors are found by every figure but the exponents
    given = {"state": case.state, "cotangents": 2 * d_hs**2, "final": d_final}
    other = report(*of[:3], **given, **more).layers[0]
    theirs = {name: np.asarray(getattr(other, name)) for name in wanted}
    apart = relative_errors(theirs, wanted)
    same = {name for name, error in apart.items() if error < 1e-10}
    assert same <= {"exponents", "horizon"}


def test_a_network_is_measured_by_the_errors_of_its_targets(x64):
    net = network(gru(), "softmax_cross_entropy")
    params = draw_params(net, "float64")
    rng = np.random.default_rng(0)
    xs, targets = rng.standard_normal((T, B, 2)), rng.integers(0, 2, (T, B))
    weights = np.arange(T * B).reshape(T, B) * 0.1
    found = report(net, params, xs, targets, weights=weights)
    error, d_hs = net.cotangents(params, xs, targets, weights=weights)
    of_layer = report(net.cell, params.cell, xs, cotangents=d_hs)
    assert found == replace(of_layer, error=float(error))
    assert found != report(net, params, xs, 1 - targets, weights=weights)


# The parts of a layer ----------------------------------------------------------------


def halved(params):
    return params._replace(w_s=0.5 * params.w_s)


LAYERS = {
    "stack": (stack(lstm(), dense("tanh"), gru()), ("0", "2", "whole")),
    "bidirectional": (
        stack(bidirectional(gru()), learned_start(elman())),
        ("0.forward", "0.backward", "1"),
    ),
    "constrained": (constrained(noisy(elman(), state=0.5), halved), ("cell",)),
}
PARTS = {  # where each part's parameters are in the layer's
    "stack": lambda p: (p[0], p[2], p),
    "bidirectional": lambda p: (p[0].forward, p[0].backward, p[1].layer),
    "constrained": lambda p: (p._replace(w_s=2 * p.w_s),),  # the cell reads half of it
}


@pytest.mark.parametrize(
    ("name", "edges"),
    [("stack", "edges"), ("bidirectional", "edges"), ("constrained", "whole")],
)
def test_every_part_has_its_own_share_of_the_gradient(name, edges, x64):
    layer, names = LAYERS[name]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, d_final = errors_of(layer, case)
    more = dict(EDGES[edges])
    if name == "bidirectional":  # a reset would put the learned start in place
        more.pop("resets", None)
    more |= {"state": case.state, "cotangents": d_hs, "final": d_final}
    found = report(layer, *case.inputs[:2], **more)
    assert tuple(part.name for part in found.layers) == names
    d = bptt(layer, *case.inputs[:2], noise=None, **more).params
    wanted = [norm(part) for part in PARTS[name](d)]
    ours = [part.gradient for part in found.layers]
    np.testing.assert_allclose(ours, wanted, rtol=1e-10)
    # all lags together are the whole of it, and all but one are not
    assert all(part.bias[-1] < 1e-12 < part.bias[-3] for part in found.layers)
    assert found.faults == ()
    assert [why[:14] for why in found.left_out] == ["whole: a part "] * (
        name == "bidirectional"
    )


def test_the_direction_that_runs_backward_is_measured_in_its_own_order(x64):
    layer = bidirectional(elman(), elman(), merge="sum")
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, _ = errors_of(layer, case)
    back = report(layer, *case.inputs[:2], cotangents=d_hs).layers[1]
    turned = report(
        elman(), case.params.backward, case.xs[::-1], cotangents=d_hs[::-1]
    ).layers[0]
    assert replace(back, name="cell") == turned
    forth = report(elman(), case.params.backward, case.xs, cotangents=d_hs).layers[0]
    assert replace(back, name="cell") != forth


def count(params, state, x):
    """A counter beside a memory."""
    memory = 0.5 * state["m"] + x @ params
    return {"m": memory, "n": state["n"] + 1}, jnp.tanh(memory)


def counting(params):
    return {"m": jnp.zeros(params.shape[1], params.dtype), "n": jnp.zeros((), int)}


COUNT = transition(count, initial_state=counting)
ONLY = transition(
    lambda params, n, x: (n + 1, x @ params),
    initial_state=lambda params: jnp.zeros((), int),
)
SOME = np.arange(T * B).reshape(T, B)
ALONE = noisy(gru(), zoneout=0.2), clipped(gru(), 1.0), learned_start(gru())
LEFT_OUT = {
    "alone": (stack(*ALONE), SOME == 7, [], ["0: zoneout", "1: its adj", "2: a reset"]),
    "zoneout": (ALONE[0], None, ["whole"], ["cell: zoneout or added noise"]),
    "all reset": (gru(), SOME < B, ["cell"], ["cell: exponents: all rows"]),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_is_left_out_is_said_with_its_reason(name):
    layer, resets, names, words = LEFT_OUT[name]
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H, dtype="f4")
    d_hs = errors_of(layer, case)[0].astype("f4")
    found = report(layer, *case.inputs[:2], cotangents=d_hs, resets=resets)
    assert [part.name for part in found.layers] == names
    pairs = zip(found.left_out, words, strict=True)
    assert all(why.startswith(begin) for why, begin in pairs)
    assert f"left out: {found.left_out[0]}" in str(found)


def test_a_transition_has_what_needs_no_cell():
    xs, params = np.ones((T, B, D), "f4"), np.full((D, H), 0.1, "f4")
    d_hs = np.ones((T, B, H), "f4")
    found = report(COUNT, params, xs, cotangents=d_hs, max_norm=0.5)
    (part,) = found.layers
    assert (part.dead, part.deltas, part.angle) == (None, None, None)
    assert part.saturated == 0 and len(part.by_lag) == T
    # a memory that halves at every step
    np.testing.assert_allclose(part.exponents, np.log([0.5] * 3), rtol=1e-6)
    assert found.left_out == ("cell: clipped: only a cell's adjoints are clipped",)
    assert found.dtype == "float32"

    found = report(ONLY, params, xs, cotangents=d_hs)
    assert found.layers == ()
    assert found.left_out == ("cell: its state holds nothing that has a gradient",)
    assert found.to_html() and str(found)


# Vitals ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["elman-tanh", "lstm", "mgu"])
def test_the_horizon_of_the_vitals_is_that_of_the_last_error(name, x64):
    cell = (CELLS | MORE_CELLS)[name]
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, _ = errors_of(cell, case)
    lengths = np.array([6, 2, 4])
    ends = lengths - 1, np.arange(B)
    rest = jax.tree.map(jnp.zeros_like, case.state)
    final = rest._replace(h=d_hs[ends])
    lags = gradient_flow.lag_norms(cell, *case.inputs, final=final, lengths=lengths)
    found = vitals(cell, *case.inputs, d_hs, lengths=lengths)
    wanted = gradient_flow.effective_horizon(lags.adjoints)
    assert (
        found.horizon
        == wanted
        == vitals(cell, *case.inputs, final=final, lengths=lengths).horizon
    )


def test_vitals_are_taken_every_few_steps_of_a_compiled_loop(x64):
    cell = gru()
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, _ = errors_of(cell, case)

    def measure(params):
        return vitals(cell, params, case.xs, cotangents=d_hs, max_norm=0.5)

    def body(carry, i):
        params, last = carry
        last = jax.lax.cond(i % 2 == 0, measure, lambda _: last, params)
        params = jax.tree.map(lambda p: 0.5 * p, params)
        return (params, last), last

    @jax.jit
    def loop(params):
        first = jax.tree.map(jnp.zeros_like, measure(params))
        return jax.lax.scan(body, (params, first), jnp.arange(4))[1]

    every = loop(case.params)
    for i, scale in enumerate((1, 1, 0.25, 0.25)):
        wanted = measure(jax.tree.map(lambda p, s=scale: s * p, case.params))
        found = jax.tree.map(lambda a, i=i: a[i], every)
        assert_alike(found, wanted, 1e-12)
    assert every.gradient[0] != every.gradient[2]


def test_saturated_activations_are_counted_as_numpy_counts_them(x64):
    cell = lstm()
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H)
    params = jax.tree.map(lambda p: 3 * p, case.params)
    lengths = [6, 2, 4]
    xs = np.array(case.xs)
    states, _ = unroll(cell, params, xs, case.state, return_states=True)
    h = np.concatenate([case.state.h[None], states.h[:-1]])
    a = xs @ params.w_x + h @ params.w_s + params.b
    i, f, g, o = np.split(a, 4, axis=-1)
    gates = 1 / (1 + np.exp(-np.concatenate([i, f, o], axis=-1)))
    flat = np.concatenate(
        [
            (gates < 0.1) | (gates > 0.9),
            np.abs(np.tanh(np.concatenate([g, np.asarray(states.c)], axis=-1))) > 0.8,
        ],
        axis=-1,
    )
    live = np.arange(T)[:, None] < np.array(lengths)
    xs[~live] = np.nan  # padding does not count
    found = vitals(cell, params, xs, case.state, np.ones_like(h), lengths=lengths)
    assert 0.2 < flat[live].mean() < 0.8
    np.testing.assert_allclose(found.saturated, flat[live].mean(), rtol=1e-12)
    assert abs(flat.mean() - flat[live].mean()) > 1e-3  # control: with the padding


@pytest.mark.parametrize("name", CELLS | MORE_CELLS)
def test_each_cell_has_its_activations_counted_or_has_none(name):
    cell = (CELLS | MORE_CELLS)[name]
    case = draw(cell, steps=2, batch=(2,), inputs=D, units=4, dtype="f4")
    before = jax.tree.map(lambda s: np.stack([s, s]), case.state)
    share = saturated(cell, case.params, case.xs, before, None, 2)
    none = {"elman-relu", "elman-identity", "elman-sin", "irnn", "lru"}
    none |= {"indrnn", "indrnn-sin"}
    assert np.isnan(share) == (name in none)


def test_a_unit_that_is_always_off_is_dead():
    cell = elman("relu")
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=4, dtype="f4")
    d_hs = np.ones((T, B, 4), "f4")
    b = np.array([1, 1, -100, 1], "f4")
    found = vitals(cell, case.params._replace(b=b), case.xs, cotangents=d_hs)
    assert found.dead == 0.25
    b = np.array([1, 1, 100, 1], "f4")
    assert vitals(cell, case.params._replace(b=b), case.xs, cotangents=d_hs).dead == 0


@pytest.mark.parametrize("layer", [gru(), stack(gru(), gru())])
def test_the_angle_is_that_to_the_gradient_of_clipped_cells(layer, x64):
    case = draw(layer, steps=T, batch=(B,), inputs=D, units=H)
    d_hs, _ = errors_of(layer, case)
    bounded = clipped(gru(), 1.5)
    other = bounded if layer is gru() else stack(bounded, bounded)
    of = case.params, case.xs, case.state
    ours, theirs = (
        np.concatenate([a.ravel() for a in jax.tree.leaves(bptt(it, *of, d_hs).params)])
        for it in (other, layer)
    )
    cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
    found = vitals(layer, *of, d_hs, max_norm=1.5)
    np.testing.assert_allclose(found.angle, np.degrees(np.arccos(cosine)), rtol=1e-8)
    assert found.angle > 1
    assert vitals(layer, *of, d_hs, max_norm=1e9).angle < 1e-5
    assert np.isnan(vitals(layer, *of, d_hs).angle)


# How it is shown ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def shown():
    layer = stack(lstm(), COUNT, bidirectional(elman("relu"), merge="sum"))
    rng = np.random.default_rng(0)
    like = draw(stack(lstm(), bidirectional(elman("relu"))), inputs=D, units=H)
    below = np.full((H, H), 0.1, "f4")
    params = (like.params[0], below, like.params[1])
    params = jax.tree.map(lambda a: a.astype("f4"), params)
    params[2].forward.w_s[0, 0] = np.nan
    xs = rng.standard_normal((T, B, D)).astype("f4")
    d_hs = np.ones((T, B, H), "f4")
    return report(layer, params, xs, cotangents=d_hs, window=4, max_norm=0.1)


def test_json_holds_all_of_it_and_null_for_what_is_no_number(shown):
    def as_json(value):
        if isinstance(value, tuple | list):
            return [as_json(v) for v in value]
        if isinstance(value, dict):
            return {k: as_json(v) for k, v in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    assert json.loads(shown.to_json()) == as_json(asdict(shown))
    assert None in json.loads(shown.to_json())["layers"][2]["adjoints"]


def test_the_first_fault_is_named_by_its_part(shown):
    forward, _ = shown.faults
    assert (forward.during, forward.step, forward.part) == ("forward", 0, "2.forward.h")
    assert "NaN or inf, forward: first at step 0, in 2.forward.h, row 0" in str(shown)


class Tags(html.parser.HTMLParser):
    """Raises unless every tag is closed in order; collects text and attributes."""

    def __init__(self):
        super().__init__()
        self.open, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def parsed(page):
    tags = Tags()
    tags.feed(page)
    tags.close()
    assert not tags.open
    return tags


def test_the_page_is_closed_in_itself_and_has_every_figure(shown):
    page = shown.to_html()
    tags = parsed(page)
    text = " ".join(tags.text)
    for layer in shown.layers:
        assert layer.name in text and layer.kind in text
        for line in health.lines(layer, shown.window, shown.max_norm):
            assert all(word in text for word in line)
    assert all(why in text for why in (*shown.left_out, *shown._faults()))
    assert len(tags.links) == 4
    for link in tags.links:
        head, data = link.split(",")
        assert head == "data:image/svg+xml;base64"
        ElementTree.fromstring(base64.b64decode(data))
    assert not re.search(r"https?://|@import|url\(|<script", page)


@pytest.mark.parametrize("broken", ["<p>", "</section>"])
def test_control_a_page_with_a_tag_astray_does_not_parse(shown, broken):
    page = shown.to_html().replace("<section>", broken + "<section>", 1)
    with pytest.raises(AssertionError):
        parsed(page)


def test_names_are_escaped(shown):
    layer = replace(PLAIN, kind="transition(<lambda>)")
    page = replace(shown, layers=(layer,)).to_html()
    assert "transition(&lt;lambda&gt;)" in page and "<lambda>" not in page


def test_the_figure_draws_every_layer(shown):
    panels = shown.figure().axes
    assert len(panels) == 4
    labels = [label for axes in panels for label in axes.get_legend_handles_labels()[1]]
    assert all(any(layer.name in n for n in labels) for layer in shown.layers)
    norms = 0.5 ** np.arange(8.0)
    layer = replace(PLAIN, by_lag=tuple(3 * norms))
    drawn = replace(shown, layers=(layer,)).figure().axes[0].get_lines()[0]
    np.testing.assert_allclose(drawn.get_ydata(), norms)


@pytest.mark.parametrize("show", ["figure", "to_html"])
def test_without_matplotlib_it_says_what_to_install(shown, show, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install matplotlib"):
        getattr(shown, show)()


# The words ---------------------------------------------------------------------------

PLAIN = health.LayerHealth(
    name="cell", kind="lstm()", horizon=19, rate=(0.8, 0.7, 0.9), by_lag=(1.0,) * 64,
    exponents=(-0.2, -0.3), bias=(0.5,) * 32 + (0.0,) * 32, gradient=0.5,
    deltas=(1.0,) * 64, adjoints=(1.0,) * 64, saturated=0.125, dead=0.0, angle=30.0,
)  # fmt: skip
WORDS = [
    ({}, 64, "An error is felt 19 steps back; your windows have 64."),
    ({"horizon": 64}, 64, "still felt 64 steps back, the farthest that was looked at"),
    ({"horizon": 19}, 16, "19 steps back, but your windows have 16: they cut it off"),
    ({"horizon": 0}, 64, "No error arrives"),
    ({}, 64, "multiplies an error by 0.800: it halves in 3.1 steps"),
    ({"rate": (1.1, 1.05, 1.2)}, 64, "by 1.100: it doubles in 7.3 steps"),
    ({"rate": (1.0, 0.9, 1.1)}, 64, "it neither vanishes nor explodes"),
    ({"rate": None}, 64, "Too few lags"),
    ({}, 64, "gradients vanish in the long run"),
    ({"exponents": (0.1, -0.1)}, 64, "(chaos), and gradients explode"),
    ({}, 16, "Sent back 16 steps and no farther, the gradient is 50 % off."),
    ({}, 64, "back 32 steps and no farther, the gradient is 50 % off; nothing lies"),
    ({}, 64, "12 % of the activations"),
    ({"saturated": None}, 64, "Its step computes no tanh and no sigmoid."),
    ({}, 64, "Clipping λ at 2 at every step turns the gradient by so much."),
]


@pytest.mark.parametrize(("changes", "window", "words"), WORDS)
def test_each_figure_says_in_plain_words_what_it_means(changes, window, words):
    found = health.lines(replace(PLAIN, **changes), window, 2.0)
    said = [line.meaning for line in found]
    assert sum(words in meaning for meaning in said) == 1
    assert all(meaning.endswith(".") for meaning in said)


# Wrong calls -------------------------------------------------------------------------


def wrong_calls():
    net = network(gru())
    params = draw_params(net)
    xs, d_hs = np.ones((T, B, 2), "f4"), np.ones((T, B, 3), "f4")
    targets = np.ones((T, B, 2), "f4")
    of_net, of_cell = (net, params, xs), (gru(), params.cell, xs)
    return {
        "no targets": (of_net, {}, ValueError, "targets: expected errors"),
        "a network's cotangents": (
            of_net, {"targets": targets, "cotangents": d_hs}, ValueError,
            "cotangents: expected None with a network",
        ),
        "no errors": (of_cell, {}, ValueError, "cotangents and final: expected errors"),
        "a layer's targets": (
            of_cell, {"targets": targets, "cotangents": d_hs}, ValueError,
            "targets: expected None with a layer",
        ),
        "window": (
            of_cell, {"cotangents": d_hs, "window": T + 1}, ValueError,
            f"window: expected an integer in 1..{T}",
        ),
        "lags": (
            of_cell, {"cotangents": d_hs, "lags": 0}, ValueError, "lags: expected"
        ),
        "max_norm": (
            of_cell, {"cotangents": d_hs, "max_norm": -1.0}, ValueError,
            "max_norm: expected a positive number",
        ),
        "no rows": (
            (gru(), params.cell, xs[:, :0]), {"cotangents": d_hs[:, :0]}, ValueError,
            "xs: expected at least one step and row",
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", wrong_calls())
def test_a_wrong_call_names_its_argument(name):
    given, options, error, words = wrong_calls()[name]
    with pytest.raises(error, match=re.escape(words)):
        report(*given, **options)


def test_inside_jit_only_vitals_work():
    (cell, params, xs), options, *_ = wrong_calls()["window"]
    d_hs = options["cotangents"]
    with pytest.raises(TypeError, match=r"params: expected known values.*use vitals"):
        jax.jit(lambda p: report(cell, p, xs, cotangents=d_hs).layers[0].gradient)(
            params
        )
    with pytest.raises(TypeError, match=r"max_norm: expected None.*transition"):
        vitals(COUNT, np.ones((2, H), "f4"), xs, cotangents=d_hs, max_norm=1.0)
    with pytest.raises(ValueError, match="forward in time"):
        layer = bidirectional(gru())
        vitals(layer, layer.init(jax.random.key(0), 2, 3), xs, cotangents=d_hs)


def test_few_lags_leave_the_rate_unknown():
    (cell, params, xs), options, *_ = wrong_calls()["window"]
    found = report(cell, params, xs, cotangents=options["cotangents"], lags=2)
    (layer,) = found.layers
    assert layer.rate is None and len(layer.by_lag) == len(layer.bias) == 2


def no_squash(own, z, r, state):
    del own
    return State(0.5 * state.h + z + r)


def test_a_gate_map_without_an_activation_says_so():
    cell = custom_cell(no_squash)
    case = draw(cell, steps=T, batch=(B,), inputs=D, units=H, dtype="f4")
    found = report(cell, *case.inputs[:2], final=case.d_final)
    assert found.layers[0].saturated is None
    assert "not known                 Its step computes no tanh" in str(found)

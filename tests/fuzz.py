"""Thousands of wrong calls: is each refused with a clear error that names it?

    python tests/fuzz.py [--only NAME]

A table of the public functions, each with a call that works and, for each argument,
kinds of values to put in its place. A call of the table

    refuse   should raise a ValueError or TypeError of the library's own, which names
             the argument and says what was expected or what came
    work     should return, and the same numbers as the call that works where the value
             is the same one in another guise
    either   may do the one or the other

and comes out as *clear* (such an error), *obscure* (any other), *silent* (a value where
an error should be, or another number), *fine* or *refused* (should have worked).
"""

import argparse
import inspect
import math
import re
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from table import draw

import jaxrnn
from jaxrnn import convert, gradient_flow, layers, online, optim, parallel, training
from jaxrnn.layer import CellNoise

REFUSE, WORK, EITHER = "refuse", "work", "either"
T, B, D, H, OUT = 3, 2, 2, 4, 3
PACKAGE = Path(jaxrnn.__file__).parent


LEFT_OUT = object()  # in the place of a value: call without it


class Try(NamedTuple):
    """A value to try for an argument; `same`: the call's own value in another form."""

    kind: str
    value: Any
    expect: str = REFUSE
    same: bool = False


class Site(NamedTuple):
    """A function, a call of it that works, and what to try for its arguments."""

    name: str
    function: Callable[..., Any]
    given: dict[str, Any]
    tries: dict[str, Iterable[Try]]
    words: dict[str, tuple[str, ...]] | None = None  # an argument's other names
    binds: bool = True  # whether to try an argument too few and one too many


class Call(NamedTuple):
    site: Site
    argument: str
    kind: str
    expect: str
    same: bool
    changed: dict[str, Any]

    def __str__(self):
        return f"{self.site.name}({self.argument}: {self.kind})"


class Outcome(NamedTuple):
    call: Call
    verdict: str
    said: str = ""
    where: str = ""


# The values --------------------------------------------------------------------------


class Duck:
    """Has a shape and a dtype but no values."""

    def __init__(self, like):
        self.shape, self.dtype, self.ndim = like.shape, like.dtype, like.ndim


class Other(NamedTuple):
    """A record that the library does not know."""

    this: Any
    that: Any = None


class Pages(np.ndarray):
    """A subclass of an array."""


def deleted(tree):
    tree = jax.tree.map(jnp.array, tree)
    jax.tree.map(lambda a: a.delete(), tree)
    return tree


def masked(good):
    return np.ma.masked_array(good, np.arange(good.size).reshape(good.shape) == 0)


def claims(good):
    """An array of 128 TiB by its shape and 4 bytes in memory."""
    return np.broadcast_to(np.zeros((), good.dtype), (2**45, *good.shape[1:]))


def no_arrays(good) -> Iterator[Try]:
    yield Try("list", [[1.0], [2.0, 3.0]])
    yield Try("str", "xs")
    yield Try("number", 1.0, REFUSE if good.ndim else EITHER)
    yield Try("dict", {"a": good})
    yield Try("object", object())
    yield Try("function", np.tanh)
    yield Try("ShapeDtypeStruct", jax.ShapeDtypeStruct(good.shape, good.dtype))
    yield Try("duck", Duck(good))
    yield Try("NamedTuple", Other(good))


def shapes(good, free=()) -> Iterator[Try]:
    if good.ndim:
        yield Try("rank", good[0])
    yield Try("rank", good[None])
    for axis in set(range(good.ndim)) - set(free):
        yield Try("size", np.concatenate([good, good], axis))
        yield Try("size", np.take(good, range(good.shape[axis] - 1), axis))


def array(good, *, free=(), none=REFUSE, wide=WORK, brief=False) -> Iterator[Try]:
    """Values to try for a floating array.

    `free`: axes of any size; `wide`: what float64 should do.
    """
    good = np.asarray(good, "f4")
    yield Try("None", None, none)
    yield from list(no_arrays(good))[:: 4 if brief else 1]
    yield from list(shapes(good, free))[:: 2 if brief else 1]
    yield Try("int", good.astype("i4"))
    yield Try("complex", good.astype("c8"))
    yield Try("float16", good.astype("f2"))
    yield Try("float64", good.astype("f8"), wide, same=True)
    yield Try("big-endian", good.astype(">f4"), EITHER, same=True)
    yield Try("masked", masked(good))
    yield Try("deleted", deleted(good))
    yield Try("key", jax.random.split(jax.random.key(0), good.shape))
    if brief:
        return
    yield Try("bool", good > 0)
    yield Try("bfloat16", jnp.asarray(good, jnp.bfloat16))
    yield Try("int64", good.astype("i8"))
    yield Try("text", good.astype(str))
    yield Try("objects", good.astype(object))
    yield Try("dates", good.astype("i8").astype("M8[s]"))
    yield Try("structured", np.zeros(good.shape, [("a", "f4")]))
    yield Try("big-endian float64", good.astype(">f8"), EITHER, same=True)
    yield Try("mask of nothing", np.ma.masked_array(good), EITHER, same=True)
    yield Try("jax", jnp.asarray(good), WORK, same=True)
    yield Try("Fortran order", np.asfortranarray(good), WORK, same=True)
    apart = np.repeat(good, 2, -1)[..., ::2] if good.ndim else good
    yield Try("strided", apart, WORK, same=True)
    frozen = good.copy()
    frozen.setflags(write=False)
    yield Try("read-only", frozen, WORK, same=True)
    yield Try("subclass", good.copy().view(Pages), WORK, same=True)
    yield Try("NaN", np.full_like(good, np.nan), EITHER)
    yield Try("inf", np.full_like(good, np.inf), EITHER)


def record(good, *, none=REFUSE) -> Iterator[Try]:
    """Values to try for a NamedTuple of arrays: other containers."""
    yield Try("None", None, none)
    yield Try("tuple", tuple(good))
    yield Try("list", list(good))
    yield Try("dict", good._asdict())
    yield Try("NamedTuple", Other(*good[:2]))
    yield Try("array", good[0])
    yield Try("number", 3)
    yield Try("str", "zeros")
    yield Try("ShapeDtypeStruct", jax.eval_shape(lambda: good))
    yield Try("deleted", deleted(good))
    yield Try("int", jax.tree.map(lambda a: np.asarray(a).astype("i4"), good))
    yield Try("complex", jax.tree.map(lambda a: np.asarray(a).astype("c8"), good))
    yield Try("masked", jax.tree.map(lambda a: masked(np.asarray(a)), good))
    yield Try("jax", jax.tree.map(jnp.asarray, good), WORK, same=True)


def part(good, name, tries) -> Iterator[Try]:
    """The same values for one part of a record, by a path such as readout.w_y."""
    first, _, rest = name.partition(".")
    if rest:
        tries = part(getattr(good, first), rest, tries)
    for t in tries:
        yield t._replace(value=good._replace(**{first: t.value}))


def state(good, *, none=EITHER, brief=False) -> Iterator[Try]:
    yield from record(good, none=none)
    name = good._fields[-1]
    yield from part(good, name, array(good[-1], brief=brief))


def last(good) -> list[Try]:
    """For ∂E/∂ the final state, where None stands for zeros, also in a part."""
    tries = state(good, brief=True)
    return [t._replace(expect=EITHER) if t.kind == "None" else t for t in tries]


def params(good, *, brief=False) -> Iterator[Try]:
    yield from record(good)
    wide = jax.tree.map(lambda a: np.asarray(a, "f8"), good)
    yield Try("float64", wide, EITHER, same=True)
    other = jaxrnn.gru() if good.w_s.shape[1] > 3 * H else jaxrnn.lstm()
    yield Try("of another cell", draw(other, units=H, dtype="f4").params)
    for name in ("w_s",) if brief else ("w_x", "w_s", "b"):
        none = EITHER if name == "b" else REFUSE
        values = array(good._asdict()[name], none=none, wide=EITHER, brief=True)
        yield from part(good, name, values)
    yield from part(good, "own", [Try("own", good.b)])


def labels(good, outputs) -> Iterator[Try]:
    """Values to try for an array of integers 0..outputs."""
    good = np.asarray(good, "i4")
    yield Try("None", None)
    yield from no_arrays(good)
    yield from shapes(good)
    for dtype in ("f4", "c8", "?"):
        yield Try("dtype", good.astype(dtype))
    for bad in (outputs, -1, 2**31 - 1):
        yield Try("label", np.full_like(good, bad))
    yield Try("label", np.full(good.shape, 2**40, "i8"))
    yield Try("label", np.full(good.shape, 200, "u1"))
    yield Try("masked", masked(good))
    yield Try("deleted", deleted(good))
    for dtype in ("i8", "u1", "i2"):
        yield Try("integers", good.astype(dtype), WORK, same=True)
    yield Try("big-endian", good.astype(">i4"), EITHER, same=True)


def lengths(good, steps=T) -> Iterator[Try]:
    good = np.asarray(good)
    yield Try("too long", [1, steps + 1])
    yield Try("negative", [-1, 2])
    yield Try("too long", [1, 2**33])
    yield Try("too long", np.array([1, 2**40]))
    yield Try("fractions", [1.5, 2.0])
    yield Try("NaN", [np.nan, 2.0])
    yield Try("bool", [True, False])
    yield Try("complex", [1j, 2])
    yield Try("number", 3)
    yield Try("size", [1, 2, 3])
    yield Try("rank", [[1, 2]])
    yield Try("ragged", [[1], [2, 3]])
    yield Try("str", "12")
    yield Try("text", np.array(["1", "2"]))
    yield Try("objects", [None, 2])
    yield Try("objects", np.array([1, 2], object))
    yield Try("dict", {"a": 1})
    yield Try("function", len)
    yield Try("ShapeDtypeStruct", jax.ShapeDtypeStruct((B,), jnp.int32))
    yield Try("duck", Duck(good))
    yield Try("masked", masked(good))
    yield Try("deleted", deleted(good))
    yield Try("float32", good.astype("f4"), EITHER, same=True)
    yield Try("big-endian", good.astype(">i8"), EITHER, same=True)
    yield Try("list", good.tolist(), WORK, same=True)
    yield Try("tuple", tuple(good.tolist()), WORK, same=True)
    for dtype in ("i8", "i4", "u1"):
        yield Try("integers", good.astype(dtype), WORK, same=True)
    yield Try("jax", jnp.asarray(good), WORK, same=True)


def resets(good) -> Iterator[Try]:
    good = np.asarray(good, bool)
    yield Try("fractions", good * np.float32(0.5))
    yield Try("NaN", np.where(good, np.float32(np.nan), np.float32(0)))
    yield Try("twos", good * 2)
    yield Try("complex", good.astype("c8"))
    yield Try("number", True)
    yield from shapes(good)
    yield Try("batch first", good.T)
    yield Try("ragged", [[True], [False, True]])
    yield Try("str", "done")
    yield Try("text", good.astype(str))
    yield Try("objects", np.where(good, None, 1))
    yield Try("function", len)
    yield Try("ShapeDtypeStruct", jax.ShapeDtypeStruct(good.shape, bool))
    yield Try("duck", Duck(good))
    yield Try("masked", masked(good))
    yield Try("deleted", deleted(good))
    yield Try("list", good.tolist(), EITHER, same=True)
    yield Try("integers", good.astype("i4"), EITHER, same=True)
    for dtype in ("f4", "f8"):
        yield Try("float 0 and 1", good.astype(dtype), WORK, same=True)
    yield Try("jax", jnp.asarray(good), WORK, same=True)


def positive(good=None, *, none=REFUSE, zero=REFUSE) -> Iterator[Try]:
    """Values to try for an integer option."""
    yield Try("None", None, none)
    yield Try("zero", 0, zero)
    yield Try("negative", -1)
    for bad in (2.0, 2.5, np.float64(2), float("nan"), 1j, True):
        yield Try("no integer", bad)
    yield Try("str", "2")
    yield Try("list", [2])
    yield Try("array", np.array([2, 2]))
    yield Try("jax", jnp.asarray(2), EITHER)
    if good is not None:
        yield Try("np.int64", np.int64(good), WORK, same=True)
        yield Try("np.int32", np.int32(good), WORK, same=True)


def number(good, *, bad=(), none=REFUSE, infinite=REFUSE) -> Iterator[Try]:
    """Values to try for a float option; `bad`: outside its range."""
    yield Try("None", None, none)
    for value in bad:
        yield Try("out of range", value)
    yield Try("NaN", float("nan"))
    yield Try("infinite", float("inf"), infinite)
    yield Try("str", "0.1")
    yield Try("list", [good])
    yield Try("complex", 1j)
    yield Try("array", np.array([good, good]))
    yield Try("bool", True, EITHER)
    yield Try("np.float64", np.float64(good), WORK, same=True)
    yield Try("np.float32", np.float32(good), EITHER)
    yield Try("jax", jnp.asarray(good), EITHER)


rate = partial(number, bad=(-0.1, 1.0, 1.5))
above_0 = partial(number, bad=(0.0, -1.0, 0))


def flag(good=None) -> Iterator[Try]:
    for bad in (1, 0, 2.0, "yes", None, [], np.array([True, False])):
        yield Try("no flag", bad)
    yield Try("np.bool", np.bool_(bool(good)), EITHER, same=good is not None)
    yield Try("jax", jnp.asarray(bool(good)), EITHER, same=good is not None)


def choice(good, *, none=REFUSE) -> Iterator[Try]:
    yield Try("None", None, none)
    yield Try("misspelt", good[:-1])
    yield Try("misspelt", good.upper())
    yield Try("misspelt", "")
    for bad in (0, True, [good], good.encode(), (good,), {good: 1}):
        yield Try("no name", bad)


def key(none=REFUSE) -> Iterator[Try]:
    yield Try("None", None, none)
    for bad in (0, 1.0, "key", [0, 1], object()):
        yield Try("no key", bad)
    yield Try("no key", np.zeros(2, "f4"))
    yield Try("no key", np.zeros(3, "u4"))
    yield Try("many keys", jax.random.split(jax.random.key(0)))
    yield Try("deleted", deleted(jax.random.key(0)))
    yield Try("raw key", jax.random.PRNGKey(0), WORK)


def layer(*, cell_only=False, forward_only=False, none=REFUSE) -> Iterator[Try]:
    yield Try("None", None, none)
    yield Try("str", "lstm")
    yield Try("number", 3)
    yield Try("uncalled", jaxrnn.lstm)
    yield Try("list", [jaxrnn.lstm()])
    yield Try("network", jaxrnn.network(jaxrnn.lstm()))
    yield Try("class", jaxrnn.Cell)
    yield Try("params", lstm_case().params)
    yield Try("dict", jaxrnn.lstm()._asdict())
    yield Try("function", np.tanh)
    if cell_only:
        yield Try("layer", jaxrnn.stack(jaxrnn.lstm()))
    if forward_only:
        yield Try("runs backward", layers.backward_only(jaxrnn.lstm()))


def batch_shape(good=(8,)) -> Iterator[Try]:
    yield Try("None", None)
    yield Try("negative", (-1,))
    yield Try("no size", (2.0,))
    yield Try("no size", ("a",))
    yield Try("str", "8")
    yield Try("number", 2.5)
    yield Try("int", 8, WORK, same=True)
    yield Try("list", [8], WORK, same=True)
    yield Try("np.int64", (np.int64(8),), WORK, same=True)


def initial(sizes=("input_size", "hidden_size")) -> dict[str, Iterable[Try]]:
    """Values to try for the arguments of an `init`."""
    tries = {"key": key(), "bias": flag(True)}
    tries |= {name: positive({"output_size": OUT}.get(name, H)) for name in sizes}
    tries["input_size"] = positive(D)
    dtypes = [Try("no dtype", bad) for bad in ("float3", 3, [], "int32", "c8", bool)]
    dtypes += [Try("float64", "float64", EITHER), Try("bfloat16", "bfloat16", WORK)]
    tries["dtype"] = [*dtypes, Try("None", None, EITHER)]
    return tries


# The calls that work -----------------------------------------------------------------


def lstm_case():
    return draw(jaxrnn.lstm(), steps=T, batch=(B,), inputs=D, units=H, dtype="f4")


def marks():
    return {"lengths": np.array([1, T]), "resets": np.eye(T, B, k=-1, dtype=bool)}


def init_given(**more):
    own = {"key": jax.random.key(0), "input_size": D, "hidden_size": H}
    return own | {"bias": True, "dtype": "float32"} | more


def noises(case) -> Iterator[Try]:
    """Values to try for an LSTM's `CellNoise`."""
    w, h = np.ones((H, 4 * H), "f4"), np.ones((B, H), "f4")
    hold = jax.tree.map(lambda s: np.full((T, *s.shape), 0.5, "f4"), case.state)
    good = CellNoise(w, h, hold)
    yield Try("noise", good, WORK)
    for bad in (3, "noise", [w, h], (w, h, hold), {"weights": w}, Other(w), w):
        yield Try("no noise", bad)
    for name, value in (("weights", w), ("mask", h)):
        yield from part(good, name, array(value, none=WORK, wide=EITHER))
    for bad in (1, (H,), (1,), (H, 1), (4 * H,), (1, H)):
        yield from part(good, "weights", [Try("size", np.ones(bad, "f4"))])
        yield from part(good, "mask", [Try("size", np.ones(bad, "f4"))])
    for share in (2.5, -0.5, np.nan):
        over = jax.tree.map(partial(np.full_like, fill_value=share), hold)
        yield Try("share", good._replace(hold=over))
    longer = jax.tree.map(lambda a: np.concatenate([a, a[:1]]), hold)
    for bad in (0.5, hold.h, tuple(hold), longer, "half", [hold]):
        yield Try("no hold", good._replace(hold=bad))


def runs() -> Iterator[Site]:
    """unroll, bptt and both functions of `parallel`, with an LSTM."""
    case = lstm_case()
    given = {"cell": jaxrnn.lstm(), "params": case.params, "xs": case.xs}
    given |= {"state": case.state, "reset_to": case.state, "reverse": False} | marks()
    given["mask"] = ~marks()["resets"]
    plan = {"chunk_size": 2, "store": "states"}
    back = {"cotangents": case.d_states.h, "final": case.d_final}
    newton = {"max_iterations": 5, "tolerance": 1e-5}
    names = {
        "unroll": (
            jaxrnn.unroll,
            {"gradient": "manual", "return_states": False, **plan},
        ),
        "bptt": (jaxrnn.bptt, back | plan),
        "parallel.unroll": (parallel.unroll, newton),
        "parallel.bptt": (parallel.bptt, back),
    }
    by_part = ("None", "tuple", "NamedTuple", "array")  # parts, or one array, will do
    for name, (function, more) in names.items():
        brief = name != "unroll"
        tries = {
            "cell": layer(),
            "params": params(case.params, brief=name.startswith("parallel")),
            "xs": array(case.xs, brief=brief),
            "state": state(case.state, brief=brief),
            "lengths": list(lengths(marks()["lengths"]))[:: 3 if brief else 1],
            "resets": list(resets(marks()["resets"]))[:: 3 if brief else 1],
            "mask": list(resets(given["mask"]))[:: 4 if brief else 1],
            "reset_to": list(state(case.state, brief=True))[:: 2 if brief else 1],
            "reverse": flag(False),
            "chunk_size": [*positive(2, none=WORK), Try("huge", 2**70, WORK, True)],
            "store": choice("states", none=WORK),
            "gradient": choice("manual"),
            "return_states": flag(False),
            "cotangents": [
                *(
                    t
                    for t in array(case.d_states.h, brief=True, none=EITHER)
                    if t.kind != "NamedTuple"
                ),
                *(
                    t._replace(same=False)
                    for t in state(case.d_states, none=EITHER, brief=True)
                    if t.kind not in by_part
                ),
            ],
            "final": last(case.d_final),
            "max_iterations": positive(5, none=WORK),
            "tolerance": above_0(1e-5, none=WORK),
        }
        its = given | more
        tries = {a: t for a, t in tries.items() if a in its}
        words = {"cotangents": ("cotangents",), "reset_to": ("reset_to",)}
        yield Site(name, function, its, tries, words)
        tries = {"noise": list(noises(case))[:: 1 if "." not in name else 5]}
        its = {
            a: its[a]
            for a in ("cell", "params", "xs", "state", "cotangents")
            if a in its
        }
        its["noise"] = tries["noise"][0].value
        yield Site(f"{name}(noise)", function, its, tries, binds=False)


def edges() -> Iterator[Site]:
    """Edge cases that are allowed."""
    case = lstm_case()

    def run(xs, **options):
        cell, given = jaxrnn.lstm(), case.params
        hs, final = jaxrnn.unroll(cell, given, xs, **options)
        back = jaxrnn.bptt(cell, given, xs, cotangents=np.ones_like(hs), **options)
        return hs, final, back

    yield Site(
        "unroll and bptt",
        run,
        {"xs": case.xs},
        {
            "xs": [
                Try("edge, no steps", case.xs[:0], EITHER),
                Try("edge, one step", case.xs[:1], WORK),
                Try("edge, no rows", case.xs[:, :0], EITHER),
                Try("edge, no batch axis", case.xs[:, 0], WORK),
                Try("edge, two batch axes", case.xs[:, None], WORK),
                Try("edge, no features", case.xs[..., :0]),
                Try("edge, tiny", case.xs * np.float32(1e-38), EITHER),
            ],
            "lengths": [
                Try("edge, zeros", [0, 0], WORK),
                Try("edge, full", [T, T], WORK),
            ],
            "chunk_size": [Try("edge, one", 1, WORK), Try("edge, huge", 10**20, WORK)],
            "store": [Try("edge, borders", "borders", WORK)],
            "resets": [Try("edge, all", np.ones((T, B), bool), WORK)],
        },
        binds=False,
    )


def folded() -> Iterator[Site]:
    case = lstm_case()
    xs = case.xs
    yield Site(
        "step",
        jaxrnn.step,
        {"cell": jaxrnn.lstm(), "params": case.params, "state": case.state, "x": xs[0]}
        | {"reset": np.array([True, False]), "reset_to": case.state},
        {
            "cell": layer(forward_only=True),
            "params": params(case.params, brief=True),
            "state": state(case.state, none=REFUSE),
            "x": array(xs[0]),
            "reset": [
                *(
                    t
                    for t in resets(np.array([True, False]))
                    if t.kind != "batch first"
                ),
                Try("left out", LEFT_OUT, WORK),
            ],
            "reset_to": list(state(case.state, brief=True))[::3],
        },
    )
    yield Site(
        "last",
        jaxrnn.last,
        {"hs": case.d_states.h, "lengths": marks()["lengths"]},
        {
            "hs": [
                t
                for t in array(case.d_states.h, free=(0, 2), brief=True, wide=EITHER)
                if t.kind not in ("int", "complex", "float16", "NamedTuple")
            ],
            "lengths": lengths(marks()["lengths"]),
        },
        {"hs": ("hs", "lengths"), "lengths": ("lengths", "hs")},
    )
    trees = [Try("no array", bad) for bad in ("w", 3, [1.0], {"a": "b"}, object())]
    yield Site("summary", jaxrnn.summary, {"params": case.params}, {"params": trees})
    for name, maker in (("lstm", jaxrnn.lstm()), ("stack", jaxrnn.stack(jaxrnn.gru()))):
        own = draw(maker, inputs=D, units=H, dtype="f4").params
        tries = list(params(own, brief=True)) if name == "lstm" else []
        tries += [Try("number", 3), Try("None", None), Try("shape", (8,))]
        yield Site(
            f"{name}().initial_state",
            maker.initial_state,
            {"params": own, "batch_shape": (8,)},
            {"params": tries[:6] + tries[-3:], "batch_shape": batch_shape()},
        )


def nested() -> Iterator[Site]:
    """unroll of layers."""
    cell, xs = jaxrnn.lstm(), lstm_case().xs
    of = {
        "stack": jaxrnn.stack(cell, jaxrnn.gru(), dropout=0.5),
        "bidirectional": jaxrnn.bidirectional(cell),
        "noisy": jaxrnn.noisy(cell, zoneout=0.5, weights=0.5),
        "learned_start": jaxrnn.learned_start(cell),
    }
    for name, it in of.items():
        case = draw(it, steps=T, batch=(B,), inputs=D, units=H, dtype="f4")
        noise = layers.draw_noise(jax.random.key(0), it, case.params, xs)
        wrong = [Try("None", None), Try("number", 3), Try("str", "zeros")]
        wrong += [Try("dict", {}), Try("list", [1]), Try("array", xs)]
        for bad in (case.params, case.state, case.params[:1], list(case.params)):
            wrong += [Try("of another", bad)]
        wrong += [Try("deleted", deleted(case.params))]
        wrong += [Try("int", jax.tree.map(lambda a: a.astype("i4"), case.params))]
        masks = jax.tree.map(lambda a: masked(np.asarray(a)), case.params)
        wrong += [Try("masked", masks)]
        wrong_state = [t for t in wrong if t.value is not case.state][1:]
        wrong_params = [t for t in wrong if t.value is not case.params]
        noises = [Try("number", 3), Try("str", "a"), Try("list", [1]), Try("array", xs)]
        if jax.tree.leaves(noise):
            noises += [Try("CellNoise", CellNoise(mask=np.ones((B, H), "f4")))]
            noises += [Try("deleted", deleted(noise)), Try("unsaid", LEFT_OUT)]
            noises += [Try("key", jax.random.key(0), WORK), Try("None", None, WORK)]
            noises += [Try("many keys", jax.random.split(jax.random.key(0)))]
        yield Site(
            f"unroll({name})",
            jaxrnn.unroll,
            {"cell": it, "params": case.params, "xs": xs, "state": case.state}
            | {"noise": noise},
            {
                "params": wrong_params,
                "state": wrong_state,
                "xs": array(xs, free=(0,), brief=True),
                "noise": noises if name != "learned_start" else noises[:4],
            },
            binds=False,
        )

    def widths(**how):
        a, b = jaxrnn.lstm(), jaxrnn.lstm(projection=1)
        it = how["layer"](a, b)
        return jaxrnn.unroll(it, it.init(jax.random.key(0), D, H), xs)

    tries = [
        Try(f"widths, {merge}", partial(jaxrnn.bidirectional, merge=merge))
        for merge in ("product", "sum", "mean")
    ]
    tries += [Try("widths, residual", partial(jaxrnn.stack, skip="residual"))]
    words = {"layer": ("merge", "skip", "layers", "backward")}
    yield Site(
        "unroll(widths)",
        widths,
        {"layer": jaxrnn.stack},
        {"layer": tries},
        words,
        False,
    )


def factories() -> Iterator[Site]:
    words = {"r_min": ("r_max",), "r_max": ("r_min",)}
    new = jaxrnn
    act = [*choice("tanh"), Try("number", 3.0), Try("callable", jnp.sin, WORK)]
    rows = {
        "elman": {"activation": act, "recurrent": choice("identity")},
        "indrnn": {"activation": act},
        "gru": {"reset_after": flag(True)},
        "lstm": {
            "forget_bias": number(1.0, infinite=EITHER),
            "peepholes": flag(False),
            "coupled": flag(False),
            "memory_norm": flag(False),
            "projection": positive(2, none=WORK),
            "projection_bias": flag(False),
            "memory_clip": above_0(1.0, none=WORK, infinite=EITHER),
        },
        "lru": {
            "r_min": number(0.1, bad=(-0.1, 1.0, 0.95)),
            "r_max": number(0.9, bad=(-0.1, 1.1, 0.05)),
            "max_phase": number(1.0, bad=(0.0, 7.0, -1.0)),
        },
        "mgu": {},
        "mingru": {},
        "layer_norm": {"cell": layer(cell_only=True)},
        "clipped": {
            "cell": layer(cell_only=True),
            "threshold": above_0(1.0, infinite=EITHER),
        },
        "mixed_precision": {
            "cell": layer(cell_only=True),
            "compute_dtype": [
                Try("no dtype of these", bad)
                for bad in (None, 3, "float", "a", jnp.float64, "i4", jnp.complex64)
            ]
            + [Try("float16", jnp.float16, WORK), Try("bfloat16", "bfloat16", WORK)],
        },
    }
    given = {
        "lstm": {"projection": 2},
        "lru": {"r_min": 0.1, "r_max": 0.9, "max_phase": 1.0},
        "layer_norm": {"cell": jaxrnn.gru()},
        "clipped": {"cell": jaxrnn.gru(), "threshold": 1.0},
        "mixed_precision": {"cell": jaxrnn.gru()},
    }
    for name, tries in rows.items():
        make = getattr(new, name)
        its = given.get(name, {})
        yield Site(name, make, its, tries, words)
        its = {} if name == "lstm" else its
        init = make(**its).init
        wanted = initial() if name in ("lstm", "lru") else {}
        wanted = wanted or {"key": [Try("None", None), Try("no key", 0)]}
        if name not in ("lstm", "lru"):
            wanted["hidden_size"] = positive(H)
            wanted["input_size"] = [Try("zero", 0), Try("no integer", 2.0)]
        yield Site(f"{name}().init", init, init_given(), wanted)
    # sizes first, as other libraries have it
    yield Site(
        "lstm",
        lambda size=None: jaxrnn.lstm() if size is None else jaxrnn.lstm(size),
        {},
        {"size": [Try("size first", 32)]},
        {"size": ("lstm",)},
        binds=False,
    )


def gates() -> Iterator[Site]:
    """custom_cell, and gate maps that return the wrong things."""
    case = lstm_case()
    plain = lambda own, z, r, s: type(s)(jnp.tanh(z + r))  # noqa: E731
    yield Site(
        "custom_cell",
        jaxrnn.custom_cell,
        {"gate": plain},
        {
            "gate": [Try("None", None), Try("str", "tanh"), Try("number", 3)],
            "gates": positive(1),
            "state": [Try("no class", bad) for bad in (None, 3, "State", dict, tuple)]
            + [Try("a state", case.state)],
            "independent": flag(False),
            "recurrent": choice("h", none=WORK),
            "x_ndim": [
                Try("wrong", bad)
                for bad in (1, (1,), (0, 1), (1, -1), [1, 0], "a", (1, 0.0), (1, True))
            ]
            + [Try("None", None, WORK), Try("pair", (1, 0), WORK)],
        },
    )
    pairs = jaxrnn.custom_cell(
        lambda own, z, r, s, dt: plain(own, z, r, s), x_ndim=(1, 0)
    )
    params, dt = pairs.init(jax.random.key(0), D, H), np.ones((T, B), "f4")
    xs = case.xs
    wrong = [xs, [xs, dt], (xs,), (xs, dt, dt), (xs, None), (xs, "a"), (dt, xs), {}]
    wrong += [(xs, dt[1:]), (xs, dt[:, :1]), (xs, masked(dt)), (masked(xs), dt)]
    wrong += [(xs[..., 1:], dt), (xs.astype("i4"), dt), None, ({"x": xs}, dt)]
    yield Site(
        "unroll(extra)",
        jaxrnn.unroll,
        {"cell": pairs, "params": params, "xs": (xs, dt)},
        {"xs": [Try("no pair of these", bad) for bad in wrong]},
        binds=False,
    )

    def run(gate):
        cell = jaxrnn.custom_cell(gate)
        return jaxrnn.unroll(cell, cell.init(jax.random.key(0), D, H), case.xs)

    returns = {
        "array": lambda own, z, r, s: jnp.tanh(z + r),
        "tuple": lambda own, z, r, s: (jnp.tanh(z + r),),
        "state and more": lambda own, z, r, s: (plain(own, z, r, s), z),
        "None": lambda own, z, r, s: None,
        "another state": lambda own, z, r, s: jaxrnn.LSTMState(z, r),
        "dtype": lambda own, z, r, s: type(s)(z.astype("f2")),
        "int": lambda own, z, r, s: type(s)((z + r).astype("i4")),
        "wide": lambda own, z, r, s: type(s)(jnp.concatenate([z, r], -1)),
        "narrow": lambda own, z, r, s: type(s)(z[..., :1]),
        "rank": lambda own, z, r, s: type(s)(z.sum(-1)),
        "str": lambda own, z, r, s: type(s)("h"),
    }
    tries = [Try(f"returns, {kind}", gate) for kind, gate in returns.items()]
    tries += [Try("arguments", lambda z, r, s: s)]
    yield Site("unroll(custom_cell)", run, {"gate": plain}, {"gate": tries}, {}, False)


def combined() -> Iterator[Site]:
    cell = jaxrnn.lstm()

    def stack(layers, **options):
        return jaxrnn.stack(*layers, **options)

    several = [t._replace(value=(cell, t.value)) for t in layer()]
    several += [Try("none at all", ())]
    yield Site(
        "stack",
        stack,
        {"layers": (cell, cell)},
        {
            "layers": [*several, Try("a list", ([cell, cell],), EITHER)],
            "skip": choice("residual", none=WORK),
            "dropout": rate(0.1),
        },
        binds=False,
    )
    yield Site(
        "bidirectional",
        jaxrnn.bidirectional,
        {"layer": cell},
        {
            "layer": layer(),
            "backward": list(layer(none=WORK))[:6],
            "merge": choice("concat", none=WORK),
        },
    )
    yield Site(
        "noisy",
        jaxrnn.noisy,
        {"cell": cell},
        {
            "cell": layer(cell_only=True),
            "inputs": rate(0.1),
            "state": rate(0.1),
            "weights": rate(0.1),
            "zoneout": [
                *(t for t in rate(0.1) if t.kind not in ("list", "array")),
                Try("out of range", (0.1, 2.0)),
                Try("str", (0.1, "a")),
                Try("None", (0.1, None)),
                Try("none at all", ()),
                Try("list", [0.1, 0.1], EITHER),
                Try("parts", (0.1, 0.1), WORK),
            ],
            "additive": [
                *(
                    Try("out of range", bad)
                    for bad in (-0.1, np.nan, np.inf, (0.1, -1))
                ),
                *(Try("no number", bad) for bad in ("a", None, (0.1, None), (), {})),
                *(Try("number", good, WORK) for good in (0, 2, 0.1, (0.1, 0.0))),
            ],
        },
    )
    start = {"layer": cell}
    yield Site("learned_start", jaxrnn.learned_start, start, {"layer": layer()})
    only = layers.backward_only
    yield Site("layers.backward_only", only, start, {"layer": layer()})
    for name, it in {
        "stack": jaxrnn.stack(cell, cell),
        "bidirectional": jaxrnn.bidirectional(cell),
        "noisy": jaxrnn.noisy(cell),
        "learned_start": jaxrnn.learned_start(cell),
    }.items():
        tries = initial()
        if name != "stack":
            tries = {a: list(tries[a])[::3] for a in tries}
        yield Site(f"{name}().init", it.init, init_given(), tries)
    it, case = jaxrnn.noisy(cell, inputs=0.5), lstm_case()
    like = jax.ShapeDtypeStruct(case.xs.shape, case.xs.dtype)
    reads_shape = ("rank", "ShapeDtypeStruct", "duck", "masked", "deleted", "float64")
    yield Site(
        "layers.draw_noise",
        layers.draw_noise,
        {"key": jax.random.key(0), "layer": it, "params": case.params, "xs": case.xs},
        {
            "key": key(),
            "layer": layer(),
            "params": list(params(case.params, brief=True))[:8],
            "xs": [
                Try("ShapeDtypeStruct", like, WORK, True),
                *(t for t in array(case.xs, free=(0, 1)) if t.kind not in reads_shape),
            ],
        },
    )


def nets() -> Iterator[Site]:
    """network and its functions, and readout."""
    case, cell = lstm_case(), jaxrnn.lstm()
    yield Site(
        "network",
        jaxrnn.network,
        {"cell": cell, "error": "squared"},
        {
            "cell": layer(),
            "error": [*choice("squared"), Try("function", optax.l2_loss, EITHER)],
            "output": [*choice("tanh", none=WORK), Try("relu", "relu")],
        },
    )
    twice = {"output": [Try("σ twice", "sigmoid")]}
    entropy = {"cell": cell, "error": "sigmoid_cross_entropy"}
    yield Site("network", jaxrnn.network, entropy, twice, binds=False)

    rng = np.random.default_rng(0)
    read = jaxrnn.ReadoutParams(
        rng.normal(size=(H, OUT)).astype("f4"), np.ones(OUT, "f4")
    )
    own = jaxrnn.NetworkParams(case.params, read)
    hs, ys = case.d_states.h, rng.normal(size=(T, B, OUT)).astype("f4")
    readout = [
        *record(read),
        *part(read, "w_y", array(read.w_y, free=(1,), wide=EITHER)),
        *part(read, "b_y", array(read.b_y, none=WORK, wide=EITHER)),
        *part(read, "b_y", [Try("size", np.ones(1, "f4"))]),
        *part(read, "b_y", [Try("rank", np.float32(1))]),
    ]
    yield Site(
        "readout",
        jaxrnn.readout,
        {"params": read, "hs": hs, "activation": "tanh"},
        {
            "params": readout,
            "hs": [t for t in array(hs, free=(0, 1)) if t.kind != "rank"],
            "activation": choice("tanh", none=WORK),
        },
        {"params": ("params", "w_y", "b_y"), "hs": ("hs", "params")},
    )

    net = jaxrnn.network(cell)
    tries = initial(("input_size", "hidden_size", "output_size"))
    yield Site("network().init", net.init, init_given(output_size=OUT), tries)

    of_net = [*record(own), Try("Params", case.params), Try("readout", read)]
    of_net += part(own, "cell", params(case.params, brief=True))
    shares = rng.uniform(0.5, 1, size=(T, B)).astype("f4")
    ones = np.ones((T, B), "f4")
    whole = ("int", "int64", "bool")  # weights may be counts, too
    for name in ("apply", "error", "gradients", "cotangents"):
        brief = name != "gradients"
        given = {"params": own, "xs": case.xs, "state": case.state} | marks()
        given |= {"chunk_size": 2, "reverse": False}
        tries = {
            "params": list(of_net) if name == "gradients" else list(of_net)[::3],
            "xs": array(case.xs, brief=True),
            "state": list(state(case.state, brief=True))[::2],
            "lengths": list(lengths(marks()["lengths"]))[::4],
            "resets": list(resets(marks()["resets"]))[::4],
            "chunk_size": list(positive(2, none=WORK))[:7],
            "reverse": list(flag(False))[:3],
        }
        in_readout = list(part(own, "readout", readout))
        if name == "apply":
            tries["gradient"] = choice("manual")
        else:
            given |= {"targets": ys, "weights": shares}
            tries["targets"] = array(ys, brief=brief, wide=EITHER)
            tries["weights"] = [
                *(
                    t._replace(expect=EITHER) if t.kind in whole else t
                    for t in array(shares, brief=brief, none=WORK, wide=WORK)
                ),
                Try("zeros", np.zeros_like(shares), WORK),
            ]
        tries["params"] += in_readout if name == "gradients" else in_readout[::2]
        yield Site(f"network().{name}", getattr(net, name), given, tries)
        if name == "apply":
            continue
        bare = {"params": own, "xs": case.xs, "targets": ys, "weights": ones}
        guises = [
            Try("bool", ones > 0, WORK, True),
            Try("float64", ones.astype("f8"), WORK, True),
            Try("int", ones.astype("i4"), EITHER, True),
        ]
        tries = {"weights": guises}
        yield Site(f"network().{name}", getattr(net, name), bare, tries, {}, False)
        del bare["weights"]
        soft = jaxrnn.network(cell, "softmax_cross_entropy")
        given = bare | {"targets": rng.integers(0, OUT, (T, B)).astype("i4")}
        tries = {"targets": labels(given["targets"], OUT)}
        yield Site(f"softmax.{name}", getattr(soft, name), given, tries, {}, False)
        sigm = jaxrnn.network(cell, "sigmoid_cross_entropy")
        share = rng.uniform(size=ys.shape).astype("f4")
        tries = [Try("outside 0..1", share * 0 + bad) for bad in (5, -3, np.inf)]
        tries = [*tries, Try("float64", share.astype("f8"), EITHER, True)]
        given = bare | {"targets": share}
        tries = {"targets": tries}
        yield Site(f"sigmoid.{name}", getattr(sigm, name), given, tries, {}, False)
    yield Site(
        "network().read",
        net.read,
        {"params": own, "hs": hs, "targets": ys, "weights": shares},
        {
            "params": [*list(of_net)[:8], *in_readout[::2]],
            "hs": array(hs, brief=True),
            "targets": array(ys, brief=True, wide=EITHER),
            "weights": [t for t in array(shares, none=WORK) if t.kind not in whole],
        },
        {"params": ("params", "w_y", "b_y"), "hs": ("hs", "params", "targets")},
    )


def flow() -> Iterator[Site]:
    """gradient_flow."""
    case, cell = lstm_case(), jaxrnn.lstm()
    module = gradient_flow
    given = {"cell": cell, "params": case.params, "xs": case.xs, "state": case.state}
    errors = {"cotangents": case.d_states.h, "final": case.d_final}
    more = {
        "step_jacobians": {},
        "jacobian_norms": {},
        "lyapunov_spectrum": {"count": 2, "warmup": 1, "order": "tangent"},
        "lag_norms": errors | {"lags": 2} | marks(),
        "truncation_bias": errors | {"lags": 2} | marks(),
        "first_nonfinite": errors | {"subnormal": False} | marks(),
        "vitals": errors | {"max_norm": 0.5} | marks(),
        "norm_preservation": errors,
    }
    for name, options in more.items():
        tries = {
            "cell": layer(
                cell_only=name == "norm_preservation",
                forward_only=name not in ("first_nonfinite", "norm_preservation"),
            ),
            "params": list(params(case.params, brief=True))[::2],
            "xs": array(
                case.xs, free=() if options.keys() & errors else (0,), brief=True
            ),
            "state": list(state(case.state, brief=True))[::2],
            "cotangents": [
                t
                for t in array(case.d_states.h, none=EITHER, brief=True)
                if t.kind != "NamedTuple" or "lags" in options
            ],
            "final": last(case.d_final)[::2],
            "lags": [*positive(2, none=WORK), Try("too many", T + 1)],
            "lengths": list(lengths(marks()["lengths"]))[::4],
            "resets": list(resets(marks()["resets"]))[::4],
            "subnormal": flag(False),
            "count": [*positive(2, none=WORK), Try("too many", 2 * H + 1)],
            "warmup": [*positive(1, zero=WORK), Try("too many", T)],
            "order": choice("tangent"),
            "max_norm": above_0(0.5, none=WORK),
        }
        tries = {a: t for a, t in tries.items() if a in given | options}
        # lags beyond lengths compile much: without marks most calls are quick
        name = f"gradient_flow.{name}"
        function = getattr(module, name.split(".")[1])
        yield Site(name, function, given | options, tries)
    yield from health()
    yield from numbers()


def health() -> Iterator[Site]:
    """gradient_flow.report."""
    case, cell = lstm_case(), jaxrnn.lstm()

    def run(**given):
        return asdict(gradient_flow.report(**given))

    given = {"params": case.params, "xs": case.xs, "state": case.state} | marks()
    errors = {"cotangents": case.d_states.h, "final": case.d_final}
    counts = {"lags": 2, "window": 2, "max_norm": 0.5}
    integers = [*positive(2, none=WORK), Try("too many", T + 1)]
    wrong = [Try("a network's", np.ones((T, B), "f4"))]
    yield Site(
        "gradient_flow.report",
        run,
        {"network": cell} | given | errors | counts,
        {
            "network": layer(),
            "params": list(params(case.params, brief=True))[::3],
            "xs": list(array(case.xs, brief=True))[::2],
            "state": list(state(case.state, brief=True))[::3],
            "cotangents": list(array(case.d_states.h, none=WORK, brief=True))[::2],
            "final": list(state(case.d_final, brief=True))[::3],
            "lengths": list(lengths(marks()["lengths"]))[::4],
            "resets": list(resets(marks()["resets"]))[::4],
            "lags": integers,
            "window": integers,
            "max_norm": above_0(0.5, none=WORK),
            "targets": wrong,
            "weights": wrong,
        },
        {"network": ("network", "cotangents")},
        binds=False,
    )
    net = jaxrnn.network(cell)
    read = jaxrnn.ReadoutParams(np.ones((H, OUT), "f4"), np.ones(OUT, "f4"))
    ys = np.ones((T, B, OUT), "f4")
    whole = jaxrnn.NetworkParams(case.params, read)
    of_net = {"network": net, "params": whole, "xs": case.xs, "targets": ys}
    yield Site(
        "gradient_flow.report(network)",
        run,
        of_net,
        {
            "params": [Try("Params", case.params), Try("None", None)],
            "targets": list(array(ys, brief=True))[::2],
            "weights": [Try("size", ys), Try("str", "all")],
            "cotangents": [Try("a layer's", case.d_states.h)],
        },
        binds=False,
    )


def numbers() -> Iterator[Site]:
    """The functions of gradient_flow that take only arrays."""
    module, rng = gradient_flow, np.random.default_rng(0)
    norms = 0.5 ** np.arange(8, dtype="f4")
    squares = rng.normal(size=(T, H, H)).astype("f4")

    def odd(tries):  # any floating dtype and any leading axes will do
        skipped = ("rank", "float16", "bfloat16", "float64", "key")
        return [t for t in tries if t.kind not in skipped]

    ranks = [Try("rank", np.float32(1))]
    tries = odd(array(norms, free=(0,))) + ranks
    skip = {"skip": [*positive(2, zero=WORK), Try("too many", 6)]}
    yield Site(
        "gradient_flow.decay_rate",
        module.decay_rate,
        {"norms": norms, "skip": 2},
        {"norms": tries} | skip,
    )
    tries = odd(array(norms, free=(0,))) + ranks
    yield Site(
        "gradient_flow.effective_horizon",
        module.effective_horizon,
        {"norms": norms, "share": 0.01},
        {"norms": tries, "share": number(0.01, bad=(0.0, 1.0, -1.0, 2.0))},
    )
    yield Site(
        "gradient_flow.jacobian_singular_values",
        module.jacobian_singular_values,
        {"jacobians": squares, "window": 2},
        {
            "jacobians": odd(array(squares, free=(0,))) + ranks,
            "window": [*positive(2), Try("too many", T + 1)],
        },
    )
    tries = odd(array(squares, free=(0,), brief=True)) + ranks
    tries = [t for t in tries if t.kind not in ("complex", "int")]
    yield Site(
        "gradient_flow.spectral_radius",
        module.spectral_radius,
        {"matrices": squares},
        {"matrices": tries},
    )
    tries = odd(array(squares[0], brief=True))
    tries = [t for t in tries if t.kind not in ("complex", "int")]
    yield Site(
        "gradient_flow.vanishing_conditions",
        module.vanishing_conditions,
        {"w_s": squares[0], "slope": 1.0},
        {"w_s": tries, "slope": above_0(1.0)},
    )
    tree = {"a": norms, "b": squares}
    of_tree = [Try("structure", {"a": norms}), Try("structure", [norms, squares])]
    of_tree += [t._replace(value=tree | {"a": t.value}) for t in array(norms)]
    alike = ("float16", "bfloat16", "float64", "number", "key", "int", "int64", "bool")
    of_tree = [t for t in of_tree if t.kind not in alike]
    yield Site(
        "gradient_flow.alignment",
        module.alignment,
        {"gradient": tree, "reference": tree},
        {"gradient": list(of_tree), "reference": list(of_tree)[::2]},
        {"gradient": ("gradient", "reference"), "reference": ("gradient", "reference")},
    )
    case, cell = lstm_case(), jaxrnn.lstm()
    given = {"cell": cell, "params": case.params, "x": case.xs[0, 0]}
    given |= {"states": case.state, "steps": 3}
    yield Site(
        "gradient_flow.fixed_points",
        module.fixed_points,
        given,
        {
            "cell": layer(forward_only=True),
            "params": params(case.params, brief=True),
            "x": array(case.xs[0, 0], brief=True),
            "states": state(case.state, none=REFUSE, brief=True),
            "steps": positive(3),
        },
    )
    points = module.FixedPoints(
        case.state, np.zeros(B, "f4"), np.ones((B, 2 * H), "c8")
    )
    yield Site(
        "gradient_flow.distinct",
        module.distinct,
        {"points": points, "speed": 1e-6, "apart": 1e-3},
        {
            "points": [Try("no points", bad) for bad in (None, 3, [], case.state)],
            "speed": number(1e-6, bad=(-1.0,), infinite=EITHER),
            "apart": number(1e-3, bad=(-1.0,), infinite=EITHER),
        },
    )


def learners() -> Iterator[Site]:
    """online."""
    elman = jaxrnn.elman()
    one = draw(elman, steps=T, batch=(B,), inputs=D, units=H, dtype="f4")
    cell_only = {"cell": layer(cell_only=True)}
    mixing = Try("mixes units", jaxrnn.mgu())
    yield Site(
        "online.rtrl",
        online.rtrl,
        {"cell": elman, "gradient": "manual"},
        {"cell": layer(forward_only=True), "gradient": choice("manual")},
    )
    yield Site(
        "online.truncated",
        online.truncated,
        {"cell": elman, "k1": 1, "k2": 2},
        {
            "cell": layer(forward_only=True),
            "k1": [*positive(1), Try("k1 > k2", 3)],
            "k2": positive(2),
        },
        {"k1": ("k1", "k2")},
    )
    yield Site(
        "online.uoro",
        online.uoro,
        {"key": jax.random.key(0), "cell": elman},
        {"key": list(key())[:-3], "cell": layer(forward_only=True)},
    )
    for name in ("snap1", "eprop"):
        tries = {"cell": [*cell_only["cell"], mixing]}
        yield Site(f"online.{name}", getattr(online, name), {"cell": elman}, tries)
        cell_only = {"cell": layer(cell_only=True)}
    yield Site(
        "online.rflo",
        online.rflo,
        {"cell": elman, "decay": 0.5},
        {**cell_only, "decay": rate(0.5)},
    )
    methods = {
        "rtrl": online.rtrl(elman),
        "truncated": online.truncated(elman, 1, 2),
        "snap1": online.snap1(elman),
        "eprop": online.eprop(elman),
        "rflo": online.rflo(elman, 0.5),
        "uoro": online.uoro(jax.random.key(0), elman),
    }
    for name, method in methods.items():
        few = name != "rtrl"
        d_hs = one.d_states.h
        tries = {
            "cotangents": [
                *array(d_hs, brief=True),
                Try("width", np.concatenate([d_hs, d_hs], -1)),
                Try("width", d_hs[..., :1]),
            ],
            "params": list(params(one.params, brief=True))[:: 4 if few else 1],
            "xs": list(array(one.xs, brief=True))[:: 4 if few else 1],
            "state": list(state(one.state, none=REFUSE, brief=True))[
                :: 4 if few else 1
            ],
            "method": []
            if few
            else [Try("no method", bad) for bad in (None, "rtrl", online.rtrl, elman)],
        }
        given = {"method": method, "params": one.params, "xs": one.xs}
        given |= {"state": one.state, "cotangents": d_hs}
        yield Site(f"online.gradient({name})", online.gradient, given, tries)
    memory = methods["rtrl"].init(one.params, one.state)
    yield Site(
        "online.rtrl().update",
        methods["rtrl"].update,
        {
            "params": one.params,
            "memory": memory,
            "x": one.xs[0],
            "cotangent": lambda h: h,
        },
        {
            "x": array(one.xs[0], brief=True),
            "memory": [Try("no memory", bad) for bad in (None, 3, one.state, (1, 2))],
            "cotangent": [
                Try("no function", None),
                Try("no function", one.d_states.h[0]),
                Try("returns size", lambda h: h[..., :1]),
                Try("returns None", lambda h: None),
                Try("returns dtype", lambda h: h.astype("i4")),
            ],
        },
        {"cotangent": ("cotangent", "cotangents")},
    )
    yield Site(
        "online.rtrl().init",
        methods["rtrl"].init,
        {"params": one.params, "state": one.state},
        {
            "params": list(params(one.params, brief=True))[::3],
            "state": [  # any batch axes will do
                t
                for t in list(state(one.state, none=REFUSE, brief=True))[::2]
                if t.kind != "rank"
            ],
        },
    )

    yield from networks_online()


def networks_online() -> Iterator[Site]:
    """online.learner."""
    net = jaxrnn.network(jaxrnn.elman())
    case = draw(jaxrnn.elman(), steps=T, batch=(B,), inputs=D, units=H, dtype="f4")
    rng = np.random.default_rng(0)
    read = jaxrnn.ReadoutParams(rng.normal(size=(H, OUT)).astype("f4"))
    own, x = jaxrnn.NetworkParams(case.params, read), case.xs[0]
    yield Site(
        "online.learner",
        online.learner,
        {"network": net, "method": online.rtrl},
        {
            "network": [Try("no network", bad) for bad in (None, 3, net.cell, "lstm")],
            "method": [
                Try("no method", bad)
                for bad in (None, "rtrl", online.rtrl(net.cell), lambda cell: cell)
            ],
        },
    )
    learner = online.learner(net, partial(online.truncated, k1=1, k2=2))
    of_net = [*record(own), Try("Params", case.params), Try("readout", read)]
    yield Site(
        "online.learner().init",
        learner.init,
        {"params": own, "x": x, "state": case.state},
        {
            "params": of_net,
            "x": array(x, none=EITHER, brief=True),
            "state": list(state(case.state, none=WORK, brief=True))[::2],
        },
    )
    target, weights = case.xs[1, :, [0, 0, 0]].T, np.ones(B, "f4")
    done = np.arange(B) == 0
    memory = learner.init(own, x)
    bad_memory = (None, 3, case.state, (1, 2), memory._replace(count=memory.state))
    given = {"params": own, "memory": memory, "x": x, "target": target}
    yield Site(
        "online.learner().update",
        learner.update,
        given | {"weights": weights, "reset": done, "mask": ~done},
        {
            "params": of_net,
            "memory": [Try("no memory", bad) for bad in bad_memory],
            "x": array(x, brief=True),
            "target": array(target, brief=True, wide=EITHER),
            "weights": [
                t
                for t in array(weights, none=WORK, brief=True)
                if t.kind not in ("int", "bool")
            ],
            "reset": [t for t in resets(done) if t.kind != "batch first"],
            "mask": list(resets(~done))[::2],
        },
        {"target": ("target", "targets"), "memory": ("memory", "state")},
    )


def optimisers() -> Iterator[Site]:
    """optim."""
    tree = {"a": np.ones((2, 3), "f4"), "b": np.ones(3, "f4")}
    no_optimiser = [
        Try("no optimiser", bad)
        for bad in (None, 0.1, "adam", optax.adam, [optax.sgd(1.0)], (1, 2))
    ]
    yield Site(
        "optim.clip_by_global_norm",
        optim.clip_by_global_norm,
        {"threshold": 1.0},
        {"threshold": above_0(1.0, infinite=EITHER)},
    )
    yield Site(
        "optim.accumulate",
        optim.accumulate,
        {"optimizer": optax.sgd(1.0), "steps": 2},
        {"optimizer": no_optimiser, "steps": positive(2), "skip_nonfinite": flag(True)},
    )
    yield Site(
        "optim.recurrent",
        optim.recurrent,
        {"optimizer": optax.sgd(1.0), "accumulate": 2, "clip_norm": 1.0},
        {
            "optimizer": no_optimiser,
            "accumulate": positive(2),
            "clip_norm": above_0(1.0, none=WORK, infinite=EITHER),
            "skip_nonfinite": flag(True),
        },
    )
    odd = [
        t._replace(value=tree | {"a": t.value})
        for t in array(tree["a"], brief=True)
        if t.kind not in ("float16", "float64", "None")
    ]
    odd += [Try("structure", {"a": tree["a"]}), Try("structure", [1, 2])]
    odd += [Try("structure", tree | {"c": tree["a"]}), Try("None", None)]
    odd += [
        Try("str", "gradients"),
        Try("array", tree["a"]),
        Try("deleted", deleted(tree)),
    ]
    o = optim.recurrent(optax.sgd(1.0), clip_norm=1.0)
    given = {"updates": tree, "state": o.init(tree), "params": tree}
    weights = [Try("bad weight", bad) for bad in (-1.0, "1", None, [1.0], 1j, {})]
    weights += [Try("bad weight", np.ones(2, "f4")), Try("NaN", np.nan, EITHER)]
    weights += [Try("np.float64", np.float64(1), WORK, True), Try("int", 1, WORK, True)]
    flushes = [Try("no flag", bad) for bad in (2, "yes", None, [], np.ones(2, bool))]
    flushes += [Try("jax", jnp.asarray(True), WORK), Try("np.bool", np.True_, WORK)]
    flushes += [Try("integer", 1, EITHER)]
    states = [Try("no state", bad) for bad in (None, 3, (), optax.adam(1.0).init(tree))]
    yield Site(
        "optim.recurrent().update",
        o.update,
        given,
        {"updates": odd, "state": states, "weight": weights, "flush": flushes},
        {"updates": ("updates", "gradients"), "state": ("state", "opt_state")},
        binds=False,  # what it does not know goes to the inner optimiser
    )
    clip = optim.clip_by_global_norm(1.0)
    any_tree = ("structure", "array", "rank", "size", "NamedTuple", "None")
    yield Site(
        "optim.clip_by_global_norm().update",
        clip.update,
        {"updates": tree, "state": clip.init(tree)},
        {"updates": [t for t in odd if t.kind not in any_tree], "state": states},
        {"updates": ("updates", "gradients"), "state": ("state", "opt_state")},
    )
    waits = optim.accumulate(optax.sgd(1.0), 3)
    plain = optax.sgd(1.0)
    yield Site(
        "optim.flush",
        optim.flush,
        {"optimizer": waits, "state": waits.init(tree), "params": tree},
        {
            "optimizer": [*no_optimiser, Try("does not accumulate", plain)],
            "state": [*states, Try("of optax", plain.init(tree))],
            "params": [Try("None", None), Try("structure", {"a": tree["a"]})],
        },
        {"optimizer": ("optimizer", "state")},
    )
    yield Site(
        "optim.global_norm",
        optim.global_norm,
        {"tree": tree},
        {"tree": [t for t in odd if t.kind not in any_tree]},
        {"tree": ("tree", "updates", "gradients", "leaves")},
    )


def steps() -> Iterator[Site]:
    """training."""
    case, cell = lstm_case(), jaxrnn.lstm()
    optimizer = optax.sgd(0.1)
    Out = training.Outcome

    def loss(params, state, batch, *_):
        hs, final = jaxrnn.unroll(cell, params, batch, state)
        return (hs**2).mean(), Out(final)

    no_optimiser = [
        Try("no optimiser", bad) for bad in (None, 0.1, "adam", optax.adam, (1, 2))
    ]
    yield Site(
        "training.init_train_state",
        training.init_train_state,
        {"params": case.params, "optimizer": optimizer, "state": case.state},
        {
            "params": [
                Try("str", "params"),
                Try("function", np.tanh),
                Try("masked", jax.tree.map(masked, case.params)),
                Try("deleted", deleted(case.params)),
            ],
            "optimizer": no_optimiser,
            "state": [
                Try("str", "zeros"),
                Try("object", object()),
                Try("deleted", deleted(case.state)),
            ],
        },
    )
    mesh = jax.make_mesh((2,), ("rows",), devices=jax.devices()[:2])
    square = jax.make_mesh((1, 2), ("a", "b"), devices=jax.devices()[:2])

    def one(loss, optimizer=optimizer, **options):
        """The first step, with a state that donation cannot reach."""
        given = options.pop("train_state", None)
        batch = options.pop("batch", case.xs)
        flush = {"flush": options.pop("flush")} if "flush" in options else {}
        step = training.train_step(loss, optimizer, **options)
        if given is None:
            given = training.init_train_state(case.params, optax.sgd(0.1), case.state)
        return step(given, batch, **flush)

    returns = {
        "error alone": lambda p, s, x, *_: loss(p, s, x)[0],
        "None": lambda p, s, x, *_: None,
        "a pair": lambda p, s, x, *_: (loss(p, s, x)[0], 3),
        "an array": lambda p, s, x, *_: (jaxrnn.unroll(cell, p, x)[0], Out(s)),
        "integers": lambda p, s, x, *_: (jnp.int32(3), Out(s)),
        "weight of a row": lambda p, s, x, *_: (loss(p, s, x)[0], Out(s, jnp.ones(2))),
        "weight str": lambda p, s, x, *_: (loss(p, s, x)[0], Out(s, "1")),
        "weight None": lambda p, s, x, *_: (loss(p, s, x)[0], Out(s, None)),
        "weight negative": lambda p, s, x, *_: (loss(p, s, x)[0], Out(s, -1.0)),
        "no state": lambda p, s, x, *_: (loss(p, s, x)[0], Out()),
        "another state": lambda p, s, x, *_: (loss(p, s, x)[0], Out(s.h)),
    }
    losses = [Try("no function", bad) for bad in (None, 3, "mse")]
    losses += [
        Try(f"returns, {kind}", bad, EITHER if "state" in kind else REFUSE)
        for kind, bad in returns.items()
    ]
    losses += [Try("arguments", lambda p: 0.0)]
    train = training.init_train_state(case.params, optimizer, case.state)
    other = training.init_train_state(case.params, optax.adam(0.1), case.state)
    states = [Try("no train state", bad) for bad in (3, "s", (), {}, case.params)]
    states += [
        Try("another optimiser's", other, EITHER),
        Try("deleted", deleted(train)),
    ]
    states += [
        Try("tuple", tuple(train), EITHER),
        Try("part", train._replace(step="a")),
    ]
    states += [
        Try("part", train._replace(params=None)),
        Try("part", train._replace(state=None), EITHER),
    ]
    odd = [Try("deleted", deleted(case.xs)), Try("str", "xs"), Try("function", np.tanh)]
    odd += [Try("masked", masked(case.xs)), Try("objects", case.xs.astype(object))]
    odd += [Try("float64", case.xs.astype("f8"), WORK, True)]
    odd += [Try("big-endian", case.xs.astype(">f4"), EITHER, True)]
    words = {
        "batch": ("batch", "xs"),
        "loss": ("loss", "weight", "state", "Outcome", "error"),
        "train_state": ("train_state", "state", "opt_state", "params", "step"),
    }
    yield Site(
        "training.train_step",
        one,
        {"loss": loss},
        {
            "loss": losses,
            "optimizer": no_optimiser,
            "mesh": [Try("two axes", square)]
            + [Try("no mesh", bad) for bad in (2, "rows", [0, 1], jax.devices())],
            "train_state": states,
            "batch": odd,
            "flush": [Try("no flag", bad) for bad in ("yes", None, [], 2)]
            + [Try("does not accumulate", True)],
            "reduce": choice("mean"),
            "seed": [Try("no seed", bad) for bad in (1.5, "a", [0], True)],
        },
        words,
        binds=False,
    )
    meshed = {"loss": loss, "mesh": mesh}
    spec = jax.sharding.PartitionSpec
    yield Site(
        "training.train_step(mesh)",
        one,
        meshed,
        {
            "batch": [Try("does not divide", case.xs[:, :1])],
            "batch_spec": [Try("no spec", bad) for bad in ("rows", 3, [None, "rows"])]
            + [Try("unknown axis", spec(None, "columns"))],
        },
        words | {"batch_spec": ("batch_spec", "batch")},
        binds=False,
    )


def checks() -> Iterator[Site]:
    """check_gradients."""
    params, x = {"w": np.ones(2, "f4")}, np.ones(2, "f4")

    def f(params, x, gradient="manual"):
        return (params["w"] ** 2 * x).sum()

    returns = {
        "a vector": lambda p, x, gradient: p["w"] * x,
        "NaN": lambda p, x, gradient: (p["w"] * jnp.nan).sum(),
        "a constant": lambda p, x, gradient: x.sum(),
        "None": lambda p, x, gradient: None,
        "str": lambda p, x, gradient: "E",
        "complex": lambda p, x, gradient: (p["w"] * 1j).sum(),
        "a pair": lambda p, x, gradient: (p["w"].sum(), 1),
    }

    def run(f_or_network, params, batch=(x,), **options):
        return jaxrnn.check_gradients(f_or_network, params, *batch, **options)

    case, cell = lstm_case(), jaxrnn.lstm()
    bad = (None, 3, "net", cell, case.params)
    tries = [Try("no function", value) for value in bad]
    tries += [Try(f"returns, {kind}", value) for kind, value in returns.items()]
    tries += [Try("arguments", lambda p: p["w"].sum())]
    tries += [Try("no gradient=", lambda p, x: (p["w"] ** 2 * x).sum(), WORK)]
    dtypes = ("int32", "flaot32", 3, [], complex)
    own = {"w": 2 * x}
    yield Site(
        "check_gradients",
        run,
        {"f_or_network": f, "params": params},
        {
            "f_or_network": tries,
            "params": [
                Try("None", None),
                Try("str", "w"),
                Try("none at all", {}),
                Try("int", {"w": np.ones(2, "i4")}),
                Try("masked", {"w": masked(x)}),
                Try("deleted", deleted(params)),
                Try("complex", {"w": x + 1j}),
            ],
            "batch": [Try("none at all", ()), Try("too many", (x, x))],
            "against": [
                *(Try("no list", bad) for bad in (3, [3], ["revers"], "revers", ())),
                Try("some", ["reverse"], WORK),
            ],
            "dtype": [Try("no dtype", value) for value in dtypes]
            + [Try("float32", "float32", WORK), Try("np.float64", np.float64, WORK)]
            + [Try("float16", "float16", WORK), Try("bfloat16", jnp.bfloat16, WORK)],
            "gradient": [Try("no function", bad) for bad in ("manual", 3, own)]
            + [Try("gives", lambda p, x, bad=bad: bad) for bad in (None, 3, x, {})]
            + [Try("size", lambda p, x: {"w": x[:1]})]
            + [Try("int", lambda p, x: {"w": np.ones(2, "i4")})]
            + [Try("right", lambda p, x: {"w": 2 * p["w"] * x}, WORK)],
            "tolerance": [Try("none", bad) for bad in (-1, "a", math.nan, True)]
            + [Try("shown", math.inf, WORK), Try("some", 0.1, WORK)],
            "seed": [Try("no seed", value) for value in (-1, 1.5, "a", [0], None)],
        },
        {"f_or_network": ("f_or_network", "E", "gradient"), "batch": ("f_or_network",)},
        binds=False,
    )
    net = jaxrnn.network(cell)
    read = jaxrnn.ReadoutParams(np.ones((H, OUT), "f4"), np.ones(OUT, "f4"))
    whole = jaxrnn.NetworkParams(case.params, read)
    ys = np.ones((T, B, OUT), "f4")
    yield Site(
        "check_gradients(network)",
        lambda params, batch: jaxrnn.check_gradients(net, params, *batch),
        {"params": whole, "batch": (case.xs, ys)},
        {
            "params": [Try("Params", case.params), Try("None", None), Try("number", 3)],
            "batch": [
                Try("no targets", (case.xs,)),
                Try("size", (case.xs[..., :1], ys)),
                Try("size", (case.xs, ys[..., :1])),
                Try("str", (case.xs, "ys")),
                Try("None", (None, ys)),
            ],
        },
        {"batch": ("xs", "targets", "params")},
        binds=False,
    )


def guises(good, *, brief=True) -> Iterator[Try]:
    """Values to try for one array of another library."""
    good = np.asarray(good)
    kinds = ("float16", "float64", "key", "NaN", "inf", "bfloat16", "number")
    for t in array(good, brief=brief, wide=EITHER):
        if t.kind not in kinds:
            yield t
    yield Try("claims 128 TiB", claims(good))


def weights_in(tree) -> Iterator[Try]:
    """Values to try for a dict or list of arrays: a wrong leaf, or a wrong tree."""
    for bad in (None, 3, "weights", object(), np.ones(3, "f4")):
        yield Try("no tree", bad)
    yield Try("deleted", deleted(tree))
    leaves, structure = jax.tree.flatten(tree)
    for i in (0, 1):
        for t in guises(leaves[i]):
            if t.kind == "size" and t.value.shape[1:] == leaves[i].shape[1:]:
                continue  # the rows of W_x are free
            new = [*leaves[:i], t.value, *leaves[i + 1 :]]
            expect = EITHER if t.kind == "None" else t.expect  # as if left out
            yield t._replace(value=structure.unflatten(new), expect=expect)
    if isinstance(tree, list):
        yield Try("missing", tree[1:])
        yield Try("too many", [*tree, tree[0]])
    else:
        first = next(iter(tree))
        yield Try("missing", {k: v for k, v in tree.items() if k != first})
        yield Try("too many", tree | {"more": leaves[0]})
        yield Try("keys", {f"{k}_": v for k, v in tree.items()})
        yield Try("keys", dict(enumerate(tree.values())))
        yield Try("list", list(tree.values()))


def conversions() -> Iterator[Site]:
    """convert, with NumPy arrays only."""
    case = lstm_case()
    own = case.params._replace(b_s=None)
    both = own._replace(b_s=own.b)
    kind = [*choice("lstm"), Try("another kind", "gru"), Try("another kind", "elman")]
    act = [
        Try("activation of an lstm", "relu"),
        Try("misspelt", "thn"),
        Try("number", 3),
    ]
    makes = {
        "torch": (convert.to_torch, convert.from_torch, "source"),
        "keras": (convert.to_keras, convert.from_keras, "weights"),
        "flax": (convert.to_flax, convert.from_flax, "params"),
        "nnx": (convert.to_nnx, convert.from_nnx, "params"),
        "haiku": (convert.to_haiku, convert.from_haiku, "params"),
    }
    for name, (give, take, argument) in makes.items():
        there = jax.tree.map(np.asarray, give(own, "lstm"))
        tries = {argument: weights_in(there), "kind": kind[name == "torch" :]}
        if name != "haiku":
            tries["activation"] = act[name == "keras" :]
        if name == "torch":
            tries["prefix"] = [Try("no prefix", bad) for bad in (None, 3, "rnn.", b"a")]
        if name == "keras":
            tries["recurrent_activation"] = act[1:]
            tries["reset_after"] = [Try("no flag", bad) for bad in (0, None, "yes")]
            tries["bidirectional"] = flag(False)
        given = {argument: there, "kind": "lstm"}
        # arrays are named as that library names them
        known = (
            tuple(map(str, jax.tree.leaves(list(there))))
            if argument != "weights"
            else ()
        )
        words = {argument: (argument, "weights", *known), "kind": (argument, *known)}
        words["kind"] += ("kind",)
        yield Site(f"convert.from_{name}", take, given, tries, words)
        yield Site(
            f"convert.to_{name}",
            give,
            {"params": own, "kind": "lstm"},
            {"params": exported(own), "kind": list(kind)},
            {"kind": ("kind", "params")},
        )
    yield from equinox(both, list(kind))
    yield from onnx(both, list(kind))


def exported(own) -> Iterator[Try]:
    """Values to try for the parameters of a `to_X`."""
    for t in record(own):
        yield t
    yield Try("no rows", own._replace(w_x=own.w_x[:0]))
    for name in ("w_x", "w_s", "b"):
        good = getattr(own, name)
        for t in guises(good):
            if name == "b" and t.kind == "None":
                continue
            if name == "w_x" and t.kind == "size" and t.value.shape[1] == good.shape[1]:
                continue
            yield from part(own, name, [t])
    yield from part(own, "own", [Try("own", own.b)])
    yield Try("two of them", (own, own), EITHER)
    yield Try("none at all", ())


def equinox(own, kind) -> Iterator[Site]:
    there = convert.to_equinox(own, "lstm")
    there = {k: v for k, v in there.items() if v is not None}
    tries = {n: list(guises(v)) for n, v in there.items()}
    tries["bias"] = [t for t in tries["bias"] if t.kind != "None"]
    tries["weight_ih"] = [
        t for t in tries["weight_ih"] if t.kind != "size" or t.value.shape[1] == D
    ]
    tries |= {"kind": kind, "bias_n": [Try("a GRU's", np.ones(H, "f4"))]}
    words = {n: (n, "weight_ih", "weight_hh", "bias") for n in there}
    words["kind"] = ("weight_ih", "weight_hh", "bias", "bias_n")
    given = there | {"kind": "lstm"}
    yield Site("convert.from_equinox", convert.from_equinox, given, tries, words)
    tries = {"params": exported(own), "kind": kind}
    words = {"kind": ("params",)}
    given = {"params": own, "kind": "lstm"}
    yield Site("convert.to_equinox", convert.to_equinox, given, tries, words)


def onnx(own, kind) -> Iterator[Site]:
    w, r, b = convert.to_onnx(own, kind="lstm")
    given = {"w": w, "r": r, "b": b, "p": np.ones((1, 3 * H), "f4"), "kind": "lstm"}
    given |= {"hidden_size": H}
    acts = [Try("no names", bad) for bad in ("Tanh", 3, ["Tanh"], [], [1, 2, 3])]
    acts += [Try("misspelt", ["Sigmoid", "Tanh", "tonh"])]
    acts += [Try("no names", ["Sigmoid", None, "Tanh"])]
    acts += [Try("lower case", ["sigmoid", "tanh", "tanh"], WORK)]
    alphas = [Try("no numbers", bad) for bad in (3.0, "a", ["a"], [np.nan], [None])]
    alphas += [Try("too many", [0.1, 0.2, 0.3, 0.4])]
    tries = {name: list(guises(given[name])) for name in "wr"}
    tries |= {name: list(guises(given[name]))[1:] for name in "bp"}
    tries["w"] = [t for t in tries["w"] if t.kind != "size" or t.value.shape[-1] == D]
    tries |= {
        "kind": kind,
        "hidden_size": [*positive(H), Try("other size", H + 1)],
        "direction": choice("forward"),
        "activations": acts,
        "activation_alpha": alphas,
        "activation_beta": list(alphas),
        "linear_before_reset": [
            Try("no 0 or 1", bad) for bad in (2, "1", True, None, 1)
        ],
        "input_forget": [Try("no 0 or 1", bad) for bad in (2, "1", True, None)],
        "clip": above_0(1.0, none=WORK, infinite=EITHER),
    }
    words = {name: (name, "w", "r", "b", "p") for name in ("kind", "direction")}
    words["hidden_size"] = ("hidden_size", "w", "r")
    words |= {n: ("activations", n) for n in ("activation_alpha", "activation_beta")}
    yield Site("convert.from_onnx", convert.from_onnx, given, tries, words)
    tries = {"params": exported(own), "kind": kind}
    words = {"kind": ("params",)}
    given = {"params": own, "kind": "lstm"}
    yield Site("convert.to_onnx", convert.to_onnx, given, tries, words)


def functions(good, *, none=REFUSE) -> Iterator[Try]:
    """Of an option that is a function."""
    yield Try("None", None, none)
    for bad in (3, "f", 1.5, b"f", True):
        yield Try("no function", bad)
    yield Try("partial", partial(good), WORK)


def any_step() -> Iterator[Site]:
    """Transitions, scans and what else runs on functions of the caller's own."""
    rng = np.random.default_rng(0)
    own = {"w": rng.standard_normal((H, H)).astype("f4")}
    xs, h = (rng.standard_normal(s).astype("f4") for s in ((T, B, H), (B, H)))

    def step(p, s, x):
        s = jnp.tanh(s @ p["w"] + x)
        return s, s

    def start(p):
        return jnp.zeros(H, p["w"].dtype)

    def init(key, inputs, units):
        return {"w": jax.random.normal(key, (inputs, units))}

    ranks = [Try("no rank", bad) for bad in (-1, 1.0, "1", None, (1, -1), True, [1])]
    yield Site(
        "transition",
        jaxrnn.transition,
        {"step": step, "initial_state": start},
        {
            "step": functions(step),
            "initial_state": functions(start),
            "init": functions(init, none=WORK),
            "output_size": functions(len, none=WORK),
            "x_ndim": [*ranks, Try("ranks", (1, 0), WORK), Try("zero", 0, WORK)],
        },
    )
    made = jaxrnn.transition(step, initial_state=start)
    other = [t for t in array(h, brief=True) if t.kind not in ("rank", "None")]
    yield Site(
        "unroll(transition)",
        lambda xs, state: jaxrnn.unroll(made, own, xs, state),
        {"xs": xs, "state": h},
        {
            "xs": [
                t
                for t in array(xs, free=(0,), brief=True)
                if t.kind not in ("rank", "size", "int", "complex", "float16", "key")
                and t.kind not in ("dict", "NamedTuple")
            ],
            "state": other,
        },
        {"state": ("state", "step"), "xs": ("xs", "state")},
        binds=False,
    )
    nones = [Try("None", None, REFUSE)]
    yield Site(
        "scan",
        jaxrnn.scan,
        {"f": step, "params": own, "state": h, "xs": xs},
        {
            "f": functions(step),
            "xs": nones + [t for t in array(xs, brief=True) if t.kind == "deleted"],
            "length": positive(T, none=WORK),
            "reverse": flag(True),
            "checkpoint": flag(True),
        },
        {"xs": ("xs", "length")},
    )
    cell = jaxrnn.elman()
    drawn = draw(cell, units=H, inputs=H, dtype="f4").params
    yield Site(
        "generate",
        jaxrnn.generate,
        {"cell": cell, "params": drawn, "x": h, "feed": lambda p, h, key: h}
        | {"length": T, "key": None},
        {
            "cell": layer(forward_only=True),
            "x": [t for t in array(h, free=(0,), brief=True) if t.kind != "rank"],
            "feed": functions(lambda p, h, key: h),
            "length": positive(T),
            "key": key(none=WORK),
            "layer_params": functions(lambda p: p, none=WORK),
            "checkpoint": flag(True),
        },
    )
    yield Site(
        "constrained",
        jaxrnn.constrained,
        {"layer": cell, "constrain": lambda p: p},
        {
            "layer": layer(),
            "constrain": functions(lambda p: p),
            "raw": functions(lambda p: p, none=WORK),
        },
    )
    yield Site(
        "dense", jaxrnn.dense, {"activation": "relu"}, {"activation": choice("relu")}
    )
    it = jaxrnn.dense()
    yield Site("dense().init", it.init, init_given(), initial())


GROUPS = (runs, edges, folded, nested, factories, gates, combined, nets, flow)
GROUPS += (learners, optimisers, steps, checks, conversions, any_step)


def sites(only: str = "") -> list[Site]:
    return [s for group in GROUPS for s in group() if only in s.name]


def calls(only: str = "") -> Iterator[Call]:
    """Every call of the table."""
    for site in sites(only):
        yield Call(site, "", "as it is", WORK, False, {})
        for argument, tries in site.tries.items():
            for t in tries:
                changed = {argument: t.value}
                yield Call(site, argument, t.kind, t.expect, t.same, changed)
        if site.binds:
            first = needed(site.function)
            yield Call(site, "optoin", "no such option", REFUSE, False, {"optoin": 1})
            if first:
                yield Call(site, first, "left out", REFUSE, False, {first: LEFT_OUT})


def needed(function: Callable) -> str | None:
    """The first required argument."""
    parameters = inspect.signature(function).parameters.values()
    plain = (p for p in parameters if p.kind is not p.VAR_POSITIONAL)
    return next((p.name for p in plain if p.default is p.empty), None)


# The judgement -----------------------------------------------------------------------

BINDING = re.compile(
    r"unexpected keyword argument|missing \d+ required|missing a required argument"
    r"|takes \d.* positional argument|too many positional arguments"
)
FOREIGN = re.compile(
    r"\[Chex\]|PyTreeDef|Tracer|ShapedArray|has no attribute|not supported between"
    r"|unhashable|NoneType' object|custom_vjp|\w+\(\) takes"
)


def frames(error: BaseException) -> list[traceback.FrameSummary]:
    return list(traceback.extract_tb(error.__traceback__))


def ours(frame: traceback.FrameSummary) -> bool:
    return PACKAGE in Path(frame.filename).parents


def is_clear(call: Call, error: Exception) -> bool:
    """Whether the library itself raised the error and it names the argument."""
    said = str(error)
    if type(error) not in (ValueError, TypeError):
        return type(error).__module__.startswith("jaxrnn")
    if BINDING.search(said):  # of the very call, or of a function that was given
        return call.kind in ("no such option", "left out", "size first", "arguments")
    if not ours(frames(error)[-1]) or FOREIGN.search(said) or len(said) > 500:
        return False
    words = {call.argument, *(call.site.words or {}).get(call.argument, ())}
    if call.kind in ("size", "rank", "of another cell", "rows"):
        words |= set(call.site.given)  # two disagree: either may be named
    named = any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", said) for word in words)
    return named and bool(re.search(r"expected|got|takes|go to|donated|deleted", said))


def numbers_of(value: Any) -> list[np.ndarray]:
    kinds = int | float | complex | np.ndarray | jax.Array
    leaves = [a for a in jax.tree.leaves(value) if isinstance(a, kinds | np.generic)]
    keys = [
        a for a in leaves if jnp.issubdtype(jnp.result_type(a), jax.dtypes.extended)
    ]
    return [np.asarray(a) for a in leaves if not any(a is key for key in keys)]


def equal(a: Any, b: Any) -> bool:
    a, b = numbers_of(a), numbers_of(b)
    return len(a) == len(b) and all(
        x.shape == y.shape and np.allclose(x, y, 1e-4, 1e-5, equal_nan=True)
        for x, y in zip(a, b, strict=True)
    )


class Judge:
    """Runs calls and compares them with each site's own result."""

    def __init__(self):
        self.wanted = {}

    def run(self, call: Call) -> Any:
        given = call.site.given | call.changed
        given = {name: v for name, v in given.items() if v is not LEFT_OUT}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return jax.block_until_ready(call.site.function(**given))

    def reference(self, call: Call) -> Any:
        key = id(call.site)
        if key not in self.wanted:
            whole = Call(call.site, "", "as it is", WORK, False, {})
            self.wanted[key] = call.site, self.run(whole)
        return self.wanted[key][1]

    def __call__(self, call: Call) -> Outcome:
        try:
            if call.same:
                wanted = self.reference(call)
            value = self.run(call)
            wrong = call.same and not equal(value, wanted)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            at = [f for f in frames(error) if ours(f)]
            where = Path(at[-1].filename).relative_to(PACKAGE.parent) if at else "-"
            where = f"{where}:{at[-1].lineno} {at[-1].name}" if at else "not in jaxrnn"
            clear = "clear" if is_clear(call, error) else "obscure"
            verdict = "refused" if call.expect == WORK else clear
            return Outcome(call, verdict, said, where)
        if call.expect == REFUSE or wrong:
            return Outcome(call, "silent", "another number" if wrong else "returned")
        return Outcome(call, "fine")


@contextmanager
def as_users_run():
    """JAX's default promotion; full tracebacks, to see who raised; fast compilation."""
    settings = {
        "jax_numpy_dtype_promotion": "standard",
        "jax_numpy_rank_promotion": "allow",
        "jax_traceback_filtering": "off",
        "jax_disable_most_optimizations": True,
    }
    before = {name: jax.config.values[name] for name in settings}
    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def judged(table: Iterable[Call]) -> list[Outcome]:
    with as_users_run():
        judge = Judge()
        return [judge(call) for call in table]


VERDICTS = ("clear", "obscure", "silent", "fine", "refused")


def by(outcomes: list[Outcome], what: Callable[[Outcome], str]) -> str:
    """A table of verdicts, one row per kind of value."""
    counts: dict[str, Counter] = {}
    for outcome in outcomes:
        counts.setdefault(what(outcome), Counter())[outcome.verdict] += 1
    width = max(map(len, counts))
    lines = [f"{'':{width}}  calls" + "".join(f"{v:>9}" for v in VERDICTS)]
    for name, row in counts.items():
        cells = "".join(f"{row[v] or '':>9}" for v in VERDICTS)
        lines.append(f"{name:{width}}  {row.total():>5}{cells}")
    return "\n".join(lines)


def listing(outcomes: list[Outcome]) -> str:
    """Every call with a wrong outcome, by place and message."""
    lines = []
    for verdict in ("silent", "refused", "obscure"):
        its = [o for o in outcomes if o.verdict == verdict]
        groups: dict[str, list[Outcome]] = {}
        for o in its:
            said = re.sub(r"'[^']*'|\[.*?\]|[\d.]+", "_", o.said)[:60]
            where = o.where or o.call.site.name.split("(")[0]
            groups.setdefault(f"{where} {said}", []).append(o)
        lines.append(f"\n## {verdict}: {len(its)}")
        for _, same in sorted(groups.items()):
            lines.append(f"- {len(same)} x {same[0].where}  {same[0].said[:160]}")
            names = Counter(str(o.call) for o in same).items()
            each = (f"{name}{f' x {n}' if n > 1 else ''}" for name, n in names)
            lines.append("    " + "; ".join(each))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="functions whose name holds this")
    outcomes = judged(calls(parser.parse_args().only))
    print(by(outcomes, lambda o: f"should {o.call.expect}"))
    print("\n" + by(outcomes, lambda o: o.call.site.name))
    print("\n" + by(outcomes, lambda o: o.call.kind))
    print(listing(outcomes))
    return any(o.verdict in ("silent", "refused") for o in outcomes)


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    sys.exit(main())

"""Thousands of wrong calls, from the table in `fuzz`, are refused with clear errors."""

import inspect
import re
from collections import Counter
from itertools import islice

import pytest
from fuzz import (
    REFUSE,
    WORK,
    Call,
    Site,
    calls,
    judged,
    listing,
    sites,
)

import jaxrnn


def assert_answered(outcomes):
    found = Counter(o.verdict for o in outcomes)
    assert not found["silent"] + found["refused"], listing(outcomes)
    assert found["obscure"] <= 0.02 * len(outcomes), listing(outcomes)


def test_every_sixtieth_call_is_answered_in_plain_words():
    outcomes = judged(islice(calls(), 0, None, 61))
    assert len(outcomes) > 100
    assert_answered(outcomes)


@pytest.mark.slow
def test_thousands_of_wrong_calls_are_refused_in_plain_words():
    outcomes = judged(calls())
    assert len(outcomes) > 6500
    assert_answered(outcomes)


def functions():
    """The public functions, by the name they have in `jaxrnn` or in its module."""
    modules = "convert", "gradient_flow", "layers", "online", "optim", "parallel"
    for module in (jaxrnn, *(getattr(jaxrnn, name) for name in (*modules, "training"))):
        prefix = module.__name__.removeprefix("jaxrnn").lstrip(".")
        for name, value in vars(module).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                home = value.__module__
                if home.startswith("jaxrnn.") and not home.startswith("jaxrnn._core"):
                    yield value, f"{prefix}.{name}".lstrip(".")


def test_the_table_has_every_public_function():
    tried = {re.match(r"[\w.]+", site.name)[0] for site in sites()}
    names = {}
    for function, name in functions():
        names.setdefault(function, set()).add(name)
    assert not [its for its in names.values() if not its & tried]


@pytest.mark.parametrize(
    ("value", "expect", "verdict"),
    [
        ("thn", REFUSE, "clear"),
        ("thn", WORK, "refused"),
        ("relu", REFUSE, "silent"),
        ("relu", WORK, "fine"),
    ],
)
def test_control_the_judge_tells_calls_apart(value, expect, verdict):
    site = Site("elman", jaxrnn.elman, {}, {})
    call = Call(site, "activation", "a name", expect, False, {"activation": value})
    assert [o.verdict for o in judged([call])] == [verdict]


@pytest.mark.parametrize(
    "said", ["ys: expected 2, got 3", "xs: [Chex] expected 2, got 3"]
)
def test_control_an_error_without_the_name_or_with_jargon_is_obscure(said):
    def raises(xs):
        jaxrnn.elman(said)  # raises in the library, with what is said in the message

    site = Site("raises", raises, {}, {})
    call = Call(site, "xs", "a name", REFUSE, False, {"xs": 1})
    assert [o.verdict for o in judged([call])] == ["obscure"]

"""The docstrings of all public functions and classes have one form."""

import inspect
import re
from typing import get_origin

import pytest
from jax import Array
from test_fuzz import functions

import jaxrnn
from jaxrnn import convert, gradient_flow, layers, online, optim, parallel, training

LABELS = {"Math", "Shapes", "Args", "Use", "Returns", "Edge", "Raises", "Source"}
LABELS |= {"Cost", "Memory", "Gradient"}
RECORDS = "Cell", "Layer", "Transition", "Network", "Online", "GradientTransformation"
LITERATURE = {"cells", "gradient_flow", "online", "parallel"}
NO_SOURCE = {  # tools, which come from no paper
    "alignment",
    "custom_cell",
    "distinct",
    "first_nonfinite",
    "gradient",
    "spectral_radius",
}
TIMING = r"times as (fast|long)|\b(faster|slower)\b|half the time|\d ?(ms|µs|seconds)\b"


def classes():
    """The public classes, by the name they have in `jaxrnn` or in its module."""
    modules = convert, gradient_flow, layers, online, optim, parallel, training
    for module in (jaxrnn, *modules):
        public = getattr(module, "__all__", None) or vars(module)
        for name in public:
            value = getattr(module, name)
            home = getattr(value, "__module__", "")
            if inspect.isclass(value) and name[0] != "_" and home.startswith("jaxrnn"):
                yield value, name


PUBLIC = dict((*functions(), *classes()))


def broken(doc, value):
    """The names of the rules that a docstring breaks."""
    lines = doc.splitlines()
    function = inspect.isfunction(value)
    if function:
        signature = inspect.signature(value)
        fields = {name: p.annotation for name, p in signature.parameters.items()}
        returned = signature.return_annotation
        made = getattr(get_origin(returned) or returned, "__name__", "")
    else:
        fields, made = dict(getattr(value, "__annotations__", {})), ""
    arrays = any(a is Array for a in fields.values())
    if function:  # what makes a record has its arrays behind it
        arrays = bool(fields) and not made.startswith((*RECORDS, "Callable"))
    place = [*value.__module__.split("."), ""][1]
    labels = re.findall(r"^([A-Z]\w*):", doc, re.M)
    holds = {
        "sentence": lines[0].endswith(".") and not re.search(r"\.\s", lines[0]),
        "width": len(lines[0]) + len('    """') + 3 * (len(lines) == 1) <= 88,
        "names": all(re.search(rf"\b{name}\b", doc) for name in fields),
        "shapes": not arrays or re.search(r"\[.*[\w.]\]|\bscalars?\b", doc),
        "returns": not function or "Returns" in labels or "->" in doc,
        "raises": not function or not fields or "Raises" in labels,
        "source": not function
        or place not in LITERATURE
        or value.__name__ in NO_SOURCE
        or "Source" in labels,
        "labels": set(labels) <= LABELS and len(labels) == len(set(labels)),
        "timing": not re.search(TIMING, doc),
    }
    return [rule for rule, held in holds.items() if not held]


@pytest.mark.parametrize("value", PUBLIC, ids=PUBLIC.values())
def test_a_docstring_says_what_a_caller_must_know(value):
    assert broken(inspect.getdoc(value) or ".", value) == []


def test_every_exception_is_needed():
    sourceless = {
        value.__name__
        for value in PUBLIC
        if "\nSource:" not in (inspect.getdoc(value) or "")
    }
    assert sourceless >= NO_SOURCE


def halve(x: Array, times: int) -> Array:
    """Halve an array.

    Shapes:  x [..., D] -> [..., D].
    Args:
        times: how often.
    Raises:  TypeError if `times` is not an integer.
    Source:  Euclid.
    """
    return x / 2**times


halve.__module__ = "jaxrnn.cells.halve"


@pytest.mark.parametrize(
    ("rule", "right", "wrong"),
    [
        ("sentence", "an array.", "an array"),
        ("sentence", "an array.", "an array. Twice."),
        ("width", "an array", "an array" + " and another" * 8),
        ("names", "times", "count"),
        ("shapes", "x [..., D] -> [..., D]", "x -> as x"),
        ("returns", "->", "to"),
        ("raises", "Raises:  TypeError", "A TypeError"),
        ("source", "Source:  Euclid.", ""),
        ("labels", "Args:", "Arguments:"),
        ("labels", "Source:", "Raises:  nothing.\nSource:"),
        ("timing", "Euclid.", "Euclid, 2 ms."),
        ("timing", "Euclid.", "Euclid, three times as fast."),
        ("timing", "Euclid.", "Euclid, slower on a CPU."),
    ],
)
def test_control_each_rule_catches_a_wrong_docstring(rule, right, wrong):
    doc = inspect.getdoc(halve)
    assert broken(doc, halve) == []
    assert right in doc
    assert broken(doc.replace(right, wrong), halve) == [rule]

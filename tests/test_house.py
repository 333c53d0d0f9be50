"""The house rules, read off the source: floors, imports, sizes, docstrings."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent

# Imports run downward only: a module imports from lower floors alone.
FLOORS = {
    "numerics": 0,
    "cell": 0,
    "checks": 1,
    "chunks": 2,
    "marks": 2,
    "forward": 3,
    "backward": 4,
    "run": 5,
    "bptt": 6,
    "step": 6,
    "unroll": 6,
    "gradient_flow.alignment": 1,
    "gradient_flow.along": 7,
    "gradient_flow.decay": 1,
    "gradient_flow.fixed_points": 8,
    "gradient_flow.jacobians": 8,
    "gradient_flow.lags": 8,
    "gradient_flow.lyapunov": 8,
    "gradient_flow.nonfinite": 7,
    "gradient_flow.preservation": 8,
    "gradient_flow": 9,
    "layers.noise": 7,
    "layers.bidirectional": 8,
    "layers.noisy": 8,
    "layers.stack": 8,
    "layers.start": 8,
    "layers": 9,
    "cells.activations": 1,
    "cells.clipped": 1,
    "cells.layer_norm": 1,
    "cells.lstm_state": 1,
    "cells.gru_before": 1,
    "cells.lru": 1,
    "cells.mingru": 1,
    "cells.elman": 2,
    "cells.gru": 2,
    "cells.indrnn": 2,
    "cells.lstm_parts": 2,
    "cells.mgu": 2,
    "cells.lstm": 3,
    "cells": 8,
    "online.record": 8,
    "online.local": 9,
    "online.rtrl": 9,
    "online.truncated": 9,
    "online.uoro": 9,
    "online": 10,
    "readout": 9,
    "network": 10,
    "convert._arrays": 0,
    "convert._blocks": 10,
    "convert.equinox": 11,
    "convert.flax": 11,
    "convert.haiku": 11,
    "convert.keras": 11,
    "convert.onnx_gates": 12,
    "convert.onnx": 13,
    "convert.torch": 12,
    "convert": 14,
    "parallel.recurrence": 7,
    "parallel.newton": 8,
    "parallel.run": 9,
    "parallel.bptt": 10,
    "parallel.unroll": 10,
    "parallel": 11,
    "gradreport": 0,
    "derivations": 12,
    "gradcheck": 13,
    "optim": 12,
    "training": 13,
    "": 20,  # jaxrnn/__init__.py
}
CORE = {"jax", "jaxlib", "optax", "chex", "numpy"}
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
each_module = pytest.mark.parametrize("module", SOURCES, ids=lambda m: m or "__init__")


def imported(source: str) -> set[str]:
    """Every imported name in full, such as jaxrnn.cell.Cell."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def neighbours(source: str) -> set[str]:
    """The modules of this package that the source imports from."""
    found = set()
    for name in imported(source):
        package, *parts = name.split(".")
        if package == "jaxrnn":
            # the longest beginning that is a module: jaxrnn.cells.lstm, jaxrnn.cell
            ends = (len(parts) - k for k in range(len(parts) + 1))
            module = (".".join(parts[:end]) for end in ends)
            found.add(next(m for m in module if m in FLOORS))
    return found


def too_high(module: str, source: str) -> set[str]:
    """What the module imports that is not on a lower floor."""
    return {m for m in neighbours(source) if FLOORS[m] >= FLOORS[module]}


def strangers(source: str) -> set[str]:
    """Imports from outside: not the core's, private to JAX, or relative."""
    return {
        name
        for name in imported(source)
        if name.startswith(".")
        or "._src" in name
        or name.split(".")[0] not in CORE | {"jaxrnn"} | sys.stdlib_module_names
    }


def dotted(node: ast.AST) -> str:
    """`jax.random.key` for that expression; "" for what is not a dotted name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def at_import(node: ast.AST):
    """The nodes that run when the module is imported: no function's body."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.Lambda):
            run = [child.args, *getattr(child, "decorator_list", [])]
            for part in run:
                yield part
                yield from at_import(part)
        else:
            yield child
            yield from at_import(child)


ARRAY_MAKERS = (
    "jnp.",
    "lax.",
    "jax.numpy.",
    "jax.random.",
    "jax.lax.",
    "np.",
    "numpy.",
)
RECORDS = {"np.dtype", "jnp.dtype", "jnp.finfo", "np.finfo"}  # no arrays


def arrays_at_import(source: str) -> set[str]:
    calls = (n for n in at_import(ast.parse(source)) if isinstance(n, ast.Call))
    names = {dotted(call.func) for call in calls}
    return {n for n in names if n.startswith(ARRAY_MAKERS) and n not in RECORDS}


def default_keys(source: str) -> set[str]:
    """Parameters for randomness that have a default."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            a = node.args
            places = [*a.posonlyargs, *a.args]
            with_default = places[len(places) - len(a.defaults) :]
            pairs = zip(a.kwonlyargs, a.kw_defaults, strict=True)
            with_default += [arg for arg, default in pairs if default is not None]
            found |= {p.arg for p in with_default if p.arg in ("key", "rng", "keys")}
    return found


def own_lines(function: ast.FunctionDef) -> int:
    """A function's lines without its docstring and without functions inside it."""
    inner = [n for n in ast.walk(function) if isinstance(n, ast.FunctionDef)][1:]
    lines = set(range(function.lineno, function.end_lineno + 1))
    if ast.get_docstring(function) is not None:
        inner.append(function.body[0])
    for node in inner:
        lines -= set(range(node.lineno, node.end_lineno + 1))
    return len(lines)


def too_long(source: str) -> list[str]:
    found = [f"{len(source.splitlines())} lines"] * (
        len(source.splitlines()) > LONGEST_FILE
    )
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and own_lines(node) > LONGEST_FUNCTION:
            found.append(f"{node.name}: {own_lines(node)} lines")
    return found


def test_every_module_has_a_floor():
    assert set(SOURCES) == set(FLOORS)


@each_module
def test_imports_run_downward_only(module):
    assert not too_high(module, SOURCES[module])


def test_there_is_no_circle():
    # Follows from the floors; found here without them.
    graph = {module: neighbours(source) for module, source in SOURCES.items()}
    while graph:
        leaves = {m for m, below in graph.items() if not below & set(graph)}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {m: below for m, below in graph.items() if m not in leaves}


@each_module
def test_only_the_core_is_imported_and_nothing_private_of_jax(module):
    assert not strangers(SOURCES[module])
    assert "jax._src" not in SOURCES[module]


@each_module
def test_no_array_is_made_at_import(module):
    assert not arrays_at_import(SOURCES[module])


@each_module
def test_no_signature_has_a_default_key(module):
    assert not default_keys(SOURCES[module])


@each_module
def test_files_and_functions_are_short(module):
    assert not too_long(SOURCES[module])


@each_module
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(ast.parse(SOURCES[module]))


PUBLIC = sorted(name for name in vars(jaxrnn) if not name.startswith("_"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring(name):
    value = getattr(jaxrnn, name)
    doc = inspect.getdoc(value) or ""
    # A NamedTuple without one has its signature for a docstring.
    assert doc and not doc.startswith(f"{name}(")


def test_the_public_names_are_the_promised_ones():
    promised = (
        "BPTT Cell GradientReport Network NetworkParams Params ReadoutParams bptt "
        "check_gradients custom_cell elman gru lstm network optim readout step "
        "training unroll"
    )
    assert set(promised.split()) <= set(PUBLIC)


# Controls: each rule catches what it forbids --------------------------------------


@pytest.mark.parametrize(
    "rule, wrong",
    [
        (lambda s: too_high("cell", s), "from jaxrnn.unroll import unroll"),
        (lambda s: too_high("forward", s), "from jaxrnn.cells import lstm"),
        (lambda s: too_high("forward", s), "def f():\n    import jaxrnn.cells.lstm"),
        (lambda s: too_high("bptt", s), "import jaxrnn"),
        (lambda s: too_high("bptt", s), "from jaxrnn import bptt"),
        (strangers, "from jax._src import core"),
        (strangers, "import torch"),
        (strangers, "from .cell import Cell"),
        (arrays_at_import, "A = jnp.zeros(3)"),
        (arrays_at_import, "def f(x=jax.random.key(0)):\n    pass"),
        (arrays_at_import, "class A:\n    b = [np.ones(2)]"),
        (default_keys, "def f(*, key=None):\n    pass"),
        (default_keys, "def f(x, key=0):\n    pass"),
        (too_long, "x = 1\n" * 301),
        (too_long, "def f():\n" + "    x = 1\n" * 61),
    ],
)
def test_control_the_rules_catch_what_they_forbid(rule, wrong):
    assert rule(wrong)


@pytest.mark.parametrize(
    "rule, right",
    [
        (lambda s: too_high("bptt", s), "from jaxrnn.forward import unfold"),
        (strangers, "import math, jax\nfrom optax import losses"),
        (arrays_at_import, "def f():\n    return jnp.zeros(3)\nD = jnp.float32"),
        (default_keys, "def f(key, *, bias=True):\n    pass"),
        (too_long, 'def f():\n    """' + "x\n" * 80 + '"""\n    return 1'),
    ],
)
def test_control_the_rules_let_pass_what_they_allow(rule, right):
    assert not rule(right)

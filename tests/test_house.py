"""The rules of the source code: imports, sizes, docstrings."""

import ast
import inspect
import sys
from pathlib import Path

import pytest

import jaxrnn

ROOT = Path(jaxrnn.__file__).parent

# Imports run downward only: a folder, or a file of the top level, imports from those
# that stand before it here.
PLACES = [
    "record",
    "cell",
    "layer",
    "_core",
    "cells",
    "layers",
    "model",
    "scanning",
    "generation",
    "backprop",
    "readouts",
    "networks",
    "gradient_flow",
    "online",
    "parallel",
    "gradcheck",
    "convert",
    "optim",
    "training",
    "checkpoints",
    "summaries",
    "selfcheck",
    "",  # jaxrnn/__init__.py
]
CORE = {"jax", "jaxlib", "optax", "chex", "numpy"}
OPTIONAL = {"matplotlib", "orbax"}  # only inside a function, which says what to install
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


SOURCES = {module_name(path): path.read_text() for path in sorted(ROOT.rglob("*.py"))}
OUTSIDE = {
    str(path.relative_to(ROOT.parent)): path.read_text()
    for folder in ("experiments", "tests")
    for path in sorted((ROOT.parent / folder).rglob("*.py"))
}


def place_of(module: str) -> str:
    return module.split(".")[0]


def imported(source: str, nodes=ast.walk) -> set[str]:
    """Every imported name in full, such as jaxrnn.cell.Cell."""
    names = set()
    for node in nodes(ast.parse(source)):
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
            found.add(next(m for m in module if m in SOURCES))
    return found


def too_high(place: str, source: str) -> set[str]:
    """Imports from a module that does not come before this one."""
    below = PLACES[: PLACES.index(place) + 1]
    return {m for m in neighbours(source) if place_of(m) not in below}


def into_the_core(source: str) -> set[str]:
    """Imports of the private engine."""
    return {name for name in imported(source) if name.startswith("jaxrnn._core")}


def strangers(source: str) -> set[str]:
    """Imports of other packages, of private JAX modules, or relative ones."""
    first = imported(source, at_import)
    known = CORE | {"jaxrnn"} | sys.stdlib_module_names
    return {
        name
        for name in imported(source)
        if name.startswith(".")
        or "._src" in name
        or name.split(".")[0] not in (known if name in first else known | OPTIONAL)
    }


def dotted(node: ast.AST) -> str:
    """`jax.random.key` for that expression; "" if it is not a dotted name."""
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


def wrong_by_module(rule) -> dict:
    """What the rule finds, by module; empty if all is well."""
    found = {module: rule(source) for module, source in SOURCES.items()}
    return {module: wrong for module, wrong in found.items() if wrong}


def test_every_folder_has_its_place():
    assert {place_of(module) for module in SOURCES} == set(PLACES)


def test_imports_run_downward_only():
    found = {m: too_high(place_of(m), source) for m, source in SOURCES.items()}
    assert not {m: wrong for m, wrong in found.items() if wrong}


def test_there_is_no_circle():
    graph = {module: neighbours(source) for module, source in SOURCES.items()}
    while graph:
        leaves = {m for m, below in graph.items() if not below & set(graph)}
        assert leaves, f"a circle among {sorted(graph)}"
        graph = {m: below for m, below in graph.items() if m not in leaves}


def test_nothing_outside_the_package_imports_its_core():
    found = {path: into_the_core(source) for path, source in OUTSIDE.items()}
    assert len(found) > 40
    assert not {path: wrong for path, wrong in found.items() if wrong}


def test_no_exported_function_is_named_like_a_module():
    # `import jaxrnn.bptt` gives a module, or fails.
    top = {place_of(module) for module in SOURCES}
    functions = {n for n in PUBLIC if inspect.isfunction(getattr(jaxrnn, n))}
    assert len(functions) > 15
    assert not functions & top


def test_only_the_core_is_imported_and_nothing_private_of_jax():
    assert not wrong_by_module(strangers)
    assert not wrong_by_module(lambda source: "jax._src" in source)


def test_no_array_is_made_at_import():
    assert not wrong_by_module(arrays_at_import)


def test_no_signature_has_a_default_key():
    assert not wrong_by_module(default_keys)


def test_files_and_functions_are_short():
    assert not wrong_by_module(too_long)


def test_every_module_says_what_it_is():
    assert not wrong_by_module(lambda source: not ast.get_docstring(ast.parse(source)))


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
        (lambda s: too_high("cell", s), "from jaxrnn.model import unroll"),
        (lambda s: too_high("_core", s), "from jaxrnn.cells import lstm"),
        (lambda s: too_high("_core", s), "def f():\n    import jaxrnn.cells.lstm"),
        (lambda s: too_high("backprop", s), "import jaxrnn"),
        (lambda s: too_high("backprop", s), "from jaxrnn import bptt"),
        (into_the_core, "from jaxrnn._core.marks import Marks"),
        (into_the_core, "def f():\n    from jaxrnn import _core"),
        (strangers, "from jax._src import core"),
        (strangers, "import torch"),
        (strangers, "import matplotlib"),
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
        (lambda s: too_high("backprop", s), "from jaxrnn._core.forward import forward"),
        (into_the_core, "from jaxrnn.model import unroll"),
        (strangers, "import math, jax\nfrom optax import losses"),
        (strangers, "def f():\n    from matplotlib import figure"),
        (arrays_at_import, "def f():\n    return jnp.zeros(3)\nD = jnp.float32"),
        (default_keys, "def f(key, *, bias=True):\n    pass"),
        (too_long, 'def f():\n    """' + "x\n" * 80 + '"""\n    return 1'),
    ],
)
def test_control_the_rules_let_pass_what_they_allow(rule, right):
    assert not rule(right)

"""Rules for the source: imports go in one direction, few modules import heavy packages, and no input is executed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "bigs_cli"

# From top to bottom. A package imports only from packages on lower lines.
LEVELS = (
    ("__main__",),
    ("cli",),
    ("commands",),
    ("bench",),
    ("api",),
    ("training", "prediction"),
    ("evaluation",),
    ("export", "reporting"),
    ("tasks",),
    ("inference",),
    ("data", "checkpoints"),
    ("models",),
    ("recipe",),
    ("models.config",),  # part of recipes; imports nothing heavy
    ("core",),
)
RANK = {name: -row for row, names in enumerate(LEVELS) for name in names}

HEAVY = {
    "jax",
    "flax",
    "optax",
    "orbax",
    "grain",
    "datasets",
    "tokenizers",
    "sklearn",
    "scipy",
    "matplotlib",
    "pyarrow",
}
LIGHT = ("__main__", "cli", "commands", "recipe", "models.config", "core", "__init__")
EXECUTING_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "torch"}
PYTORCH_ALLOWED_IN = (
    "export/shipped/",
    "export/transformers_folder.py",
    "bench/export_probe.py",
    "bench/bert.py",
)  # reads safetensors, or nothing
EXECUTING_BUILTINS = {"eval", "exec", "compile", "__import__"}
EXECUTING_METHODS = {
    ("os", "system"),
    ("os", "popen"),
    ("yaml", "load"),
    ("yaml", "full_load"),
    ("yaml", "unsafe_load"),
}


@cache
def sources() -> dict[str, ast.Module]:
    """Return the syntax tree of every module by its path in the package, such as "data/shards.py"."""
    return {
        str(path.relative_to(PACKAGE)): ast.parse(path.read_text(encoding="utf-8"))
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def owner(path: str) -> str:
    """Return the level of a file: a package directly under bigs_cli, a file in it, or `models.config`."""
    parts = path.removesuffix(".py").split("/")
    return ".".join(parts[:2]) if ".".join(parts[:2]) in RANK else parts[0]


def imports(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of every import, except those for the type checker."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # Shipped files are copied to another folder, where only relative imports work.
            yield from ((node.lineno, f"{'.' * node.level}{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, inside_functions=inside_functions)


def calls() -> Iterator[tuple[str, ast.Call]]:
    for path, tree in sources().items():
        yield from ((path, node) for node in ast.walk(tree) if isinstance(node, ast.Call))


def test_every_package_has_a_level() -> None:
    assert {owner(path) for path in sources()} - {"__init__"} == RANK.keys()


def test_imports_go_in_one_direction() -> None:
    wrong = []
    for path, tree in sources().items():
        here = owner(path)
        if here == "__init__":  # imports each name lazily from its module
            continue
        for line, name in imports(tree):
            root, _, rest = name.partition(".")
            there = owner(rest.replace(".", "/"))
            if root == "bigs_cli" and there != here and RANK.get(there, 0) >= RANK[here]:
                wrong.append(f"{path}:{line} imports {name}")
    assert not wrong


def test_imports_are_absolute_except_in_shipped_files() -> None:
    relative = {path for path, tree in sources().items() for _, name in imports(tree) if name.startswith(".")}
    assert relative == {"export/shipped/layers_bigs.py", "export/shipped/modeling_bigs.py"}


def test_only_one_file_imports_orbax() -> None:
    users = {path for path, tree in sources().items() for _, name in imports(tree) if name.split(".")[0] == "orbax"}
    assert users == {"checkpoints/orbax.py"}


def test_models_do_not_read_or_write_files() -> None:
    known = {
        name.split(".")[0] for path, tree in sources().items() if owner(path) == "models" for _, name in imports(tree)
    }
    assert not known & {"os", "io", "pathlib", "shutil", "tempfile", "safetensors", "msgpack"}
    assert not [
        path
        for path, call in calls()
        if owner(path) == "models" and isinstance(call.func, ast.Name) and call.func.id == "open"
    ]


def test_modules_needed_for_help_import_nothing_heavy() -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in sources().items()
        if owner(path) in LIGHT
        for line, name in imports(tree, inside_functions=False)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong


@pytest.mark.parametrize(
    "what", ["import bigs_cli.cli", "from bigs_cli import BiGSConfig; BiGSConfig()", "import bigs_cli.tasks"]
)
def test_help_imports_nothing_heavy_indirectly(what: str) -> None:
    script = f"import sys; {what}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())


def test_no_input_is_executed() -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, tree in sources().items()
        for line, name in imports(tree)
        if name.split(".")[0] in EXECUTING_MODULES - ({"torch"} if path.startswith(PYTORCH_ALLOWED_IN) else set())
    ]
    for path, call in calls():
        function = call.func
        if isinstance(function, ast.Name) and function.id in EXECUTING_BUILTINS:
            wrong.append(f"{path}:{call.lineno} calls {function.id}")
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            called = (function.value.id, function.attr)
            if called in EXECUTING_METHODS:
                wrong.append(f"{path}:{call.lineno} calls {'.'.join(called)}")
        wrong += [
            f"{path}:{call.lineno} passes {keyword.arg}"
            for keyword in call.keywords
            if keyword.arg in ("shell", "allow_pickle", "trust_remote_code")
            and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value)
        ]
    assert not wrong


def test_archives_are_not_extracted_to_disk() -> None:
    """Archive members are only read in memory, so their names and links are harmless."""
    unpacks = {"extract", "extractall", "unpack_archive"}
    wrong = [f"{path}:{call.lineno}" for path, call in calls() if getattr(call.func, "attr", None) in unpacks]
    wrong += [path for path, tree in sources().items() for _, name in imports(tree) if name.split(".")[0] == "tarfile"]
    assert not wrong


def test_the_checks_detect_violations() -> None:
    text = """
import a.b
from c import d
if TYPE_CHECKING:
    import hidden
def f():
    from e.g import h
"""
    assert [name for _, name in imports(ast.parse(text))] == ["a.b", "c.d", "e.g.h"]
    assert [name for _, name in imports(ast.parse(text), inside_functions=False)] == ["a.b", "c.d"]

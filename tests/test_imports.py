"""Who may import whom (docs/architecture.md), and what importing costs."""

from __future__ import annotations

import ast
import dataclasses
import graphlib
import importlib
import pathlib
import re
import subprocess
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "seqjax"

VERBS = {
    "train", "preprocess", "generate", "interactive", "evaluate", "score", "average", "convert",
}
NOUNS = {
    "data", "models", "tasks", "losses", "checkpoints", "training", "generation", "interop",
}

# First name under seqjax -> prefixes that it may import beside its own.
ALLOWED: dict[str, set[str]] = {
    "config": set(),
    "console": set(),
    "losses": set(),
    "data": {"config"},
    "models": {"config"},
    "checkpoints": {"config"},
    "generation": {"config", "console", "models.protocol"},
    "tasks": {"config", "data", "losses", "generation", "models.protocol"},
    "settings": {"config", "models", "tasks", "losses"},
    "training": {
        "config", "console", "locking", "signals", "checkpoints", "models", "tasks", "losses",
        "data", "settings",
    },
    "interop": {
        "config", "checkpoints", "models", "data", "losses", "tasks", "training", "settings"},
    # A trained model is read and used without what trains, but for the loss of a split.
    "hub": {"config", "console", "settings", *NOUNS - {"training"}, "training.compilation",
            "training.held_out"},
    "__init__": {"hub"},
    "__main__": {"config", "cli", *VERBS},
    "locking": {"config"},
    "signals": set(),
    "cli": {"config", "console", "signals", "settings", "interop.fairseq.flags"},
    "commands": {"config", "console", "cli", "settings", "hub", *NOUNS},
    **{verb: {"config", "console", "cli", "commands", "locking", "signals", "settings", "hub",
              *NOUNS, *VERBS} for verb in VERBS},
}
NEVER = {"torch", "transformers", "fairseq"}
# Import names that differ from the name on the package index.
IMPORT_NAMES = {
    "absl-py": "absl", "orbax-checkpoint": "orbax", "pytest-xdist": "xdist",
    "tensorflow-cpu": "tensorflow", "PyYAML": "yaml", "scikit-learn": "sklearn",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
    target: str
    line: int
    lazy: bool
    """Inside a function: paid for by those who call it. Or for types alone: by nobody."""


def module_name(path: pathlib.Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
# A folder without __init__.py is a package too.
PACKAGES = {name.rpartition(".")[0] for name in MODULES} | {"seqjax"}


def imports_of(path: pathlib.Path) -> list[Import]:
    """Every import of a file, `from` ones resolved to modules where they name modules."""
    base = module_name(path).split(".")
    if path.name != "__init__.py":
        base = base[:-1]
    found: list[Import] = []

    def visit(node: ast.AST, lazy: bool) -> None:
        if isinstance(node, ast.Import):
            found.extend(
                Import(target=a.name, line=node.lineno, lazy=lazy) for a in node.names
            )
        elif isinstance(node, ast.ImportFrom):
            prefix = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*prefix, *filter(None, [node.module])])
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                target = full if full in MODULES or full in PACKAGES else origin
                found.append(Import(target=target, line=node.lineno, lazy=lazy))
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
        for child in ast.iter_child_nodes(node):
            visit(child, lazy or inside)

    visit(ast.parse(path.read_text(encoding="utf-8")), False)
    return found


IMPORTS = {name: imports_of(path) for name, path in MODULES.items()}


def place(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("name", MODULES)
def test_direction(name: str) -> None:
    own = place(name)
    assert own in ALLOWED, f"seqjax/{own} is unknown: give it a place in docs/architecture.md"
    wrong = []
    for found in IMPORTS[name]:
        if not under(found.target, "seqjax"):
            continue
        target = found.target.removeprefix("seqjax").lstrip(".")
        if target == "" and own in VERBS | {"hub", "__main__"}:
            continue  # seqjax.__version__
        if not any(under(target, prefix) for prefix in ALLOWED[own] | {own}):
            wrong.append(f"line {found.line}: {found.target}")
    assert not wrong, f"{name} may not import {wrong}"


def test_no_cycles() -> None:
    """Of modules; a lazy import within a folder (a factory's choice of what to make) is
    none. `seqjax` itself forwards `load` to the hub and is no part of the order."""
    graph = {
        name: {
            i.target for i in found
            if i.target.startswith("seqjax.")
            and not (i.lazy and place(i.target) == place(name))
        }
        for name, found in IMPORTS.items() if name != "seqjax"
    }
    graphlib.TopologicalSorter(graph).prepare()


def test_no_cycles_between_folders() -> None:
    graph: dict[str, set[str]] = {}
    for name, found in IMPORTS.items():
        targets = {place(i.target) for i in found if i.target.startswith("seqjax.")}
        graph.setdefault(place(name), set()).update(targets - {place(name)})
    graphlib.TopologicalSorter(graph).prepare()


@pytest.mark.parametrize(
    ("library", "home"),
    [("tensorflow", "seqjax.data.tfdata"), ("tensorflow_datasets", "seqjax.data.tfds_source")],
)
def test_tensorflow_has_one_door(library: str, home: str) -> None:
    users = {
        name: found for name, all_found in IMPORTS.items()
        if (found := [i for i in all_found if under(i.target, library)])
    }
    assert set(users) <= {home}
    assert all(i.lazy for found in users.values() for i in found), "must be imported lazily"


def test_linen_stays_in_models() -> None:
    users = {n for n, found in IMPORTS.items() if any(under(i.target, "flax.linen") for i in found)}
    assert {place(name) for name in users} <= {"models"}


def test_nothing_of_other_frameworks() -> None:
    tests = {str(p.relative_to(ROOT)): imports_of(p) for p in (ROOT / "tests").rglob("*.py")}
    for name, found in {**IMPORTS, **tests}.items():
        assert not {i.target.split(".")[0] for i in found} & NEVER, name


def test_nothing_deprecated() -> None:
    for name, found in IMPORTS.items():
        assert not [i for i in found if under(i.target, "jax.experimental.pjit")], name
        assert not re.search(r"\bjax\.pmap\b", MODULES[name].read_text(encoding="utf-8")), name


def declared(requirements: list[str]) -> set[str]:
    names = [re.split(r"[\s\[<>=;!~]", r, maxsplit=1)[0] for r in requirements]
    return {IMPORT_NAMES.get(n, n.replace("-", "_")) for n in names}


def test_dependencies_are_declared_and_used() -> None:
    """At module level only core dependencies; lazily also those of the extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    core = declared(project["dependencies"])
    extras = set().union(*(declared(r) for r in project["optional-dependencies"].values()))
    own = set(sys.stdlib_module_names) | {"seqjax"}
    for name, found in IMPORTS.items():
        for i in found:
            top = i.target.split(".")[0]
            assert top in own | core | (extras if i.lazy else set()), (
                f"{name}, line {i.line}: {top} is not declared in pyproject.toml"
                + (" as a core dependency" if top in extras else "")
            )


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_free_of_jax() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import seqjax\n"
        "print(time.perf_counter() - start, *(n for n in ('jax', 'numpy', 'flax', 'tensorflow')"
        " if n in sys.modules))"
    )
    results = [run(code).split() for _ in range(5)]
    assert [r[1:] for r in results] == [[]] * 5
    assert min(float(r[0]) for r in results) < 0.3


@pytest.mark.parametrize("name", MODULES)
def test_importable(name: str) -> None:
    importlib.import_module(name)


def test_importable_without_optional_packages() -> None:
    """Neither TensorFlow nor any other extra is needed to import every module."""
    blocked = sorted(NEVER | {"tensorflow", "tensorflow_datasets", "tensorboard", "ctranslate2"})
    run(
        "import sys, importlib\n"
        f"for name in {blocked}: sys.modules[name] = None\n"
        f"for name in {list(MODULES)}: importlib.import_module(name)\n"
    )


def test_version_is_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.import_module("seqjax").__version__ == project["version"]

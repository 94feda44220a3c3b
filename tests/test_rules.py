"""The rules of CONTRIBUTING.md that can be counted, counted over all of `seqjax/`."""

from __future__ import annotations

import ast
import pathlib
import re
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
RULES = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = {str(p.relative_to(ROOT)): p.read_text(encoding="utf-8")
         for p in sorted((ROOT / "seqjax").rglob("*.py"))}
TREES = {name: ast.parse(text) for name, text in FILES.items()}
CALLED_BY_OTHERS = {"showwarning": "warnings", "tensor_of_dtype": "torch's files, by position"}
"""Functions whose arguments another library decides."""
CALLS_OURS = {"should_preserve": "orbax", "FilesRestore": "orbax, which wants a pair",
              "seekable": "zipfile", "readable": "io", "emit": "logging"}
"""What another library calls."""


def number(pattern: str) -> int:
    """What CONTRIBUTING.md says; a rule that is struck there needs no test here."""
    found = re.search(pattern, " ".join(RULES.split()))
    assert found, f"CONTRIBUTING.md does not say: {pattern}"
    return int(found[1])


def functions(tree: ast.AST) -> Iterator[tuple[ast.FunctionDef, list[str]]]:
    """Every function, methods and inner ones too, with its positional arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names = [a.arg for a in node.args.posonlyargs + node.args.args]
            yield node, names[1:] if names[:1] in (["self"], ["cls"]) else names


def dataclasses_of(tree: ast.AST) -> Iterator[tuple[ast.ClassDef, str, int]]:
    """Dataclasses that are not flax's, with their decorator and their number of own fields."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for decorator in map(ast.unparse, node.decorator_list):
                if re.match(r"(dataclasses\.)?dataclass\b", decorator):
                    yield node, decorator, sum(isinstance(x, ast.AnnAssign) for x in node.body)


def test_functions_and_files_are_short() -> None:
    lines, whole = number(r"at most (\d+) lines"), number(r"files at most (\d+)")
    assert not [(n, len(t.splitlines())) for n, t in FILES.items() if len(t.splitlines()) > whole]
    long = {f"{name}:{node.name}": node.end_lineno - node.lineno + 1
            for name, tree in TREES.items() for node, _ in functions(tree) if node.end_lineno}
    assert not {name: size for name, size in long.items() if size > lines}


def test_no_file_of_odds_and_ends() -> None:
    names = {p.name for top in ("seqjax", "tests", "scripts", "benchmarks")
             for p in (ROOT / top).rglob("*.py")}
    assert "`utils.py`" in RULES and not names & {"utils.py", "util.py", "helpers.py", "misc.py"}


def test_positional_arguments() -> None:
    most = number(r"at most (\d+) positional arguments")
    many = [f"{name}: {node.name}{arguments}" for name, tree in TREES.items()
            for node, arguments in functions(tree)
            # Linen modules are called by `nn.scan`, which hands on by position.
            if len(arguments) > most and node.name not in {"__call__", *CALLED_BY_OTHERS}]
    assert not many


def test_dataclasses_are_keyword_only() -> None:
    fields = number(r"Dataclasses of more than (\d+) fields are keyword-only")
    assert not [f"{name}: {node.name}" for name, tree in TREES.items()
                for node, decorator, count in dataclasses_of(tree)
                if count > fields and "kw_only=True" not in decorator]


def test_configuration_is_frozen() -> None:
    found = [(node.name, decorator) for tree in TREES.values()
             for node, decorator, _ in dataclasses_of(tree) if node.name.endswith("Config")]
    assert len(found) > 20
    assert not [name for name, decorator in found
                if not {"frozen=True", "kw_only=True"} <= set(re.findall(r"\w+=\w+", decorator))]


def mentioned(tree: ast.AST) -> Iterator[str]:
    """Names that code refers to: loaded, imported, or in a short string (`module:Object`)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name.rpartition(".")[2]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if len(node.value) < 80 and " " not in node.value:
                yield from re.findall(r"\w+", node.value)


def defined(tree: ast.Module) -> Iterator[str]:
    """Public functions, classes and methods."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{x.name}" for x in node.body
                        if isinstance(x, ast.FunctionDef))


def test_nothing_is_there_for_tests_alone() -> None:
    """Whatever is public is used by the project itself, or shown to users in the guides."""
    others = [p for top in ("configs", "launch", "benchmarks") for p in (ROOT / top).rglob("*.py")]
    used = {name for tree in TREES.values() for name in mentioned(tree)}
    used |= {x for p in others for x in mentioned(ast.parse(p.read_text(encoding="utf-8")))}
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        used |= set(re.findall(r"\w+", page.read_text(encoding="utf-8")))
    found = {(name, whole) for name, tree in TREES.items() for whole in defined(tree)}
    idle = [f"{name}: {whole}" for name, whole in sorted(found)
            if (last := whole.rpartition(".")[2]) not in used | CALLS_OURS.keys()
            and not last.startswith("_")]
    assert not idle


def axis_letters() -> set[str]:
    table = RULES[RULES.index("- Axis letters, everywhere:"):].split("\n\n")[0]
    return set(re.findall(r"\b([A-Z]) [a-z]", table))


def shapes(text: str) -> Iterator[str]:
    """`B, T, D` of every `[B, T, D]` in comments and docstrings."""
    tree = ast.parse(text)
    spans = [x.value for x in ast.walk(tree)
             if isinstance(x, ast.Constant) and isinstance(x.value, str)]
    for words in [*spans, *re.findall(r"#(.*)", text)]:
        yield from re.findall(r"(?<![\w\]])\[([A-Z](?:, [A-Z0-9]\w*)*)\]", words)


def test_axis_letters() -> None:
    """A letter that occurs in a shape is in the table."""
    known = axis_letters()
    assert set("BSTVDFHKLWC") <= known
    assert list(shapes("x = 1  # [B, Q]\n")) == ["B, Q"]
    unknown = {f"{name}: {letter}" for name, text in FILES.items() for shape in shapes(text)
               for letter in shape.split(", ") if re.fullmatch("[A-Z]", letter)}
    assert not {x for x in unknown if x[-1] not in known}


def test_module_docstrings() -> None:
    """They say what a module is given and gives, not what it does without."""
    texts = {name: " ".join((ast.get_docstring(tree) or "").split())
             for name, tree in TREES.items()}
    assert not [name for name, text in texts.items() if not text]
    without = r"\bknows? (no|nothing|neither|none)\b|\bNothing here knows\b|\w+' business\b"
    assert not [name for name, text in texts.items() if re.search(without, text)]


NAMED = {"model", "models", "task", "cfg", "config", "loss", "section", "params", "weights",
         "rng", "batch", "dataset"}
"""Parameters and fields for which there is a type: a protocol or a section's dataclass, or an
alias that says what it is (`Params`, `Weights`)."""
BARE = {
    "seqjax/tasks/protocol.py: evaluator(dataset)": "each task's own kind; it gave it itself",
    "seqjax/hub/loaded.py: Loaded.models": "each facade asks more of them than a Loaded does",
}
"""Where it is Any all the same, and why."""


def bare(name: str, tree: ast.AST) -> Iterator[str]:
    """Parameters and fields of `NAMED` annotated as Any, or as several of it."""
    anything = r"Any|(Sequence|Iterable|tuple|list)\[Any(, \.\.\.)?\]"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]:
                if a.annotation and re.fullmatch(anything, ast.unparse(a.annotation)):
                    if a.arg in NAMED:
                        yield f"{name}: {node.name}({a.arg})"
        elif isinstance(node, ast.ClassDef):
            for x in node.body:
                if isinstance(x, ast.AnnAssign) and isinstance(x.target, ast.Name):
                    if x.target.id in NAMED and re.fullmatch(anything, ast.unparse(x.annotation)):
                        yield f"{name}: {node.name}.{x.target.id}"


def test_what_has_a_type_says_it() -> None:
    """Any where the house has the type is a mistake that no checker finds."""
    assert "- `Any` is for what has no type" in RULES
    assert list(bare("x", ast.parse("def f(cfg: Any, *, model: tuple[Any, ...]): ...\n"
                                    "class A:\n  params: Any\n"))) == [
        "x: f(cfg)", "x: f(model)", "x: A.params"]
    found = {found for name, tree in TREES.items() for found in bare(name, tree)}
    assert found == set(BARE)

"""Names that say nothing of what they hold are not used in ftdsl/ (docs/adr/0020-names.md): the count can only stay at zero."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "ftdsl"
EMPTY = {"said", "told", "stands", "standing", "standings", "place", "places", "lay_out", "found", "one"}
"""As a whole name; the element, the path, the diagnostic has a name of its own."""
PARTS = {"said", "told", "standing", "found"}
"""Also as a part of a longer name."""
KEPT = {"file_not_found": "lint/families/data.py"}
"""Names that the field has, and where."""


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, attribute, parameter, keyword, function, class and alias of an import."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.keyword(arg=str(name)) | ast.alias(asname=str(name)):
                yield node.lineno, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield node.lineno, name
            case ast.MatchMapping(rest=str(name)):
                yield node.lineno, name


def empty(text: str) -> list[str]:
    """`line: name` of the names in a source that say nothing."""
    return [
        f"{line}: {name}"
        for line, name in names(ast.parse(text))
        if (plain := name.strip("_").lower()) in EMPTY or (PARTS.intersection(plain.split("_")) and name not in KEPT)
    ]


@pytest.mark.parametrize(
    "room", sorted(path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__")
)
def test_names_say_what_they_hold(room: str) -> None:
    faults = {
        path.relative_to(ROOT).as_posix(): empty(path.read_text(encoding="utf-8"))
        for path in (PACKAGE / room).rglob("*.py")
    }
    assert {path: lines for path, lines in faults.items() if lines} == {}


def test_files_at_the_top_too() -> None:
    assert [fault for path in PACKAGE.glob("*.py") for fault in empty(path.read_text(encoding="utf-8"))] == []


@pytest.mark.parametrize(
    "text",
    [
        "found = []", "def f(place): pass", "def _said(): pass", "class Found: pass", "x.told", "f(one=1)", "import a as found",
        "for place in places: pass", "try: pass\nexcept E as found: pass", "match x:\n    case K() as found: pass",
        "versions_found = 1", "_NOT_SAID = ()", "if (found := f()): pass", "[one for one in x]", "async def found(): pass",
        "match x:\n    case [*found]: pass", "match x:\n    case {**found}: pass",
    ],
)  # fmt: skip
def test_an_empty_name_is_seen(text: str) -> None:
    assert empty(text)


@pytest.mark.parametrize(
    "text", ["x = 'found'", "# found", "foundation = 1", "one_line = 1", "placement = 1", "replaced = 1"]
)
def test_other_names_pass(text: str) -> None:
    assert empty(text) == []


def test_what_is_kept_is_there() -> None:
    for name, path in KEPT.items():
        assert name in {own for _, own in names(ast.parse((Path(PACKAGE) / path).read_text(encoding="utf-8")))}

"""Who imports whom below the level of rooms: no circles of files, no engine in another's files or outside its own folder."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.house.graph import circle, graph

PACKAGE = ROOT / "ftdsl"
ENGINES = sorted(path.parent.name for path in (PACKAGE / "engines").glob("*/engine.py"))
"""Folders of engines; `shared` and `shell` (which reads bash) are none."""


def test_no_circle_of_files() -> None:
    """Also by imports inside of functions: which module is loaded first never matters."""
    assert " -> ".join(circle(graph())) == ""


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a": "from p.b import x", "b": "import p.c", "c": "from . import d", "d": ""}, []),
        ({"a": "from p.b import x", "b": "def f():\n    from .a import y"}, ["p.a", "p.b"]),
        ({"a": "from p import b", "b": "from p.c import x", "c": "import p.a"}, ["p.a", "p.b", "p.c"]),
        ({"a": "import p.q.b", "q/__init__": "import p.a", "q/b": ""}, ["p.a", "p.q"]),
        ({"a": "import p.b", "b": "if TYPE_CHECKING:\n    import p.a"}, []),
        ({"a": "import p.b", "b": "if TYPE_CHECKING:\n    pass\nelse:\n    import p.a"}, ["p.a", "p.b"]),
    ],
)
def test_circles_are_seen(files: dict[str, str], found: list[str], tmp_path: Path) -> None:
    for name, text in {"__init__": "", **files}.items():
        path = tmp_path / "p" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert sorted(set(circle(graph(tmp_path, "p")))) == found


@pytest.mark.parametrize("engine", ENGINES)
def test_no_engine_imports_another(engine: str) -> None:
    others = {f"ftdsl.engines.{name}" for name in ENGINES if name != engine}
    for module, imported in graph().items():
        if f"{module}.".startswith(f"ftdsl.engines.{engine}."):
            assert not {name for name in imported if ".".join(name.split(".")[:3]) in others}, module


MAY_KNOW_AN_ENGINE = ("importers", "upgrade")
"""Rooms that read one engine's files, beside its own folder."""


def test_engines_are_imported_by_their_own_files() -> None:
    """Everyone else, `engines/shared` too, has them from the registry."""
    assert ENGINES
    for module, imported in graph().items():
        if module.split(".")[1:2] in [[room] for room in MAY_KNOW_AN_ENGINE]:
            continue
        for engine in ENGINES:
            own = f"ftdsl.engines.{engine}"
            if module != own and not module.startswith(f"{own}."):
                assert not [name for name in imported if f"{name}.".startswith(f"{own}.")], module


NAMES_AN_ENGINE = (*(f"engines/{name}/" for name in ENGINES), "importers/", "lint/families/", "catalog/extract/")
PROGRAMS = {"runtime/versions.py": 1, "runtime/tuning/trainers.py": 2}
"""Files that name our program around an engine, `runtime/llamafactory.py`, or the passthrough block of its parameters."""
PACKAGES = {"environments.py": 1, "run/cache_keys.py": 1, "estimate/frameworks.py": 1}
"""Files that name TRL as a package or a framework, whichever engine is chosen."""


def test_an_engine_is_named_in_its_own_files_alone() -> None:
    """No `"llamafactory"` elsewhere: a second engine would need the same line again."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).as_posix()
        if name.startswith(NAMES_AN_ENGINE):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        count = sum(isinstance(node, ast.Constant) and node.value in ENGINES for node in ast.walk(tree))
        if count:
            found[name] = count
    assert found == PROGRAMS | PACKAGES, "ask the registry or the catalogue"

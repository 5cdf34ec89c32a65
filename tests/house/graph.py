"""Which module of ftdsl imports which, read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tests.conftest import ROOT


def module_of(path: Path, root: Path = ROOT) -> str:
    """`ftdsl/plan/plan.py` is `ftdsl.plan.plan`; a package's `__init__.py` is the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def graph(root: Path = ROOT, package: str = "ftdsl") -> Mapping[str, frozenset[str]]:
    """Module -> modules of the package that importing it or running its functions imports.

    Imports under `if TYPE_CHECKING` load nothing and do not count; an import of `a.b.c` loads `a` and `a.b` too, which counts
    unless the importer is itself inside of them (they are loaded already).
    """
    paths = {module_of(path, root): path for path in sorted((root / package).rglob("*.py"))}
    return {name: frozenset(_edges(name, path, paths)) for name, path in paths.items()}


def _edges(name: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    own = {name, *_parents(name)}
    for imported in _imported(ast.parse(path.read_text(encoding="utf-8")), name, path.name == "__init__.py", known):
        if imported in known and imported != name:
            yield imported
        yield from (parent for parent in _parents(imported) if parent in known and parent not in own)


def _imported(tree: ast.AST, name: str, is_package: bool, known: Mapping[str, Path]) -> Iterator[str]:
    for node in _loaded(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = name.split(".") if is_package else name.split(".")[:-1]
                base = ".".join([*here[: len(here) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if inner in known else base


def _loaded(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below, but for what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield other
                yield from _loaded(other)
            continue
        yield child
        yield from _loaded(child)


def _parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:at]) for at in range(1, len(parts))]


def circle(edges: Mapping[str, frozenset[str]]) -> list[str]:
    """Modules that import each other in a circle, the first again at the end; [] when there is none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]
    return []

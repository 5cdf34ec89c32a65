"""Tables of facts have a shape: what is written wrong in one stops `make generate`, and is never ignored."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ftdsl.catalog.generate import PAIRS
from ftdsl.catalog.shapes import problems
from ftdsl.catalog.vocabulary import Key

SOURCES = [source for source, _ in PAIRS]


def tables_of(source: Path) -> dict[str, Any]:
    return tomllib.loads(source.read_text(encoding="utf-8"))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_every_table_has_its_shape(source: Path) -> None:
    assert list(problems(source, tables_of(source))) == []


def entries(tables: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all innermost tables of named facts."""
    found = []
    for name, value in tables.items():
        if isinstance(value, dict):
            found += [(*path, name), *entries(value, (*path, name))]
    return found


ONE_OF_EACH = {
    "vocabulary.toml": [("launch", "port"), ("train", "seed"), ("function", "hf", "model", "id")],
    "gpus.toml": [("h100",)],
    "models.toml": [("Llama-2-7B",)],
    "faults.toml": [("disk_full",)],
    "misnamed.toml": [("lr",)],
    "written.toml": [()],
    "smoke.toml": [("members", "lora.init"), ("newest", "ppo"), ()],
    "facts.toml": [()],
    "overlay.toml": [("file", "seed"), ("_dead",)],
    "reasons.toml": [()],
}
CASES = [(name, path) for name, paths in ONE_OF_EACH.items() for path in paths]


@pytest.mark.parametrize(
    ("name", "path"), CASES, ids=lambda value: value if isinstance(value, str) else ".".join(value)
)
def test_a_key_that_no_table_has_is_refused(name: str, path: tuple[str, ...]) -> None:
    source = next(source for source in SOURCES if source.name == name)
    tables = copy.deepcopy(tables_of(source))
    entry = tables
    for part in path:
        entry = entry[part]
    entry["mxa"] = 65535
    found = list(problems(source, tables))
    assert found and all("mxa" in line and line.startswith(f"{name}: ") for line in found), found


def test_a_misspelt_bound_stops_the_compiler_too() -> None:
    with pytest.raises(TypeError, match="mxa"):
        Key(name="port", type="int", mxa=65535)  # type: ignore[call-arg]

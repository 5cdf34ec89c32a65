"""Every recipe of the corpus and of the examples reads without a message, formats to itself, and resolves."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.language import tree
from ftdsl.language.format import format_text
from ftdsl.language.parser import parse
from ftdsl.language.resolve.resolve import Options, resolve
from ftdsl.session import Session
from ftdsl.source import Source
from tests.conftest import CORPUS, EXAMPLES

ALL = [*EXAMPLES, *CORPUS]


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_reads_without_a_message(path: Path) -> None:
    sink = Sink()
    file = parse(Source(path.name, path.read_text(encoding="utf-8")), sink)
    assert [one.message for one in sink] == []
    assert file.items
    assert not any(isinstance(item, tree.Bad) for item in file.items)


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_is_formatted(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format_text(Source(path.name, text)) == text


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
@pytest.mark.slow
def test_formats_back_from_any_blanks(path: Path) -> None:
    """Blanks at the ends of lines, doubled blank lines and lost indents come back as they were."""
    text = path.read_text(encoding="utf-8")
    if '"""' in text or "'''" in text:  # blanks inside such texts mean something
        return
    messy = "\n".join(f"\t{line.strip()}  " if line.strip() else "\n" for line in text.split("\n"))
    assert format_text(Source(path.name, messy)) == text


@pytest.mark.parametrize("path", ALL, ids=lambda p: p.stem)
def test_resolves(path: Path) -> None:
    session = Session(env={"MODEL": "x", "HF_HOME": "/tmp"})
    resolved = resolve(path, path.name, Options(), session)
    assert resolved is not None
    # moss_vl came after LLaMA-Factory 0.9.5, the version whose templates are known
    errors = [one.message for one in session.sink if one.severity.value == "error" and "moss_vl" not in one.message]
    assert errors == []


def test_every_value_keeps_its_origin() -> None:
    path = next(path for path in EXAMPLES if path.stem == "align_8gpu")
    resolved = resolve(path, path.name, Options(sets=("sft.optim.lr=3e-5",)), Session())
    assert resolved is not None
    stage = next(stage for stage in resolved.stages if stage.name == "sft")
    for value in stage.values.values():
        assert value.origin.kind
        assert value.origin.location or value.origin.kind == "default"
    assert stage.values[("optim", "lr")].origin.kind == "set"
    assert stage.values[("optim", "schedule")].origin.kind == "file"
    assert stage.values[("lora", "rank")].origin.kind == "stage"

"""Options of data sources: each arrives in what the engine or the data stage reads, or is refused where it stands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.engines.jobs import Document
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.session import Session
from tests.conftest import ALPACA, NOWHERE

VALUES = {
    "split": '"validation"', "subset": '"de"', "revision": '"1f3a"', "folder": '"part"', "limit": "3", "sample": "2",
    "repeat": "2", "weight": "3", "format": "sharegpt", "entry": '"other"', "media": '"pictures"',
}  # fmt: skip
BESIDE = {
    "rows.jsonl": ALPACA,
    "more.jsonl": ALPACA,
    "info.json": json.dumps({"other": {"file_name": "rows.jsonl"}, "own": {"file_name": "more.jsonl"}}),
}
SOURCES = {
    "hub": 'hf("a/b"{options})',
    "modelscope": 'modelscope("a/b"{options})',
    "file": 'file("rows.jsonl"{options})',
    "cloud": 'file("s3://bucket/rows.json"{options})',
    "described": 'file("info.json", entry = "own"{options})',
    "entry of a hub": 'hf("a/b", entry = ["own"]{options})',
}
PLACES = {
    "in a data stage": "data d {{ source = {source}{keys} }}\nsft {{ {model} data = d }}",
    "of two in a data stage": 'data d {{ source = [{source}, file("more.jsonl"{second})]{keys} }}\nsft {{ {model} data = d }}',
    "in a stage": "sft {{ {model} data = {source} }}",
    "of two in a stage": 'sft {{ {model} data = [{source}, file("more.jsonl"{second})] }}',
    "in a data stage beside another": (
        'data d {{ source = {source}{keys} }}\ndata e {{ source = file("more.jsonl"){e} }}\nsft {{ {model} data = [d, e] }}'
    ),
    "held out": 'data d {{ source = file("more.jsonl"), holdout {{ eval = {source} }} }}\nsft {{ {model} data = d }}',
    "evaluated": 'sft {{ {model} data = file("more.jsonl"), evaluate {{ data = {source} }} }}',
    "scored": 'eval x {{ model = hf("Qwen/Qwen3-0.6B"), data = {source}, metrics = [loss] }}',
    "calibrating": 'quantize q {{ model = hf("Qwen/Qwen3-0.6B"), bits = 4, calibrate = {source} }}',
}
HEAD = "hardware { gpu = none, count = 1 }\nseed = 7\n"
MODEL = 'model = hf("Qwen/Qwen3-0.6B"), template = qwen3, duration = 1 epoch, lora {},'


def written(place: str, source: str, option: str, spelling: str) -> str | None:
    """The recipe with the option; None where the spelling is none."""
    given = f", {option} = {VALUES[option]}" if option else ""
    if spelling == "key" and "{keys}" not in PLACES[place]:
        return None
    inside = given if spelling == "argument" else ""
    if "entry =" in SOURCES[source] and option == "entry":
        return None  # said already
    weighted = option == "weight"
    return HEAD + PLACES[place].format(
        source=SOURCES[source].format(options=inside), keys=given if spelling == "key" else "", model=MODEL,
        second=", weight = 1" if weighted and spelling == "argument" else "", e=", weight = 1" if weighted else "",
    )  # fmt: skip


def outcome(text: str, folder: Path) -> tuple[list[Any], list[tuple[str, str, str]]]:
    """What the documents of all jobs say (less where things stand), and the errors with the text at their place."""
    (folder / "r.ft").write_text(text, encoding="utf-8")
    session = Session(env={**NOWHERE})
    checked = check(folder / "r.ft", Options(), session)
    errors = [
        (one.code, one.message, one.span.text if one.span else "")
        for one in session.sink.ordered()
        if one.severity.value == "error"
    ]
    documents = [said(document) for job in checked.jobs for document in job.documents]
    return documents, errors


def said(document: Document) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {str(key): plain(inner) for key, inner in value.items() if key != "where"}
        return [plain(item) for item in value] if isinstance(value, list | tuple) else value

    return json.dumps(plain(document.data), default=str)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("options")
    (made / "pictures").mkdir()
    for name, content in BESIDE.items():
        (made / name).write_text(content, encoding="utf-8")
    return made


def test_these_are_all_options() -> None:
    functions = vocabulary().functions
    known = {name for use in ("hf", "file", "modelscope") for name in functions[use]["data"].options}
    assert set(VALUES) == known - {"id", "path"}


@pytest.mark.parametrize("option", VALUES)
@pytest.mark.parametrize("spelling", ["argument", "key"])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.slow
def test_an_option_arrives_or_is_refused(place: str, source: str, spelling: str, option: str, folder: Path) -> None:
    text, without = written(place, source, option, spelling), written(place, source, "", spelling)
    if text is None or without is None:
        return
    documents, errors = outcome(text, folder)
    before, earlier = outcome(without, folder)
    if option == "weight" and not errors:  # against one that weighs as much
        assert any('"weight": 3' in one or "interleave_probs" in one for one in documents), documents
        return
    fresh = [error for error in errors if error not in earlier]
    if errors and {code for code, _, _ in errors} == {code for code, _, _ in earlier} and len(errors) == len(earlier):
        return  # the source itself cannot stand here
    if not errors:
        assert documents != before, "dropped without a word"
        return
    assert fresh, errors
    about = {"entry": "dataset_info.json", "format": "`conversations`"}.get(option, option)
    assert any(option in message or option in at or about in message for _, message, at in fresh), fresh

"""YAML and JSON with places: every part's text is where its span says, and an edit touches nothing else."""

from __future__ import annotations

import json
import sys
import time

import pytest
import yaml

from ftdsl.diagnostics import Sink
from ftdsl.language.yaml_tree import Node, read, removal, scalar
from ftdsl.source import Source
from tests.hostile import VALUES

TRAIN = """\
# how we train
model_name_or_path: Qwen/Qwen3-8B   # base
learning_rate: 1e-4
report_to: [wandb, 'tensorboard']
date: 2025-05-10
lr_scheduler_kwargs:
  num_cycles: 2   # twice
  deep: {a: 1, "b": yes}

text: |
  two
  lines

last: null
"""


def tree(text: str) -> Node:
    sink = Sink()
    found = read(Source("x.yaml", text), sink)
    assert found is not None, [one.message for one in sink]
    return found


def test_every_part_lies_where_its_span_says() -> None:
    found = dict(tree(TRAIN).walk())
    assert {".".join(map(str, path)): entry.value.span.text for path, entry in found.items()} == {
        "model_name_or_path": "Qwen/Qwen3-8B",
        "learning_rate": "1e-4",
        "report_to": "[wandb, 'tensorboard']",
        "date": "2025-05-10",
        "lr_scheduler_kwargs": 'num_cycles: 2   # twice\n  deep: {a: 1, "b": yes}',
        "lr_scheduler_kwargs.num_cycles": "2",
        "lr_scheduler_kwargs.deep": '{a: 1, "b": yes}',
        "lr_scheduler_kwargs.deep.a": "1",
        "lr_scheduler_kwargs.deep.b": "yes",
        "text": "|\n  two\n  lines",
        "last": "null",
    }
    assert found["lr_scheduler_kwargs", "deep", "b"].name.text == '"b"'


def test_values_are_those_the_engine_reads() -> None:
    value = tree(TRAIN).value
    assert value["learning_rate"] == 1e-4
    assert value["date"] == "2025-05-10"
    assert value["lr_scheduler_kwargs"] == {"num_cycles": 2, "deep": {"a": 1, "b": True}}
    assert value["text"] == "two\nlines\n"
    assert value["last"] is None


def test_json_with_tabs() -> None:
    text = json.dumps({"zero_optimization": {"stage": 2, "x": [1, 2.5]}}, indent="\t")
    found = tree(text)
    assert found.value == json.loads(text)
    place = found.at("zero_optimization", "x", 1)
    assert place is not None
    assert place.span.text == "2.5"


def test_aliases_and_merges() -> None:
    found = tree("base: &b {x: 1, y: 2}\nown:\n  <<: *b\n  y: 3\nagain: *b\n")
    assert found.value["own"] == {"x": 1, "y": 3}
    entry = found.entry("again")
    assert entry is not None
    assert entry.span.text == "again", "an alias's value stands elsewhere"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1, 2", "expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n b: 2\n", "mapping values are not allowed here"),
        ("a: \x07\n", "YAML does not allow the character"),
        ("", "the file is empty"),
        ("? [a]\n: 1\n", "a key must be a scalar"),
        ("a: &a [*a]\n", "an alias refers to a value that contains it"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str, said: str) -> None:
    sink = Sink()
    assert read(Source("x.yaml", text), sink) is None
    assert [one.code for one in sink] == ["FT050"]
    assert said in next(iter(sink)).message


@pytest.mark.parametrize(
    "text", ["a: !!python/object:os.system x\n", "a: !!python/object/apply:os.system [x]\n", "a: !own x\n"]
)
def test_a_tag_of_another_kind_is_refused_at_its_place(text: str) -> None:
    sink = Sink()
    tree = read(Source("x.yaml", text), sink)
    assert [one.code for one in sink] == ["FT050"] and "cannot contain" in next(iter(sink)).message
    assert tree is not None and set(tree.value) == {"a"}


def test_what_is_nested_too_deeply_is_one_sentence() -> None:
    limit, sink = sys.getrecursionlimit(), Sink()
    sys.setrecursionlimit(900)
    try:
        assert read(Source("x.yaml", "[" * 800 + "]" * 800), sink) is None
    finally:
        sys.setrecursionlimit(limit)
    assert "nested too deeply" in next(iter(sink)).message


@pytest.mark.parametrize(
    ("text", "path", "left"),
    [
        ("a: 1\nb: 2 # why\nc: 3\n", ("b",), "a: 1\nc: 3\n"),
        ("a: 1\nb:\n  c: 2\n  d: 3\n# next\ne: 4\n", ("b",), "a: 1\n# next\ne: 4\n"),
        ("a: 1\nb: 2", ("b",), "a: 1\n"),
        ('{"a": 1, "b": 2, "c": 3}', ("b",), '{"a": 1, "c": 3}'),
        ('{"a": 1, "b": 2}', ("b",), '{"a": 1}'),
        ('{"a": {"b": 2}}', ("a", "b"), '{"a": {}}'),
    ],
)
def test_taking_an_entry_out(text: str, path: tuple[str, ...], left: str) -> None:
    root = tree(text)
    parent = root.at(*path[:-1])
    entry = parent.entry(path[-1]) if parent else None
    assert parent
    assert entry
    edit = removal(parent, entry)
    after = text[: edit.span.start] + edit.text + text[edit.span.end :]
    assert after == left
    assert yaml.safe_load(after) is not None


def problems(text: str) -> tuple[Node | None, list[tuple[str, str]]]:
    """The tree, and (message, text it is about) of everything that is wrong."""
    sink = Sink()
    found = read(Source("x.yaml", text), sink)
    return found, [(one.message, one.span.text if one.span else "") for one in sink]


@pytest.mark.parametrize(
    "value",
    [
        '!!int ""', "!!bool maybe", '!!float ""', "!!timestamp x", "!!binary aGk=", "!!set {a}", "!!set x", "!!omap [a: 1]",
        "!!pairs [a: 1]", "0x" + "f" * 5000, "9" * 70_000, "!!int x", "!foo 1", "!foo [1]", "!!python/name:os.system x",
        "!!python/object:os.system x", "!!python/tuple [1]", "!!map x", "!!seq x", "!!str {a: 1}",
        '"\\ud800"', '"\\udc00\\ud800"', "!!int 1:99:x", "!!int 0b2", "!!merge x",
    ],
)  # fmt: skip
def test_a_value_that_its_tag_cannot_read_is_an_error_at_its_place(value: str) -> None:
    found, wrong = problems(f"a: 1\nb: {value}\nc: [2]\n")
    assert found is not None
    assert found.value == {"a": 1, "b": None if found.value["b"] is None else found.value["b"], "c": [2]}
    assert len(wrong) == 1
    assert wrong[0][1] == value
    json.dumps(found.value)


@pytest.mark.parametrize(
    "value", ['!!int ""', "9" * 70_000, "!!binary aGk=", "[", "*a", '"\\ud800"', "!!set {a}", "{" * 5000]
)
def test_a_flag_that_is_no_value_is_a_text(value: str) -> None:
    assert scalar(value) == value


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 x", *(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels))]
    return "\n".join(lines) + "\n"


MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], y{n}: 1}}\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    "text",
    [bomb(10, 9), bomb(40, 2), MERGES, "{" * 5000, "a: " + "[" * 100_000, "- " * 5000, "? " * 5000, "a: 1\n" * 200_000,
     "x: " + "y" * (1 << 21), "a: &a [*a]", "&a {b: *a}", "\n".join(" " * n + "a:" for n in range(1400))],
    ids=range(12),
)  # fmt: skip
@pytest.mark.slow
def test_what_would_be_endless_is_an_error_soon(text: str) -> None:
    start = time.process_time()
    found, wrong = problems(text)
    assert time.process_time() - start < 10
    assert found is None
    assert len(wrong) == 1


def test_aliases_within_reason_are_read() -> None:
    found, wrong = problems(bomb(4, 9))
    assert wrong == []
    assert found is not None
    assert len(found.value["a3"]) == 9


def test_json_joins_the_halves_of_a_character() -> None:
    text = json.dumps({"😀": "a 😀 b"})
    assert "\\ud83d" in text
    found, wrong = problems(text)
    assert wrong == []
    assert found is not None
    assert found.value == {"😀": "a 😀 b"}


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_any_text_comes_through_or_is_refused(value: str) -> None:
    key = value[:100]  # YAML takes no longer ones
    for text in (json.dumps({"a": value, key: 1}), str(yaml.safe_dump({"a": value, key: 1}, default_style='"'))):
        found, wrong = problems(text)
        assert found is not None
        if not wrong:
            assert found.value["a"] == value
            json.dumps(found.value).encode()

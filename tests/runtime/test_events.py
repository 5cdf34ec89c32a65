"""The shapes of events and results: what is written can be read, and nothing that a stage writes can break a reader."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftdsl.runtime import events

SAMPLE: dict[str, dict[str, Any]] = {
    "attempt": {},
    "start": {"stage": "10-a", "step": 0, "total_steps": 3, "world_size": 1},
    "step": {"step": 1, "total_steps": 3, "epoch": 0.5, "loss": 1.5, "lr": 1e-4, "grad_norm": 2.0,
             "elapsed": 1.0, "remaining": 2.0},
    "eval": {"step": 1, "metrics": {"loss": 1.0}},
    "progress": {"done": 1.5, "total": 3.0, "what": "MB read"},
    "measured": {"steps": 3, "step_seconds": 0.1, "rss_bytes": 5},
    "warning": {"message": "m", "keys": ["a"], "help": "h", "code": "FT1"},
    "note": {"message": "m"},
    "guard": {"stage": "a", "step": 13, "anomaly": "nan", "action": "rollback", "message": "m"},
    "phase": {"step": 3, "micro": 2, "accumulate": 4, "rows": 16},
    "error": {"message": "f:1: bad", "kind": "json"},
    "gate": {"metric": "loss", "op": "at_most", "value": 1.0, "bound": 2.0, "holds": True, "message": "m"},
    "end": {"ok": False, "message": "m", "keys": ["a"]},
    "run": {"id": "1", "name": "r", "smoke": False, "stages": [], "pid": 4},
    "stage": {"stage": "a", "status": "running", "folder": "10-a", "key": "k", "started": 1.0},
    "stop": {},
}  # fmt: skip


def test_every_kind_has_a_sample() -> None:
    assert SAMPLE.keys() == events.FIELDS.keys()


@pytest.mark.parametrize("kind", SAMPLE)
def test_what_is_written_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    events.append(path, kind, **SAMPLE[kind])
    (event,) = events.read(path)
    assert event["schema"] == events.SCHEMA and event["time"] > 1e9
    assert {name: event[name] for name in SAMPLE[kind]} == SAMPLE[kind]


def test_a_field_there_is_not_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match="no losss"):
        events.made("step", step=1, losss=2.0)


def test_numbers_json_has_no_words_for() -> None:
    line = events.line(events.made("step", step=1, loss=math.nan, grad_norm=-math.inf))
    json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    event = events.parse(line)
    assert event and math.isnan(event["loss"]) and event["grad_norm"] == -math.inf


BAD = ["inf", "nan", 10**400, -1, 1e308 * 10, True, None, [], {}, "x", [1], "1" * 5000, 0.5]


@pytest.mark.parametrize("bad", BAD, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("name", ["step", "total_steps", "remaining", "loss", "lr", "elapsed"])
def test_a_malformed_field_is_dropped_and_named(name: str, bad: object) -> None:
    """`"remaining": "inf"` and integers above 1e308 ended `ftc run`, and with it all other stages."""
    malformed: list[str] = []
    raw = json.dumps({"event": "step", "step": 1, "loss": 1.0} | {name: bad}).encode()
    event = events.parse(raw, malformed)
    if event is not None and name in event:
        assert isinstance(event[name], int | float)
        assert name not in ("step", "total_steps"), "none of these counts anything"
        if name in ("remaining", "elapsed"):
            assert math.isfinite(event[name])
    elif bad is not None:
        assert len(malformed) == 1 and f"`{name}`" in malformed[0]
    assert event is not None or name == "step"


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(10**320), max_value=10**320)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(events.FIELDS)), st.data())
@pytest.mark.slow
def test_no_line_breaks_a_reader(kind: str, data: st.DataObject) -> None:
    fields = data.draw(st.dictionaries(st.sampled_from([*events.FIELDS[kind], "time", "schema", "other"]), ANYTHING))
    raw = json.dumps({"event": kind} | fields).encode()
    event = events.parse(raw, [])
    assert event is None or set(event) <= {"event", "schema", "time", *events.FIELDS[kind]}
    cut = data.draw(st.integers(0, len(raw)))
    assert events.parse(raw[:cut]) is None or cut == len(raw)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_break_a_reader(raw: bytes) -> None:
    events.parse(raw)


def test_a_deep_line_and_a_long_one_are_passed_over() -> None:
    assert events.parse(b"[" * 100_000) is None
    assert events.parse(b'{"event": "note", "message": "' + b"x" * events.LONGEST + b'"}') is None


def test_a_torn_tail_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in range(3):
        events.append(path, "step", step=step)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        assert [event["step"] for event in events.read(path)] == list(range(whole[:size].count(b"\n")))


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"metrics": 3}', '{"metrics": {"a": 1e999, "b": "x", "c": [1]}}', "9" * 5000]
)
def test_a_result_of_any_shape(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content, encoding="utf-8")
    found = events.read_result(tmp_path)
    assert found is None or (isinstance(found["metrics"], dict) and isinstance(found["samples"], list))


def test_a_result_is_read_as_it_was_saved(tmp_path: Path) -> None:
    events.save_result(
        tmp_path, {"kind": "metrics", "path": "10-a", "metrics": {"loss": 1.0, "bad": math.nan}, "smoke": True}
    )
    found = events.read_result(tmp_path)
    assert found and found["metrics"]["loss"] == 1.0 and math.isnan(found["metrics"]["bad"]) and found["smoke"] is True

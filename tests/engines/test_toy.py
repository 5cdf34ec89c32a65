"""The seam of engines: one that is not part of ftdsl compiles and runs, its stage beside a LLaMA-Factory stage in one recipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftdsl import catalog
from ftdsl.engines import registry
from ftdsl.language.resolve.resolve import Options
from ftdsl.observe.progress import NoView
from ftdsl.pipeline import compile_recipe
from ftdsl.run.carry_out import carry_out, environments_of
from ftdsl.run.prepare import Wishes, selected
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled
from tests.conftest import NOWHERE, Outcome
from tests.engines.toy import TOY

RECIPE = """
hardware { gpu = none, count = 1 }
duration = 2 epochs
data rows { source = file("rows.jsonl") }
sft tally { engine = toy, model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2), data = rows, full { } }
sft chat { model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2), data = rows, lora { rank = 4 } }
"""
ROWS = {"rows.jsonl": '{"instruction": "q", "output": "one two two"}\n' * 8}


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    registry.register(TOY)
    yield
    registry.forget(TOY.name)


def test_its_stage_stands_beside_another_engines(checked: Callable[..., Outcome]) -> None:
    outcome = checked(RECIPE, ROWS)
    assert outcome.codes == []
    jobs = {job.key: job for job in outcome.checked.jobs}
    assert (jobs["tally"].environment, jobs["chat"].environment) == ("toy", "llamafactory")
    (spec,) = [document.data for document in jobs["tally"].documents if document.kind == "json"]
    assert spec["longest"] == 64 and spec["passes"] == 2, "its own default, and its own name for a duration"
    assert any(document.path.endswith("train.yaml") for document in jobs["chat"].documents)


@pytest.mark.parametrize(
    ("stage", "code", "text"),
    [
        ("optim { schedule = cosine }", "FT012", "`optim.schedule` cannot be compiled for Toy"),
        ("lora { }", "FT012", "Toy has no `lora`"),
        ("llamafactory { cache_dir = \"x\" }", "FT012", "`llamafactory { }` is for LLaMA-Factory"),
    ],
)  # fmt: skip
def test_what_it_cannot_do_is_refused_at_the_key(
    stage: str, code: str, text: str, checked: Callable[..., Outcome]
) -> None:
    full = "" if "lora" in stage else "full { },"
    outcome = checked(RECIPE.replace("full { }", f"{full} {stage}"), ROWS)
    assert [(one.code, text in one.message) for one in outcome.found if one.severity.value == "error"] == [(code, True)]


def test_an_engine_that_is_not_there_is_named(checked: Callable[..., Outcome]) -> None:
    found = checked(RECIPE.replace("engine = toy", "engine = tou"), ROWS).only("FT002")
    assert "toy" in (found.help or found.label)
    registry.forget("toy")
    assert "toy" not in catalog.names("engines")


def test_it_runs_by_the_same_way_as_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    scratch = "scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2)"  # which needs transformers to be made
    Path("r.ft").write_text(RECIPE.replace(scratch, 'hf("a/b")', 1), encoding="utf-8")
    session = Session(env={**NOWHERE})
    compiled = compile_recipe(Path("r.ft"), Options(), session)
    assert isinstance(compiled, Compiled), [one.message for one in session.sink.ordered()]
    wishes = Wishes(only=("tally",))
    jobs = selected(compiled.jobs, wishes)
    outcome = carry_out(compiled, wishes, environments_of(jobs, compiled, session.env), NoView())
    assert outcome.status == 0, outcome.problems
    stage = next(stage for stage in outcome.progress.stages if stage.key == "tally") if outcome.progress else None
    assert stage is not None and stage.result is not None and stage.result.metrics == {"words": 2}
    words = json.loads((outcome.progress.folder / stage.result.path / "model.safetensors").read_text())
    assert words == {"one": 8, "two": 16}

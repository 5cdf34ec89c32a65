"""What we compile comes back: import(compile(recipe)) says the same parameters again, for every recipe there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.engines.jobs import Document, Job
from ftdsl.importers.files import find
from ftdsl.importers.imports import import_all
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.recipe.rules.data import sources
from ftdsl.session import Files, Session
from ftdsl.targets.artifacts import document_text
from tests.conftest import CORPUS, EXAMPLES

NAMED_ANEW = (
    "media_dir",
    "run_name",
    "dataset",
    "dataset_dir",
    "eval_dataset",
    "deepspeed",
    "output_dir",
    "overwrite_output_dir",
)
"""Named after the recipe and its folders; data sets are compared by what they are."""


def compiled(path: Path) -> tuple[Job, ...]:
    """Jobs of a recipe, with data that is not here stood in for."""
    session = Session()
    found = check(path, Options(), session)
    if found.recipe is None or not session.sink.failed:
        return found.jobs
    absent = {}
    for stage in found.recipe.stages:
        for _, item in sources(stage):
            if (named := getattr(item, "options", {}).get("path")) and not (path.parent / named).exists():
                entry = item.options.get("entry")
                absent[path.parent / named] = f'{{"{entry}": {{"file_name": "{entry}.json"}}}}' if entry else ""
    own = Session(files=Files(absent))
    jobs = check(path, Options(), own).jobs
    return () if own.sink.failed else jobs


def training() -> list[Any]:
    """Every training job of every recipe that can be compiled."""
    found = []
    for path in [*EXAMPLES, *CORPUS]:
        for job in compiled(path):
            documents = [document.data for document in job.documents if document.path.endswith("/train.yaml")]
            if documents and documents[0].get("template") in (
                None,
                *catalog.templates("llamafactory"),
            ):  # not one of the recipe's own
                found.append(pytest.param(job, id=f"{path.stem}-{job.key}"))
    return found


JOBS = training()


def train_yaml(job: Job) -> dict[str, Any]:
    return next(dict(document.data) for document in job.documents if document.path.endswith("/train.yaml"))


def put(folder: Path, document: Document) -> Path:
    path = folder / document.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document_text(document), encoding="utf-8")
    return path


def test_there_are_enough() -> None:
    assert len(JOBS) > 40


@pytest.mark.parametrize("job", JOBS)
def test_what_we_compile_imports_to_the_same(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {document.path: put(tmp_path, document) for document in job.documents}
    path = next(path for path in files.values() if path.name == "train.yaml")
    given = [path, *(path for path in files.values() if path.name == "accelerate.yaml")]
    session = Session()
    found = find([(one, one.read_text(encoding="utf-8")) for one in given], session)
    made = import_all(found.starts, "again", tmp_path / "again.ft", [], session)
    again = next(job for job in import_jobs(made.text, tmp_path) if job.kind != "tokens")
    assert [note.text for note in made.notes if not note.carried] == []
    assert [str(one) for stage in made.differences.values() for one in stage if not one.why] == []
    assert plain(train_yaml(again)) == plain(train_yaml(job))


def import_jobs(text: str, folder: Path) -> tuple[Job, ...]:
    path = folder / "again.ft"
    path.write_text(text, encoding="utf-8")
    for name in re.findall(r'file\("(inputs/[^"]*)"', text):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return compiled(path)


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Paths as the first recipe has them, and without what is named anew."""

    def one(value: Any) -> Any:
        return value.replace("inputs/", "") if isinstance(value, str) else value

    return {name: one(value) for name, value in sorted(params.items()) if name not in NAMED_ANEW and value is not None}

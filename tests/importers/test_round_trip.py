"""What we compile comes back: import(compile(recipe)) says the same parameters again, for every recipe there is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.engines.jobs import Document, Job
from ftdsl.importers.files import find
from ftdsl.importers.imports import Imported, import_all
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
    session = Session(elsewhere=True)  # rows of what was compiled are made when it runs
    found = check(path, Options(), session)
    if found.recipe is None or not session.sink.failed:
        return found.jobs
    absent = {}
    for stage in found.recipe.stages:
        for _, item in sources(stage):
            if (named := getattr(item, "options", {}).get("path")) and not (path.parent / named).exists():
                entry = item.options.get("entry")
                absent[path.parent / named] = f'{{"{entry}": {{"file_name": "{entry}.json"}}}}' if entry else ""
    own = Session(files=Files(absent), elsewhere=True)
    jobs = check(path, Options(), own).jobs
    return () if own.sink.failed else jobs


def training(path: Path) -> list[Job]:
    """Every training job of LLaMA-Factory in a recipe, but for those with a template of the recipe's own."""
    found = []
    for job in compiled(path):
        if job.environment != "llamafactory":
            continue
        documents = [document.data for document in job.documents if document.path.endswith("/train.yaml")]
        if documents and documents[0].get("template") in (None, *catalog.templates("llamafactory")):
            found.append(job)
    return found


NOTHING_TO_TRAIN = {
    "07_ppo", "08_predict", "09_merge", "10_quantize_gptq", "27_asft", "30_vlm_video", "38_handbook_all",
    "49_megatron_bridge", "50_custom_template", "common", "grpo", "profiles",
}  # fmt: skip
"""Recipes that have no such job, or are refused (docs/corpus.md tells which, and why)."""


def train_yaml(job: Job) -> dict[str, Any]:
    return next(dict(document.data) for document in job.documents if document.path.endswith("/train.yaml"))


def put(folder: Path, document: Document) -> Path:
    path = folder / document.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document_text(document), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", [*EXAMPLES, *CORPUS], ids=lambda path: path.stem)
@pytest.mark.slow
def test_what_we_compile_imports_to_the_same(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = training(path)
    assert bool(jobs) == (path.stem not in NOTHING_TO_TRAIN)
    for job in jobs:
        folder = tmp_path / job.key
        folder.mkdir()
        monkeypatch.chdir(folder)
        again, made = imported(job, folder)
        assert [note.text for note in made.notes if not note.carried] == [], job.key
        assert [str(one) for stage in made.differences.values() for one in stage if not one.why] == [], job.key
        assert plain(train_yaml(again)) == plain(train_yaml(job)), job.key


def imported(job: Job, folder: Path) -> tuple[Job, Imported]:
    """The job that the import of a job's files compiles to, and the import."""
    files = {document.path: put(folder, document) for document in job.documents}
    path = next(path for path in files.values() if path.name == "train.yaml")
    given = [path, *(path for path in files.values() if path.name == "accelerate.yaml")]
    session = Session()
    found = find([(one, one.read_text(encoding="utf-8")) for one in given], session)
    made = import_all(found.starts, "again", folder / "again.ft", [], session)
    return next(job for job in import_jobs(made.text, folder) if job.kind != "tokens"), made


def import_jobs(text: str, folder: Path) -> tuple[Job, ...]:
    path = folder / "again.ft"
    path.write_text(text, encoding="utf-8")
    for name in re.findall(r'file\("(inputs/[^"]*)"', text):
        if "checkpoint-" in name:  # a folder, which `resume` looks into
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / "trainer_state.json").write_text('{"global_step": 1}', encoding="utf-8")
            (folder / name / "adapter_config.json").write_text("{}", encoding="utf-8")
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return compiled(path)


def plain(params: dict[str, Any]) -> dict[str, Any]:
    """Paths as the first recipe has them, and without what is named anew."""

    def one(value: Any) -> Any:
        return value.replace("inputs/", "") if isinstance(value, str) else value

    return {name: one(value) for name, value in sorted(params.items()) if name not in NAMED_ANEW and value is not None}

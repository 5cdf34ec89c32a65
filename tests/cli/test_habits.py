"""Words of other tools on the command line: the error names what `ftc` calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftdsl.cli import habits
from ftdsl.cli.main import VERBS, main
from ftdsl.engines.reference import find
from tests.conftest import ROWS, ftc, small


@pytest.mark.parametrize(
    ("word", "verb"),
    [("chek", "check"), ("lint", "check"), ("validate", "check"), ("train", "run"), ("apply", "run"), ("Stop", "cancel"),
     ("ps", "status"), ("dry_run", "plan"), ("hpo", "search"), ("prune", "clean"), ("build", "compile")],
)  # fmt: skip
def test_a_verb_is_meant(word: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word, "r.ft"]) == 2
    assert capsys.readouterr().err == f"ftc: error: there is no verb `{word}`; did you mean `ftc {verb}`?\n"


def test_a_verb_nobody_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["frobnicate"]) == 2
    assert capsys.readouterr().err == "ftc: error: there is no verb `frobnicate`; see ftc --help\n"


@pytest.mark.parametrize("word", sorted(word for words in habits._VERBS.values() for word in words.split()))
def test_what_is_a_verb_here_has_no_other_meaning(word: str) -> None:
    assert word not in VERBS
    assert habits.verb_meant(word, VERBS) in VERBS


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["check", "--fixx", "r.ft"], "there is no option `--fixx`; did you mean `--fix`?"),
        (["check", "--format=json", "r.ft"], "there is no option `--format`; did you mean `--output-format`?"),
        (["run", "--dry-run", "r.ft"], "there is no option `--dry-run`; ftc plan FILE shows what would run"),
        (["run", "r.ft", "--gpus", "2"], "there is no option `--gpus`; write `hardware { count = 2 }`"),
        (["run", "r.ft", "--override", "x=1"], "there is no option `--override`; did you mean `--set KEY=VALUE`?"),
        (["check", "--override", "x=1"], "there is no option `--override`; did you mean `--set KEY=VALUE`?"),
        (["engine", "install", "--cpuu", "trl"], "there is no option `--cpuu`; did you mean `--cpu`?"),
        (["check", "--strict", "r.ft"], "there is no option `--strict`; see ftc check --help"),
        (["lsp", "r.ft"], "unexpected argument `r.ft`; see ftc lsp --help"),
    ],
)
def test_an_option_is_meant(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert hint in error and error.count("\n") == 1, error


def test_a_stage_beside_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "r.ft", "sft"]) == 2
    assert capsys.readouterr().err == "error: run one recipe at a time; one stage: --only sft\n"


def test_a_recipe_that_is_not_there(tmp_path: Path) -> None:
    for name, text in {"first.ft": small("lora {}"), "other.ft": small("lora {}"), **ROWS}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    for name, hint in (("frist.ft", "did you mean `first.ft`?"), ("nothing.ft", "recipes here: first.ft, other.ft")):
        for verb in ("check", "plan", "compile", "run"):
            done = ftc(verb, name, cwd=tmp_path)
            assert done.returncode == 1 and hint in done.stdout + done.stderr, done


@pytest.mark.parametrize(
    ("name", "path"),
    [("cutoff_len", "max_len"), ("learning_rate", "optim.lr"), ("epochs", "duration"), ("r", "lora.rank"),
     ("lora_r", "lora.rank"), ("num_train_epochs", "duration"), ("use_dora", "lora.variant"),
     ("per_device_train_batch_size", "batch.micro")],
)  # fmt: skip
def test_a_name_of_an_engine_is_explained_by_its_key(
    name: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert path in [getattr(entry, "path", "") for entry in find(name)]
    assert main(["explain", name, "--json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert path in [entry["path"] for entry in (documents if isinstance(documents, list) else [documents])]


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        (
            "train.yaml",
            "stage: sft\n",
            "`ftc import train.yaml` makes a recipe of it, `ftc check train.yaml` checks it",
        ),
        ("a b.sh", "llamafactory-cli train a.yaml\n", "`ftc import 'a b.sh'` makes a recipe of it"),
        ("train.py", "import torch\n", "`ftc check train.py` says what can be done with it"),
        ("rows.jsonl", "{}\n", "a recipe names it"),
    ],
)
def test_another_file_is_given_as_a_recipe(name: str, text: str, hint: str, tmp_path: Path) -> None:
    """One message, whatever the verb, and nothing is read as a recipe that is none."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    for verb in (["plan"], ["run"], ["run", "--smoke"], ["compile"], ["graph"], ["explain"], ["fmt"], ["data", "show"]):
        done = ftc(*verb, name, cwd=tmp_path)
        shown = done.stdout + done.stderr
        assert done.returncode == 1 and hint in shown and shown.count("error[") == 1, (verb, shown)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    document = json.loads(ftc("plan", name, "--json", cwd=tmp_path).stdout)
    assert [problem["code"] for problem in document["problems"]] == ["FT051"]

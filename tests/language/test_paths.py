"""Paths that no file system takes as they are meant: said where they stand, wherever a path may stand, and no verb breaks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import ftc
from tests.conftest import ROWS, Outcome

LONG = "t" * 300
PLACES = {
    "to": 'sft {{ model = hf("a/b"), data = file("rows.jsonl"), to = {path} }}',
    "to of a merge": 'merge m {{ model = hf("a/b"), to = {path} }}',
    "model": 'sft {{ model = file({path}), data = file("rows.jsonl") }}',
    "adapter": 'sft {{ model = adapter(file({path}), base = hf("a/b")), data = file("rows.jsonl") }}',
    "data": 'sft {{ model = hf("a/b"), data = file({path}) }}',
    "source": "data d {{ source = [file({path}), file(\"rows.jsonl\")] }}",
    "held out": 'data d {{ source = file("rows.jsonl"), holdout {{ eval = file({path}) }} }}',
    "media": 'data d {{ source = hf("a/b"), media = {path} }}\nsft {{ model = hf("a/b"), data = d }}',
    "track.dir": 'sft {{ model = hf("a/b"), data = file("rows.jsonl"), track {{ to = tensorboard, dir = {path} }} }}',
    "outputs": 'shell s {{ run = "true", outputs = [{path}] }}',
    "engine": "engine = llamafactory(python = {path})\nshell s {{ run = \"true\" }}",
    "by a name": "let p = {path}\nsft {{ model = hf(\"a/b\"), data = file(\"rows.jsonl\"), to = p }}",
}  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", [LONG, f"{LONG}/x", f"a/{LONG}", "é" * 200, f"/{LONG}"])
def test_a_name_that_is_too_long(place: str, path: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(PLACES[place].format(path=f'"{path}"') + "\n", ROWS)
    found = [one for one in outcome.found if one.code == "FT003" and "bytes" in one.message]
    assert found, outcome.codes
    assert found[0].span is not None
    assert path in found[0].span.text or found[0].span.text == "p"


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("path", ["~/x", "~", "~other/x"])
def test_a_tilde(place: str, path: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(PLACES[place].format(path=f'"{path}"') + "\n", ROWS)
    assert "FT059" in outcome.codes, outcome.codes


def test_the_home_is_named_by_the_environment(checked: Callable[..., Outcome]) -> None:
    text = 'let home = env("HOME")\nsft { model = hf("a/b"), data = file("rows.jsonl"), to = "{home}/x~/y" }\n'
    outcome = checked(text, ROWS, HOME="/somewhere")
    assert outcome.checked.recipe is not None
    assert outcome.checked.recipe.stages[0].settings.get("to") == "/somewhere/x~/y"
    assert not {"FT059", "FT003"} & set(outcome.codes)


KEYS = ("output_dir", "model_name_or_path", "adapter_name_or_path", "dataset_dir", "deepspeed", "media_dir", "tokenized_path",
        "resume_from_checkpoint", "cache_dir")  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
def test_in_a_configuration(key: str, tmp_path: Path) -> None:
    given = {
        "stage": "sft",
        "do_train": "true",
        "model_name_or_path": "a/b",
        "dataset": "x",
        "template": "qwen",
        "output_dir": "o",
    }
    text = "".join(f"{name}: {value}\n" for name, value in {**given, key: f"a/{LONG}"}.items())
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    done = ftc("check", "a.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "FT003" in done.stdout
    assert "a.yaml:" in done.stdout


@pytest.mark.parametrize(
    "pattern", ["a**b", "**", "**/", "***", "[", "a[", "/**x", "a**b/c.jsonl", "*" * 300, "?" * 3, "\\u{1}*"]
)
@pytest.mark.slow
def test_a_pattern_of_any_kind(pattern: str, tmp_path: Path) -> None:
    for text in (
        f'data d {{ source = file("{pattern}") }}\n',
        f'sft {{ model = file("{pattern}"), data = file("{pattern}"), lora {{}} }}\n',
        f'shell s {{ run = "true", inputs = [file("{pattern}")] }}\n',
    ):
        (tmp_path / "r.ft").write_text(text, encoding="utf-8")
        for verb in ("check", "plan", "compile", "explain", "graph"):
            done = ftc(verb, "r.ft", cwd=tmp_path)
            assert "bug" not in done.stderr, done.stderr
            assert "Traceback" not in done.stderr

"""Which versions count, and what a recipe held to an older one compiles to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl.environments import resolve_versions
from ftdsl.session import Session
from tests.conftest import ROWS, Outcome, ftc, small
from tests.engines.test_lower import lowered, parameters


def environment(folder: Path, **versions: str) -> Path:
    """What an environment looks like from outside: folders named after what is installed. Returns its Python."""
    for name, version in versions.items():
        (folder / "lib" / "python3.11" / "site-packages" / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text("#!/bin/false\n", encoding="utf-8")
    return folder / "bin" / "python"


NOWHERE = {"FTC_ENGINE_PYTHON": "/nowhere/python"}


def test_a_pin_comes_before_what_is_installed_and_that_before_the_newest(tmp_path: Path) -> None:
    python = str(environment(tmp_path / "e", llamafactory="0.9.4", transformers="4.57.2", Foo_Bar="1"))
    here = Session(env={"FTC_ENGINE_PYTHON": python})
    pinned = resolve_versions("llamafactory", here, version="0.9.2")
    assert (pinned.of(), pinned.of("transformers")) == ("0.9.2", "4.49.0")
    found = resolve_versions("llamafactory", here)
    assert (found.of(), found.of("transformers"), found.of("peft")) == ("0.9.4", "4.57.2", "")
    assert found.packages["llamafactory"].source == f"{python} (FTC_ENGINE_PYTHON)"
    assert found.facts("transformers") == "4.57.1", "the nearest known one stands in"
    same = resolve_versions("llamafactory", here, version="0.9.4")
    assert same.of("transformers") == "4.57.2", "what is pinned is what is installed"
    none = resolve_versions("llamafactory", Session(env=NOWHERE))
    assert (none.of(), none.of("transformers")) == ("0.9.5", "5.6.0")
    assert none.notable == "" != found.notable


def test_a_lock_holds_whatever_is_installed(tmp_path: Path) -> None:
    python = str(environment(tmp_path / "e", llamafactory="0.9.4", transformers="4.57.1"))
    session = Session(env={"FTC_ENGINE_PYTHON": python}, pins={"llamafactory": "0.9.5", "transformers": "5.2.0"})
    held = resolve_versions("llamafactory", session)
    assert (held.of(), held.of("transformers")) == ("0.9.5", "5.2.0")
    assert held.packages["transformers"].source == "the lock"


def test_the_recipe_s_python_is_seen_from_its_folder(tmp_path: Path, checked: Callable[..., Outcome]) -> None:
    environment(tmp_path / "lf", llamafactory="0.9.4", transformers="4.57.1")
    outcome = checked(small(file='engine = llamafactory(python = "lf/bin/python")'), ROWS, FTC_ENGINE_PYTHON="")
    assert outcome.checked.recipe
    assert outcome.checked.recipe.versions.of() == "0.9.4"


def old(version: str, stage: str) -> str:
    """A recipe of a model that all the versions know."""
    return small(stage, file=f'engine = llamafactory("{version}")').replace("Qwen3-0.6B", "Qwen2.5-0.5B")


@pytest.mark.parametrize(
    ("version", "stage", "wanted"),
    [
        ("0.9.3", "optim { warmup = 5% }", {"warmup_ratio": 0.05, "warmup_steps": None}),
        ("0.9.3", "optim { warmup = 50 steps }", {"warmup_ratio": None, "warmup_steps": 50}),
        ("0.9.5", "optim { warmup = 5% }", {"warmup_ratio": None, "warmup_steps": 0.05}),
        ("0.9.3", "loader { order = by_length }", {"group_by_length": True, "train_sampling_strategy": None}),
        ("0.9.2", "quantize { bits = 4, scheme = nf4 }", {"quantization_method": "bitsandbytes"}),
        ("0.9.3", "quantize { bits = 4, scheme = nf4 }", {"quantization_method": "bnb"}),
        ("0.9.2", 'tokenizer { special = ["<a>"] }', {"new_special_tokens": "<a>", "add_special_tokens": None}),
    ],
)
def test_old_versions_are_told_in_their_own_words(
    version: str, stage: str, wanted: dict[str, Any], checked: Callable[..., Outcome]
) -> None:
    found = parameters(lowered(checked(old(version, stage), ROWS))["sft"])
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("version", "stage", "said", "place"),
    [
        ("0.9.2", "guard { patience = 3 }", "0.9.2 has no `early_stopping_steps`: added in 0.9.3", "3"),
        ("0.9.4", "loss = eaft(alpha = 2.0)", "0.9.4 has no `use_eaft_loss`: added in 0.9.5", "eaft(alpha = 2.0)"),
        ("0.9.2", "template = qwen3", "0.9.2 has no `qwen3`: added in 0.9.3", "qwen3"),
        ("0.9.0", "optim { name = stable_adamw }", "transformers 4.45.0 has no `stable_adamw`: added in", None),
        ("0.9.2", "llamafactory { sglang_maxlen = 1 }", "no parameter `sglang_maxlen`: added in LLaMA-Factory 0.9.3",
         "sglang_maxlen"),
        ("0.9.3", "llamafactory { video_resolution = 1 }", "removed in LLaMA-Factory 0.9.2", "video_resolution"),
        ("0.9.5", "llamafactory { jit_mode_eval = true }", "transformers 5.6.0 has no parameter `jit_mode_eval`: removed "
         "in transformers 5.0.0", "jit_mode_eval"),
        ("0.9.3", "llamafactory { sglang_maxle = 1 }", "LLaMA-Factory 0.9.3 has no parameter `sglang_maxle`", "sglang_maxle"),
    ],
)  # fmt: skip
def test_what_a_version_lacks_is_an_error_at_the_word(
    version: str, stage: str, said: str, place: str | None, checked: Callable[..., Outcome]
) -> None:
    found = [one for one in checked(old(version, stage), ROWS).found if one.severity.value == "error"]
    assert any(said in one.message and one.span and place in (None, one.span.text) for one in found), [
        (one.message, one.span and one.span.text) for one in found
    ]


def test_parameters_of_another_version_pass_through(checked: Callable[..., Outcome]) -> None:
    found = lowered(checked(old("0.9.4", "llamafactory { kt_maxlen = 2 }"), ROWS))["sft"]
    assert parameters(found)["kt_maxlen"] == 2


@pytest.mark.parametrize(("version", "severity"), [("0.8.3", "error"), ("0.9.7", "warning"), ("0.9.5", "")])
def test_a_version_that_is_not_known_is_said(version: str, severity: str, checked: Callable[..., Outcome]) -> None:
    found = [one.severity.value for one in checked(old(version, ""), ROWS).found if one.code == "FT901"]
    assert found == [severity] * bool(severity)


@pytest.mark.parametrize(("transformers", "found"), [("5.15.1", ["transformers"]), ("5.6.0", []), ("4.57.0", [])])
def test_what_the_engine_refuses_at_start_is_said(
    transformers: str, found: list[str], tmp_path: Path, checked: Callable[..., Outcome]
) -> None:
    packages = {"llamafactory": "0.9.5", "transformers": transformers, "accelerate": "1.15.0", "deepspeed": "0.19.8"}
    python = str(environment(tmp_path / "e", **packages))
    outcome = [one for one in checked(small(), ROWS, FTC_ENGINE_PYTHON=python).found if one.code == "FT901"]
    said = [one for one in outcome if one.severity.value == "warning"]
    assert [one.message.split()[3] for one in said] == found
    assert [one.help for one in said] == ["install transformers>=4.55.0,<=5.6.0"] * len(found)
    only_pip = [one.message for one in outcome if one not in said]
    assert any("accelerate 1.15.0" in one for one in only_pip)


def test_the_lock_and_json_name_the_versions(tmp_path: Path) -> None:
    (tmp_path / "r.ft").write_text(old("0.9.3", ""), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    assert ftc("compile", "r.ft", cwd=tmp_path, **NOWHERE).returncode == 0
    assert json.loads((tmp_path / "r.lock").read_text())["pins"] == {"llamafactory": "0.9.3", "transformers": "4.52.4"}
    found = ftc("check", "r.ft", "--json", cwd=tmp_path, **NOWHERE)
    assert json.loads(found.stdout)["versions"]["r.ft"]["llamafactory"] == {"version": "0.9.3", "source": "the recipe"}
    assert "checked for llamafactory 0.9.3 (the recipe)" in ftc("check", "r.ft", cwd=tmp_path, **NOWHERE).stdout

"""Secrets that a recipe writes out: told at their line, and not in anything that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.engines.jobs import Raw
from tests.conftest import ROWS, Outcome, ftc, small

Check = Callable[..., Outcome]
VALUE = "0123456789abcdefghij"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WANDB_API_KEY", VALUE),
        ("DB_PWD", VALUE),
        ("MY_PAT", VALUE),
        ("https_proxy", f"http://me:{VALUE}@proxy:3128"),
        ("SERVICE", f"hf_{VALUE}"),
    ],
)
def test_a_secret_in_env_is_told_and_becomes_a_reference(checked: Check, name: str, value: str) -> None:
    found = checked(small(file=f'env {{ {name} = "{value}" }}'), ROWS)
    one = found.only("FT058")
    assert one.severity.value == "warning"
    assert one.span is not None
    assert one.span.source.line(one.span.source.position(one.span.start)[0]).startswith("env {")
    assert found.checked.jobs
    exported = [job.env[name] for job in found.checked.jobs if name in job.env]
    assert [one.text for one in exported if isinstance(one, Raw)] == [f'"${{{name}:?{name} is not set}}"']


def test_a_name_or_value_that_is_none_is_left_alone(checked: Check) -> None:
    text = 'env { TOKENIZERS_PARALLELISM = "false", MAX_TOKENS = "512", NCCL_DEBUG = "INFO", HF_HOME = "/data/hf" }'
    found = checked(small(file=text), ROWS)
    assert found.codes == []
    assert found.checked.jobs[0].env["MAX_TOKENS"] == "512"


def test_what_the_author_allows_stays_as_it_is(checked: Check) -> None:
    found = checked(small(file=f'env {{ PUBLIC_TOKEN = "{VALUE}" }} # ftc: allow FT058 "handed out to all"'), ROWS)
    assert found.codes == []
    assert found.checked.jobs[0].env["PUBLIC_TOKEN"] == VALUE


@pytest.mark.parametrize(
    "stage",
    [
        f'track {{ name = "hf_{VALUE}" }}',
        f'llamafactory {{ some_token = "{VALUE}" }}',
        f'deepspeed {{ comet.api_key = "{VALUE}" }}',
        f'system = "use ghp_{VALUE}{VALUE}"',
    ],
)
def test_a_secret_that_would_be_compiled_is_an_error(checked: Check, stage: str) -> None:
    found = checked(small(stage), ROWS)
    assert "FT058" in [one.code for one in found.found if one.severity.value == "error"]


def test_a_token_in_a_script_is_an_error(checked: Check) -> None:
    found = checked(small(file=f"shell a {{ run = 'curl -H \"Authorization: Bearer {VALUE}\" x' }}"), ROWS)
    assert "FT058" in found.codes


@pytest.mark.parametrize("name", ["HF_TOKEN", "MY_PAT", "DB_PWD", "PGPASSWORD", "SLACK_WEBHOOK"])
def test_env_of_a_secrets_name_is_refused(checked: Check, name: str) -> None:
    found = checked(small(f'track {{ project = env("{name}") }}'), ROWS, **{name: "x"})
    assert "FT047" in found.codes


@pytest.mark.parametrize("name", ["TOKENIZERS_PARALLELISM", "MAX_TOKENS", "MONKEY", "KEEP", "AUTHOR"])
def test_env_of_another_name_is_not(checked: Check, name: str) -> None:
    assert checked(small(f'track {{ project = env("{name}") }}'), ROWS, **{name: "x"}).codes == []


def test_env_that_holds_a_credential_is_refused_by_its_value(checked: Check) -> None:
    found = checked(small('track { project = env("PLACE") }'), ROWS, PLACE=f"http://me:{VALUE}@h")
    assert "FT047" in found.codes
    assert VALUE not in " ".join(one.message for one in found.found)


def test_no_artifact_and_no_message_holds_it(tmp_path: Path) -> None:
    for name, content in {**ROWS, "recipe.ft": small(file=f'env {{ DB_PASS = "{VALUE}" }}')}.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    said = ""
    verbs = ("check", "check --json", "compile -o out", "plan", "explain", "diff")
    for verb, *options in map(str.split, verbs):
        more = {"explain": ["sft.env.DB_PASS"], "diff": ["recipe.ft"]}.get(verb, [])
        done = ftc(verb, "recipe.ft", *more, *options, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        said += done.stdout + done.stderr
    assert VALUE not in said
    files = [path for path in [*(tmp_path / "out").rglob("*"), tmp_path / "recipe.lock"] if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if VALUE in path.read_text(encoding="utf-8")]

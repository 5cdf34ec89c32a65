"""Secrets in what is imported are named, and their values are nowhere: not in the recipe, what is said, or what is compiled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ftc

SCRIPT = {
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "OPENAI_KEY": "plainwords-one",
    "HF_AUTH": "plainwords-two",
    "MYSQL_PWD": "plainwords-three",
    "DB_PASS": "plainwords-four",
    "SWANLAB_APIKEY": "plainwords-five",
    "SSH_PRIVATE_KEY": "-----BEGIN OPENSSH PRIVATE KEY-----abcdef",
    "CLIENT_SECRET_B64": "cGxhaW53b3Jkcw==",
    "https_proxy": "http://user:plainwords-six@proxy:3128",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "MY_PAT": "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "GITLAB_PAT": "glpat-abcdefghij1234567890",
    "SLACK_HOOK": "https://hooks.slack.com/services/T00/B00/abcdefgh",
    "DATABASE_URL": "postgres://me:plainwords-seven@db/x",
    "SERVICE": "sk-proj-abc123DEF456ghi789jkl",
    "RUN_ID": "9f8a7b6c5d4e3f2a1b0c9f8a7b6c",
    "OLD_NAME": "xoxb-123456789012-abcdefghijkl",
}
FLAGS = {
    "hub_token": "plainwords-eight",
    "swanlab_api_key": "plainwords-nine",
    "swanlab_lark_webhook_url": "https://open.feishu.cn/open-apis/bot/v2/hook/plainwords-ten",
    "swanlab_lark_secret": "plainwords-eleven",
    "run_name": "hf_zyxwvutsrqponmlkjihgfedcba",
    "hf_hub_token": "plainwords-twelve",
    "made_up_token": "plainwords-thirteen",
}
PLAIN = {"NCCL_DEBUG": "INFO", "TOKENIZERS_PARALLELISM": "false", "HF_HOME": "/data/hf", "MAX_TOKENS": "512"}
PARAMETERS = {"stage": "sft", "do_train": "true", "model_name_or_path": "Qwen/Qwen3-0.6B", "dataset": "rows", "template": "qwen3",
              "output_dir": "out", "bf16": "true"}  # fmt: skip
TRAIN = " ".join(f"--{name} {value}" for name, value in PARAMETERS.items())


def script() -> str:
    lines = [f"export {name}='{value}'" for name, value in {**SCRIPT, **PLAIN}.items()]
    flags = " ".join(f"--{name} '{value}'" for name, value in FLAGS.items())
    return "\n".join([*lines, f"llamafactory-cli train {TRAIN} {flags}"]) + "\n"


@pytest.fixture
def imported(place: Path) -> tuple[Path, str]:
    """The folder, and everything the import said on stdout and stderr."""
    (place / "run.sh").write_text(script(), encoding="utf-8")
    done = ftc("import", "run.sh", "-o", "recipe.ft", "--json", "--verify", cwd=place)
    assert (place / "recipe.ft").exists(), done.stderr
    return place, done.stdout + done.stderr


def parts(value: str) -> list[str]:
    """The secret part of a value."""
    return [value.rpartition(":")[2].partition("@")[0]] if "@" in value else [value.rpartition("/")[2]]


def test_no_value_of_a_secret_is_anywhere(imported: tuple[Path, str]) -> None:
    place, draft = imported
    recipe = (place / "recipe.ft").read_text(encoding="utf-8")
    for name, value in {**SCRIPT, **FLAGS}.items():
        for part in parts(value):
            assert part not in recipe, name
            assert part not in draft, name


def test_secrets_of_the_environment_are_named_and_told(imported: tuple[Path, str]) -> None:
    place, draft = imported
    recipe = (place / "recipe.ft").read_text(encoding="utf-8")
    notes = {note["word"]: note for note in json.loads(draft.partition("\n}\n")[0] + "\n}")["notes"]}
    for name in SCRIPT:
        assert f'secret("{name}")' in recipe
        assert notes[name]["carried"]
        assert "its value is not copied" in notes[name]["text"]
    for name, value in PLAIN.items():
        assert f"{name} " in recipe
        assert value in recipe


def test_what_is_compiled_of_it_only_refers(imported: tuple[Path, str]) -> None:
    place, _ = imported
    done = ftc("compile", "recipe.ft", "-o", "out", cwd=place)
    assert done.returncode == 0, done.stderr
    files = [path for path in [*(place / "out").rglob("*"), place / "recipe.lock"] if path.is_file()]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert 'export DB_PASS="${DB_PASS:?DB_PASS is not set}"' in text
    for name, value in {**SCRIPT, **FLAGS}.items():
        for part in parts(value):
            assert part not in text, name


def test_a_secret_of_deepspeed_is_not_carried(place: Path) -> None:
    config = {"zero_optimization": {"stage": 2}, "comet": {"enabled": True, "api_key": "plainwords-one"}}
    (place / "ds.json").write_text(json.dumps(config), encoding="utf-8")
    (place / "run.sh").write_text(
        f"torchrun --nproc_per_node 2 src/train.py {TRAIN} --deepspeed ds.json\n", encoding="utf-8"
    )
    done = ftc("import", "run.sh", "--json", "--verify", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "plainwords" not in done.stdout + done.stderr


def test_a_check_does_not_print_them(place: Path) -> None:
    (place / "run.sh").write_text(script().replace("--stage", "--lora_rnak 8 --stage"), encoding="utf-8")
    for arguments in ((), ("--json",), ("--output-format", "sarif"), ("--output-format", "github")):
        done = ftc("check", "run.sh", *arguments, cwd=place)
        assert "lora_rnak" in done.stdout
        for name, value in FLAGS.items():
            assert parts(value)[0] not in done.stdout, name


def test_secrets_deep_in_tables_and_in_values_that_are_none(place: Path) -> None:
    lines = [f"{name}: {value}" for name, value in PARAMETERS.items()]
    deep = ["ray_num_workers: 2", "ray_init_kwargs: {runtime_env: {env_vars: {MY_TOKEN: plainwords-one}, pip: [x]}}"]
    wrong = ["run_name: {a: {password: plainwords-two}}", "lr_scheduler_kwargs: {api_key: [plainwords-three]}"]
    (place / "train.yaml").write_text("\n".join([*lines, *deep, *wrong]), encoding="utf-8")
    for arguments in (("--verify",), ("--json", "--verify")):
        done = ftc("import", "train.yaml", *arguments, cwd=place)
        assert "sft {" in done.stdout
        assert "plainwords" not in done.stdout + done.stderr

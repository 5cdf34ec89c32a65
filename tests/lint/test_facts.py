"""Facts that rules ask for, found on disk: what lies in an output folder, whose base an adapter has, what is installed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftdsl.importers.checking import check
from ftdsl.session import Session
from tests.conftest import ROWS, Outcome, small

TRAIN = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
template: qwen3
finetuning_type: lora
learning_rate: 1.0e-4
bf16: true
report_to: none
dataset: rows
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[str, str]]]:
    """(code, text at its place) of a YAML checked from the folder it lies in."""
    monkeypatch.chdir(tmp_path)

    def run(more: str, **env: str) -> list[tuple[str, str]]:
        Path("train.yaml").write_text(TRAIN + more, encoding="utf-8")
        session = Session(env={"FTC_ENGINE_PYTHON": "nowhere/bin/python", **env})
        check(Path("train.yaml"), session)
        return [(one.code, one.span.text) for one in session.sink.ordered() if one.span]

    return run


def adapter(place: Path, base: str) -> None:
    place.mkdir(parents=True)
    (place / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}), encoding="utf-8")


def test_a_run_that_would_go_on_from_another(found: Callable[..., list[tuple[str, str]]]) -> None:
    assert found("output_dir: saves/x\n") == []
    Path("saves/x/checkpoint-500").mkdir(parents=True)
    assert found("output_dir: saves/x\n") == [("FT803", "saves/x")]
    assert found("output_dir: saves/x\nresume_from_checkpoint: saves/x/checkpoint-500\n") == []


def test_a_finished_model_stops_the_run(found: Callable[..., list[tuple[str, str]]]) -> None:
    Path("saves/x").mkdir(parents=True)
    Path("saves/x/adapter_model.safetensors").touch()
    assert found("output_dir: saves/x\n") == [("FT803", "saves/x")]


@pytest.mark.parametrize(
    ("base", "said"), [("Qwen/Qwen3-8B", False), ("unsloth/Qwen3-8B-bnb-4bit", False), ("Qwen/Qwen3-4B", True)]
)
def test_an_adapter_of_another_base(base: str, said: bool, found: Callable[..., list[tuple[str, str]]]) -> None:
    adapter(Path("saves/sft"), base)
    assert (("FT605", "saves/sft") in found("adapter_name_or_path: saves/sft\n")) is said


def test_an_adapter_of_another_base_in_a_recipe(tmp_path: Path, checked: Callable[..., Outcome]) -> None:
    adapter(tmp_path / "saves/sft", "Qwen/Qwen3-4B")
    recipe = small().replace('hf("Qwen/Qwen3-0.6B")', 'adapter(file("saves/sft"), base = hf("Qwen/Qwen3-0.6B"))')
    assert checked(recipe, ROWS).only("FT605").message == "`saves/sft` was trained on Qwen/Qwen3-4B"


def test_a_package_that_is_missing(tmp_path: Path, found: Callable[..., list[tuple[str, str]]]) -> None:
    site = tmp_path / "e/lib/python3.11/site-packages"
    for name in ("llamafactory-0.9.5", "transformers-5.6.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    python = str(tmp_path / "e/bin/python")
    assert found("plot_loss: true\n", FTC_ENGINE_PYTHON=python) == [("FT903", "true")]
    (site / "matplotlib-3.11.2.dist-info").mkdir()
    assert found("plot_loss: true\n", FTC_ENGINE_PYTHON=python) == []


@pytest.mark.parametrize(
    ("line", "package"),
    [("report_to: tensorboard", "tensorboard"), ("report_to: [wandb, tensorboard]", "tensorboard"),
     ("report_to: clearml", "clearml"), ("report_to: comet_ml", "comet-ml"),
     ("optim: paged_adamw_8bit", "bitsandbytes"), ("report_to: none", ""),
     ("report_to: azure_ml", "")],
)  # fmt: skip
def test_packages_that_a_value_needs(
    line: str, package: str, tmp_path: Path, found: Callable[..., list[tuple[str, str]]]
) -> None:
    site = tmp_path / "e/lib/python3.11/site-packages"
    for name in ("llamafactory-0.9.5", "transformers-5.6.0", "wandb-0.20.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    python = str(tmp_path / "e/bin/python")
    assert [code for code, _ in found(f"{line}\n", FTC_ENGINE_PYTHON=python) if code == "FT903"] == ["FT903"] * bool(
        package
    )
    (site / f"{package.replace('-', '_') or 'x'}-1.0.dist-info").mkdir()
    assert "FT903" not in [code for code, _ in found(f"{line}\n", FTC_ENGINE_PYTHON=python)]


@pytest.mark.parametrize("engine", ["llamafactory", "trl"])
def test_a_tracker_that_is_missing_is_told_by_a_check(
    engine: str, tmp_path: Path, checked: Callable[..., Outcome]
) -> None:
    """It was told by `ftc run` only."""
    site = tmp_path / "e/lib/python3.11/site-packages"
    for name in ("llamafactory-0.9.5", "trl-1.16.0", "transformers-5.6.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    text = small("track { to = tensorboard }", f"engine = {engine}")
    outcome = checked(text, ROWS, FTC_ENGINE_PYTHON=f"{engine}={tmp_path / 'e/bin/python'}")
    (diagnostic,) = (diagnostic for diagnostic in outcome.found if diagnostic.code == "FT903")
    assert (
        diagnostic.span is not None and diagnostic.span.text == "tensorboard" and diagnostic.severity.value == "warning"
    )


def test_versions_that_the_engine_was_not_made_for(tmp_path: Path, found: Callable[..., list[tuple[str, str]]]) -> None:
    site = tmp_path / "e/lib/python3.11/site-packages"
    for name in ("llamafactory-0.9.5", "transformers-5.99.0"):
        (site / f"{name}.dist-info").mkdir(parents=True)
    assert ("FT901", "") in found("", FTC_ENGINE_PYTHON=str(tmp_path / "e/bin/python"))
    assert found("") == []


STACKED = """
llamafactory-cli train --stage dpo --do_train true --model_name_or_path Qwen/Qwen3-8B --template qwen3 --dataset pairs \\
  --adapter_name_or_path saves/sft --create_new_adapter true --output_dir saves/dpo --learning_rate 5e-6 --bf16 true
llamafactory-cli export --model_name_or_path Qwen/Qwen3-8B --template qwen3 --adapter_name_or_path {adapters} --export_dir out
"""


@pytest.mark.parametrize(("adapters", "said"), [("saves/dpo", ["saves/dpo"]), ("saves/sft,saves/dpo", [])])
def test_an_adapter_without_the_one_below_it(
    adapters: str, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.sh").write_text(STACKED.format(adapters=adapters), encoding="utf-8")
    session = Session(env={"FTC_ENGINE_PYTHON": "nowhere/bin/python"})
    check(Path("run.sh"), session)
    assert [one.span.text for one in session.sink.ordered() if one.code == "FT603" and one.span] == said


def test_what_llamaboard_keeps_tells_of_the_adapter_below(found: Callable[..., list[tuple[str, str]]]) -> None:
    adapter(Path("saves/dpo"), "Qwen/Qwen3-8B")
    kept = "create_new_adapter: true\nadapter_name_or_path: saves/sft\n"
    Path("saves/dpo/training_args.yaml").write_text(kept, encoding="utf-8")
    assert ("FT603", "saves/dpo") in found("adapter_name_or_path: saves/dpo\n")


def test_an_architecture_is_known_by_name_or_by_its_config(found: Callable[..., list[tuple[str, str]]]) -> None:
    assert ("FT305", "c_attn,q_proj") in found("lora_target: c_attn,q_proj\n")

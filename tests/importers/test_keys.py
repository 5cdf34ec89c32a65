"""The overlay read backwards leaves nothing out: every parameter that has a word comes in as that word."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.catalog.trainers import trainer_schema, trainers
from ftdsl.catalog.vocabulary import STAGE_KINDS
from ftdsl.engines.shared import overlay
from ftdsl.importers import llamafactory, stages
from ftdsl.importers.dialect import Inverse
from ftdsl.importers.draft import StageDraft
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.trl import dialect as trl
from ftdsl.importers.values import written
from ftdsl.importers.write import key_at
from ftdsl.lint.config import Config, Setting
from ftdsl.session import Files

SCHEMA = catalog.engine_schema("llamafactory")
WORDS = [name for name in SCHEMA if catalog.parameter_status("llamafactory", name).kind == "word"]  # type: ignore[union-attr]

BASE: dict[str, Any] = {"stage": "sft", "do_train": True, "model_name_or_path": "Qwen/Qwen3-8B", "dataset": "rows",
                        "output_dir": "out", "eval_dataset": "more"}  # fmt: skip
WITH: dict[str, dict[str, Any]] = {
    "galore_": {"use_galore": True}, "apollo_": {"use_apollo": True}, "badam_": {"use_badam": True},
    "pref_": {"stage": "dpo"}, "dpo_": {"stage": "dpo"}, "ld_alpha": {"stage": "dpo"}, "kto_": {"stage": "kto"},
    "simpo_": {"stage": "dpo", "pref_loss": "simpo"}, "ppo_": {"stage": "ppo"},
    "reward_model": {"stage": "ppo", "reward_model": "a/b"},
    "ref_model": {"stage": "dpo", "ref_model": "a/b"}, "asft_alpha": {"use_asft_loss": True},
    "eaft_alpha": {"use_eaft_loss": True}, "fp8_": {"fp8": True}, "kt_": {"use_kt": True},
    "freeze_trainable": {"finetuning_type": "freeze"}, "freeze_extra": {"finetuning_type": "freeze"},
    "use_llama_pro": {"finetuning_type": "freeze"}, "oft_": {"finetuning_type": "oft"},
    "module_dropout": {"finetuning_type": "oft"},
    "pissa_": {"pissa_init": True}, "quantization_": {"quantization_bit": 4}, "double_": {"quantization_bit": 4},
    "export_": {"export_dir": "out"}, "infer_dtype": {"export_dir": "out"},
    "export_quantization_": {"export_dir": "out", "export_quantization_bit": 4, "export_quantization_dataset": "rows.json"},
    "export_device": {"export_dir": "out"}, "hub_": {"push_to_hub": True, "hub_model_id": "me/m"},
    "swanlab_": {"use_swanlab": True}, "trackio_": {"report_to": "trackio"}, "torch_compile_": {"torch_compile": True},
    "metric_for": {"load_best_model_at_end": True}, "greater_is": {"load_best_model_at_end": True},
    "eval_steps": {"eval_strategy": "steps"}, "per_device_eval": {"eval_strategy": "steps"},
    "interleave_probs": {"dataset": "a,b", "mix_strategy": "interleave_over"}, "adapter_folder": {"adapter_name_or_path": "a/b"},
    "val_size": {"eval_dataset": None}, **{name: {"predict_with_generate": True} for name in (
        "do_sample", "eval_num_beams", "num_beams", "length_penalty", "max_new_tokens", "repetition_penalty",
        "skip_special_tokens", "temperature", "top_k", "top_p")},
}  # fmt: skip
SAMPLES: dict[str, Any] = {
    "pref_loss": "orpo", "optim": "adafactor", "lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"num_cycles": 2},
    "save_strategy": "epoch", "eval_strategy": "epoch", "quantization_method": "hqq", "quantization_type": "fp4",
    "flash_attn": "fa2", "rope_scaling": "yarn", "report_to": "wandb", "freeze_trainable_layers": 4, "val_size": 0.1,
    "interleave_probs": "0.3,0.7", "train_sampling_strategy": "group_by_length", "hub_strategy": "end", "export_device": "auto",
    "tool_format": "qwen", "fp8_backend": "te",
    "export_quantization_dataset": "rows.json", "resume_from_checkpoint": "saves/x", "finetuning_type": "lora",
    "template": "qwen3", "do_predict": True, "include_num_input_tokens_seen": True, "metric_for_best_model": "eval_accuracy",
    "reward_model_type": "full", "master_port": "1234",
}  # fmt: skip
LEFT = {
    "deepspeed": "its file is read by the caller",
    "train_from_scratch": "a note says to write scratch()", "export_device": "merging is done on the CPU",
    "logging_nan_inf_filter": "a recipe never hides NaN", "reward_model_adapters": "follows from the reward model",
    "ray_init_kwargs": "runtime_env is not read back yet", "media_dir": "belongs to a data set",
    "create_new_adapter": "follows from where a stage starts", "oft_target": "the engine reads `lora_target` in its place",
}  # fmt: skip
"""Parameters with a word whose import says something else, each with the reason."""


def sample(name: str) -> Any:
    """A value that is not the engine's default."""
    if name in SAMPLES:
        return SAMPLES[name]
    facts = SCHEMA[name]
    if facts.get("choices"):
        return next(choice for choice in facts["choices"] if choice != facts.get("default"))
    kind = str(facts["type"])
    if kind.startswith("bool"):
        return not facts.get("default")
    return 3 if "int" in kind else 0.25 if "float" in kind else "qwen"


def draft(name: str, tmp_path: Path) -> tuple[StageDraft, Any]:
    extra: dict[str, Any] = {}
    for start, more in WITH.items():
        if name.startswith(start):
            extra = more
    params = {**({} if "export_dir" in extra or name in ("export_dir",) else BASE), **extra}
    params = {"model_name_or_path": "Qwen/Qwen3-8B", **params, name: sample(name)}
    settings = {key: Setting(key, value, key) for key, value in params.items() if value is not None}
    config = Config(settings, None, "llamafactory", kind="export" if "export_dir" in settings else "train")
    kinds = stages.kinds(config)
    return stages.draft_of(config, kinds[-1], RecipePaths(tmp_path, tmp_path, Files()), {}), params[name]


@pytest.mark.parametrize("name", WORDS)
def test_every_parameter_with_a_word_imports(name: str, tmp_path: Path) -> None:
    found, _ = draft(name, tmp_path)
    notes = [note for note in found.notes if note.word == name]
    assert name in found.used
    assert name not in found.passed
    assert bool(notes) <= (name in LEFT), notes[0].text if notes else ""
    for key, value in found.values.items():
        assert written(value, key_at(found.kind, key)), key


@pytest.mark.parametrize(("engine", "inverse"), [("llamafactory", llamafactory.INVERSE), ("trl", trl.INVERSE)])
def test_every_rule_of_the_overlay_has_an_inverse(engine: str, inverse: Mapping[str, Inverse]) -> None:
    named = {entry["rule"] for kind in STAGE_KINDS for _, entry in overlay.entries(engine, kind) if "rule" in entry}
    named |= {
        entry["rule"]
        for table in ("hardware", "launch")
        for entry in catalog.overlay(engine)[table].values()
        if "rule" in entry
    }
    assert named - inverse.keys() == set()


def test_names_of_earlier_releases_of_trl_lead_to_parameters() -> None:
    for name, entry in catalog.misnamed("trl").items():
        schemas = [trainer_schema("trl", verb) for verb in trainers("trl")]
        assert not any(name in schema for schema in schemas), name
        assert "parameter" not in entry or any(entry["parameter"] in schema for schema in schemas), name


def test_names_that_are_no_parameters_lead_to_some() -> None:
    for name, entry in catalog.misnamed().items():
        assert catalog.parameter_status("llamafactory", name) is None, name
        assert entry["why"], name
        if "parameter" in entry:
            assert catalog.parameter_status("llamafactory", entry["parameter"]) is not None, name

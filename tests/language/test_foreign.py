"""Keys of LLaMA-Factory, PEFT, TRL and transformers in a recipe, and names of old versions in its files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.diagnostics.fixes import apply
from ftdsl.source import Source
from tests.conftest import ROWS, Outcome, small

MODEL, DATA, DURATION = 'model    = hf("Qwen/Qwen3-0.6B")', 'data     = file("rows.jsonl")', "duration = 1 epoch"
# in place of a line of a recipe that is fine, or added to it: what it is here
CASES = [
    (DURATION, "epochs = 3", "duration = 3 epochs"),
    (DURATION, "num_train_epochs = 3.0", "duration = 3 epochs"),
    (DURATION, "max_steps = 500", "duration = 500 steps"),
    (DURATION, "n_epochs = 2", "duration = 2 epochs"),
    (MODEL, 'model_name_or_path = "Qwen/Qwen3-0.6B"', 'model = hf("Qwen/Qwen3-0.6B")'),
    (MODEL, 'base_model = "Qwen/Qwen3-0.6B"', 'model = hf("Qwen/Qwen3-0.6B")'),
    (DATA, 'dataset = "rows.jsonl"', 'data = file("rows.jsonl")'),
    ("", "learning_rate = 1e-4", "optim.lr = 1e-4"),
    ("", "lr = 1e-4", "optim.lr"),
    ("", "per_device_train_batch_size = 4", "batch.micro = 4"),
    ("", "micro_batch_size = 4", "batch.micro = 4"),
    ("", "gradient_accumulation_steps = 8", "batch.accumulate = 8"),
    ("", "lora_rank = 8", "lora.rank = 8"),
    ("", "lora_r = 8", "lora.rank = 8"),
    ("", "r = 8", "lora.rank = 8"),
    ("", "lora_alpha = 16", "lora.alpha = 16"),
    ("", 'lora_target = "q_proj,v_proj"', "lora.targets = [q_proj, v_proj]"),
    ("", "target_modules = [q_proj, v_proj]", "lora.targets = [q_proj, v_proj]"),
    ("", 'target_modules = "all"', "lora.targets = [all]"),
    ("", "use_dora = true", "lora.variant = dora"),
    ("", "cutoff_len = 1024", "max_len = 1024"),
    ("", "max_seq_length = 1024", "max_len = 1024"),
    ("", 'cache_path = "tokens"', 'tokenize = ahead("tokens")'),
    ("", 'prompt_template = "qwen3"', "template = qwen3"),
    ("", "quantization_bit = 4\n  lora {}", "quantize.bits = 4"),
    ("", "load_in_8bit = true\n  lora {}", "quantize.bits = 8"),
    ("", "warmup_ratio = 0.03", "optim.warmup = 3%"),
    ("", "warmup_steps = 100", "optim.warmup = 100 steps"),
    ("", "dev_ratio = 0.25", "evaluate.data = 25%"),
    ("", "val_size = 0.25", "evaluate.data = 25%"),
    ("", "save_steps = 100", "save.every = 100 steps"),
    ("", "logging_steps = 5", "track.every = 5 steps"),
    ("", 'report_to = "tensorboard"', "track.to = tensorboard"),
    ("", 'lr_scheduler_type = "cosine"', "optim.schedule = cosine"),
    ("", 'optim = "adamw_torch"', "optim.name = adamw_torch"),
    ("", "weight_decay = 0.1", "optim.weight_decay"),
    ("", "max_grad_norm = 0.5", "optim.clip = 0.5"),
    ("", 'output_dir = "out"', 'to = "out"'),
    ("", "gradient_checkpointing = true", "memory.checkpointing = true"),
    ("", "group_by_length = true", "loader.order = by_length"),
    ("", "neftune_noise_alpha = 5", "neftune = 5"),
    ("", "num_layer_trainable = 2", "freeze.layers = last(2)"),
    ("", "train_on_prompt = true", "train_on = everything"),
    ("", "overwrite_cache = true", "loader.cache = false"),
    ("", "print_param_status = true", "llamafactory.print_param_status = true"),
]


@pytest.mark.parametrize(("instead", "line", "ours"), CASES, ids=[line for _, line, _ in CASES])
def test_a_foreign_key_is_said_in_our_words(
    instead: str, line: str, ours: str, checked: Callable[..., Outcome]
) -> None:
    text = small().replace(instead, line) if instead else small(line)
    found = checked(text, ROWS).only("FT001" if not line.startswith("optim =") else "FT060")
    if line.startswith("optim ="):
        return
    assert found.fix is not None
    assert found.fix.safe
    assert found.fix.edits[0].text == ours
    assert found.span is not None
    mended, _ = apply(Source(found.span.source.name, text), [found], unsafe=False)
    assert checked(mended, ROWS).codes in ([], ["FT903"])  # a package that this environment lacks


INSIDE = [
    ("lora { r = 8 }", "rank = 8"),
    ("lora { lora_alpha = 16 }", "alpha = 16"),
    ("lora { target_modules = [q_proj] }", "targets = [q_proj]"),
    ("optim { learning_rate = 1e-4 }", "lr = 1e-4"),
    ("optim { warmup_ratio = 0.1 }", "warmup = 10%"),
    ("batch { per_device_train_batch_size = 2 }", "micro = 2"),
]


@pytest.mark.parametrize(("stage", "ours"), INSIDE, ids=[stage for stage, _ in INSIDE])
def test_inside_its_block_it_is_said_shorter(stage: str, ours: str, checked: Callable[..., Outcome]) -> None:
    found = checked(small(stage), ROWS).only("FT001")
    assert found.fix is not None
    assert found.fix.edits[0].text == ours


def test_elsewhere_there_is_no_fix(checked: Callable[..., Outcome]) -> None:
    found = checked(small("optim { lora_alpha = 2 }"), ROWS).only("FT001")
    assert found.fix is None
    assert "lora.alpha = 2" in found.help


@pytest.mark.parametrize("value", ["max_steps = -1", "warmup_ratio = 3", "warmup_ratio = x", "load_in_4bit = false"])
def test_a_value_that_cannot_be_carried_over_has_no_fix(value: str, checked: Callable[..., Outcome]) -> None:
    found = next(one for one in checked(small(value), ROWS).found if one.code == "FT001")
    assert found.fix is None


@pytest.mark.parametrize("name", ["do_train", "stage", "finetuning_type_x", "task_dir"])
def test_what_has_no_word_says_so(name: str, checked: Callable[..., Outcome]) -> None:
    found = checked(small(f"{name} = true"), ROWS).only("FT001")
    assert name.endswith("_x") or "remove it" in f"{found.help} {found.label}"


def test_all_parameters_with_a_word_are_known() -> None:
    """The table is generated: a parameter of the engine is a foreign key without anybody writing it down."""
    for name in catalog.engine_schema("llamafactory"):
        assert foreign.meant(name) is not None, name
        standing = catalog.parameter_status("llamafactory", name)
        assert standing is None or standing.kind != "word" or foreign.word_of(name), name


def test_every_template_names_a_parameter_and_a_key() -> None:
    for name in catalog.written()["write"]:
        assert catalog.parameter_status("llamafactory", name) is not None, name
    for name in catalog.written()["values"]:
        assert name in catalog.engine_schema("llamafactory"), name

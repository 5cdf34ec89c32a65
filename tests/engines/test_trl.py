"""TRL's documents: what keys become, what is refused at which key, and which engine a stage gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftdsl import catalog
from tests.conftest import Outcome

HEAD = """
hardware { gpu = none, count = 1 }
duration = 8 steps
template = qwen
max_len = 64
batch { micro = 2 }
"""
TINY = 'model = scratch(architecture = qwen3, hidden = 32, layers = 1, heads = 2), data = file("rows.jsonl")'
ROWS = {"rows.jsonl": '{"instruction": "q", "output": "a b"}\n' * 8,
        "pairs.jsonl": '{"instruction": "q", "chosen": "a", "rejected": "b"}\n' * 8}  # fmt: skip


def document(outcome: Outcome, stage: str) -> dict[str, Any]:
    job = next(job for job in outcome.checked.jobs if job.key == stage)
    data: dict[str, Any] = next(found.data for found in job.documents if found.path.endswith("train.yaml"))
    return data


@pytest.mark.parametrize(
    ("method", "peft"),
    [
        ("lora { rank = 4 }", {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": "all-linear"}),
        ("lora { rank = 4, variant = dora, rslora = true }", {"use_dora": True, "use_rslora": True}),
        ("lora { init = pissa(iterations = 4) }", {"init_lora_weights": "pissa_niter_4"}),
        ("lora { init = olora }", {"init_lora_weights": "olora"}),
        ("lora { rank_budget = 4 }", {"peft_type": "ADALORA", "target_r": 4, "init_r": 6}),
        ("lora { variant = vera, rank = 64, dropout = 10% }", {"peft_type": "VERA", "r": 64, "vera_dropout": 0.1}),
        ("lora { variant = delora, alpha = 3 }", {"peft_type": "DELORA", "delora_lambda": 3}),
        ('lora { target_parameters = ["mlp.experts.up"] }', {"target_parameters": ["mlp.experts.up"], "target_modules": []}),
        ("prefix { tokens = 7, projection = true }", {"peft_type": "PREFIX_TUNING", "num_virtual_tokens": 7}),
        ("prompt { tokens = 7, encoder = lstm }", {"peft_type": "P_TUNING", "encoder_reparameterization_type": "LSTM"}),
        ('prompt { text = "be brief" }', {"peft_type": "PROMPT_TUNING", "prompt_tuning_init": "TEXT"}),
    ],
)  # fmt: skip
def test_methods_become_fields_of_peft(method: str, peft: dict[str, Any], checked: Callable[..., Outcome]) -> None:
    outcome = checked(HEAD + f"engine = trl\nsft s {{ {TINY}, {method} }}", ROWS)
    assert outcome.codes == []
    found = document(outcome, "s")["peft"]
    assert {name: found.get(name) for name in peft} == peft
    config = {"LORA": "LoraConfig", "ADALORA": "AdaLoraConfig", "PREFIX_TUNING": "PrefixTuningConfig",
              "P_TUNING": "PromptEncoderConfig", "PROMPT_TUNING": "PromptTuningConfig"}  # fmt: skip
    kind = config.get(found["peft_type"]) or next(
        variant["config"] for variant in catalog.variants().values() if variant["type"] == found["peft_type"]
    )
    known = catalog.schema("peft", "", "parameters")
    assert {f"{kind}.{name}" for name in found if name != "peft_type"} <= known.keys()


@pytest.mark.parametrize("name", catalog.variants())
def test_every_variant_of_the_table_has_its_fields(name: str) -> None:
    variant, known = catalog.variants()[name], catalog.schema("peft", "", "parameters")
    fields = [variant[key] for key in ("rank", "alpha", "dropout") if variant.get(key)] + list(variant.get("fixed", {}))
    assert all(f"{variant['config']}.{field}" in known for field in [*fields, "target_modules"]), fields


@pytest.mark.parametrize(
    ("stage", "engine"),
    [
        ("full { }", "llamafactory"),
        ("lora { }", "llamafactory"),
        ("prefix { }", "trl"),
        ("prompt { }", "trl"),
        ("lora { variant = ia3 }", "trl"),
        ("lora { init = olora }", "trl"),
        ("lora { rank_budget = 4 }", "trl"),
        ("lora { }, engine = trl", "trl"),
    ],
)
def test_a_stage_gets_the_engine_that_has_what_it_asks_for(
    stage: str, engine: str, checked: Callable[..., Outcome]
) -> None:
    outcome = checked(HEAD + f"sft s {{ {TINY}, {stage} }}", ROWS)
    assert outcome.codes == []
    assert next(job for job in outcome.checked.jobs if job.key == "s").environment == engine
    said = [note for diagnostic in outcome.found for note in diagnostic.notes if note.startswith("engine = trl")]
    assert bool(said) == (engine == "trl" and "engine" not in stage), said


def test_what_follows_an_adapter_that_one_engine_reads_stays_there(checked: Callable[..., Outcome]) -> None:
    text = f"sft s {{ {TINY}, prefix {{ }} }}\nsft t {{ {TINY}, lora {{ }} }}\n"
    text += 'sft u from s { data = file("rows.jsonl") }\nsft v from t { data = file("rows.jsonl") }\n'
    outcome = checked(HEAD + text, ROWS)
    engines = {job.key: job.environment for job in outcome.checked.jobs}
    assert (engines["u"], engines["v"]) == ("trl", "llamafactory")


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (f"sft s {{ {TINY}, prefix {{ }} }}\nmerge m from s {{ }}", "cannot be merged"),
        (f"sft s {{ {TINY}, prompt {{ }} }}\nsft t from s {{ data = file(\"rows.jsonl\"), lora {{ }} }}", "merged below it"),
        (f"sft s {{ {TINY}, lora {{ rank_budget = 4 }} }}\nsft t from s {{ data = file(\"rows.jsonl\") }}", "are final"),
        (f"sft s {{ {TINY}, lora {{ rank_budget = 4, rank = 4 }} }}", "leaves nothing to take away"),
        (f"sft s {{ {TINY}, lora {{ variant = ia3, rank = 4 }} }}", "`ia3` has no `rank`"),
        (f"sft s {{ {TINY}, lora {{ variant = vera, rslora = true }} }}", "is of LoRA"),
        (f"sft s {{ {TINY}, prompt {{ text = \"x\", encoder = mlp }} }}", "do not start from a text"),
        (f"sft s {{ {TINY}, prefix {{ tokens = 64 }} }}", "as many as a whole row"),
        (f"sft s {{ {TINY}, full {{ }}, quantize {{ bits = 4 }} }}", "in 4 or 8 bits"),
        (f"sft s {{ {TINY}, freeze {{ }} }}", "all weights or an adapter"),
        (f"sft s {{ {TINY}, lora {{ }}, packing = neat }}", "only with FlashAttention"),
        (f"sft s {{ {TINY}, lora {{ }}, trl {{ max_lenth = 4 }} }}", "no parameter `max_lenth`"),
        (f"sft s {{ {TINY}, lora {{ }}, trl {{ ref_model_sync_steps = 2 }} }}", "no parameter `ref_model_sync_steps`"),
        (f"sft s {{ {TINY}, lora {{ }}, trl {{ peft {{ n_frequncy = 4 }} }} }}", "no parameter `peft.n_frequncy`"),
        (f"sft s {{ {TINY}, lora {{ }}, trl {{ peft {{ r = 4 }} }} }}", "`lora.rank`"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(recipe: str, text: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(HEAD + "engine = trl\n" + recipe, ROWS)
    errors = [
        diagnostic.message + (diagnostic.help or "")
        for diagnostic in outcome.found
        if diagnostic.severity.name == "ERROR"
    ]
    assert any(text in error for error in errors), errors


def test_passthrough_goes_into_the_document(checked: Callable[..., Outcome]) -> None:
    stage = f'sft s {{ {TINY}, lora {{ variant = fourier }}, trl {{ eos_token = "<|im_end|>", peft {{ n_frequency = 8 }} }} }}'
    outcome = checked(HEAD + "engine = trl\n" + stage, ROWS)
    assert outcome.codes == []
    found = document(outcome, "s")
    assert found["eos_token"] == "<|im_end|>" and found["peft"]["n_frequency"] == 8


def test_defaults_for_gpus_are_written_out(checked: Callable[..., Outcome]) -> None:
    found = document(checked(HEAD + f"engine = trl\nsft s {{ {TINY}, lora {{ }} }}", ROWS), "s")
    assert (found["bf16"], found["fp16"], found["gradient_checkpointing"], found["use_cpu"]) == (
        False,
        False,
        False,
        True,
    )


def test_every_parameter_is_one_of_its_class(checked: Callable[..., Outcome]) -> None:
    text = f"dpo s {{ {TINY.replace('rows', 'pairs')}, lora {{ }}, sft_weight = 0.1, beta = 0.2 }}\n"
    text += f"sft t {{ {TINY}, full {{ }}, optim {{ schedule = cosine, warmup = 2 steps }} }}"
    outcome = checked(HEAD + "engine = trl\n" + text, ROWS)
    assert outcome.codes == []
    schema = catalog.engine_schema("trl")
    for stage, config in (("s", "DPOConfig"), ("t", "SFTConfig")):
        for name in document(outcome, stage).keys() - {"data", "peft", "adapter_name_or_path"}:
            assert {config, "ModelConfig"} & set(schema[name].get("classes", (config,))), name
    assert document(outcome, "s")["loss_type"] == ["sigmoid", "sft"]


CARDS = """
engine = trl
duration = 8 steps
template = qwen3_nothink
max_len = 64
model = scratch(architecture = {family}, hidden = 32, layers = 2, heads = 2, vocab = 300)
data = file("rows.jsonl")
"""
SPLIT = "hardware { gpu = h100(80GB), count = 8 }, parallel { strategy = fsdp2, tensor = 2 }, batch { global = 16, micro = 4 }"


def test_split_tensors_times_fsdp2_are_loaded_in_parts(checked: Callable[..., Outcome]) -> None:
    outcome = checked(CARDS.format(family="qwen3") + f"sft s {{ full {{}}, {SPLIT} }}", ROWS)
    assert outcome.codes == []
    found = document(outcome, "s")
    assert found["distributed_config"] == {"tp_size": 2, "fsdp_size": 4}
    assert found["save_only_model"] is True and found["gradient_accumulation_steps"] == 1
    job = next(job for job in outcome.checked.jobs if job.key == "s")
    assert not any(found.path.endswith("accelerate.yaml") for found in job.documents)
    assert any("torch.distributed.run" in map(str, command.argv) for command in job.commands)


def test_replicas_of_split_models(checked: Callable[..., Outcome]) -> None:
    text = SPLIT.replace("tensor = 2", "tensor = 2, replicate = 2, offload = [optimizer, params]")
    outcome = checked(CARDS.format(family="qwen3") + f"sft s {{ full {{}}, {text} }}", ROWS)
    assert document(outcome, "s")["distributed_config"] == {
        "tp_size": 2, "fsdp_size": 2, "dp_replicate_size": 2, "fsdp_cpu_offload": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "key"),
    [
        (f"sft s {{ lora {{}}, {SPLIT} }}", "`lora` adds some that it does not split"),
        (f'dpo s {{ full {{}}, data = file("pairs.jsonl"), {SPLIT} }}', "not in `dpo`"),
        (f"sft s {{ full {{}}, {SPLIT}, launch {{ retries = 1 }} }}", "saves no optimizer"),
        (f"sft s {{ full {{}}, {SPLIT}, save {{ resumable = true }} }}", "saves no optimizer"),
        (f"sft s {{ full {{}}, {SPLIT}, launch {{ with = accelerate }} }}", "started by torchrun"),
        (f"sft s {{ full {{}}, {SPLIT.replace('gpu = h100(80GB)', 'gpu = none')} }}", "refuses split tensors on CPU"),
        (f"sft s {{ full {{}}, {SPLIT.replace('micro = 4', 'micro = 2')} }}", "query and key norms anew"),
        (f"sft s {{ full {{}}, engine = llamafactory, {SPLIT} }}", "`fsdp2` cannot split tensors"),
    ],
)
def test_what_split_tensors_cannot(stage: str, key: str, checked: Callable[..., Outcome]) -> None:
    outcome = checked(CARDS.format(family="qwen3") + stage, ROWS)
    assert any(key in diagnostic.message for diagnostic in outcome.found), outcome.found


def test_models_without_head_norms_accumulate_when_split(checked: Callable[..., Outcome]) -> None:
    text = SPLIT.replace("micro = 4", "micro = 2")
    assert checked(CARDS.format(family="llama") + f"sft s {{ full {{}}, {text} }}", ROWS).codes == []


def test_patience_needs_a_score(checked: Callable[..., Outcome]) -> None:
    text = (
        HEAD + f"engine = trl\nsft s {{ {TINY}, full {{}}, evaluate {{ data = 25% }}, guard {{ patience = 3 }}, SAVE }}"
    )
    wrong = checked(text.replace("SAVE", "save { keep = 1 }"), ROWS)
    assert [diagnostic.code for diagnostic in wrong.found if diagnostic.code == "FT012"] == ["FT012"]
    right = checked(text.replace("SAVE", "save { best_by = eval_loss }"), ROWS)
    assert document(right, "s")["data"]["patience"] == 3

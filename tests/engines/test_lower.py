"""Words in, parameters out: what the recipe says reaches the engine, or is refused; nothing is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftdsl.engines.jobs import Job
from tests.conftest import ALPACA, ROWS, Outcome, small

GPU = "hardware { gpu = h100(80GB) }\n  "
CASES: list[tuple[str, dict[str, Any]]] = [
    ("lora { rank = 64, alpha = 128, dropout = 10%, targets = [q_proj, v_proj] }",
     {"finetuning_type": "lora", "lora_rank": 64, "lora_alpha": 128, "lora_dropout": 0.1, "lora_target": "q_proj,v_proj"}),
    ("full {}", {"finetuning_type": "full"}),
    ("lora { init = pissa(iterations = 8, convert = true) }", {"pissa_init": True, "pissa_iter": 8, "pissa_convert": True}),
    ("lora { variant = dora, rslora = true, lr_ratio = 16 }", {"use_dora": True, "use_rslora": True, "loraplus_lr_ratio": 16}),
    ("quantize { bits = 4, scheme = nf4, double = true }",
     {"quantization_bit": 4, "quantization_method": "bnb", "quantization_type": "nf4", "double_quantization": True}),
    ("quantize { bits = 4 }", {"quantization_type": "nf4", "double_quantization": True}),
    ("full {}\n  optim { name = galore(rank = 128, targets = [mlp], every = 200) }",
     {"use_galore": True, "galore_rank": 128, "galore_target": "mlp", "galore_update_interval": 200, "optim": "adamw_torch"}),
    ("optim { name = adamw_8bit }", {"optim": "adamw_bnb_8bit"}),
    ("optim { schedule = cosine, min_lr = 10% }",
     {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}}),
    ("optim { schedule = [warmup(500 steps), hold(3000 steps), decay(2000 steps, to = 1%, shape = cosine)] }",
     {"lr_scheduler_type": "warmup_stable_decay", "warmup_steps": 500,
      "lr_scheduler_kwargs": {"num_stable_steps": 3000, "num_decay_steps": 2000, "min_lr_ratio": 0.01,
                              "decay_type": "cosine"}}),
    ("optim { warmup = 100 steps }", {"warmup_steps": 100}),
    ("optim { warmup = 5% }", {"warmup_steps": 0.05}),
    ("packing = neat", {"packing": True, "neat_packing": True}),
    (f"{GPU}attention = flash2", {"flash_attn": "fa2"}),
    ("attention = eager", {"flash_attn": "disabled"}),
    (f"{GPU}kernels = liger", {"enable_liger_kernel": True}),
    ("train_on = last_response", {"mask_history": True}),
    ("thinking = false", {"enable_thinking": False}),
    ("loss = eaft(alpha = 2.0)", {"use_eaft_loss": True, "eaft_alpha": 2.0}),
    ("save { every = 25%, keep = all }", {"save_strategy": "steps", "save_steps": 0.25, "save_total_limit": None}),
    ("save { every = never }", {"save_strategy": "no"}),
    ("save { resumable = false }", {"save_only_model": True}),
    ("evaluate { data = 5%, every = 50 steps }", {"val_size": 0.05, "eval_strategy": "steps", "eval_steps": 50}),
    ("memory { checkpointing = none }", {"disable_gradient_checkpointing": True}),
    ("guard { patience = 3 }\n  evaluate { data = file(\"rows.jsonl\") }\n  save { best_by = eval_loss }",
     {"early_stopping_steps": 3}),
    ("track { to = [tensorboard, wandb] }", {"report_to": ["tensorboard", "wandb"]}),
    ("neftune = 5", {"neftune_noise_alpha": 5}),
    ("llamafactory { cache_dir = \"/tmp/x\" }", {"cache_dir": "/tmp/x"}),
    ("batch { global = 16, micro = 4 }", {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4}),
    ("optim { clip = none }", {"max_grad_norm": 0}),
    ("lora { init = pissa(iterations = exact) }", {"pissa_iter": -1}),
    ("seed = 7", {"seed": 7}),
    ("limit = 100", {"max_samples": 100}),
    ("loader { order = by_length, cache = false }",
     {"train_sampling_strategy": "group_by_length", "overwrite_cache": True}),
]  # fmt: skip


def lowered(outcome: Outcome) -> dict[str, Job]:
    assert outcome.codes == [], [(one.code, one.message) for one in outcome.found]
    return {job.key: job for job in outcome.checked.jobs}


def parameters(job: Job, name: str = "train.yaml") -> dict[str, Any]:
    found: dict[str, Any] = next(document.data for document in job.documents if document.path.endswith(name))
    return found


@pytest.mark.parametrize(("text", "wanted"), CASES, ids=[text[:50] for text, _ in CASES])
def test_a_word_becomes_its_parameters(text: str, wanted: dict[str, Any], checked: Callable[..., Outcome]) -> None:
    found = parameters(lowered(checked(small(text), ROWS))["sft"])
    assert {name: found.get(name) for name in wanted} == wanted


def test_paths_are_seen_from_the_run_folder(checked: Callable[..., Outcome]) -> None:
    text = small('to = "out/m"\n  resume = file("saves/checkpoint-500")') + 'merge from sft { to = "/srv/m" }\n'
    jobs = lowered(checked(text, {**ROWS, "saves/checkpoint-500/trainer_state.json": "{}"}))
    found = parameters(jobs["sft"])
    assert found["output_dir"] == "inputs/out/m"
    assert found["resume_from_checkpoint"] == "inputs/saves/checkpoint-500"
    assert parameters(jobs["sft"], "dataset_info.json")["rows"]["file_name"] == "../inputs/rows.jsonl"
    merged = parameters(jobs["merge"], "export.yaml")
    assert (merged["adapter_name_or_path"], merged["export_dir"]) == ("inputs/out/m", "/srv/m")


def test_what_a_cpu_needs_is_always_said(checked: Callable[..., Outcome]) -> None:
    found = parameters(lowered(checked(small(), ROWS))["sft"])
    assert found["use_cpu"] is True
    assert found["logging_nan_inf_filter"] is False, "or NaN would be logged as 0"
    assert "bf16" not in found


DPO = """
hardware { gpu = h100(80GB), count = 1 }
data prefs { source = file("p.jsonl") }
sft { model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), lora {} }
"""
PAIRS = {"p.jsonl": '{"instruction": "q", "chosen": "a", "rejected": "b"}\n'}


def test_a_new_adapter_stacks_and_its_reference_is_below(checked: Callable[..., Outcome]) -> None:
    jobs = lowered(checked(DPO + "dpo from sft { data = prefs, lora {} }\nmerge from dpo {}\n", ROWS | PAIRS))
    found = parameters(jobs["dpo"])
    assert found["adapter_name_or_path"] == "20-sft/result"
    assert found["create_new_adapter"] is True
    assert "ref_model" not in found, "with its own adapter switched off, the model is the reference"
    merged = parameters(jobs["merge"], "export.yaml")
    assert merged["adapter_name_or_path"] == "20-sft/result,30-dpo/result", "in the order they were stacked"


def test_an_adapter_trained_further_keeps_its_start_as_reference(checked: Callable[..., Outcome]) -> None:
    jobs = lowered(checked(DPO + "dpo from sft { data = prefs }\nmerge from dpo {}\n", ROWS | PAIRS))
    found = parameters(jobs["dpo"])
    assert "create_new_adapter" not in found
    assert found["ref_model"] == "Qwen/Qwen3-0.6B"
    assert found["ref_model_adapters"] == "20-sft/result"
    assert parameters(jobs["merge"], "export.yaml")["adapter_name_or_path"] == "30-dpo/result"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("full {}", "FT315"),
        ("lora {}\n  quantize { bits = 4 }", "FT207"),
        ("lora {}\n  parallel { strategy = zero3 }", "FT602"),
    ],
)
def test_hand_offs_the_engine_cannot_do(text: str, code: str, checked: Callable[..., Outcome]) -> None:
    assert code in checked(DPO + f"dpo from sft {{\n  data = prefs\n  {text}\n}}\n", ROWS | PAIRS).codes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("eval e from sft { data = prefs.eval }", "has no `eval` split"),
        ("sft b from prefs { }", "produces data, not a model"),
        (
            'eval e from sft { data = file("rows.jsonl") }\nsft b from e { data = prefs }',
            "produces metrics, not a model",
        ),
        ("reward r from sft { data = prefs }\ndpo from r { data = prefs }", "is a reward model"),
        ('sft b { model = hf("a/b"), data = sft }', "produces no data"),
        ('dpo from sft { data = file("rows.jsonl") }', "needs rows with `chosen`, `rejected`"),
        ('pretrain b { model = hf("a/b"), data = file("rows.jsonl") }', "needs plain text"),
    ],
)
def test_wrong_hand_offs_are_errors(text: str, said: str, checked: Callable[..., Outcome]) -> None:
    found = checked(DPO + text + "\n", ROWS | PAIRS)
    assert any(said in one.message for one in found.found), [(one.code, one.message) for one in found.found]


def test_columns_and_roles_are_written_in_full(checked: Callable[..., Outcome]) -> None:
    rows = '{"chat": [{"who": "customer", "text": "q"}, {"who": "agent", "text": "a"}], "system": "s"}\n'
    text = """
hardware { gpu = none }
data d {
  source  = file("c.jsonl")
  format  = sharegpt
  columns { messages = "chat" }
  roles   { role = "who", content = "text", user = "customer", assistant = "agent" }
}
sft { model = hf("Qwen/Qwen3-0.6B"), data = d }
"""
    job = lowered(checked(text, {"c.jsonl": rows}))["sft"]
    entry = parameters(job, "dataset_info.json")["d"]
    assert entry["columns"] == {"messages": "chat", "system": "system"}
    assert entry["tags"]["user_tag"] == "customer"
    assert len(entry["tags"]) == 7


@pytest.mark.parametrize(("more", "formatting"), [("", "sharegpt"), (', "tools": "[]"', "openai")])
def test_the_engine_adds_no_system_prompt_to_openai_rows(
    more: str, formatting: str, checked: Callable[..., Outcome]
) -> None:
    """Its own `openai` converter does; it is needed where rows call tools."""
    turns = '[{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]'
    job = lowered(checked(small(), {"rows.jsonl": f'{{"messages": {turns}{more}}}\n'}))["sft"]
    entry = parameters(job, "dataset_info.json")["rows"]
    assert entry["formatting"] == formatting
    assert entry["tags"]["user_tag"] == "user"


def test_mixtures(checked: Callable[..., Outcome]) -> None:
    text = small().replace('file("rows.jsonl")', '[file("rows.jsonl", weight = 30%), file("more.jsonl", weight = 70%)]')
    found = parameters(lowered(checked(text, ROWS | {"more.jsonl": ALPACA}))["sft"])
    assert found["dataset"] == "rows,more"
    assert found["mix_strategy"] == "interleave_over"
    assert found["interleave_probs"] == "0.3,0.7"


def test_zero_writes_a_config_in_numbers(checked: Callable[..., Outcome]) -> None:
    text = small("batch { global = 64, micro = 2 }\n  parallel { strategy = zero2, offload = [optimizer] }")
    text = text.replace("gpu = none, count = 1", "gpu = a100(80GB), count = 8")
    job = lowered(checked(text, ROWS))["sft"]
    config = parameters(job, "ds_config.json")
    assert (config["train_micro_batch_size_per_gpu"], config["gradient_accumulation_steps"]) == (2, 4)
    assert config["zero_optimization"]["offload_optimizer"]["device"] == "cpu"
    assert config["bf16"] == {"enabled": True}
    assert job.processes == 8
    assert "deepspeed" in job.packages


def test_the_targets_of_oft_stand_where_the_engine_looks(checked: Callable[..., Outcome]) -> None:
    found = parameters(lowered(checked(small("oft { targets = [q_proj, v_proj] }"), ROWS))["sft"])
    assert found["lora_target"] == found["oft_target"] == "q_proj,v_proj"


def test_a_script_may_name_its_own_result(checked: Callable[..., Outcome]) -> None:
    text = small(file='shell expand { run = "make.sh {expand.path}" }')
    assert lowered(checked(text, ROWS))["expand"].env["FT_EXPAND_PATH"].endswith("-expand/result")


@pytest.mark.parametrize(
    ("stage", "asked"),
    [
        ("lora {}, precision = fp32", True),
        ("freeze {}, precision = fp32", True),
        ("full {}, precision = fp32", False),
        ("lora {}", False),
        ("lora {}, precision = bf16", False),
        ("lora {}, precision = fp32, parallel { strategy = zero3 }", False),
    ],
)
def test_fp32_lifts_frozen_weights(stage: str, asked: bool, checked: Callable[..., Outcome]) -> None:
    jobs = checked(small(stage).replace("gpu = none, count = 1", "gpu = h100, count = 2"), ROWS).checked.jobs
    specs = [file.data for job in jobs for file in job.documents if file.path.endswith("extend.json")]
    assert [spec.get("weights") for spec in specs if "weights" in spec] == (["float32"] if asked else [])

"""What `auto` becomes on a card: methods by the handbook's matrix, the fastest layout that fits, ways out when none does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import process_time

import pytest

from ftdsl.diagnostics import Diagnostic, Severity
from ftdsl.plan.count_rows import mean_row
from ftdsl.plan.layout_search import LayoutSearch, layout_of
from ftdsl.session import Files
from tests.conftest import Outcome, ftc

RECIPE = """\
hardware {{ gpu = {gpu}, count = {count} }}
{file}
sft {{
  model    = hf("{model}")
  data     = file("rows.jsonl")
  duration = 100 steps
  max_len  = {length}
  {stage}
}}
"""
ROWS = {"rows.jsonl": '{"instruction": "q", "input": "", "output": "a"}\n' * 100}
LONG_ROWS = {"rows.jsonl": json.dumps({"instruction": "q", "input": "", "output": "a " * 2_500}) + "\n"}
"""Rows longer than any limit of these tests: it is the limit that decides what is needed."""

Check = Callable[..., Outcome]


def recipe(
    gpu: str = "h100(80GB)",
    count: int = 1,
    model: str = "Qwen/Qwen3-8B",
    length: int = 2048,
    stage: str = "",
    file: str = "",
) -> str:
    return RECIPE.format(gpu=gpu, count=count, model=model, length=length, stage=stage, file=file)


ROW = '{"instruction": "q", "input": "", "output": "%s"}\n' % ("a" * 54)


def choices(outcome: Outcome) -> dict[str, str]:
    assert outcome.checked.plan is not None
    return {choice.key: choice.value for choice in outcome.checked.plan.stages[0].choices}


@pytest.mark.parametrize(
    ("gpu", "model", "method", "bits"),
    [
        ("h100(80GB)", "Qwen/Qwen3-0.6B", "full", None),
        ("h100(80GB)", "Qwen/Qwen3-8B", "lora", None),
        ("rtx4090", "Qwen/Qwen3-14B", "lora", "4"),
    ],
)
def test_the_handbooks_matrix(checked: Check, gpu: str, model: str, method: str, bits: str | None) -> None:
    """Full when the card has more than twice what it needs, LoRA when it fits, QLoRA on consumer cards."""
    found = choices(checked(recipe(gpu, model=model, stage="batch { global = 16 }"), ROWS))
    assert method in found and found.get("quantize.bits") == bits


def test_what_the_recipe_fixes_is_kept(checked: Check) -> None:
    stage = "full { }\n parallel { strategy = zero3 }\n memory { checkpointing = full }\n batch { micro = 1, accumulate = 2 }"
    found = choices(checked(recipe(count=8, stage=stage), ROWS))
    assert not {"parallel.strategy", "memory.checkpointing", "batch.micro", "batch.accumulate"} & found.keys()


def test_adapters_are_sharded_only_where_they_must_be(checked: Check) -> None:
    small = choices(checked(recipe(count=8, stage="lora { }\n batch { global = 64 }"), ROWS))
    large = choices(checked(recipe(count=8, model="Qwen/Qwen2.5-72B", stage="lora { }\n batch { global = 64 }"), ROWS))
    assert small["parallel.strategy"] == "ddp" and large["parallel.strategy"] == "zero3"


def test_offload_only_where_nothing_fits_without(checked: Check) -> None:
    roomy = choices(checked(recipe(count=8, stage="full { }\n batch { global = 64 }"), ROWS))
    tight = choices(checked(recipe("a100(40GB)", 2, stage="full { }\n batch { global = 64 }"), ROWS))
    assert "parallel.offload" not in roomy and "optimizer" in tight["parallel.offload"]


def test_a_fused_loss_comes_before_main_memory(checked: Check) -> None:
    """32B in 4 bits fits into 24 GB where the loss holds no logits; a 16-bit base in main memory would be far slower."""
    found = choices(checked(recipe("rtx4090", model="Qwen/Qwen3-32B", stage="batch { global = 16 }"), ROWS))
    assert found["quantize.bits"] == "4" and found["kernels"] == "liger" and "parallel.offload" not in found


def test_a_packed_base_goes_to_main_memory_before_a_larger_card(checked: Check) -> None:
    """70B in 4 bits on two cards of 24 GB, as LLaMA-Factory's own example has it."""
    text = recipe("rtx4090", 2, "meta-llama/Llama-3.1-70B-Instruct", stage="quantize { bits = 4 }\n lora { }")
    outcome = checked(text.replace("count = 2", "count = 2, memory = 256GB"), LONG_ROWS)
    assert "FT701" not in outcome.codes and choices(outcome)["parallel.offload"] == "[optimizer, params]"


def test_a_batch_of_one_is_nobodys_choice(checked: Check) -> None:
    found = choices(checked(recipe("h100(80GB)", 8, "Qwen/Qwen3-0.6B"), ROWS))
    assert int(found["batch.global"]) == 16


def test_what_a_rule_refuses_is_not_chosen(checked: Check) -> None:
    """Unsloth does not work with ZeRO-3 (FT416), so that the ways out are others."""
    stage = "lora { }\n kernels = unsloth\n batch { micro = 16, accumulate = 2 }"
    outcome = checked(recipe("rtx4090", stage=stage), ROWS)
    assert "zero3" not in str(choices(outcome)) and "FT416" not in outcome.codes


def test_error_correction_takes_its_part(checked: Check) -> None:
    """An L4 and an RTX 4090 have 24 GB; CUDA offers 22.2 GiB of the one and 23.65 of the other."""
    limits = {}
    for gpu in ("l4", "rtx4090"):
        plan = checked(recipe(gpu, model="Qwen/Qwen3-0.6B", stage="lora { }\n batch { micro = 1 }"), ROWS).checked.plan
        assert plan is not None
        one = plan.stages[0]
        limits[gpu] = LayoutSearch(one.stage, one.world, plan.recipe, "bf16", one.engine).cost(layout_of(one)).limit
    assert limits["l4"] == pytest.approx(limits["rtx4090"] * 15 / 16)


def test_main_memory_counts(checked: Check) -> None:
    """Two cards of 40 GB hold an 8B model in full only with its optimizer in main memory, which must be there."""
    stage = "full { }\n batch { global = 64 }\n hardware.memory = 16GB"
    assert "FT701" in checked(recipe("a100(40GB)", 2, stage=stage), ROWS).codes


def test_neat_packs_go_one_at_a_time_through_flash_attention(checked: Check) -> None:
    stage = "packing = neat\n attention = flash2\n lora { }\n batch { global = 16 }"
    outcome = checked(recipe(model="Qwen/Qwen3-0.6B", length=256, stage=stage), ROWS)
    assert choices(outcome)["batch.micro"] == "1" and "FT509" not in outcome.codes


def test_an_unknown_model_is_not_guessed(checked: Check) -> None:
    outcome = checked(recipe(model="somebody/his-own", stage="template = default"), ROWS)
    assert "FT701" not in outcome.codes
    assert outcome.checked.plan is not None
    assert "is unknown" in next(c for c in outcome.checked.plan.stages[0].choices if c.key == "lora").reason


WHOLE = "full { }\n parallel { strategy = ddp }\n batch { micro = 1, accumulate = 4 }"


def test_only_what_is_certain_is_an_error(checked: Check) -> None:
    """Weights, states and gradients of 8B in full are there whatever the rows; logits of eight rows are not."""
    certain = checked(recipe("rtx4090", stage=WHOLE), ROWS).only("FT701")
    assert certain.severity is Severity.ERROR and "however short its rows are" in certain.message
    doubtful = "lora { }\n kernels = none\n memory { checkpointing = full }\n batch { micro = 8, accumulate = 4 }"
    likely = checked(recipe("rtx4090", model="Qwen/Qwen3-4B", stage=doubtful), LONG_ROWS).only("FT701")
    assert likely.severity is Severity.WARNING and "at 2,048 tokens; a rtx4090 has 24.0 GiB" in likely.message
    assert likely.span is not None and likely.span.text == "8" and "tokens are likely to fit" in likely.help


def test_packed_rows_are_as_long_as_the_limit(checked: Check) -> None:
    """Where every row is as long as the limit says, an interval that lies above the card refuses too."""
    stage = "lora { }\n packing = true\n memory { checkpointing = none }\n batch { micro = 32, accumulate = 1 }"
    found = checked(recipe("rtx4090", stage=stage), ROWS).only("FT701")
    assert found.severity is Severity.ERROR and "needs" in found.message


def test_the_longest_rows_count_where_the_data_are_at_hand(checked: Check) -> None:
    stage = "lora { }\n memory { checkpointing = none }\n batch { micro = 8, accumulate = 4 }"
    assert "FT701" in checked(recipe("rtx4090", stage=stage), LONG_ROWS).codes
    assert "FT701" not in checked(recipe("rtx4090", stage=stage), ROWS).codes


def test_a_doubt_can_be_allowed(checked: Check) -> None:
    stage = 'lora { }\n memory { checkpointing = none }\n batch { micro = 8, accumulate = 4 }\n allow FT701 "it ran"'
    assert "FT701" not in checked(recipe("rtx4090", stage=stage), LONG_ROWS).codes


def test_the_budget_is_the_limit(checked: Check) -> None:
    stage = (
        "lora { rank = 8 }\n kernels = none\n memory { checkpointing = none }\n batch { micro = 1, accumulate = 16 }"
    )
    assert checked(recipe(stage=stage), ROWS).codes == []
    found = checked(recipe(stage=stage, file="budget { memory = 20GB }"), LONG_ROWS).only("FT701")
    assert "the budget is 18.6 GiB" in found.message and found.severity is Severity.WARNING


def written(folder: Path, text: str) -> Path:
    for name, content in {"recipe.ft": text, **ROWS}.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder / "recipe.ft"


def test_each_way_out_fits_and_can_be_applied(tmp_path: Path) -> None:
    text = recipe("rtx4090", stage="full { }\n  parallel { strategy = ddp }\n  batch { micro = 8, accumulate = 4 }")
    path = written(tmp_path, text)
    asked = ftc("plan", "recipe.ft", "--json", cwd=tmp_path)
    ways = json.loads(asked.stdout)["stages"][0]["forecast"]["ways_out"]
    assert asked.returncode == 1 and len(ways) == 3
    for number in range(1, len(ways) + 1):
        path.write_text(text, encoding="utf-8")
        assert ftc("plan", "recipe.ft", "--apply", str(number), cwd=tmp_path).returncode == 0
        done = ftc("plan", "recipe.ft", "--json", cwd=tmp_path)
        document = json.loads(done.stdout)["stages"][0]
        assert done.returncode == 0, (ways[number - 1], done.stdout)
        assert document["batch"].startswith("32 global"), "the same batch as before"
        assert document["forecast"]["needed_bytes"] == ways[number - 1]["needed_bytes"]


def test_the_plan_for_people(tmp_path: Path) -> None:
    written(
        tmp_path,
        recipe(stage="lora { rank = 8 }\n  duration = 3 epochs\n  batch { global = 16 }").replace(
            "  duration = 100 steps\n", ""
        ),
    )
    shown = ftc("plan", "recipe.ft", cwd=tmp_path).stdout
    assert "21 steps" in shown, "100 rows in batches of 16 are 7 steps, three times"
    assert "16 global = " in shown and "weights" in shown and "USD" in shown and "a step" in shown


def test_a_model_too_large_for_this_machine(tmp_path: Path) -> None:
    written(tmp_path, recipe("none", model="Qwen/Qwen2.5-72B", stage="template = default\n full { }"))
    shown = ftc("plan", "recipe.ft", cwd=tmp_path)
    assert shown.returncode == 1 and "too little main memory" in shown.stdout


def test_a_rank_left_open_is_planned_with_what_it_becomes(checked: Check) -> None:
    """A 70B model on two cards of 80 GB: LoRA fits them by a hair without its adapters, and not with them."""
    outcome = checked(recipe("a100(80GB)", 2, "meta-llama/Llama-2-70b-hf", 4096, "batch { global = 4 }"), ROWS)
    assert outcome.codes == [] and choices(outcome)["quantize.bits"] == "4"


def test_micro_batches_are_what_divides_the_batch(checked: Check) -> None:
    """A batch of 24 a card can be 12 at once, not only a power of two."""
    stage = "full { }\n  batch { global = 24 }\n  memory { checkpointing = none }"
    assert choices(checked(recipe("h100(80GB)", 1, "Qwen/Qwen3-0.6B", 1024, stage), ROWS))["batch.micro"] in (
        "3",
        "6",
        "12",
        "24",
    )


@pytest.mark.parametrize(
    ("optimizer", "count", "strategies"),
    [("galore(rank = 128)", 8, ("ddp",)), ("apollo(rank = 128)", 8, ("ddp",)), ("badam", 8, ("zero3",))],
)
def test_no_layout_is_chosen_that_the_optimizer_cannot_do(
    checked: Check, optimizer: str, count: int, strategies: tuple[str, ...]
) -> None:
    """GaLore and APOLLO refuse DeepSpeed, BAdam on several cards wants ZeRO-3 (LLaMA-Factory, hparams/parser.py)."""
    stage = f"full {{ }}\n  optim {{ name = {optimizer} }}\n  batch {{ global = 64 }}"
    found = choices(checked(recipe(count=count, model="Qwen/Qwen3-1.7B", stage=stage), ROWS))
    assert found["parallel.strategy"] in strategies


def test_the_largest_lattice_is_walked_in_well_under_a_second(checked: Check) -> None:
    """512 cards and 405 billion weights, everything left open."""
    text = recipe("h100(80GB)", 8, "meta-llama/Llama-3.1-405B", 8192, "batch { global = 30720 }")
    text = text.replace("count = 8", "count = 8, nodes = 64")
    checked(text, ROWS)  # what is read once is read
    before = process_time()
    outcome = checked(text, ROWS)
    assert process_time() - before < 1.0, "seconds of computing: others may keep the machine busy"
    assert choices(outcome)["parallel.strategy"] == "zero3"


@pytest.mark.parametrize("stage", ["freeze { layers = last(4) }", "oft { }", "lora { variant = dora }"])
def test_every_method_has_a_forecast(checked: Check, stage: str) -> None:
    outcome = checked(recipe(stage=f"{stage}\n  batch {{ global = 16 }}"), ROWS)
    assert outcome.codes == [] and "batch.micro" in choices(outcome)


QWEN = {"model_type": "qwen3", "hidden_size": 4096, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8,
        "head_dim": 128, "intermediate_size": 12288, "vocab_size": 151936}  # fmt: skip


def in_folder(config: object) -> tuple[str, dict[str, str]]:
    """A recipe that starts from a folder, and its files."""
    text = recipe(stage="template = default\n  batch { global = 16 }").replace('hf("Qwen/Qwen3-8B")', 'file("base")')
    return text, {**ROWS, "base/config.json": json.dumps(config), "base/tokenizer.json": "{}"}


def test_a_models_own_config_is_read(checked: Check) -> None:
    named = choices(checked(recipe(stage="template = default\n  batch { global = 16 }"), ROWS))
    assert choices(checked(*in_folder(QWEN))) == named


@pytest.mark.parametrize(
    ("config", "why"),
    [({**QWEN, "model_type": "t5"}, "not a decoder"), ({**QWEN, "state_size": 16}, "state-space layers alone"),
     ({"model_type": "qwen3"}, "no hidden_size"), ([], "not an object"),
     ({**QWEN, "num_attention_heads": "many"}, "not numbers")],
)  # fmt: skip
def test_a_config_that_is_not_modelled_says_why(checked: Check, config: object, why: str) -> None:
    outcome = checked(*in_folder(config))
    assert outcome.checked.plan is not None
    assert why in next(c for c in outcome.checked.plan.stages[0].choices if c.key == "lora").reason


def test_an_evaluation_too_large_is_said_and_changes_no_layout(checked: Check, tmp_path: Path) -> None:
    """Sixteen rows of logits at once are no reason to shard or offload what is trained."""
    stage = 'lora { }\n  batch { micro = 1, accumulate = 8 }\n  evaluate { data = [file("rows.jsonl")], batch = 16 }'
    text = recipe(stage=stage, length=4096)
    plain = choices(checked(text.replace("batch = 16", "batch = 1"), ROWS))
    outcome = checked(text, LONG_ROWS)
    found = outcome.only("FT701")
    assert found.span is not None and found.span.text == "16" and "evaluate.batch = 1" in found.help
    assert choices(outcome) == plain
    path = written(tmp_path, text)
    assert ftc("plan", path.name, "--apply", "1", cwd=tmp_path).returncode == 0
    assert "batch = 1 " in path.read_text(encoding="utf-8").replace("batch = 1\n", "batch = 1 ")


@pytest.mark.parametrize(("rows", "tokens"), [(ROW * 9, 64 + 30), ("", 0), ("\n", 0)])
@pytest.mark.parametrize("limit", ["", "limit = 3"])
def test_the_mean_length_of_rows_is_known_where_they_are_at_hand(
    rows: str, tokens: int, limit: str, checked: Check
) -> None:
    """102 bytes a row, 3.5 a token, and a template; a limit takes fewer rows, of the same length."""
    outcome = checked(recipe(stage=f"packing = neat\n  {limit}\n  lora {{}}"), {"rows.jsonl": rows})
    found = outcome.checked.recipe
    assert found is not None
    assert mean_row(found.stages[0], found, Files()) == tokens


# --- main memory

CPU = """\
hardware {{ gpu = none, count = {count}{memory} }}
engine = {engine}
{kind} {{
  model    = hf("{model}")
  data     = file("rows.jsonl")
  duration = 3 steps
  max_len  = {length}
  {stage}
  batch {{ global = 2, micro = 1 }}
}}
"""
PAIR = json.dumps({"prompt": "q", "chosen": "a " * 5_000, "rejected": "b " * 5_000}) + "\n"
TEXT = json.dumps({"text": "a " * 5_000}) + "\n"


def unfit(outcome: Outcome) -> Diagnostic:
    """What is said of its memory, beside what is said of its rows."""
    (diagnostic,) = (diagnostic for diagnostic in outcome.found if diagnostic.code == "FT701")
    return diagnostic


KINDS = [("sft", "llamafactory", "full { }"), ("sft", "llamafactory", "lora { }"), ("pretrain", "llamafactory", "full { }"),
         ("sft", "trl", "lora { }"), ("dpo", "trl", "full { }"), ("dpo", "llamafactory", "lora { }")]  # fmt: skip


@pytest.mark.parametrize(("kind", "engine", "stage"), KINDS)
def test_main_memory_of_a_cpu_that_is_too_small_is_a_warning(
    checked: Check, tmp_path: Path, kind: str, engine: str, stage: str
) -> None:
    """`ftc check` warns with what `ftc plan` says, about the machine that is named or about this one."""
    fields = {"kind": kind, "engine": engine, "stage": stage, "count": 1, "length": 64}
    rows = {"rows.jsonl": {"dpo": PAIR, "pretrain": TEXT}.get(kind, LONG_ROWS["rows.jsonl"])}
    text = CPU.format(model="Qwen/Qwen3-8B", memory=", memory = 16GB", **fields)
    diagnostic = unfit(checked(text, rows))
    assert diagnostic.severity is Severity.WARNING and "a machine has 14.9 GiB" in diagnostic.message
    assert diagnostic.span is not None and diagnostic.span.text == 'hf("Qwen/Qwen3-8B")'
    assert "FT701" not in checked(text.replace("16GB", "2TB"), rows).codes
    small_machine = {"FTC_MAIN_MEMORY": str(16 * 10**9)}
    here = unfit(checked(CPU.format(model="Qwen/Qwen3-8B", memory="", **fields), rows, **small_machine))
    assert "this machine has 14.9 GiB" in here.message and here.severity is Severity.WARNING
    assert "FT701" not in checked(CPU.format(model="Qwen/Qwen3-8B", memory="", **fields), rows).codes
    (tmp_path / "rows.jsonl").write_text(rows["rows.jsonl"], encoding="utf-8")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    assert "does not fit" in ftc("plan", "r.ft", cwd=tmp_path).stdout


def test_processes_share_main_memory(checked: Check) -> None:
    fields = {"kind": "sft", "engine": "llamafactory", "stage": "lora { }", "length": 64, "model": "Qwen/Qwen3-1.7B"}
    text = CPU.format(count=1, memory=", memory = 16GB", **fields).replace("global = 2", "global = 4")
    one, four = checked(text, LONG_ROWS), checked(text.replace("count = 1", "count = 4"), LONG_ROWS)
    assert "FT701" not in one.codes
    assert "for each of 4 processes; a machine has 14.9 GiB" in unfit(four).message


@pytest.mark.parametrize("gpu", ["h100(80GB)", "none"])
def test_a_plan_says_when_a_stage_fits_its_rows_only(gpu: str, tmp_path: Path) -> None:
    """Where check is silent, plan does not say that it does not fit."""
    stage = "lora { rank = 8 }\n batch { global = 1, micro = 1 }\n memory { checkpointing = none }"
    model = "Qwen/Qwen3-8B" if gpu != "none" else "Qwen/Qwen3-0.6B"
    text = recipe(gpu, model=model, length=131072, stage=stage)
    (tmp_path / "rows.jsonl").write_text(ROWS["rows.jsonl"], encoding="utf-8")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    assert "FT701" not in ftc("check", "r.ft", cwd=tmp_path).stdout
    shown = ftc("plan", "r.ft", cwd=tmp_path).stdout
    assert "fits its rows" in shown and "tokens would not fit; the longest here has" in shown
    assert "does not fit" not in shown and "too little" not in shown
    (tmp_path / "rows.jsonl").write_text(LONG_ROWS["rows.jsonl"] * 2, encoding="utf-8")
    (tmp_path / "r.ft").write_text(text.replace("131072", "2048"), encoding="utf-8")
    assert "fits its rows" not in ftc("plan", "r.ft", cwd=tmp_path).stdout


OFFLOAD = "full { }\n batch { global = 16, micro = 1 }\n parallel { strategy = zero3, offload = [optimizer, params] }"


@pytest.mark.parametrize(
    ("memory", "severity"), [("500GB", Severity.ERROR), ("744GB", Severity.WARNING), ("1TB", None)]
)
def test_offloading_needs_buffers_besides(
    checked: Check, tmp_path: Path, memory: str, severity: Severity | None
) -> None:
    """744 GB were too few for 590 of states: what is likely warns, only states that do not fit are refused."""
    text = recipe("a100(80GB)", 8, "01-ai/Yi-34B-Chat", stage=OFFLOAD).replace(
        "count = 8", f"count = 8, memory = {memory}"
    )
    outcome = checked(text.replace("max_len", "template = yi\n  max_len"), ROWS)
    if severity is None:
        assert "FT701" not in outcome.codes
        return
    diagnostic = unfit(outcome)
    assert diagnostic.severity is severity and "to main memory" in diagnostic.message
    assert diagnostic.span is not None and diagnostic.span.text == "[optimizer, params]"

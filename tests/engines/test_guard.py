"""Guards and batch ramps: what `stage.json` says, the equation of each phase, and what cannot be had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ALPACA, Outcome

RECIPE = """
hardware {{ gpu = {gpu}, count = {count} }}
template = qwen3_nothink
{kind} {{
  model = hf("Qwen/Qwen3-0.6B")
  data  = file("rows.jsonl")
  duration = {duration}
  {body}
}}
"""
PHASES = (
    "phase(until = 1000 steps, micro = 2, accumulate = 8), phase(until = 5000 steps, micro = 4, accumulate = 4),"
    " phase(micro = 8, accumulate = 2)"
)


@pytest.fixture
def recipe(checked: Callable[..., Outcome]) -> Callable[..., Outcome]:
    def run(
        body: str,
        *,
        gpu: str = "none",
        count: int = 1,
        kind: str = "sft",
        duration: str = "3 epochs",
        rows: str = ALPACA,
    ) -> Outcome:
        text = RECIPE.format(gpu=gpu, count=count, kind=kind, duration=duration, body=body)
        return checked(text, {"rows.jsonl": rows})

    return run


def document(outcome: Outcome, name: str) -> Any:
    assert not outcome.codes, [(one.code, one.message) for one in outcome.found]
    return next(one for job in outcome.checked.jobs for one in job.documents if one.path == f"10-{job.key}/{name}")


def test_what_nobody_asks_for_is_a_stop_and_warnings(recipe: Callable[..., Outcome]) -> None:
    spec = document(recipe("lora {}"), "stage.json")
    assert spec.data["guard"] == {"nan": {"action": "stop"}}
    actions = {name: rule["action"] for name, rule in spec.data["watch"].items()}
    assert actions == {"spike": "warn", "stall": "warn", "eval": "warn", "diverged": "stop"}
    assert spec.bookkeeping == ("watch", "card"), "what only reports makes no result another one"


RULES = [
    (
        "nan = rollback, retries = 2, cut_lr = 50%, skip = false",
        {"nan": {"action": "rollback"}, "retries": 2, "cut_lr": 0.5, "skip": False},
    ),
    ("spike = rollback(factor = 4, window = 50 steps)", {"spike": {"action": "rollback", "factor": 4.0, "window": 50}}),
    ("grad_norm = skip(5.0)", {"grad_norm": {"action": "skip", "limit": 5.0}}),
    ("stall = stop(30min)", {"stall": {"action": "stop", "after": 1800.0}}),
    ("stall = stop", {"stall": {"action": "stop", "after": 1800.0}}),
    ("eval = stop(1.5)", {"eval": {"action": "stop", "factor": 1.5}}),
    ("nan = ignore, diverged = ignore", {"nan": {"action": "ignore"}, "diverged": {"action": "ignore"}}),
]


@pytest.mark.parametrize(("guard", "spec"), RULES, ids=[guard for guard, _ in RULES])
def test_a_rule_is_written_down(guard: str, spec: dict[str, Any], recipe: Callable[..., Outcome]) -> None:
    data = document(recipe(f"lora {{}}, guard {{ {guard} }}"), "stage.json").data
    rules = {**data["watch"], **data["guard"]}
    assert {name: rule for name, rule in rules.items() if name in spec} == spec
    assert "stall" in data["watch"]


def test_what_diverged_and_was_accepted_serves_no_recipe_that_would_refuse_it(recipe: Callable[..., Outcome]) -> None:
    specs = [
        document(recipe(f"lora {{}}, guard {{ diverged = {action} }}"), "stage.json")
        for action in ("stop", "warn", "ignore")
    ]
    keys = [{name: value for name, value in spec.data.items() if name not in spec.bookkeeping} for spec in specs]
    assert keys[0] != keys[1] != keys[2] != keys[0]


def test_each_phase_has_its_equation(recipe: Callable[..., Outcome]) -> None:
    outcome = recipe(f"lora {{}}, batch {{ ramp = [{PHASES}] }}")
    assert document(outcome, "stage.json").data["ramp"] == [
        {"micro": 2, "accumulate": 8, "until": 1000}, {"micro": 4, "accumulate": 4, "until": 5000}, {"micro": 8, "accumulate": 2},
    ]  # fmt: skip
    config = document(outcome, "train.yaml")
    assert config.header[1:4] == (
        "steps 1 to 1,000: 16 global = 2 micro x 8 accumulate x 1 data-parallel",
        "steps 1,001 to 5,000: 16 global = 4 micro x 4 accumulate x 1 data-parallel",
        "steps 5,001 on: 16 global = 8 micro x 2 accumulate x 1 data-parallel",
    )
    assert config.data["per_device_train_batch_size"] == 8, "memory is that of the largest phase"
    assert config.data["gradient_accumulation_steps"] == 1, "steps are cut by our runtime"


def test_memory_is_planned_for_the_largest_phase(recipe: Callable[..., Outcome]) -> None:
    ramp = "ramp = [phase(until = 9 steps, micro = {}), phase(micro = {})]"
    body = f"full {{{{}}}}, max_len = 8192, memory.checkpointing = none, batch {{{{ {ramp} }}}}"
    for order in ((1, 64), (64, 1)):
        outcome = recipe(body.format(*order), gpu="rtx4090")
        assert outcome.codes == ["FT701"], [(one.code, one.message) for one in outcome.found]
    assert not recipe(body.format(1, 1).replace("8192", "512"), gpu="rtx4090").codes


def test_tokens_are_counted_by_phase(recipe: Callable[..., Outcome]) -> None:
    ramp = "batch { ramp = [phase(until = 10 steps, micro = 1), phase(micro = 4)] }"
    config = document(recipe(f"lora {{}}, max_len = 1000, {ramp}", duration="50k tokens"), "train.yaml")
    assert config.data["max_steps"] == 10 + 10


WRONG = [
    ("batch { ramp = [warmup(100 steps)] }", "FT401", "takes phases such as"),
    (f"batch {{ ramp = [{PHASES}], global = 16 }}", "FT401", "both set the batch size"),
    (f"batch {{ ramp = [{PHASES}], micro = 2 }}", "FT401", "both set the batch size"),
    ("batch { ramp = [phase(micro = 2), phase(micro = 4)] }", "FT401", "every phase but the last needs"),
    (
        "batch { ramp = [phase(until = 9 steps, micro = 2), phase(until = 12 steps, micro = 4)] }",
        "FT401",
        "lasts to the end",
    ),
    (
        "batch { ramp = [phase(until = 9 steps), phase(until = 5 steps), phase(micro = 4)] }",
        "FT401",
        "not larger than",
    ),
    ("guard { spike = rollback(factor = 1) }", "FT003", "more than 1"),
    ("guard { grad_norm = skip }", "FT010", "`skip` needs `limit`"),
]


@pytest.mark.parametrize(("body", "code", "said"), WRONG, ids=[body for body, *_ in WRONG])
def test_what_makes_no_sense_is_refused(body: str, code: str, said: str, recipe: Callable[..., Outcome]) -> None:
    outcome = recipe(f"lora {{}}, {body}")
    errors = [one for one in outcome.found if one.severity.value == "error"]
    assert len(errors) == 1, [(one.code, one.message) for one in outcome.found]
    assert errors[0].code == code and said in errors[0].message
    assert errors[0].span and (errors[0].help or code == "FT003")


LAYERWISE = "optim.name = galore(layerwise = true), hardware.count = 1, batch { micro = 1, accumulate = 1 }"
FAR = [
    (f"{LAYERWISE}, guard {{ nan = rollback }}", "steps in its own hooks"),
    (
        "optim.name = galore(layerwise = true), hardware.count = 1, batch { micro = 1, accumulate = 1 }, guard { nan = skip }",
        "before the gradient norm is known",
    ),
    ("parallel.strategy = zero2, guard { grad_norm = skip(5.0) }", "before the gradient norm is known"),
    ("parallel.strategy = fsdp2, guard { nan = rollback }", "cannot be restarted"),
    ("parallel.strategy = fsdp2, batch { ramp = [phase(micro = 2)] }", "is not supported yet"),
    ("parallel { strategy = megatron, tensor = 2 }, guard { nan = rollback }", "Megatron has its own trainer"),
    ("launch.with = ray, guard { nan = rollback }", "Ray starts the engine's own"),
    ("launch.with = ray, batch { ramp = [phase(micro = 2)] }", "Ray starts the engine's own"),
]


@pytest.mark.parametrize(("body", "said"), FAR, ids=[body for body, _ in FAR])
def test_what_our_runtime_does_not_reach_is_refused_at_its_key(
    body: str, said: str, recipe: Callable[..., Outcome]
) -> None:
    outcome = recipe(f"full {{}}, {body}", gpu="h100(80GB)", count=2)
    errors = [one for one in outcome.found if one.severity.value == "error"]
    assert len(errors) == 1 and said in errors[0].message, [(one.code, one.message) for one in outcome.found]
    assert errors[0].help


def test_zero_may_roll_back(recipe: Callable[..., Outcome]) -> None:
    for strategy in ("zero2", "zero3"):
        assert not recipe(
            f"full {{}}, parallel.strategy = {strategy}, guard {{ nan = rollback }}", gpu="h100(80GB)", count=2
        ).codes


def test_one_process_is_started_again_too(recipe: Callable[..., Outcome]) -> None:
    outcome = recipe("lora {}, launch.retries = 2")
    job = next(job for job in outcome.checked.jobs if job.key == "sft")
    assert "runtime/retry.py" in [str(word) for word in job.commands[-1].argv]
    assert {"retry", "failures", "checkpoints"} <= set(job.runtime)

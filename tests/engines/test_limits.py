"""What no rule over parameters can see, said at the word: one cause, one message."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.conftest import ALPACA, Outcome

RECIPE = """\
hardware {{ gpu = {gpu}, count = 1 }}
{kind} {{
  model    = hf("Qwen/Qwen3-8B")
  template = qwen3
  data     = file("rows.jsonl")
  duration = 100 steps
  {stage}
}}
"""
PAIRS = '{"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}\n' * 4
CASES = [
    ("sft", "a100(80GB)", "quantize { bits = 8, scheme = nf4 }", "`nf4` has 4 bits"),
    ("sft", "a100(80GB)", "quantize { bits = 4, scheme = hqq }", "transformers 5, which cannot load a model in HQQ"),
    ("sft", "none", "quantize { bits = 8, scheme = eetq }", "EETQ needs a GPU"),
    ("sft", "a100(80GB)", "lora { variant = dora }\n  quantize { bits = 4 }", "refuses DoRA on a quantised base"),
    ("sft", "a100(80GB)", 'tokenizer { add = ["x"] }\n  quantize { bits = 4 }', "cannot be resized"),
    ("sft", "a100(80GB)", "loss = asft\n  lora {}\n  batch { accumulate = 1 }", "ASFT needs a copy of the model"),
    ("dpo", "a100(80GB)", 'loss = simpo\n  reference = hf("Qwen/Qwen3-8B")', "uses no reference model"),
    (
        "sft",
        "a100(80GB)",
        "evaluate { data = 10%, every = 50 steps, metrics = [rouge, accuracy] }",
        "combined with rouge",
    ),
    ("sft", "none", "precision = pure_bf16", "`pure_bf16` needs a GPU"),
    ("sft", "none", "kernels = liger", "`liger` needs a GPU"),
    ("sft", "none", "memory { offload_activations = true }", "in main memory already"),
    ("sft", "none", "attention = flash2", "has no effect on CPU"),
    ("sft", "a100(80GB)", "guard { cut_lr = 50% }", "`cut_lr` is an option of rollbacks"),
    ("sft", "a100(80GB)", "guard { nan = rollback }, save { resumable = false }", "does not save"),
    ("sft", "a100(80GB)", "guard { nan = rollback }, lora { init = pissa(convert = true) }", "PiSSA's converter"),
    (
        "sft",
        "a100(80GB)",
        "batch { ramp = [phase(micro = 2, accumulate = 2)] }, loader { streaming = true }",
        "streamed rows cannot be counted",
    ),
    (
        "sft",
        "a100(80GB)",
        "batch { ramp = [phase(micro = 2)] }, loader { order = by_length }",
        "not by length",
    ),
    ("sft", "a100(80GB)", "batch { ramp = [phase(micro = 2, accumulate = 2)] }, loss = dft", "is summed over"),
    ("sft", "a100(80GB)", "kernels = cce", "has no `cce`"),
    ("sft", "a100(80GB)", "memory { checkpointing = none, offload_activations = true }", "without checkpointing"),
]


@pytest.mark.parametrize(("kind", "gpu", "stage", "said"), CASES, ids=[said for *_, said in CASES])
def test_what_cannot_go_together(kind: str, gpu: str, stage: str, said: str, checked: Callable[..., Outcome]) -> None:
    rows = {"rows.jsonl": PAIRS if kind == "dpo" else ALPACA}
    outcome = checked(RECIPE.format(kind=kind, gpu=gpu, stage=stage), rows)
    found = [one for one in outcome.found if one.severity.value != "info"]
    assert len(found) == 1 and said in found[0].message, [(one.code, one.message) for one in found]
    assert found[0].help


def test_a_pissa_adapter_must_be_converted_to_be_handed_on(checked: Callable[..., Outcome]) -> None:
    first = RECIPE.format(kind="sft", gpu="a100(80GB)", stage="lora { init = pissa }")
    outcome = checked(first + "merge from sft { }\n", {"rows.jsonl": ALPACA})
    assert "fits only the base it was split from" in outcome.only("FT012").message
    fine = first.replace("init = pissa", "init = pissa(convert = true)")
    assert checked(fine + "merge from sft { }\n", {"rows.jsonl": ALPACA}).codes == []

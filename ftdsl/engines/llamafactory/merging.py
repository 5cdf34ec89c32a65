"""Stages that export a model: merge adapters into the base, change the dtype, quantise."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.llamafactory import limits, lowerings, runtime_modules
from ftdsl.engines.llamafactory.documents import job_of, yaml_of
from ftdsl.engines.llamafactory.extending import extension
from ftdsl.engines.shared import overlay, runtime_spec
from ftdsl.engines.shared.assemble import result_of, title_of
from ftdsl.engines.shared.calibrating import calibration
from ftdsl.engines.shared.card import card_of
from ftdsl.engines.shared.extending import own_files
from ftdsl.engines.shared.merging import merges_reward_model, refuse_quantised, warn_quantised_by_name
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import Params, StageContext


def merge(context: StageContext) -> Job:
    """`export_model` (llamafactory/train/tuner.py); for a reward model, ftdsl's runtime copies the value head too."""
    overlay.refuse_unlowered(context, lowerings.names(lowerings.MERGING))
    limits.check(context, limits.MERGING)
    refuse_quantised(context)
    return _export(context, {"stage": "rm"} if merges_reward_model(context) else {}, [], [], "merge")


def quantise(context: StageContext) -> Job:
    """GPTQ by `export_model` (llamafactory/model/model_utils/quantization.py)."""
    overlay.refuse_unlowered(context, lowerings.names(lowerings.QUANTISING))
    warn_quantised_by_name(context)
    if (group := context.option("scheme", "group")) not in (None, 128):
        help = "write `library = llmcompressor`, or drop `group`"
        context.refuse("scheme", f"LLaMA-Factory's export has groups of 128, not of {group}", help)
    rows = calibration(context)
    bits = context.get("bits") or 4
    params: Params = {"export_quantization_bit": bits}
    if rows is not None:
        params |= {"export_quantization_nsamples": rows.rows, "export_quantization_dataset": rows.dataset}
    if bits not in (2, 3, 4, 8):
        context.refuse("bits", f"GPTQ supports 2, 3, 4 or 8 bits, not {bits}", "write `bits = 4`")
    documents, commands, inputs = (rows.documents, rows.commands, rows.inputs) if rows else ((), (), ())
    what = f"{bits}-bit GPTQ"
    return _export(context, params, list(documents), list(commands), what, list(inputs))


def _export(
    context: StageContext,
    params: Params,
    documents: list[Document],
    before: list[Command],
    what: str,
    inputs: list[str] | None = None,
) -> Job:
    for rule in lowerings.MERGING:
        params |= rule(context)
    params |= overlay.params(context, context.stage.kind, only=_EXPORT_KEYS)
    params |= {"export_dir": result_of(context), "export_device": "auto" if context.planned.world.gpu else "cpu"}
    config, added = yaml_of(context, "export", params), extension(context, training=False)
    more: dict[str, Any] = {"private": True} if context.option("push", "private") else {}
    if revision := context.option("push", "revision"):
        more["revision"] = str(revision)
    relation = "quantized" if context.stage.kind == "quantize" else "finetune"
    more["card"] = card_of(context, title_of(context, what).capitalize() + ", by LLaMA-Factory.", relation)
    spec = runtime_spec.spec(context, "export", [{"config": config.path}], added, **more)
    argv = (PYTHON, runtime_modules.PROGRAM, "export", spec.path)
    documents = [config, *documents, *([added] if added else []), spec]
    commands = [*before, Command(argv)]
    return job_of(
        context, documents, commands, [*(inputs or ()), *own_files(context)], "model", title_of(context, what)
    )


_EXPORT_KEYS = frozenset(
    "template system tools thinking keep_thinking dtype shards legacy bits max_len tokenizer.add tokenizer.resize".split()
)

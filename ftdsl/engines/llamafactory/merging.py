"""Stages that write a model anew: adapters merged into their base, another dtype, fewer bits."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.llamafactory import limits, rules, runtime_modules, words
from ftdsl.engines.llamafactory.assemble import job_of, result_of, title_of, yaml_of
from ftdsl.engines.llamafactory.calibrating import calibration
from ftdsl.engines.llamafactory.extending import extension, own_files
from ftdsl.engines.llamafactory.parallel import ENGINE, PYTHON
from ftdsl.engines.llamafactory.work import Params, Work
from ftdsl.language.values import StageRef


def merge(work: Work) -> Job:
    """`export_model` (llamafactory/train/tuner.py); of a reward model the value head is copied too."""
    words.refuse_unlowered(work, rules.names(rules.MERGING))
    limits.check(work, limits.MERGING)
    if work.said("quantize.bits") or work.said("quantize.scheme"):
        help = "write a `quantize` stage after it"
        work.refuse("quantize", "adapters are merged into whole weights, not into quantised ones", help)
    return _export(work, {"stage": "rm"} if _scores(work) else {}, [], [], "merge")


def quantise(work: Work) -> Job:
    """GPTQ by `export_model` (llamafactory/model/model_utils/quantization.py)."""
    words.refuse_unlowered(work, rules.names(rules.QUANTISING))
    params, documents, commands, inputs = calibration(work)
    if work.get("bits") not in (2, 3, 4, 8):
        work.refuse("bits", f"GPTQ has 2, 3, 4 or 8 bits, not {work.get('bits')}", "write `bits = 4`")
    return _export(work, params, documents, commands, f"{work.get('bits')}-bit GPTQ", inputs)


def _export(
    work: Work,
    params: Params,
    documents: list[Document],
    before: list[Command],
    what: str,
    inputs: list[str] | None = None,
) -> Job:
    for rule in rules.MERGING:
        params |= rule(work)
    params |= words.params(work, work.stage.kind, only=_WORDS)
    params |= {"export_dir": result_of(work), "export_device": "auto" if work.planned.world.gpu else "cpu"}
    config, added = yaml_of(work, "export", params), extension(work, training=False)
    private: dict[str, Any] = {"private": True} if work.option("push", "private") else {}
    spec = runtime_modules.spec(work, "export", [{"config": config.path}], added, **private)
    argv = (PYTHON, ENGINE, "export", spec.path)
    documents = [config, *documents, *([added] if added else []), spec]
    commands = [*before, Command(argv)]
    return job_of(work, documents, commands, [*(inputs or ()), *own_files(work)], "model", title_of(work, what))


def _scores(work: Work) -> bool:
    """Whether what is merged is a reward model."""
    start = work.stage.start
    last = (start.adapters[-1] if start.adapters else start.base) if start else None
    return isinstance(last, StageRef) and work.plan.stage(last.key).stage.kind == "reward"


_WORDS = frozenset(
    "template system tools thinking keep_thinking dtype shards legacy bits max_len tokenizer.add tokenizer.resize".split()
)

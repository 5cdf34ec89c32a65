"""A model card: what the Hub reads in a README.md (metadata in YAML, then Markdown), from what a run knows.

Metadata: https://huggingface.co/docs/hub/model-cards. Nothing is made up: licence and intended use are the author's to write.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from ftdsl.observe.text import STDERR, number, score, score_names
from ftdsl.report.gather import RunReport, StageReport
from ftdsl.report.markdown import cell, table

TRAINED = ("pretrain", "sft", "dpo", "kto", "reward", "ppo", "grpo", "distill")
SHOWN = (
    "model", "data", "duration", "optim.lr", "optim.schedule", "optim.warmup", "lora.rank", "lora.alpha", "max_len",
    "precision", "template", "seed",
)  # fmt: skip
"""Settings of a stage that a reader of a card asks for first."""


def card(report: RunReport) -> str:
    """The whole README.md."""
    trained = [stage for stage in report.stages if stage.progress.kind in TRAINED]
    scores = [stage for stage in report.stages if stage.progress.kind == "eval" and stage.metrics]
    lines = ["---", *_metadata(report, trained, scores), "---", "", f"# {cell(report.run.name)}", ""]
    for stage in trained:
        lines += [f"## {cell(stage.progress.key)}: {cell(stage.progress.title)}", "", *_training(stage), ""]
    if scores:
        names = score_names(stage.metrics for stage in scores)
        rows = [(name, *(score(name, stage.metrics) for stage in scores)) for name in names]
        lines += ["## Scores", "", *table(("metric", *(stage.progress.key for stage in scores)), rows), ""]
    lines += ["## What made it", "", *table(("what", "value"), report.lineage), ""]
    return "\n".join(lines)


def _metadata(report: RunReport, trained: list[StageReport], scores: list[StageReport]) -> Iterator[str]:
    """YAML of the keys the Hub knows; JSON strings are YAML."""
    bases = dict.fromkeys(name for stage in trained for name in _hub_names(stage.settings.get("model", "")))
    data = dict.fromkeys(
        name
        for stage in report.stages
        for key in ("data", "source")
        for name in _hub_names(stage.settings.get(key, ""))
    )
    adapters = not any(stage.progress.kind == "merge" for stage in report.stages) and any(
        "lora.rank" in s.settings for s in trained
    )
    if bases:
        yield f"base_model: {json.dumps(next(iter(bases)))}"
    yield f"library_name: {'peft' if adapters else 'transformers'}"
    yield "pipeline_tag: text-generation"
    if data:
        yield f"datasets: {json.dumps(list(data))}"
    yield f"tags: {json.dumps(['ftdsl', *dict.fromkeys(stage.progress.kind for stage in trained)])}"
    values = [
        (stage.progress.key, name, value)
        for stage in scores[-1:]
        for name, value in stage.metrics.items()
        if math.isfinite(value) and not name.endswith(STDERR)
    ]
    if values:
        yield "model-index:"
        yield f"  - name: {json.dumps(report.run.name)}"
        yield "    results:"
        for key, name, value in values:
            yield "      - task: {type: text-generation}"
            yield f"        dataset: {{name: {json.dumps(key)}, type: {json.dumps(key)}}}"
            yield f"        metrics: [{{type: {json.dumps(name)}, value: {value:.6g}}}]"


def _hub_names(text: str) -> list[str]:
    """Repositories in a value: `hf("org/name", …)`."""
    return re.findall(r'hf\("([\w.-]+/[\w.-]+)"', text)


def _training(stage: StageReport) -> Iterator[str]:
    rows = [(key, stage.settings[key]) for key in SHOWN if key in stage.settings]
    if stage.batch:
        rows.append(("batch", stage.batch))
    losses = stage.training.curves.loss.finite.values if stage.training else []
    if losses:
        rows.append(("loss", f"{number(losses[0])} -> {number(losses[-1])}"))
    yield from table(("setting", "value"), rows)
    for finding in stage.training.findings if stage.training else ():
        yield ""
        yield f"`ftc diagnose`: {cell(finding.message)} ({finding.code})."

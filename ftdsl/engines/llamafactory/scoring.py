"""Stages that score: what the engine measures of the rows it is given, and gates over it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Document, Gate, Job
from ftdsl.engines.llamafactory import limits, parallel, rules, watched, words
from ftdsl.engines.llamafactory.assemble import dataset_info, job_of, title_of, yaml_of
from ftdsl.engines.llamafactory.datasets import Datasets, media
from ftdsl.engines.llamafactory.extending import extension, flags, own_files
from ftdsl.engines.llamafactory.leaks import leak_check
from ftdsl.engines.llamafactory.parallel import PYTHON
from ftdsl.engines.llamafactory.rules.generate import generation
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Term


def score(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.SCORING))
    limits.check(work, limits.SCORING)
    parallel.check(work)
    metrics = {words.plain(metric) for metric in work.get("metrics") or ()}
    datasets = Datasets(work)
    names, _ = datasets.names("data", mixed=False)
    if not names:
        work.refuse("data", f"`{work.stage.name}` has no rows to answer", "write `data = NAME.eval`")
    common: dict[str, Any] = {"stage": _stage_of_rows(datasets)}
    for rule in rules.SCORING:
        common |= rule(work)
    common |= words.params(work, "eval", only=_EVAL_WORDS)
    common |= media(work, datasets)
    common |= {"eval_dataset": ",".join(names), "dataset_dir": datasets.folder}
    common |= {"per_device_eval_batch_size": work.get("batch"), "report_to": "none"}
    common = parallel.with_params(work, common)
    documents = [dataset_info(work, datasets), *parallel.documents(work)]
    configs: list[Document] = []
    if metrics & {"loss", "accuracy"} or not metrics:
        params = {**common, "do_eval": True, "output_dir": f"{work.folder}/loss"}
        if "accuracy" in metrics:
            params["compute_accuracy"] = True
        configs.append(yaml_of(work, "eval", params))
    if metrics & {"rouge", "bleu"}:
        params = {**common, "do_predict": True, "predict_with_generate": True, **generation(work)}
        params["output_dir"] = f"{work.folder}/predict"
        configs.append(yaml_of(work, "predict", params))
    documents += configs
    added = extension(work, training=False)
    documents += [added] if added else []
    told = ("--kind", "eval", *flags(added), *watched.smoke(work))
    commands = parallel.launch(work, [document.path for document in configs], told)
    if leaks := leak_check(work):
        documents.append(leaks[0])
        commands.insert(0, leaks[1])
    gates = tuple(_gates(work))
    if gates:
        commands.append(_gate_command(work, documents, gates))
    inputs = [*datasets.inputs, *own_files(work)]
    return job_of(work, documents, commands, inputs, "metrics", title_of(work, "eval"), gates)


_EVAL_WORDS = frozenset(
    "template system tools thinking keep_thinking precision attention seed limit max_len "
    "tokenizer.add tokenizer.resize tokenizer.split_special media.image_max_pixels media.image_min_pixels "
    "media.video_max_pixels media.video_min_pixels media.video_fps media.video_max_frames media.audio_rate "
    "media.audio_in_video media.pan_and_scan media.crop_to_patches loader.workers loader.tokenize".split()
)


def _stage_of_rows(datasets: Datasets) -> str:
    """Plain text is scored as in pretraining; answers as in sft."""
    columns = [entry.get("columns", {}) for entry in datasets.entries.values()]
    return "pt" if columns and all(set(c) == {"prompt"} for c in columns) else "sft"


def _gates(work: Work) -> Iterator[Gate]:
    for metric, bound in work.stage.settings.inside("gate").items():
        if not isinstance(bound, Term):
            continue
        options = bound.options
        if bound.name == "no_worse":
            than = options.get("than")
            other = work.plan.stage(than.key) if than else None
            if other is None or other.stage.kind != "eval":
                work.refuse(f"gate.{metric}", "`no_worse` compares with an `eval` stage", "write `no_worse(NAME)`")
                continue
            level = options.get("by")
            slack = 0.0 if level is None else _level(metric, level)
            yield Gate(metric, "no_worse", slack, other.folder)
        else:
            yield Gate(metric, bound.name, _level(metric, options["value"]))


def _level(metric: str, level: Any) -> float:
    """rouge and bleu are counted in percent by the engine; a share of them is meant as one."""
    number = float(getattr(level, "number", level))
    share = getattr(level, "unit", "") == "share"
    return number * 100 if share and metric.startswith(("rouge", "bleu")) else number


def _gate_command(work: Work, documents: list[Document], gates: tuple[Gate, ...]) -> Command:
    spec = {
        "stage": work.folder,
        "where": work.plan.recipe.where(work.stage.spans.get("gate", work.stage.span)),
        "gates": [{"metric": g.metric, "op": g.op, "bound": round(g.bound, 12), "than": g.than or None} for g in gates],
    }
    documents.append(Document(f"{work.folder}/gate.json", "json", spec))
    report: tuple[str, ...] = ("--report",) if work.plan.recipe.smoke else ()
    said = "of a smoke run: reported only" if report else "exit status 3: the gate refuses"
    return Command((PYTHON, "runtime/gate.py", f"{work.folder}/gate.json", *report), comment=said)

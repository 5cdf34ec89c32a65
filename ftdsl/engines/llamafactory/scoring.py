"""Stages that score a model on rows, and their gates."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Document, Job
from ftdsl.engines.llamafactory import limits, lowerings, sharding
from ftdsl.engines.llamafactory.datasets import Datasets, media
from ftdsl.engines.llamafactory.documents import dataset_info, job_of, yaml_of
from ftdsl.engines.llamafactory.extending import extension
from ftdsl.engines.llamafactory.lowerings.generate import generation
from ftdsl.engines.llamafactory.runtime_modules import TRAIN
from ftdsl.engines.shared import overlay, parallel, runtime_spec
from ftdsl.engines.shared.assemble import title_of
from ftdsl.engines.shared.extending import own_files
from ftdsl.engines.shared.gates import gate_command, gates_of
from ftdsl.engines.shared.leaks import leak_check
from ftdsl.engines.shared.stage_context import StageContext


def score(context: StageContext) -> Job:
    overlay.refuse_unlowered(context, lowerings.names(lowerings.SCORING))
    limits.check(context, limits.SCORING)
    sharding.check(context)
    metrics = {overlay.plain(metric) for metric in context.get("metrics") or ()}
    datasets = Datasets(context)
    names, _ = datasets.names("data", mixed=False)
    if not names and "tasks" not in context.stage.unknown:
        context.refuse("data", f"`{context.stage.name}` has no rows to score", "write `data = NAME.eval`")
    common: dict[str, Any] = {"stage": _stage_of_rows(datasets)}
    for rule in lowerings.SCORING:
        common |= rule(context)
    common |= overlay.params(context, "eval", only=_EVAL_KEYS)
    common |= media(context, datasets)
    common |= {"eval_dataset": ",".join(names), "dataset_dir": datasets.folder}
    common |= {"per_device_eval_batch_size": context.get("batch"), "report_to": "none"}
    common = sharding.with_params(context, common)
    documents = [dataset_info(context, datasets), *parallel.documents(context)]
    configs: list[Document] = []
    if metrics & {"loss", "accuracy"} or not metrics:
        params = {**common, "do_eval": True, "output_dir": f"{context.folder}/loss"}
        if "accuracy" in metrics:
            params["compute_accuracy"] = True
        configs.append(yaml_of(context, "eval", params))
    if metrics & {"rouge", "bleu", "file"}:
        params = {**common, "do_predict": True, "predict_with_generate": True, **generation(context)}
        params["output_dir"] = f"{context.folder}/predict"
        configs.append(yaml_of(context, "predict", params))
    documents += configs
    added = extension(context, training=False)
    documents += [added] if added else []
    parts = [{"config": document.path} for document in configs]
    documents.append(runtime_spec.spec(context, "eval", parts, added))
    commands = parallel.launch(context, TRAIN, len(parts))
    if leaks := leak_check(context):
        documents.append(leaks[0])
        commands.insert(0, leaks[1])
    gates = tuple(gates_of(context))
    if gates:
        commands.append(gate_command(context, documents, gates))
    inputs = [*datasets.inputs, *own_files(context)]
    return job_of(context, documents, commands, inputs, "metrics", title_of(context, "eval"), gates)


_EVAL_KEYS = frozenset(
    "template system tools thinking keep_thinking precision attention seed limit max_len "
    "tokenizer.add tokenizer.resize tokenizer.split_special media.image_max_pixels media.image_min_pixels "
    "media.video_max_pixels media.video_min_pixels media.video_fps media.video_max_frames media.audio_rate "
    "media.audio_in_video media.pan_and_scan media.crop_to_patches loader.workers loader.tokenize".split()
)


def _stage_of_rows(datasets: Datasets) -> str:
    """The engine's `stage`: plain text is scored as in pretraining, answers as in SFT."""
    columns = [entry.get("columns", {}) for entry in datasets.entries.values()]
    return "pt" if columns and all(set(c) == {"prompt"} for c in columns) else "sft"

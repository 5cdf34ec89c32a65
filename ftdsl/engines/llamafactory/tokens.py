"""`tokenize = ahead`: a job on the CPU that saves token ids before training, once for all stages that need the same.

The engine would start training after saving them (llamafactory/data/loader.py, get_dataset), so the job calls the engine's
functions itself.
"""

from __future__ import annotations

import json

from ftdsl import catalog
from ftdsl.engines.jobs import Command, Document, Job, Raw
from ftdsl.engines.llamafactory import runtime_modules
from ftdsl.engines.llamafactory.datasets import Datasets
from ftdsl.engines.llamafactory.extending import extension
from ftdsl.engines.shared import runtime_spec
from ftdsl.engines.shared.assemble import reads_of
from ftdsl.engines.shared.extending import own_files
from ftdsl.engines.shared.overlay import environment
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.scratch import job_key, needed_by
from ftdsl.engines.shared.shell_stage import exported
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.plan.plan import number_of, numbered

_MODEL = (
    "stage", "do_train", "model_name_or_path", "model_revision", "trust_remote_code", "use_cpu", "seed", "full_determinism",
    "predict_with_generate", "add_tokens", "add_special_tokens", "new_special_tokens_config", "split_special_tokens",
    "image_max_pixels", "image_min_pixels", "video_max_pixels", "video_min_pixels", "video_fps", "video_maxlen",
    "audio_sampling_rate", "use_audio_in_video", "image_do_pan_and_scan", "crop_to_patches",
)  # fmt: skip
"""The parameters that determine the token ids, besides those of the data."""


def ahead(context: StageContext, params: Params, datasets: Datasets) -> Params:
    """`tokenized_path` for a stage with `tokenize = ahead`; the job that fills it goes to the shared jobs."""
    if context.name("tokenize") != "ahead":
        return {}
    if context.get("loader.streaming"):
        context.refuse("tokenize", "a stream cannot be tokenised ahead", "drop it, or `streaming`")
    params = {name: value for name, value in params.items() if name in _MODEL or _of_the_data(name)}
    params.pop("dataset_dir", None)  # the stage's own folder
    chosen = context.option("tokenize", "path")
    same = json.dumps([params, datasets.entries, chosen], sort_keys=True, default=str)
    shared = context.paths.shared
    if same not in shared:
        shared[same] = _job(context, params, datasets, seen_from_run(str(chosen)) if chosen else "")
    return {"tokenized_path": shared[same].result}


def _job(context: StageContext, params: Params, datasets: Datasets, path: str) -> Job:
    name = f"{context.stage.name}-tokens"
    taken = sum(job.folder.partition("-")[2].startswith(name) for job in context.paths.shared.values())
    name += f"-{taken + 1}" if taken else ""
    folder = numbered(context.folder, number_of(context.folder) - 3, name)
    result = path or f"{folder}/result"
    added = extension(context, folder, training=False)
    config = {**params, "use_cpu": True, "report_to": "none", "dataset_dir": folder, "output_dir": folder}
    document = Document(f"{folder}/tokens.yaml", "yaml", {**config, "tokenized_path": result}, (context.location,))
    entries = Document(f"{folder}/dataset_info.json", "json", dict(datasets.entries))
    spec = runtime_spec.spec(context, "tokens", [{"config": document.path}], added, folder=folder)
    argv: tuple[str | Raw, ...] = (PYTHON, runtime_modules.PROGRAM, "tokens", spec.path)
    return Job(
        key=job_key(folder),
        folder=folder,
        kind="tokens",
        title=f"token ids for {context.stage.name}",
        needs=needed_by(context),
        documents=(document, entries, *((added,) if added else ()), spec),
        commands=(Command(argv, comment="saved once, for all stages that need the same"),),
        env={name: exported(value) for name, value in environment(context).items()},
        runtime=runtime_modules.MODULES,
        reads=reads_of(context),
        inputs=tuple(dict.fromkeys([*datasets.inputs, *own_files(context)])),
        result=result,
        result_kind="dataset",
        environment=context.engine.name,
        location=context.location,
    )


def _of_the_data(name: str) -> bool:
    return catalog.engine_schema("llamafactory").get(name, {}).get("section") == "data_args"

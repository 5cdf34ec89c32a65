"""Parameters, documents and commands of a stage put together: YAML in the engine's own groups, dataset_info.json, a job."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Command, Document, Gate, Job
from ftdsl.engines.llamafactory import parallel, watched, words
from ftdsl.engines.llamafactory.datasets import Datasets
from ftdsl.engines.llamafactory.linting import lint
from ftdsl.engines.llamafactory.scratch import needed_by
from ftdsl.engines.llamafactory.scripting import exported
from ftdsl.engines.llamafactory.versions import fitted
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Secret, StageRef, Term


def job_of(
    work: Work,
    documents: list[Document],
    commands: list[Command],
    inputs: list[str],
    result: Any,
    title: str,
    gates: tuple[Gate, ...] = (),
) -> Job:
    lint(work, documents)
    environment: Mapping[str, Any] = {**parallel.environment(work), **words.environment(work)}
    used = " ".join(str(word) for command in commands for word in command.argv)
    others = tuple(name for name in ("again", "calibrate", "gate", "gather") if f"runtime/{name}.py" in used)
    runtime = (*watched.MODULES, *others)
    if any(document.path.endswith("/leaks.json") for document in documents):
        runtime = (*runtime, "data")
    world = work.planned.world
    stage = work.stage
    return Job(
        key=stage.key,
        folder=work.folder,
        kind=stage.kind,
        title=title,
        needs=(*needed_by(work), *_shared(work, documents)),
        documents=tuple(documents),
        commands=tuple(commands),
        env={name: exported(value) for name, value in environment.items()},
        runtime=runtime,
        inputs=tuple(dict.fromkeys(inputs)),
        result=result_of(work),
        result_kind=result,
        processes=world.size,
        nodes=world.nodes,
        by_hand=parallel.by_hand(work),
        accelerators=world.size if world.gpu else 0,
        gates=gates,
        packages=tuple(dict.fromkeys(name for document in documents for name in _packages(document))),
        where=work.where,
        header=parallel.equation(work),
    )


def _shared(work: Work, documents: list[Document]) -> list[str]:
    """Keys of the shared jobs whose results a stage's documents name."""
    named = [document.data.get("tokenized_path") for document in documents if document.kind == "yaml"]
    return [job.key for job in work.places.shared.values() if job.result in named]


_PACKAGES = {
    "deepspeed": ("deepspeed",),
    "predict_with_generate": ("jieba", "nltk", "rouge-chinese"),
    "enable_liger_kernel": ("liger-kernel",),
    "use_unsloth": ("unsloth",),
    "mixture_of_depths": ("mixture-of-depth",),
    "use_galore": ("galore-torch",),
    "use_apollo": ("apollo-torch",),
    "use_badam": ("badam",),
    "use_adam_mini": ("adam-mini",),
    "use_swanlab": ("swanlab",),
    "plot_loss": ("matplotlib",),
    "export_quantization_bit": ("optimum", "gptqmodel"),
    "reward_model": ("trl<=0.9.6",),
}
"""What the engine checks for at start (llamafactory/hparams/parser.py) or on the way, by the parameter that asks for it."""


def _packages(document: Document) -> Iterator[str]:
    if document.kind != "yaml":
        return
    for name, packages in _PACKAGES.items():
        if document.data.get(name):
            yield from packages
    if document.data.get("quantization_bit"):
        yield {"hqq": "hqq", "eetq": "eetq"}.get(document.data["quantization_method"], "bitsandbytes")
    if "bnb" in str(document.data.get("optim")) or "8bit" in str(document.data.get("optim")):
        yield "bitsandbytes"
    trackers = document.data.get("report_to")
    for tracker in trackers if isinstance(trackers, list) else [trackers]:
        if tracker in ("wandb", "tensorboard", "mlflow", "swanlab"):
            yield tracker


def dataset_info(work: Work, datasets: Datasets) -> Document:
    return Document(f"{work.folder}/dataset_info.json", "json", dict(datasets.entries))


_SECTIONS = {
    "model_args": "model",
    "finetuning_args": "method",
    "data_args": "data",
    "generating_args": "generation",
}


def yaml_of(work: Work, name: str, params: dict[str, Any]) -> Document:
    """Parameters in the engine's own groups, each group under its title; passthrough as it stands, at the end."""
    schema = work.versions.schema
    rest = work.stage.settings.inside("llamafactory")
    params = {key: words.plain(value) for key, value in params.items() if value is not None}
    adapters: Collection[str] = ()
    if work.planned.strategy == "megatron":  # what the adapter reads, and what its own block says, be it known or not
        adapters = {*catalog.hatch_keys("megatron"), *work.stage.settings.inside("megatron")}
    others = {key: value for key, value in params.items() if key in adapters}
    params = fitted(work, {key: value for key, value in params.items() if key not in adapters})
    for key in [key for key, value in (params | rest).items() if isinstance(value, Secret)]:
        work.refuse(key, f"a secret cannot be written into `{key}`", "put it into `env { }`")
    groups: dict[str, dict[str, Any]] = {title: {} for title in (*dict.fromkeys(_SECTIONS.values()), "training")}
    for key, value in params.items():
        section = str(schema.get(key, {}).get("section", ""))
        groups[_SECTIONS.get(section, "training")][key] = value
    groups["megatron"] = others
    groups["passthrough"] = {key: words.plain(value) for key, value in rest.items()}
    titles = {next(iter(group)): title for title, group in groups.items() if group}
    flat = {key: value for group in groups.values() for key, value in group.items()}
    return Document(f"{work.folder}/{name}.yaml", "yaml", flat, _header(work), titles)


def _header(work: Work) -> tuple[str, ...]:
    lines = [f"{work.stage.key} ({work.where})", *work.stage.doc.splitlines()]
    return (*lines, *parallel.equation(work))


def result_of(work: Work) -> str:
    return work.places.result(StageRef(work.stage.name, "", work.stage.run))


def title_of(work: Work, what: str) -> str:
    if work.stage.parents:
        return f"{what} from {', '.join(work.stage.parents)}"
    start = work.stage.start
    base = start.base if start else None
    if isinstance(base, StageRef):
        return f"{what} from {base.stage}"
    options = base.options if isinstance(base, Term) else {}
    place = options.get("id") or options.get("path") or options.get("architecture")
    name = place.name if isinstance(place, Term) else place.stage if isinstance(place, StageRef) else place
    return f"{what} of {name}" if name else what

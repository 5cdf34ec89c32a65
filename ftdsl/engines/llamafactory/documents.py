"""LLaMA-Factory's files: YAML in the engine's own groups and dataset_info.json; and the packages that parameters need."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from ftdsl import catalog
from ftdsl.engines.jobs import Command, Document, Gate, Job
from ftdsl.engines.llamafactory.abilities import NAME
from ftdsl.engines.llamafactory.datasets import Datasets
from ftdsl.engines.llamafactory.runtime_modules import MODULES
from ftdsl.engines.shared import assemble, overlay
from ftdsl.engines.shared.parallel import equation
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.versions import adapt_to_version
from ftdsl.language.values import Secret


def job_of(
    context: StageContext,
    documents: list[Document],
    commands: list[Command],
    inputs: list[str],
    result: Any,
    title: str,
    gates: tuple[Gate, ...] = (),
) -> Job:
    """A stage's job; ftdsl's runtime calls the engine."""
    packages = packages_of(documents)
    return assemble.job_of(
        context, documents, commands, inputs, result, title, gates, runtime=MODULES, packages=packages
    )


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
"""Parameter -> packages that it needs; the engine checks for them at start (llamafactory/hparams/parser.py) or later."""


def packages_of(documents: Iterable[Document]) -> Iterator[str]:
    """Distributions that a job's parameters need."""
    for document in documents:
        yield from _packages(document)


def _packages(document: Document) -> Iterator[str]:
    if document.kind != "yaml":
        return
    for name, packages in _PACKAGES.items():
        if document.data.get(name):
            yield from packages
    if document.data.get("quantization_bit"):
        yield {"hqq": "hqq", "eetq": "eetq"}.get(str(document.data.get("quantization_method")), "bitsandbytes")
    if "bnb" in str(document.data.get("optim")) or "8bit" in str(document.data.get("optim")):
        yield "bitsandbytes"
    trackers = document.data.get("report_to")
    for tracker in trackers if isinstance(trackers, list) else [trackers]:
        if tracker in ("wandb", "tensorboard", "mlflow", "swanlab"):
            yield tracker


def dataset_info(context: StageContext, datasets: Datasets) -> Document:
    return Document(f"{context.folder}/dataset_info.json", "json", dict(datasets.entries))


_SECTIONS = {
    "model_args": "model",
    "finetuning_args": "method",
    "data_args": "data",
    "generating_args": "generation",
}


def yaml_of(context: StageContext, name: str, params: dict[str, Any]) -> Document:
    """Parameters in the engine's own groups, each group under its title; passthrough unchanged, at the end."""
    schema = context.versions.schema
    rest = context.stage.settings.inside(NAME)
    params = {key: overlay.plain(value) for key, value in params.items() if value is not None}
    adapters: Collection[str] = ()
    if context.planned.strategy == "megatron":  # what the adapter reads, and every key of its own block, known or not
        adapters = {*catalog.passthrough_schema("megatron"), *context.stage.settings.inside("megatron")}
    megatron_params = {key: value for key, value in params.items() if key in adapters}
    params = adapt_to_version(context, {key: value for key, value in params.items() if key not in adapters})
    for key in [key for key, value in (params | rest).items() if isinstance(value, Secret)]:
        context.refuse(key, f"a secret cannot be written into `{key}`", "put it into `env { }`")
    groups: dict[str, dict[str, Any]] = {title: {} for title in (*dict.fromkeys(_SECTIONS.values()), "training")}
    for key, value in params.items():
        section = str(schema.get(key, {}).get("section", ""))
        groups[_SECTIONS.get(section, "training")][key] = value
    groups["megatron"] = megatron_params
    groups["passthrough"] = {key: overlay.plain(value) for key, value in rest.items()}
    titles = {next(iter(group)): title for title, group in groups.items() if group}
    flat = {key: value for group in groups.values() for key, value in group.items()}
    path = f"{context.folder}/{name}.yaml"
    return Document(path, "yaml", flat, _header(context), titles, bookkeeping=BOOKKEEPING)


BOOKKEEPING = (
    "report_to", "run_name", "project", "trackio_space_id", "logging_dir", "logging_steps", "logging_first_step",
    "logging_strategy", "plot_loss", "disable_tqdm", "save_total_limit", "include_num_input_tokens_seen", "ddp_timeout",
    "use_swanlab", "swanlab_project", "swanlab_workspace", "swanlab_run_name", "swanlab_mode", "swanlab_logdir",
)  # fmt: skip
"""Parameters of logs, of how many checkpoints are kept and of how long ranks wait: they change nothing of what is made."""


def _header(context: StageContext) -> tuple[str, ...]:
    lines = [f"{context.stage.key} ({context.location})", *context.stage.doc.splitlines()]
    return (*lines, *equation(context))

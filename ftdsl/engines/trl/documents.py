"""TRL's document: parameters in groups, with the reason of each; and the runtime around the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl.engines.jobs import Document
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.extending import additions
from ftdsl.engines.shared.parallel import equation
from ftdsl.engines.shared.parallel.config_lines import nest
from ftdsl.engines.shared.stage_context import Params, StageContext
from ftdsl.engines.trl.abilities import NAME
from ftdsl.language.values import Secret

PROGRAM = "runtime/trl.py"
"""ftdsl's program that calls the engine."""

MODULES = (
    "__init__", "actions", "anomalies", "balanced", "checkpoints", "events", "extend", "failures", "guard", "guarded",
    "inject", "judges", "labels", "measure", "proof", "ramp", "report", "rewards", "row_parts", "sandbox", "shipping", "stage",
    "stale_locks", "trainer", "training", "trl", "tuners", "tuning", "watch", "watchdog",
)  # fmt: skip
"""`runtime/trl.py` and what it imports."""

MODEL = (
    "model_name_or_path", "model_revision", "trust_remote_code", "dtype", "attn_implementation", "load_in_4bit", "load_in_8bit",
    "bnb_4bit_quant_type", "use_bnb_nested_quant", "adapter_name_or_path", "distributed_config",
)  # fmt: skip
"""Parameters about the model, the first group of the document."""

BOOKKEEPING = (
    "report_to", "run_name", "project", "trackio_space_id", "logging_steps", "logging_first_step", "logging_strategy",
    "disable_tqdm", "save_total_limit", "include_num_input_tokens_seen",
)  # fmt: skip
"""Parameters that change what is logged, where, and how many checkpoints are kept, and nothing of what is made."""


def yaml_of(context: StageContext, name: str, params: Params, peft: Params, data: Params) -> Document:
    """Parameters of the model, of the trainer, of the adapter, and the rows; passthrough unchanged."""
    rest = nest(context.stage.settings.inside(NAME))
    own = rest.pop("peft", {})
    params = {key: overlay.plain(value) for key, value in params.items() if value is not None}
    model = {key: params[key] for key in MODEL if key in params}
    training = {key: value for key, value in params.items() if key not in MODEL}
    passed = {key: overlay.plain(value) for key, value in rest.items()}
    for key in [key for key, value in (params | passed).items() if isinstance(value, Secret)]:
        context.refuse(key, f"a secret cannot be written into `{key}`", "put it into `env { }`")
    groups = {"model": model, "training": training, "passthrough": passed}
    if peft or own:
        groups["adapter"] = {"peft": {**peft, **overlay.plain(own)}}
    groups["rows"] = {"data": data}
    titles = {next(iter(group)): title for title, group in groups.items() if group}
    flat = {key: value for group in groups.values() for key, value in group.items()}
    header = (f"{context.stage.key} ({context.location})", *context.stage.doc.splitlines(), *equation(context))
    return Document(f"{context.folder}/{name}.yaml", "yaml", flat, header, titles, bookkeeping=BOOKKEEPING)


def extension(context: StageContext) -> Document | None:
    """The spec of what the runtime adds to the engine (runtime/extend.py); None if nothing."""
    spec = additions(context)
    return Document(f"{context.folder}/extend.json", "json", spec) if spec else None


def packages_of(params: Mapping[str, Any]) -> Iterator[str]:
    """Distributions that a job's parameters need."""
    if params.get("deepspeed"):
        yield "deepspeed"
    if params.get("load_in_4bit") or params.get("load_in_8bit") or "bnb" in str(params.get("optim")):
        yield "bitsandbytes"
    if params.get("use_liger_kernel"):
        yield "liger-kernel"
    trackers = params.get("report_to")
    for tracker in trackers if isinstance(trackers, list) else [trackers]:
        if tracker in ("wandb", "tensorboard", "mlflow", "swanlab"):
            yield tracker

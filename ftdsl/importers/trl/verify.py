"""An imported TRL stage compiled again, and compared with what was imported: both as parameters of TRL's own script.

The compiled document has TRL's parameters, PEFT's in `peft`, and the rows in `data`; these become the script's again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from ftdsl.catalog.trainers import trainer_of_kind
from ftdsl.credentials import secret_in
from ftdsl.engines.jobs import Job
from ftdsl.engines.trl.abilities import NAME
from ftdsl.importers import verify as shared
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.trl.adapter import LORA, bf16
from ftdsl.importers.trl.answers import THINKS
from ftdsl.importers.trl.data import SCRIPT
from ftdsl.importers.verify import Difference
from ftdsl.lint.config import Config, Setting

OURS = {
    "run_name": "a run is named by its recipe and stage",
    "logging_nan_inf_filter": "a recipe never hides NaN",
    "logging_first_step": "a recipe logs the first step too",
    "include_num_input_tokens_seen": "a recipe counts the tokens it has seen",
    "use_cpu": "always set on a machine without a GPU",
    "disable_tqdm": "a recipe's runs show their own progress",
    "remove_unused_columns": "rows are prepared by the recipe",
    "dataset_num_proc": "processes that tokenise: eight on a machine with a GPU, unless `loader.tokenize` sets them",
}
"""What a recipe does on purpose."""
_LISTS = ("lora_target_modules", "lora_modules_to_save", "lora_target_parameters", "report_to", "loss_type")
_PATHS = ("model_name_or_path", "output_dir", "resume_from_checkpoint", "teacher_model_name_or_path",
          "reward_model_name_or_path")  # fmt: skip
_FOLDED = frozenset((*SCRIPT, "env", "do_train", "do_eval", "do_predict", "warmup_ratio", "warmup_steps", "deepspeed", "fsdp",
                     "fsdp_config", "bf16", "lora_task_type", "model_init_kwargs", "hub_model_id", "dataset_text_field",
                     "gradient_checkpointing_kwargs", "reward_model_name_or_path", "reward_funcs", "reward_weights",
                     "vllm_server_base_url"))  # fmt: skip
"""Parameters that are compared under another name, or not at all."""
_ADAPTER = (*LORA, "use_dora")
_QUANTISED = ("bnb_4bit_quant_type", "use_bnb_nested_quant", "bnb_4bit_quant_storage")


def compare(config: Config, kind: str, job: Job, paths: RecipePaths, excused: Mapping[str, str]) -> list[Difference]:
    """The differences for one stage. `excused`: parameters whose loss the import has noted, with the reason."""
    documents = {PurePosixPath(document.path).name: document.data for document in job.documents}
    theirs = normal(config, paths, (config.deepspeed is not None, config.fsdp))
    ours = normal(_compiled(documents["train.yaml"], kind, config), None, shared.sharded(documents))
    return [*_differences(theirs, ours, excused), *shared.files(config, job)]


def _differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], excused: Mapping[str, str]
) -> Iterator[Difference]:
    for name in sorted({**theirs, **ours}):
        if theirs.get(name) != ours.get(name):
            why = excused.get(name) or OURS.get(name, "") or _in_other_words(name, excused)
            yield Difference(name, theirs.get(name), ours.get(name), why)


_NAMED = {"rows.train": ("dataset_name", "datasets"), "rows.eval": ("dataset_name", "datasets", "test_split_size"),
          "rewards": ("reward_funcs", "reward_weights", "reward_model_name_or_path"), "train_on": ("completion_only_loss",),
          "reentrant": ("gradient_checkpointing_kwargs",), "bf16": ("dtype",),
          "vllm_server": ("vllm_server_base_url",)}  # fmt: skip
"""What is compared under another name -> the parameters it comes from."""


def _in_other_words(name: str, excused: Mapping[str, str]) -> str:
    return next((excused[parameter] for parameter in _NAMED.get(name, ()) if parameter in excused), "")


def normal(config: Config, paths: RecipePaths | None, sharded: tuple[bool, int | None]) -> dict[str, Any]:
    """Every parameter as TRL would see it, in one spelling. paths: of the files that were imported; None for a document of ours;
    sharded: whether DeepSpeed shards, and the version of FSDP."""
    names = {*config.schema, *config.settings} - _FOLDED
    normalized = {name: _value(name, config.value(name), paths) for name in names if name in config.schema}
    normalized |= {"warmup": shared.warmup(config), "bf16": bf16(config), "train_on": _counted(config)}
    normalized["deepspeed"], normalized["fsdp"] = sharded
    normalized |= shared.of_trainer(config)
    normalized |= {f"rows.{part}": rows for part, rows in _rows(config, paths).items()}
    normalized["rewards"] = _rewards(config, paths)
    if config.on("gradient_checkpointing"):
        given = config.value("gradient_checkpointing_kwargs")
        normalized["reentrant"] = isinstance(given, Mapping) and bool(given.get("use_reentrant"))
    if not config.on("use_peft"):
        normalized |= dict.fromkeys(_ADAPTER)
    if not config.on("load_in_4bit"):
        normalized |= dict.fromkeys(_QUANTISED)
    if config.on("use_vllm") and config.value("vllm_mode") == "server":
        normalized["vllm_server"] = _address(config)
        normalized |= dict.fromkeys(("vllm_server_host", "vllm_server_port"))
    if str(config.value("model_revision")) == "main":
        normalized["model_revision"] = None
    if not config.on("packing"):
        normalized["packing_strategy"] = None
    return {name: value for name, value in normalized.items() if value not in (None, [], "", False, "none", ["none"])}


def _value(name: str, given: Any, paths: RecipePaths | None) -> Any:
    if secret_in(name, given):
        return "a secret"
    if name in _LISTS and given is not None:
        items = given if isinstance(given, list) else [given]
        return sorted(str(item) for item in items)
    if name in _PATHS and isinstance(given, str):
        return _path(given, paths)
    if name == "scale_rewards":
        return {"true": "group", "false": "none"}.get(str(given).lower(), given)
    if name == "router_aux_loss_coef" and given is None:
        return None
    return shared.plain_value(name, given)


def _path(given: str, paths: RecipePaths | None) -> str:
    if paths is None:
        return str(PurePosixPath(given.removeprefix("../").removeprefix("inputs/")))
    return str(PurePosixPath(paths.seen(given) if paths.local(given) else given))


def _address(config: Config) -> str:
    host, port = config.value("vllm_server_host"), config.value("vllm_server_port")
    return str(config.value("vllm_server_base_url") or f"http://{str(host).replace('0.0.0.0', '127.0.0.1')}:{port}")


def _counted(config: Config) -> str:
    """Which tokens count, as far as the configuration alone says."""
    if config.trainer != "sft":
        return ""
    if config.on("assistant_only_loss"):
        return "responses"
    return {True: "last_response", False: "everything"}.get(config.value("completion_only_loss"), "")


# --- rows


def _rows(config: Config, paths: RecipePaths | None) -> dict[str, Any]:
    """Sources by what they are: (place, subset, split)."""
    mixture = config.value("datasets")
    evaluates = str(config.value("eval_strategy")) != "no"
    if isinstance(mixture, list) and mixture:
        held = config.value("eval_rows") or config.value("test_split_size")
        parts = {"train": mixture, "eval": held if evaluates else None}
        return {part: [_entry(entry, paths) for entry in rows if isinstance(entry, Mapping)] if isinstance(rows, list) else rows
                for part, rows in parts.items()}  # fmt: skip
    name = config.value("dataset_name")
    if name is None:
        return {}
    subset, split, test = (config.value(f"dataset_{part}") for part in ("config", "train_split", "test_split"))
    dataset = _dataset(str(name), paths)
    return {"train": [(dataset, subset, split)], "eval": [(dataset, subset, test)] if evaluates else None}


def _entry(entry: Mapping[str, Any], paths: RecipePaths | None) -> tuple[Any, ...]:
    split, files = entry.get("split", "train"), entry.get("data_files")
    if isinstance(files, str):
        return (_dataset(posixpath.join(str(entry.get("data_dir") or ""), files), paths), None, split)
    return (_dataset(str(entry.get("path")), paths), entry.get("name"), split)


def _dataset(name: str, paths: RecipePaths | None) -> str:
    return posixpath.normpath(paths.seen(name)) if paths is not None else name


def _compiled(document: Mapping[str, Any], kind: str, config: Config) -> Config:
    """The document of a compiled stage as an invocation of TRL's script."""
    document = dict(document)
    peft, data = document.pop("peft", None), document.pop("data", {})
    params = {name: value for name, value in document.items() if value is not None}
    if peft:
        params |= _adapter(peft)
    params |= _script(data)
    settings = {name: Setting(name, value, name) for name, value in params.items()}
    return Config(settings, None, NAME, trainer=config.trainer or trainer_of_kind(NAME, kind))


def _adapter(peft: Mapping[str, Any]) -> dict[str, Any]:
    names = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "modules_to_save": "lora_modules_to_save",
             "target_modules": "lora_target_modules", "target_parameters": "lora_target_parameters", "use_rslora": "use_rslora",
             "use_dora": "use_dora"}  # fmt: skip
    return {"use_peft": True, **{theirs: peft[ours] for ours, theirs in names.items() if ours in peft}}


def _script(data: Mapping[str, Any]) -> dict[str, Any]:
    """The rows as the script's arguments."""
    params: dict[str, Any] = {"datasets": [_source(source) for source in data.get("train", ())]}
    if "eval" in data:
        params["eval_rows"] = [_source(source) for source in data["eval"]]
    if "held_out" in data:
        params["test_split_size"] = data["held_out"]
    if "processes" in data:
        params["dataset_num_proc"] = data["processes"]
    if (teacher := data.get("teacher")) is not None:
        params["teacher_model_name_or_path"] = teacher["model"]
    counted = {"responses": {"assistant_only_loss": True}, "last_response": {"completion_only_loss": True},
               "everything": {"completion_only_loss": False}}  # fmt: skip
    params |= counted.get(str(data.get("train_on")), {})
    if "rewards" in data:
        params["reward_specs"] = data["rewards"]
    return params


def _source(source: Mapping[str, Any]) -> dict[str, Any]:
    where = source.get("hub") or str(source.get("file", "")).removeprefix("../").removeprefix("inputs/")
    return {"path": where, "name": source.get("subset"), "split": source.get("split", "train")}


def _rewards(config: Config, paths: RecipePaths | None) -> list[str]:
    """Rewards by TRL's names, with their weights."""
    if config.trainer != "grpo":
        return []
    if (specs := config.value("reward_specs")) is not None:
        names = [_reward(spec) for spec in specs]
    else:
        given = config.value("reward_funcs")
        names = [str(name) for name in (given if isinstance(given, list) else [given] if given else [])]
        model = config.value("reward_model_name_or_path")
        names = [f"model {_path(str(model), paths)}", *names] if model else names
    weights = config.value("reward_weights")
    weights = weights if isinstance(weights, list) and len(weights) == len(names) else [1.0] * len(names)
    return [f"{name} * {float(weight):g}" for name, weight in zip(names, weights, strict=True)]


def _reward(spec: Mapping[str, Any]) -> str:
    if spec["kind"] == "regex" and spec.get("pattern") == THINKS:
        return "think_format_reward"
    if spec["kind"] == "judge":
        return f"model {_path(str(spec['model']), None)}"
    if spec["kind"] == "python":
        path, _, name = str(spec["function"]).rpartition(":")
        return f"{path.removesuffix('.py').replace('/', '.')}.{name}"
    return str(spec["kind"])

"""An imported recipe compiled again and compared with what was imported: each difference with its reason."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import masked, secret_in
from ftdsl.engines.jobs import Job
from ftdsl.engines.shared.existing_entries import read_json
from ftdsl.importers import sharding
from ftdsl.importers.bash_words import shown
from ftdsl.importers.beside import INFO
from ftdsl.importers.datasets import effective
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.language.printing import comment
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe.settings import METHODS
from ftdsl.record import frozen


@frozen(eq=True)
class Difference:
    """A parameter that the compiled recipe gives otherwise. `why` explains it; "" is a difference nobody wanted.
    `carry`: the block and key that can set it after all."""

    name: str
    theirs: Any
    ours: Any
    why: str = ""
    carry: tuple[str, str] = ("", "")

    def __str__(self) -> str:
        return f"{self.name}: {_short(self.theirs)} -> {_short(self.ours)}" + (f" ({self.why})" if self.why else "")

    def without(self, secrets: Iterable[str]) -> Difference:
        """The same without the values of secrets."""
        last = self.name.rpartition(".")[2]
        why = comment(masked(self.why, secrets, names=False))
        return Difference(self.name, _hidden(last, self.theirs), _hidden(last, self.ours), why, self.carry)


def _hidden(name: str, value: Any) -> Any:
    """A value with every secret in it, however deep, replaced by `a secret`."""
    if isinstance(value, Mapping):
        return {key: _hidden(str(key), inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(name, item) for item in value]
    return "a secret" if secret_in(name, value) else value


def _short(value: Any) -> str:
    text = comment(shown(str(value)))
    return text if len(text) < 80 else text[:77] + "..."


@frozen
class Side:
    """Parameters with the engine's defaults filled in, how its paths and data are read, and who shards."""

    params: Mapping[str, Any]
    path: Callable[[str], str]
    model: Callable[[str], str]
    info: Callable[[str], Mapping[str, Any]]
    deepspeed: bool
    fsdp: int | None


OURS = {
    "run_name": "a run is named by its recipe and stage",
    "logging_nan_inf_filter": "a recipe never hides NaN",
    "overwrite_output_dir": "a stage resumes from its own checkpoints; what another run left is set aside",
    "save_hf_model": "what a stage makes can be loaded by the next one, and by others",
    "oft_target": "nothing reads it: the modules of OFT are those of `lora_target`",
    "logging_first_step": "a recipe logs the first step too",
    "include_num_input_tokens_seen": "a recipe counts the tokens it has seen",
    "use_cpu": "always set on a machine without a GPU",
    "preprocessing_num_workers": "processes that tokenise: eight on a machine with a GPU, unless `loader.tokenize` sets them",
}
"""What a recipe does on purpose."""

_PATHS = ("model_name_or_path", "adapter_name_or_path", "output_dir", "export_dir", "resume_from_checkpoint", "ref_model",
          "ref_model_adapters", "reward_model", "new_special_tokens_config", "tokenized_path", "kt_weight_path",
          "export_quantization_dataset", "logging_dir")  # fmt: skip
_HUBS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "reward_model",
         "export_quantization_dataset")  # fmt: skip
"""Of these, those that may be names of a hub."""
_SETS = ("lora_target", "oft_target", "additional_target", "freeze_trainable_modules", "freeze_extra_modules", "galore_target",
         "apollo_target", "report_to")  # fmt: skip
_DATA = ("dataset", "eval_dataset")
_SECRET = "a secret is not copied"
FUSED = "adamw_torch_fused"
"""transformers' default since torch 2.8 (training_args.py)."""
_FOLDED = (
    "dataset_dir",
    "warmup_ratio",
    "warmup_steps",
    "deepspeed",
    "do_train",
    "do_eval",
    "do_predict",
    "fsdp_config",
    "media_dir",
    "create_new_adapter",
)


def compare(config: Config, kind: str, job: Job, paths: RecipePaths, excused: Mapping[str, str]) -> list[Difference]:
    """The differences for one stage. `excused`: parameters whose loss the import has noted, with the reason."""
    theirs = normal(_their_side(config, paths))
    own = _our_side(job)
    ours = normal(own)
    if isinstance(media := config.value("media_dir"), str):  # silent, it is where dataset_info.json is
        theirs["media_dir"] = str(PurePosixPath(paths.seen(media)))
        if folder := own.params.get("media_dir"):
            ours["media_dir"] = str(PurePosixPath(_own(str(folder))))
    return [*_differences(theirs, ours, excused, config, kind), *files(config, job)]


def files(config: Config, job: Job) -> Iterator[Difference]:
    """DeepSpeed and accelerate files against the compiled ones."""
    for block, document in (("deepspeed", config.deepspeed), ("accelerate", config.accelerate)):
        name = sharding.FILES[block]
        ours = next((written for written in job.documents if PurePosixPath(written.path).name == name), None)
        if document is None or ours is None:
            continue
        for leaf in sharding.leaves(block, document.data, ours, config.engine):
            why = secret_in(leaf.path.rpartition(".")[2], leaf.theirs)
            carry = (block, leaf.path) if leaf.carry and not why else ("", "")
            theirs = "a secret" if why else leaf.theirs
            yield Difference(f"{block}.{leaf.path}", theirs, leaf.ours, leaf.why or (why and _SECRET), carry)


def _differences(
    theirs: Mapping[str, Any], ours: Mapping[str, Any], excused: Mapping[str, str], config: Config, kind: str
) -> Iterator[Difference]:
    for name in sorted({**theirs, **ours}):
        if theirs.get(name) == ours.get(name):
            continue
        why = excused.get(name) or OURS.get(name, "") or _idle(name, config, kind)
        yield Difference(name, theirs.get(name), ours.get(name), why)


def _idle(name: str, config: Config, kind: str) -> str:
    """Parameters that mean nothing in this stage, whatever they are."""
    training = kind not in ("eval", "merge", "quantize")
    if name == "template" and config.value(name) not in catalog.names("templates"):
        return "no version of LLaMA-Factory that is known has this template"
    if name == "finetuning_type" and not training and not config.has("adapter_name_or_path"):
        return "there is no adapter"
    if name.startswith("lora_") and str(config.value("finetuning_type")) not in METHODS:
        return "the method of the file does not exist: the recipe's is chosen"
    if name == "dataset" and kind == "eval":
        return "an `eval` reads them as `eval_dataset`"
    if name == "output_dir" and kind == "eval":
        return "results of an `eval` are in its folder of the run"
    parameter_status = catalog.parameter_status("llamafactory", name)
    word = parameter_status.word if parameter_status else ""
    if not training and word.split(".")[0] in ("optim", "save", "track", "batch", "launch", "lora", "memory", "duration",
                                               "resume", "evaluate", "to", "metrics", "data", "loader", "name"):  # fmt: skip
        return f"means nothing in `{kind}`"
    return ""


def _their_side(config: Config, paths: RecipePaths) -> Side:
    params = {name: setting.value for name, setting in config.settings.items()}
    folder = str(config.value("dataset_dir") or "data")
    known = read_json(paths.root / folder / INFO, paths.files) or {}
    exists = paths.files.is_file(paths.root / folder / INFO)

    def info(name: str) -> Mapping[str, Any]:
        if folder == "ONLINE":
            return {"hf_hub_url": name}
        if folder.startswith("REMOTE:"):
            return {"hf_hub_url": f"{folder}/{name}"}
        entry = dict(known.get(name) or ({} if exists else {"file_name": f"{name}.json"}))
        if isinstance(entry.get("file_name"), str):
            seen = paths.seen(posixpath.join(folder.rstrip("/"), entry["file_name"]))
            entry["file_name"] = posixpath.normpath(seen)
        return entry

    def model(text: str) -> str:
        return paths.seen(text) if paths.local(text) else text

    return Side(params, paths.seen, model, info, config.deepspeed is not None, config.fsdp)


def _our_side(job: Job) -> Side:
    documents = {PurePosixPath(document.path).name: document.data for document in job.documents}
    params: dict[str, Any] = {}
    for document in job.documents:
        if document.kind == "yaml" and "accelerate" not in document.path:
            params = {**params, **document.data}
    entries = documents.get(INFO, {})

    folder = str(params.get("dataset_dir", ""))

    def info(name: str) -> Mapping[str, Any]:
        if folder.startswith("REMOTE:"):
            return {"hf_hub_url": f"{folder}/{name}"}
        entry = dict(entries.get(name, {}))
        if isinstance(entry.get("file_name"), str):
            entry["file_name"] = posixpath.normpath(entry["file_name"].removeprefix("../").removeprefix("inputs/"))
        return entry

    return Side(params, _own, _own, info, *sharded(documents))


def sharded(documents: Mapping[str, Any]) -> tuple[bool, int | None]:
    """Whether DeepSpeed shards, and the version of FSDP (None without), by the documents of a job by their names."""
    accelerate = documents.get(sharding.FILES["accelerate"], {}).get("fsdp_config", {})
    version = 2 if str(accelerate.get("fsdp_version")) == "2" else 1 if accelerate else None
    return sharding.FILES["deepspeed"] in documents, version


def _own(path: str) -> str:
    """Without the run folder's name for the recipe's folder."""
    return path.removeprefix("inputs/")


# --- one form for both


def normal(side: Side) -> dict[str, Any]:
    """Every parameter as the engine will see it, in one spelling."""
    params = {name: value for name, value in side.params.items() if value is not None}
    filled = Config({name: Setting(name, value, name) for name, value in params.items()}, None, "llamafactory")
    names = {*catalog.engine_schema("llamafactory"), *params} - catalog.misnamed().keys()
    normalized = {name: _normal_value(name, filled.value(name), side) for name in names if name not in _FOLDED}
    normalized |= {"warmup": warmup(filled), "deepspeed": side.deepspeed, "fsdp": side.fsdp}
    normalized |= {name: [_entry(side, item) for item in filled.items(name)] for name in _DATA}
    normalized |= {name: None for name, size in normalized.items() if name.endswith("_parallel_size") and size == 1}
    normalized["preprocessing_num_workers"] = float(filled.value("preprocessing_num_workers") or 1)
    if not filled.value("lora_alpha") and filled.value("finetuning_type") == "lora":
        normalized["lora_alpha"] = 2 * filled.value("lora_rank")
    if filled.value("do_sample") is False:  # nothing is drawn
        normalized |= dict.fromkeys(("temperature", "top_p", "top_k"))
    scores = filled.on("do_predict") or filled.on("do_eval")
    normalized |= of_trainer(filled, only_scores=scores and not filled.on("do_train"))
    return {name: value for name, value in normalized.items() if value not in (None, [], "", False)}


def of_trainer(filled: Config, *, only_scores: bool = False) -> dict[str, Any]:
    """Parameters of transformers' Trainer that others decide (transformers/training_args.py, __post_init__)."""
    decided: dict[str, Any] = {"optim": filled.value("optim") if filled.has("optim") else FUSED}
    if filled.value("eval_strategy") == "steps" and not filled.value("eval_steps"):
        decided["eval_steps"] = filled.value("logging_steps")
    if not only_scores and str(filled.value("eval_strategy")) == "no":
        decided |= {"eval_steps": None, "per_device_eval_batch_size": None}
    if filled.on("load_best_model_at_end"):
        metric = str(filled.value("metric_for_best_model") or "loss").removeprefix("eval_")
        greater = filled.value("greater_is_better")
        greater = not metric.endswith("loss") if greater is None else greater
        decided |= {"metric_for_best_model": metric, "greater_is_better": greater}
    else:
        decided |= {"metric_for_best_model": None, "greater_is_better": None}
    decided |= {f"{what}_steps": None for what in ("save", "eval", "logging")
              if str(filled.value(f"{what}_strategy")) != "steps"}  # fmt: skip
    if (filled.number("max_steps") or 0) > 0:
        decided["num_train_epochs"] = None
    return decided


def _normal_value(name: str, given: Any, side: Side) -> Any:
    if secret_in(name, given):
        return "a secret"
    if name in _SETS:
        items = given if isinstance(given, list) else str(given).split(",")
        return sorted(str(item).strip() for item in items if item not in ("none", None))
    if name in _PATHS and isinstance(given, str):
        path = side.path if name not in _HUBS else side.model
        return ",".join(str(PurePosixPath(path(part.strip()))) for part in given.split(","))
    return plain_value(name, given)


def plain_value(name: str, given: Any) -> Any:
    """A value in one spelling: numbers as floats, switches as they are."""
    if name == "include_num_input_tokens_seen":
        return str(given).lower() not in ("no", "false")
    return float(given) if isinstance(given, int | float) and not isinstance(given, bool) else given


def warmup(config: Config) -> Any:
    ratio = config.number("warmup_ratio")
    return config.number("warmup_steps") if ratio is None else ratio


def _entry(side: Side, name: str) -> Any:
    entry = side.info(name)
    keys = ("file_name", "hf_hub_url", "ms_hub_url", "cloud_file_name")
    return next((entry[key] for key in keys if key in entry), name)


__all__ = ["Difference", "Path", "compare", "effective", "normal"]

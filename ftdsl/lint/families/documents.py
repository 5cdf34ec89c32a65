"""Files that a run names: types and keys inside DeepSpeed's, accelerate's and dataset_info.json."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics.suggest import closest
from ftdsl.lint.config import Config, Setting
from ftdsl.lint.edits import put
from ftdsl.lint.families.zero import authored
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning


@rule("FT434", EVERY)
def wrong_type_in_a_file(config: Config) -> Findings:
    """What it does: holds the type of each value in a DeepSpeed or accelerate file against the key's own.
    Why it matters: DeepSpeed stops when the engine is made, after the model was loaded; accelerate takes a text for
        true, or stops with a traceback.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2, "offload_optimizer": true}}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": true}
        ---
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2, "reduce_bucket_size": "big"}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto",
         "zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu"}, "reduce_bucket_size": 5e8}}
    Applies to: DeepSpeed, accelerate
    Source: deepspeed/runtime/config.py, runtime/zero/config.py (0.19.8, pydantic); accelerate/commands/config (1.11.0)
    """
    for block, document in (("deepspeed", authored(config)), ("accelerate", config.accelerate)):
        if document is None:
            continue
        facts = catalog.schema(block, config.versions.get(block, ""))
        names = {_alias(path, fact): path for path, fact in facts.items() if fact.get("alias")}
        for path, setting in document.settings.items():
            known = names.get(path, path)
            value = setting.value
            if value is None or value == "auto" or known not in facts or path in _BATCH:
                continue
            if wanted := _misfit(known, value, facts):
                yield error(
                    setting, f"`{path}` takes {wanted}", label=f"this is {_kind(value)}", fix=_mended(setting, wanted)
                )


_BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping",
          "fp16.enabled", "bf16.enabled")  # fmt: skip
"""FT402 looks at these: what stands there must be the run's own value."""


def _alias(path: str, fact: Mapping[str, Any]) -> str:
    table, dot, _ = path.rpartition(".")
    return f"{table}{dot}{fact['alias']}"


def _misfit(path: str, value: Any, facts: Mapping[str, Mapping[str, Any]]) -> str:
    """What a key takes, where the value is nothing of the kind; "" where it fits, or nothing is known of the type."""
    kind = str(facts[path].get("type", ""))
    table = any(key.startswith(f"{path}.") for key in facts) or re.search(r"Config\b|^dict", kind) is not None
    if table:
        return "" if isinstance(value, Mapping) else "a table"
    names = {part.strip() for part in kind.replace("Optional[", "").rstrip("]").split("|")} - {"None"}
    if names == {"bool"}:
        return "" if isinstance(value, bool) or str(value).lower() in _TRUTHS else "true or false"
    if names and names <= {"int", "float"}:
        return "" if _is_number(value) else "a number"
    if "ZeroStageEnum" in names:
        return "" if value in (0, 1, 2, 3) and not isinstance(value, bool) else "0, 1, 2 or 3"
    if names == {"str"}:
        return "" if isinstance(value, str | int | float) and not isinstance(value, bool) else "a text"
    return ""


_TRUTHS = ("true", "false", "yes", "no", "on", "off", "0", "1")
"""accelerate writes `downcast_bf16: 'no'`."""


def _is_number(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) == float(value)
    except (TypeError, ValueError):
        return False


def _kind(value: Any) -> str:
    known = {bool: "true or false", str: "a text", dict: "a table", list: "a list", int: "a number", float: "a number"}
    return known.get(type(value), "something else")


def _mended(setting: Setting, wanted: str) -> Any:
    """`"offload_optimizer": "cpu"` is `{"device": "cpu"}`."""
    if wanted != "a table" or not setting.name.rpartition(".")[2].startswith("offload_") or setting.value is False:
        return None
    device = setting.value if setting.value in ("cpu", "nvme", "none") else "cpu"
    return put(setting, f'{{"device": "{device}"}}', safe=False)


@rule("FT435", EVERY)
def unknown_optimizer(config: Config) -> Findings:
    """What it does: finds optimizers and schedulers of a DeepSpeed file that neither DeepSpeed nor PyTorch has.
    Why it matters: DeepSpeed looks the class up when the engine is made, and stops.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2},
         "optimizer": {"type": "AdmaW", "params": {"lr": "auto"}}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2},
         "optimizer": {"type": "AdamW", "params": {"lr": "auto"}}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/engine.py, _configure_basic_optimizer; runtime/lr_schedules.py (0.19.8)
    """
    document = authored(config)
    for key, known, same in (("optimizer", _OPTIMIZERS, str.lower), ("scheduler", _SCHEDULERS, str)):
        name = document.get(f"{key}.type") if document is not None else None
        if not isinstance(name, str) or document is None or same(name) in {same(known_name) for known_name in known}:
            continue
        guess = closest(name, list(known))
        at = document.at(f"{key}.type")
        yield error(
            at,
            f"DeepSpeed and PyTorch have no {key} `{name}`",
            label=f"did you mean `{guess}`?" if guess else "",
            fix=put(at, f'"{guess}"', safe=False) if guess else None,
        )


_OPTIMIZERS = tuple(
    "Adam AdamW CPUAdam OneBitAdam ZeroOneAdam OneBitLamb Lamb FusedAdam FusedLamb Lion Muon MuAdam MuAdamW MuSGD SGD RMSprop "
    "Adagrad Adadelta Adamax ASGD NAdam RAdam Rprop LBFGS SparseAdam Adafactor".split()
)
_SCHEDULERS = tuple(
    "LRRangeTest OneCycle WarmupLR WarmupDecayLR WarmupCosineLR StepLR MultiStepLR ConstantLR LinearLR ExponentialLR "
    "CosineAnnealingLR PolynomialLR ReduceLROnPlateau CyclicLR OneCycleLR CosineAnnealingWarmRestarts LambdaLR MultiplicativeLR "
    "SequentialLR ChainedScheduler".split()
)


@rule("FT436", EVERY)
def rate_of_the_file(config: Config) -> Findings:
    """What it does: wants a rate where a DeepSpeed file names an optimizer, and its steps where it names a schedule.
    Why it matters: Hugging Face fills in only keys that say "auto". Without `lr` DeepSpeed takes its own, 1e-3, whatever
        `learning_rate` says; WarmupDecayLR without `total_num_steps` stops.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2},
         "optimizer": {"type": "AdamW", "params": {"weight_decay": "auto"}}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2},
         "optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}}}
    Applies to: DeepSpeed, transformers
    Source: transformers/integrations/deepspeed.py, fill_match (5.6.0); deepspeed/ops/adam/fused_adam.py:78 (0.19.8)
    """
    document = authored(config)
    if document is None:
        return
    if document.get("optimizer.type") is not None and document.get("optimizer.params.lr") is None:
        at = document.at("optimizer.params" if "optimizer.params" in document.settings else "optimizer.type")
        yield warning(at, "without `lr` DeepSpeed takes its own rate, 1e-3", help='write `"lr": "auto"`')
    kind = document.get("scheduler.type")
    if kind in ("WarmupDecayLR", "WarmupCosineLR") and document.get("scheduler.params.total_num_steps") is None:
        at = document.at("scheduler.type")
        yield error(at, f"`{kind}` needs `total_num_steps`", help='write `"total_num_steps": "auto"`')


@rule("FT437", EVERY)
def processes_that_cannot_be(config: Config) -> Findings:
    """What it does: holds accelerate's number of processes against its number of machines.
    Why it matters: `num_processes` is the total of all machines; accelerate divides it, and starts none, or another
        number than was meant.
    Example:
        learning_rate: 1e-4
        # file: accelerate.yaml
        num_machines: 2
        num_processes: 1
    Use instead:
        learning_rate: 1e-4
        # file: accelerate.yaml
        num_machines: 2
        num_processes: 16
    Applies to: accelerate
    Source: accelerate/commands/launch.py; utils/launch.py, prepare_multi_gpu_env (1.11.0)
    """
    document = config.accelerate
    if document is None or document.ours:
        return
    machines, processes = document.get("num_machines"), document.get("num_processes")
    if not isinstance(machines, int) or not isinstance(processes, int) or machines < 1:
        return
    if processes < machines or processes % machines:
        at = document.at("num_processes")
        text = (
            f"{processes} process{'es' * (processes != 1)} on {machines} machines: `num_processes` is the total of all"
        )
        yield error(at, text, help=f"write a multiple of {machines}: machines times cards")


@rule("FT438", EVERY)
def wraps_another_model(config: Config) -> Findings:
    """What it does: finds a class to wrap with FSDP that belongs to another model.
    Why it matters: accelerate looks it up in the model and stops: "Could not find the transformer layer class".
    Example:
        # with: architecture=qwen2
        model_name_or_path: Qwen/Qwen2.5-7B
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer}
    Use instead:
        # with: architecture=qwen2
        model_name_or_path: Qwen/Qwen2.5-7B
        # file: accelerate.yaml
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_transformer_layer_cls_to_wrap: Qwen2DecoderLayer}
    Applies to: accelerate
    Source: accelerate/utils/dataclasses.py, FullyShardedDataParallelPlugin.set_auto_wrap_policy (1.11.0)
    """
    document = config.accelerate
    if document is None or not config.architecture:
        return
    given = document.get("fsdp_config.fsdp_transformer_layer_cls_to_wrap")
    own_name = _plain(config.architecture).removesuffix("text")
    if own_name not in map(_plain, _ARCHITECTURES):  # models that see have layers of a language model's class
        return
    for name in given.split(",") if isinstance(given, str) else ():
        plain = _plain(name.strip())
        whose = max((family for family in _ARCHITECTURES if plain.startswith(_plain(family))), key=len, default="")
        if whose and _plain(whose) != own_name and not plain.startswith(own_name):
            at = document.at("fsdp_config.fsdp_transformer_layer_cls_to_wrap")
            yield error(
                at, f"`{name.strip()}` is no class of `{config.architecture}`", help="drop it: the model names its own"
            )


_ARCHITECTURES = tuple(
    "gpt2 llama mistral mixtral qwen2 qwen3 qwen2_moe qwen3_moe gemma gemma2 gemma3 phi phi3 falcon bloom opt t5 bert gpt_neox "
    "gptj mpt internlm internlm2 baichuan glm deepseek_v2 deepseek_v3 cohere olmo olmo2 stablelm starcoder2".split()
)
"""Names that the classes of their layers begin with."""


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


@rule("FT523")
def unknown_dataset_key(config: Config) -> Findings:
    """What it does: finds keys of an entry in dataset_info.json that LLaMA-Factory does not read.
    Why it matters: they are ignored: `format: sharegpt` leaves the rows to be read as alpaca.
    Example:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "format": "sharegpt"}}
    Use instead:
        dataset: support
        # file: dataset_info.json
        {"support": {"file_name": "support.json", "formatting": "sharegpt"}}
    Applies to: LLaMA-Factory
    Source: llamafactory/data/parser.py, DatasetAttr.join and get_dataset_list (0.9.5)
    """
    for dataset in config.datasets:
        if dataset.entry is None:
            continue
        at = dataset.setting or config.at("dataset")
        for path, guess in unknown_keys(dataset.entry):
            text = f"the entry of `{dataset.name}` has `{path}`, which LLaMA-Factory does not read"
            yield error(at, text, help=f"write `{guess}`") if guess else warning(at, text, help="drop it")
        for path, takes in wrong_values(dataset.entry):
            yield error(at, f"`{path}` in the entry of `{dataset.name}` takes {takes}", label="not what it has")


def wrong_values(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, what it takes) of values in an entry that LLaMA-Factory cannot use, or reads otherwise than they look."""
    for name, value in entry.items():
        if name in _TEXT_KEYS and not isinstance(value, str) and not (value is None and name in ("subset", "folder")):
            yield name, "a text"
        elif name == "ranking" and not isinstance(value, bool):
            yield name, "true or false"
        elif name == "num_samples" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            yield name, "a whole number above 0"
        elif name in ("columns", "tags") and not isinstance(value, Mapping):
            yield name, "a table"
        elif name in ("columns", "tags"):
            for part, column in value.items():
                if not isinstance(column, str) and column is not None:
                    yield f"{name}.{part}", "a text"


_TEXT_KEYS = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "formatting", "subset",
              "split", "folder")  # fmt: skip
FORMATS = ("alpaca", "sharegpt", "openai")


ENTRY = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "formatting", "ranking",
         "subset", "split", "folder", "num_samples", "columns", "tags")  # fmt: skip
COLUMNS = ("prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios", "chosen",
           "rejected", "kto_tag")  # fmt: skip
TAGS = ("role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag")
_MEANT = {"format": "formatting", "type": "formatting", "file": "file_name", "path": "file_name", "filename": "file_name",
          "hf_url": "hf_hub_url"}  # fmt: skip
_COLUMNS_MEANT = {"instruction": "prompt", "input": "query", "output": "response", "conversations": "messages",
                  "label": "kto_tag"}  # fmt: skip
_HARMLESS = ("file_sha1", "description", "comment", "license", "name")
"""Keys of older lists, and remarks: nothing is lost by them."""


def unknown_keys(entry: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, the one that was probably meant or "") of keys that nothing reads."""
    for table, known in (("", ENTRY), ("columns", COLUMNS), ("tags", TAGS)):
        inner = entry if not table else entry.get(table)
        for name in inner if isinstance(inner, Mapping) else ():
            path = f"{table}.{name}" if table else str(name)
            if name not in known and name not in _HARMLESS and not str(name).startswith(("_", "//")):
                meant = (_COLUMNS_MEANT if table else _MEANT).get(str(name), "")
                other = next(
                    (f"{owner}.{name}" for owner, keys in (("tags", TAGS), ("columns", COLUMNS)) if name in keys), ""
                )
                meant = meant or (other if not other.startswith(f"{table}.") else "")
                yield path, meant or closest(str(name), list(known)) or ""

"""Values: type, members, bounds. Later rules skip parameters whose value is rejected here."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.diagnostics.suggest import closest
from ftdsl.language.resolve.otherwise import template_meant
from ftdsl.language.units import longest_name
from ftdsl.lint.config import Config, Setting
from ftdsl.lint.edits import drop, put
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning
from ftdsl.record import replace


@rule("FT060", EVERY)
def wrong_type(config: Config) -> Findings:
    """What it does: checks the type of each value.
    Why it matters: LLaMA-Factory does not check types when it reads a YAML; a string in place of a number fails much
        later, or counts as false for the whole run.
    Example:
        lora_rank: eight
        ---
        packing: maybe
    Use instead:
        lora_rank: 8
        ---
        packing: true
    Applies to: LLaMA-Factory
    Source: transformers/hf_argparser.py, parse_dict: fields are set as they come (5.6.0)
    """
    if config.trainer and config.form != "recipe":
        yield from _null_values(config)
    for name, setting, entry in _known(config):
        wanted = str(entry.get("type", ""))
        misfit = _misfit(setting.value, wanted) or (_shape(name, setting.value, wanted) if config.trainer else "")
        share = name == "warmup_steps" and _number(setting.value) and not isinstance(setting.value, bool)
        if misfit and not share:  # shares of it are FT103's
            yield error(setting, f"`{setting.word}` takes {misfit}", label=f"this is {_kind(setting.value)}")


def _null_values(config: Config) -> Findings:
    """A file's `null` replaces the default (trl/scripts/utils.py, set_defaults_with_config): it is no number and no member."""
    for name, setting in config.settings.items():
        wanted = str(config.schema.get(name, {}).get("type", ""))
        plain = wanted in ("int", "float") or wanted.partition(" ")[0] in _ENUMS
        if setting.value is None and (plain or name in _NEVER_NULL):
            at = replace(setting, value=setting.value)
            yield error(at, f"`{setting.word}` cannot be null", help="drop it: the default counts")


_ENUMS = ("IntervalStrategy", "SaveStrategy", "SchedulerType", "OptimizerNames", "HubStrategy")
_NEVER_NULL = ("num_generations", "datasets")


def _shape(name: str, value: Any, wanted: str) -> str:
    """What a parameter of a list or a table takes, if the value is none."""
    if name == "datasets":
        fits = isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value)
        return "" if fits else "a list of tables with `path`"
    if wanted.startswith(("list[float]", "list[int]")):
        items = value if isinstance(value, list) else [value] if isinstance(value, str) else None
        return "" if items is not None and all(_number(item) for item in items) else "a list of numbers"
    if wanted.startswith("list[str]") and not isinstance(value, list | str):
        return "a list"
    table = wanted.startswith("dict") and name not in _ALSO_TEXT
    if table and isinstance(value, str) and not value.strip().startswith("{") and not value.endswith(".json"):
        return "a table"
    return ""


_ALSO_TEXT = ("deepspeed", "fsdp", "fsdp_config")


def _known(config: Config) -> Iterator[tuple[str, Setting, Mapping[str, Any]]]:
    """Settings of parameters in the engine's schema, with their entries."""
    schema = config.schema
    for name, setting in config.settings.items():
        if setting.value is not None and name in schema and name not in config.unknown:
            yield name, setting, schema[name]


def _misfit(value: Any, wanted: str) -> str:
    """What the parameter takes, if the value has another type; else "". Only plain types are checked."""
    kinds = {part.strip() for part in wanted.replace("Optional[", "").rstrip("]").split("|")} - {"None"}
    if kinds == {"bool"}:
        return "" if str(value).lower() in ("true", "false", "yes", "no", "on", "off", "0", "1") else "true or false"
    if kinds <= {"int", "float"} and kinds:
        if isinstance(value, bool) or not _number(value):
            return "a number"
        return "a whole number" if kinds == {"int"} and float(value) != int(float(value)) else ""
    if kinds == {"str"} and isinstance(value, dict):
        return "a text"
    return ""


def _number(value: Any) -> bool:
    try:
        return float(value) not in (float("inf"), float("-inf")) and float(value) == float(value)
    except (TypeError, ValueError):
        return False


def _kind(value: Any) -> str:
    if isinstance(value, float) and not _number(value):
        return "infinite" if value == value else "not a number"
    names = {bool: "true or false", str: "a text", dict: "a table", list: "a list", int: "a number", float: "a number"}
    return names.get(type(value), "something else")


@rule("FT002", EVERY)
def unknown_value(config: Config) -> Findings:
    """What it does: finds values that a parameter does not accept.
    Why it matters: LLaMA-Factory 0.9.5 reads `stage: stf` or `template: qwne3` without an error, loads the model, and
        fails minutes later; some values never fail.
    Example:
        stage: stf
        ---
        template: qwne3
        ---
        flash_attn: flash2
        ---
        lr_scheduler_type: cosin
        ---
        optim: adam_torch
    Use instead:
        stage: sft
        ---
        template: qwen3
        ---
        flash_attn: fa2
        ---
        lr_scheduler_type: cosine
        ---
        optim: adamw_torch
    Applies to: LLaMA-Factory, transformers
    Source: llamafactory/hparams/*.py, extras/constants.py, data/template.py 0.9.5;
        transformers/trainer_utils.py 5.6.0
    """
    for name, setting, entry in _known(config):
        members = _members(config, name, entry)
        values = setting.value if isinstance(setting.value, list) else [setting.value]
        for value in values:
            own = name == "template" and config.form == "recipe"  # may be defined in the recipe; the language checks it
            if own or not members or str(value) in members:
                continue
            number = isinstance(value, bool) or (isinstance(value, int | float) and not config.trainer)
            if number and not foreign.value_of(name, str(value)):
                continue
            guess = foreign.value_of(name, str(value)) or closest(str(value), members)
            label = f"did you mean `{guess}`?" if guess else ""
            some = ", ".join(members[:8]) + (", …" if len(members) > 8 else "")
            if instead := foreign.instead_of(name, str(value)):
                yield error(setting, f"`{setting.word}` has no `{value}`", help=instead)
                continue
            fix = put(setting, guess, safe=False) if guess and not isinstance(setting.value, list) else None
            if name == "template" and not template_meant(str(value), members)[1]:  # a fork may have it
                help = f"write one of {some}, or use a fork that has it"
                text = f"no release of LLaMA-Factory has a template `{value}`"
                yield warning(setting, text, label=label, help=help, fix=fix)
                continue
            yield error(setting, f"`{setting.word}` has no `{value}`", label=label, help=f"it takes {some}", fix=fix)
    yield from _unknown_to_fsdp(config)


_FSDP = {
    "fsdp_state_dict_type": ("FULL_STATE_DICT", "LOCAL_STATE_DICT", "SHARDED_STATE_DICT"),
    "fsdp_auto_wrap_policy": ("TRANSFORMER_BASED_WRAP", "SIZE_BASED_WRAP", "NO_WRAP"),
}
"""Key of accelerate's `fsdp_config` -> its values (accelerate/utils/constants.py)."""


def _unknown_to_fsdp(config: Config) -> Findings:
    for name, members in _FSDP.items() if config.accelerate is not None and config.fsdp is not None else ():
        at = config.accelerate.at(f"fsdp_config.{name}") if config.accelerate is not None else None
        if at is None or not isinstance(at.value, str) or at.value.isdigit() or at.value.upper() in members:
            continue
        guess = closest(at.value.upper(), members)
        label = f"did you mean `{guess}`?" if guess else ""
        fix = put(at, guess, safe=False) if guess else None
        yield error(at, f"`{name}` has no `{at.value}`", label=label, help=f"it takes {', '.join(members)}", fix=fix)


def _members(config: Config, name: str, entry: Mapping[str, Any]) -> list[str]:
    """Values of a parameter: the engine's own list, the schema's choices, or the members of its enum."""
    version = config.versions.get(config.engine, "")
    if name == "template":
        return catalog.templates(config.engine, version)
    known: Mapping[str, list[str]] = catalog.facts("values")
    own: Mapping[str, list[str]] = catalog.facts("values_of").get(config.engine, {})
    if (members := own.get(f"{config.trainer}.{name}", own.get(name))) is not None:
        return members
    choices = [str(choice) for choice in entry.get("choices", ())]
    if name in known or choices:
        some = [value for value in known.get(name, ()) if value in choices or not choices]
        return some or choices or known[name]
    enum = str(entry.get("type", "")).partition(" ")[0]
    enums = (
        catalog.schema("transformers", config.versions.get("transformers", ""), "enums") if enum[:1].isupper() else ()
    )
    return [member.partition(".")[2] for member in enums if member.startswith(f"{enum}.")]


@rule("FT003", EVERY)
def out_of_range(config: Config) -> Findings:
    """What it does: finds numbers out of range, and file names longer than file systems support (255 bytes).
    Why it matters: LLaMA-Factory 0.9.5 accepts `lora_rank: -8`, `cutoff_len: 0` and `num_train_epochs: -1`; the run
        fails after the model is loaded, or trains nothing.
    Example:
        lora_rank: -8
        ---
        cutoff_len: 0
        ---
        lora_dropout: 1.5
        ---
        val_size: -0.1
        ---
        val_size: 1.5
    Use instead:
        lora_rank: 8
        ---
        cutoff_len: 4096
        ---
        lora_dropout: 0.05
        ---
        val_size: 0.1
        ---
        val_size: 500
    Applies to: LLaMA-Factory
    Source: run on 0.9.5: all are accepted when the file is read
    """
    yield from _long_names(config)
    bounds: Mapping[str, list[Any]] = catalog.facts("bounds")
    for name, setting, _ in _known(config):
        number = config.number(name)
        if name not in bounds or number is None or (name in _OF_TRAINING and _only_scores(config)):
            continue
        low, high, *more = bounds[name]
        if number < low or number > high or (more and number == low):
            yield error(
                setting, f"`{setting.word}` cannot be {setting.text}", label=_between(low, high, number, bool(more))
            )
        elif name == "val_size" and number > 1 and number != int(number):
            yield error(
                setting, f"`{setting.word}` cannot be {setting.text}", label="a fraction below 1, or a number of rows"
            )


_OF_TRAINING = ("learning_rate", "num_train_epochs", "max_steps", "gradient_accumulation_steps", "warmup_ratio")


def _only_scores(config: Config) -> bool:
    """Whether nothing is trained: what a training would need may be anything (`num_train_epochs: 0`)."""
    return (config.on("do_eval") or config.on("do_predict")) and not config.on("do_train")


_PATHS = re.compile(r"(?:.*_(?:dir|path|file|folder)|deepspeed|resume_from_checkpoint|ref_model|reward_model)")
"""Parameters whose values are or may be paths."""


def _long_names(config: Config) -> Findings:
    """Names above 255 bytes; in a recipe the language checks them."""
    if config.form == "recipe":
        return
    for name, setting in config.settings.items():
        if isinstance(setting.value, str) and _PATHS.fullmatch(name) and (size := longest_name(setting.value)):
            yield error(
                setting, f"`{setting.word}` holds a name of {size} bytes", label="file systems support at most 255"
            )


def _between(low: float, high: float, number: float, open_below: bool) -> str:
    if number > high >= 1000:
        return f"at most {high:g}"
    if high >= 1000 or high == 65536:
        return f"more than {low:g}" if open_below else f"at least {low:g}"
    top = "below 1" if 0.99 < high < 1 else "below 0.5" if 0.49 < high < 0.5 else f"at most {high:g}"
    return f"{'more than' if open_below else 'at least'} {low:g} and {top}"


RATES = {"full": 1e-4, "freeze": 1e-4, "lora": 5e-3, "oft": 5e-3}
PREFERENCE_RATES = {"full": 5e-6, "freeze": 5e-6, "lora": 1e-4, "oft": 1e-4}


@rule("FT004", EVERY)
def implausible_rate(config: Config) -> Findings:
    """What it does: finds learning rates far above the usual: over 5e-3 with LoRA, over 1e-4 with all weights, lower
        for preference stages (5e-6 full, 1e-4 LoRA). A rule of thumb.
    Why it matters: LLaMA-Factory 0.9.5 accepts `learning_rate: 1e4`; the loss becomes NaN in the first steps,
        and NaN is logged as 0.
    Example:
        learning_rate: 1e4
        ---
        stage: dpo
        finetuning_type: full
        learning_rate: 1e-4
    Use instead:
        learning_rate: 1e-4
        ---
        stage: dpo
        finetuning_type: full
        learning_rate: 5e-7
    Applies to: all
    Source: rule of thumb; 1e4 is accepted by LLaMA-Factory 0.9.5 (run)
    """
    rate = config.number("learning_rate")
    if not config.trains or rate is None:
        return
    limits = PREFERENCE_RATES if config.stage in ("dpo", "kto") else RATES
    method = str(config.value("finetuning_type"))
    if config.trainer:
        method = "lora" if config.on("use_peft") or config.has("peft") or config.has("adapter_name_or_path") else "full"
        if config.trainer not in ("sft", "dpo", "kto") or config.form == "recipe":
            return
    limit = limits.get(method, 5e-3)
    fresh = config.on("train_from_scratch") or (config.ancestry is not None and config.ancestry.scratch)
    if fresh or rate <= limit:
        return
    setting = config.at("learning_rate")
    what = f"{config.stage} with {method}" if config.stage in ("dpo", "kto") else method
    yield warning(
        setting,
        f"a learning rate of {setting.text} is far above the usual for {what}",
        help=f"rates up to {_rate(limit)} are usual",
    )


def _rate(number: float) -> str:
    """As people write it: 1e-4."""
    mantissa, _, exponent = f"{number:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


@rule("FT005")
def key_not_here(config: Config) -> Findings:
    """What it does: finds parameters of another kind of stage: `pref_beta` in SFT, training parameters in an export.
    Why it matters: a training stage silently ignores them; an export stops.
    Example:
        pref_beta: 0.1
        ---
        export_dir: out
        learning_rate: 1e-4
    Use instead:
        stage: dpo
        finetuning_type: lora
        learning_rate: 5e-6
        pref_beta: 0.1
        ---
        export_dir: out
    Applies to: LLaMA-Factory
    Source: LLaMA-Factory#5633; llamafactory/hparams/parser.py, get_infer_args (0.9.5)
    """
    stages: Mapping[str, list[str]] = catalog.facts("stages")
    for name, setting, entry in _known(config):
        if not setting.is_explicit:
            continue
        if config.kind == "train" and config.stage not in stages.get(name, [config.stage]):
            kinds = " and ".join(stages[name])
            text = f"`{setting.word}` is for {kinds} and has no effect in {config.stage}"
            yield error(
                setting, text, help=f"drop it, or write `stage: {stages[name][0]}`", fix=drop(setting, safe=False)
            )
        elif config.kind == "export" and str(entry.get("section")) in _TRAINING and setting.word == name:
            text = f"`{setting.word}` is for training; an export stops on it"
            yield error(setting, text, help="drop it", fix=drop(setting, safe=True))


_TRAINING = ("TrainingArguments", "Seq2SeqTrainingArguments", "training_args")
_ODD = re.compile(r"[-+]?(0[0-7_]+|[0-9][0-9_]*(:[0-5]?[0-9])+)")


@rule("FT007", EVERY)
def yaml_reads_it_otherwise(config: Config) -> Findings:
    """What it does: finds scalars that YAML 1.1 reads differently from what they look like: `010` is 8, `1:30` is 90,
        `no` is false.
    Why it matters: LLaMA-Factory reads its files with OmegaConf, which follows YAML 1.1; the engine gets another value
        than the file shows.
    Example:
        save_steps: 0500
        ---
        seed: 1:30
        ---
        report_to: no
    Use instead:
        save_steps: 500
        ---
        seed: 90
        ---
        report_to: none
    Applies to: LLaMA-Factory
    Source: run on OmegaConf 2.3: `010` gives 8, `1:30` gives 90, `no` gives False
    """
    if config.form != "yaml":
        return
    for _, setting, entry in _known(config):
        text = setting.text
        if isinstance(setting.value, int) and not isinstance(setting.value, bool) and _ODD.fullmatch(text):
            meant = text if ":" in text else text.lstrip("0") or "0"
            value = str(setting.value) if ":" in text else meant
            help = f"write `{value}`" if ":" in text else f"write `{meant}` if you mean that"
            fix = put(setting, value, safe=":" in text)
            yield warning(setting, f"YAML reads `{text}` as {setting.value}", help=help, fix=fix)
        elif isinstance(setting.value, bool) and "bool" not in str(entry.get("type")):
            quoted = {"no": "none"}.get(text, text) if setting.name == "report_to" else f'"{text}"'
            members = _members(config, setting.name, entry)
            taken = not members or quoted.strip('"') in members  # in quotes it would only be wrong in another way
            help = f"write `{quoted}`" if taken else f"it takes {', '.join(members[:8])}"
            text = f"YAML reads `{text}` as {str(setting.value).lower()}"
            report = error if config.trainer and str(entry.get("type")).partition(" ")[0] in _ENUMS else warning
            yield report(setting, text, help=help, fix=put(setting, quoted, safe=True) if taken else None)


@rule("FT011", EVERY)
def missing_key(config: Config) -> Findings:
    """What it does: finds a run without a model, training without data, an export without a folder.
    Why it matters: the engine reports it after importing torch, in a traceback.
    Example:
        model_name_or_path: null
        ---
        dataset: null
        ---
        export_size: 5
    Use instead:
        model_name_or_path: Qwen/Qwen3-8B
        ---
        dataset: support
        ---
        export_dir: out
    Applies to: LLaMA-Factory
    Source: llamafactory/hparams/model_args.py:208, parser.py:478, train/tuner.py:156 (0.9.5)
    """
    if not config.has("model_name_or_path"):
        yield error(config.at("model_name_or_path"), "no model is set", help="write `model_name_or_path: org/name`")
    if config.trainer:
        if not config.has("dataset_name") and not config.has("datasets") and config.form != "recipe":
            at = config.first("output_dir", "model_name_or_path")
            yield error(at, "no data to train on", help="write `dataset_name: org/name`, or `datasets`")
    elif config.trains and not config.has("dataset") and config.form != "recipe":
        yield error(
            config.first("do_train"),
            "no data to train on",
            help="write `dataset: name`, or drop `do_train`",
        )
    if config.kind == "export" and not config.has("export_dir"):
        at = config.first("export_size", "export_quantization_bit", "model_name_or_path")
        yield error(at, "an export needs an output folder", help="write `export_dir: out`")

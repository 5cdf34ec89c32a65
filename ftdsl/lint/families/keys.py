"""Keys that the engine does not have, and keys without effect."""

from __future__ import annotations

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.catalog.trainers import own_parameters, trainers
from ftdsl.diagnostics import Fix
from ftdsl.diagnostics.suggest import closest
from ftdsl.lint.config import Config, Setting
from ftdsl.lint.edits import drop, rename
from ftdsl.lint.rule import EVERY, Findings, error, rule, warning
from ftdsl.record import replace

GONE = {
    "evaluation_strategy",
    "group_by_length",
    "no_cuda",
    "save_safetensors",
    "per_gpu_train_batch_size",
    "fp16_backend",
}
"""Removed parameters: FT116 and FT118 name their replacements."""


@rule("FT001", EVERY)
def unknown_key(config: Config) -> Findings:
    """What it does: finds parameters that the engine does not have.
    Why it matters: LLaMA-Factory 0.9.5 imports torch for 4.7 s before it rejects them, with a traceback and no line number.
        accelerate refuses a file with a key that its release does not have.
    Example:
        lora_rnak: 64
        ---
        # file: accelerate.yaml
        distributed_type: MULTI_GPU
        num_proceses: 2
    Use instead:
        lora_rank: 64
        ---
        # file: accelerate.yaml
        distributed_type: MULTI_GPU
        num_processes: 2
    Applies to: LLaMA-Factory, accelerate
    Source: llamafactory/hparams/parser.py (HfArgumentParser.parse_dict); LLaMA-Factory#6456;
        accelerate/commands/config/config_args.py, from_yaml_file
    """
    yield from _unknown_to_accelerate(config)
    known = config.schema
    if config.trainer:
        yield from _unknown_to_trainer(config)
        return
    for name, setting in config.settings.items() if config.form != "recipe" else ():
        scoring = config.kind == "train" and name in _SCORING
        if (name in known and not scoring) or name in GONE or not name:
            continue
        named = None if scoring else foreign.meant(name)
        guess = _SCORING[name] if scoring else named.parameter if named else closest(name, list(known))
        sure = named is not None and named.change is not None and named.change.how == "rename"
        yield error(
            _the_key(setting),
            f"LLaMA-Factory {config.versions.get('llamafactory', '')} has no `{name}`".replace("  ", " "),
            label=(f"it was renamed to `{guess}`" if sure else f"did you mean `{guess}`?") if guess else "",
            help="it is a parameter of `llamafactory-cli eval`, which is gone"
            if scoring
            else _origin(named.why)
            if named
            else "",
            fix=rename(setting, guess, named.value if named else None, safe=False) if guess else None,
        )


def _unknown_to_accelerate(config: Config) -> Findings:
    """The first keys of accelerate's file; a warning, as forks and later releases have more."""
    known = {path.partition(".")[0] for path in catalog.passthrough_schema("accelerate")}
    for name in config.accelerate.data if config.accelerate is not None and config.form != "recipe" else ():
        if name in known:
            continue
        inside = f"{name}."
        settings = config.accelerate.settings.values() if config.accelerate is not None else ()
        at = next((at for at in settings if at.name == name or at.name.startswith(inside)), None)
        guess = closest(name, sorted(known))
        if at is not None:
            yield warning(
                at,
                f"accelerate has no `{name}`, and refuses a file with it",
                label=f"did you mean `{guess}`?" if guess else "",
                help="drop it, or use the fork of accelerate that has it",
            )


def _unknown_to_trainer(config: Config) -> Findings:
    """A parameter of another trainer, one of an earlier release, or a slip. A file may hold accelerate's flags too."""
    launcher = catalog.schema("accelerate", "", "launch")
    title = catalog.tools()[config.engine]["title"]
    for name, setting in config.settings.items() if config.form != "recipe" else ():
        reported = name in GONE or (name == "warmup_ratio" and config.version("transformers"))  # by rules of their own
        if name in config.schema or reported or name in launcher or name == "accelerate_config":
            continue
        other = catalog.misnamed(config.engine).get(name)
        change = None if other else catalog.replacement("transformers", name)
        owners = [verb for verb in trainers(config.engine) if name in own_parameters(config.engine, verb)]
        guess = other.get("parameter", "") if other else change.new if change else closest(name, list(config.schema))
        help = other["why"] if other else (change.why or change.drop or change.hand) if change else ""
        label = f"did you mean `{guess}`?" if guess else ""
        if owners and not other:
            label, guess = f"it is a parameter of {', '.join(f'`{verb}`' for verb in owners[:4])}", ""
        if not label and not help:
            help = "drop it: `trl` hands it to accelerate, which stops; the script alone ignores it"
        fix = rename(setting, guess, other.get("value") if other else None, safe=False) if guess else None
        yield error(_the_key(setting), f"{title}'s `{config.trainer}` has no `{name}`", label=label, help=help, fix=fix)


def _origin(why: str) -> str:
    return "" if why in ("no tool has it", "no flag of this engine") else why


_SCORING = {"batch_size": "per_device_train_batch_size", "save_dir": "output_dir", "task_dir": "", "lang": "", "n_shot": "",
            "download_mode": ""}  # fmt: skip
"""Parameters of `llamafactory-cli eval` (EvaluationArguments), which the parser of a training refuses -> what may be meant."""


@rule("FT008")
def gradient_checkpointing_ignored(config: Config) -> Findings:
    """What it does: finds transformers' `gradient_checkpointing`, which LLaMA-Factory overrides.
    Why it matters: LLaMA-Factory checkpoints unless `disable_gradient_checkpointing` is true; `false` here changes
        neither memory nor speed.
    Example:
        gradient_checkpointing: false
    Use instead:
        disable_gradient_checkpointing: true
    Applies to: LLaMA-Factory
    Source: llamafactory/model/model_utils/checkpointing.py, prepare_model_for_training (0.9.5)
    """
    name = "gradient_checkpointing"
    if config.is_explicit(name):
        setting = config.at(name)
        on = config.on(name)
        fix = drop(setting, safe=True) if on else rename(setting, "disable_gradient_checkpointing", True, safe=False)
        help = (
            "write `disable_gradient_checkpointing: true`"
            if not config.on(name)
            else "drop it: checkpointing is on by default"
        )
        yield error(setting, f"`{setting.word}` has no effect in LLaMA-Factory", help=help, fix=fix)


@rule("FT009", EVERY)
def unknown_deepspeed_key(config: Config) -> Findings:
    """What it does: finds top-level keys that DeepSpeed does not read.
    Why it matters: DeepSpeed checks keys inside `zero_optimization`, where a typo stops the run when the engine is
        initialised, but not at the top level, where it is silently ignored.
    Example:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimisation": {"stage": 2}}
    Use instead:
        deepspeed: ds_config.json
        # file: ds_config.json
        {"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 2}}
    Applies to: DeepSpeed
    Source: deepspeed/runtime/config.py 0.19.8: `zero_optimization` forbids extra keys, the top level does not
    """
    document = config.deepspeed
    if document is None or document.ours:
        return
    facts = catalog.schema("deepspeed", config.versions.get("deepspeed", ""))
    tables = {name.rpartition(".")[0] for name in facts}
    known = {*facts, *(f"{_table(name)}{fact['alias']}" for name, fact in facts.items() if fact.get("alias"))}
    for path, setting in document.settings.items():
        table, _, name = path.rpartition(".")
        old = path.partition(".")[0] in _OLD_TABLES
        if path in known or old or table not in tables or name.startswith(("_", "//")) or table in _FREE:
            continue
        if not table and (inside := next((key.rpartition(".")[0] for key in known if key.endswith(f".{name}")), "")):
            yield error(_the_key(setting), f"DeepSpeed has no `{name}`", label=f"it belongs inside `{inside}`")
            continue
        beside = [other.rpartition(".")[2] for other in known if other.rpartition(".")[0] == table]
        guess = closest(name, beside)
        label = f"did you mean `{guess}`?" if guess else "it is ignored"
        where = f"`{table}` of DeepSpeed" if table else "DeepSpeed"
        yield error(
            _the_key(setting), f"{where} has no `{name}`", label=label, fix=rename(setting, guess) if guess else None
        )


def _table(path: str) -> str:
    """`zero_optimization.` of `zero_optimization.stage`; "" at the top."""
    table, dot, _ = path.rpartition(".")
    return table + dot


def _the_key(setting: Setting) -> Setting:
    """The setting with its key as span: the key is wrong, not the value."""
    return replace(setting, span=setting.key)


_OLD_TABLES = ("bfloat16",)
"""Names of tables that DeepSpeed reads under their old name too (deepspeed/runtime/constants.py, BFLOAT16_OLD)."""
_FREE = ("optimizer", "optimizer.params", "scheduler", "scheduler.params", "model_info", "compression_training")
"""Tables whose keys depend on the class they name."""


@rule("FT116", EVERY)
def renamed_eval_strategy(config: Config) -> Findings:
    """What it does: finds `evaluation_strategy`, which was renamed to `eval_strategy`.
    Why it matters: deprecated in transformers 4.41, removed in 4.46; the run stops while parsing its arguments.
    Example:
        evaluation_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Use instead:
        eval_strategy: steps
        eval_steps: 100
        val_size: 0.1
    Applies to: transformers >= 4.46
    Source: transformers#30190; absent in training_args.py 5.6.0
    """
    if (setting := config.settings.get("evaluation_strategy")) is not None:
        yield error(
            setting, "`evaluation_strategy` was renamed to `eval_strategy`", fix=rename(setting, "eval_strategy")
        )


@rule("FT118", EVERY)
def removed_key(config: Config) -> Findings:
    """What it does: finds parameters that transformers 5 removed, and names the replacement.
    Why it matters: the run stops while parsing its arguments.
    Example:
        group_by_length: true
    Use instead:
        train_sampling_strategy: group_by_length
    Applies to: transformers >= 5.0
    Source: fields of training_args.py 5.6.0 against 4.57.1
    """
    for name in sorted(GONE - {"evaluation_strategy"}):
        setting = config.settings.get(name)
        if setting is None or name in config.schema or config.form == "recipe":
            continue
        yield error(setting, f"transformers 5 removed `{name}`", help=_INSTEAD[name][0], fix=_instead(config, setting))


_INSTEAD = {
    "group_by_length": (
        "write `train_sampling_strategy: group_by_length`",
        "train_sampling_strategy",
        "group_by_length",
    ),
    "no_cuda": ("write `use_cpu: true`", "use_cpu", True),
    "save_safetensors": ("drop it: transformers always writes safetensors", "", None),
    "per_gpu_train_batch_size": ("write `per_device_train_batch_size`", "per_device_train_batch_size", None),
    "fp16_backend": ("drop it: there is one backend only", "", None),
}


def _instead(config: Config, setting: Setting) -> Fix | None:
    _, name, value = _INSTEAD[setting.name]
    if not name or (value is not None and setting.value in (False, "false", None)):
        return drop(setting, safe=True)
    return rename(setting, name, value)


@rule("FT117")
def overwrite_and_resume(config: Config) -> Findings:
    """What it does: finds `overwrite_output_dir: true` together with `resume_from_checkpoint`.
    Why it matters: transformers 5.0 removed the parameter; LLaMA-Factory kept its own: with `true` an interrupted
        run does not resume from its last checkpoint but starts from scratch.
    Example:
        overwrite_output_dir: true
        resume_from_checkpoint: saves/x/checkpoint-500
    Use instead:
        overwrite_output_dir: false
        resume_from_checkpoint: saves/x/checkpoint-500
    Applies to: LLaMA-Factory with transformers >= 5.0
    Source: transformers#41323; llamafactory/hparams/training_args.py, hparams/parser.py 0.9.5
    """
    if (
        config.is_explicit("overwrite_output_dir")
        and config.on("overwrite_output_dir")
        and config.is_explicit("resume_from_checkpoint")
    ):
        setting = config.at("overwrite_output_dir")
        other = config.word("resume_from_checkpoint")
        yield warning(
            setting,
            f"`{setting.word}` contradicts `{other}`; the checkpoint wins",
            fix=drop(setting, safe=True),
        )

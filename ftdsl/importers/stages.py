"""Configs to stages: the kind of each, its keys, and which stage starts from which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import chain, count
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import secret_in
from ftdsl.engines.shared.overlay import entries
from ftdsl.importers import datasets, from_overlay, inverse, models, outside, parallel, unknown
from ftdsl.importers.draft import HOLES, Note, StageDraft
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.values import meaning
from ftdsl.importers.write import SHARED, why_not
from ftdsl.language.resolve.keys import find
from ftdsl.language.values import Amount, Secret, StageRef, Term
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe import settings
from ftdsl.record import replace

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}

Inverse = Callable[[StageDraft], None]
INVERSE: Mapping[str, Inverse] = {
    "model": models.model, "reference": models.reference, "reward": models.reward,
    "dataset": datasets.dataset, "mix": inverse.nothing, "eval_data": datasets.eval_data, "calibrate": datasets.calibrate,
    "format": inverse.nothing, "duration": inverse.duration, "packing": inverse.packing, "tokenize": inverse.tokenize,
    "upcast": inverse.upcast, "compile": inverse.compile, "trainable": inverse.trainable, "checkpointing": inverse.checkpointing,
    "layers": inverse.layers, "oft_rank": inverse.oft_rank, "oft_targets": inverse.oft_targets, "special": inverse.special,
    "token_init": inverse.token_init, "betas": inverse.betas, "schedule": inverse.schedule, "warmup": inverse.warmup,
    "save_every": inverse.save_every,
    "keep": inverse.keep, "best_by": inverse.best_by, "eval_every": inverse.eval_every, "metrics": inverse.metrics,
    "track_to": inverse.track_to, "track_project": inverse.track_project, "track_name": inverse.track_name,
    "log_every": inverse.log_every, "logging_dir": inverse.logging_dir, "guard": inverse.guard, "ramp": inverse.nothing,
    "temperature": inverse.temperature, "beams": inverse.beams, "resume": inverse.resume, "push": inverse.push,
    "export_device": inverse.export_device, "strategy": parallel.strategy, "use_cpu": inverse.nothing,
    "count": parallel.hardware, "nodes": inverse.nothing, "launcher": parallel.launcher, "rendezvous": parallel.rendezvous,
    "eval_stage": inverse.eval_stage, "run_name": inverse.nothing,
}  # fmt: skip
"""The inverse of every lowering by its name, in the order in which keys are claimed."""


def kinds(config: Config) -> tuple[str, ...]:
    """The kinds of stages in one invocation: training may be followed by prediction; a chat is none."""
    if config.kind == "export":
        return ("quantize",) if config.has("export_quantization_bit") else ("merge",)
    if config.kind == "chat":
        return ()
    scores = ("eval",) if config.on("do_predict") or (config.on("do_eval") and not config.on("do_train")) else ()
    if not config.on("do_train") and scores:
        return scores
    stage = "dpo" if config.stage in unknown.ALGORITHMS else config.stage
    return (STAGES.get(stage, "sft"), *scores)


def no_stage(config: Config) -> str:
    """The stage an invocation names and the engine does not have; "" if it has it."""
    known = config.stage in STAGES or config.stage in unknown.ALGORITHMS
    return "" if config.kind != "train" or known else config.stage


def draft_of(
    config: Config,
    kind: str,
    paths: RecipePaths,
    results: Mapping[str, StageRef],
    carried: Mapping[str, Any] | None = None,
    after: str = "",
) -> StageDraft:
    """The draft of one stage. `carried`: keys of the tools' own blocks to set too (`deepspeed.aio.…`); `after`: the
    training stage of the same invocation, whose result is scored."""
    config, open_settings = outside.parted(config)
    otherwise = list(unknown.other_values(config))
    loss = unknown.ALGORITHMS.get(config.stage)
    stage = config.at("stage") if config.is_explicit("stage") else None
    config, wrong = unknown.fitting(unknown.renamed(config))
    draft = StageDraft(config, kind, paths, results)
    for setting, value in otherwise:
        text = f"LLaMA-Factory has no `{setting.value}`; taken as `{value}`"
        draft.notes.append(Note(setting.word, text, setting.span, carried=True))
        draft.reasons[setting.name] = text
    if loss and stage is not None:
        text = f"no stage, a loss of `dpo`: taken as `stage: dpo` and `pref_loss: {loss}`"
        draft.notes.append(Note(stage.word, text, stage.span, carried=True))
        draft.reasons |= {"stage": text, "pref_loss": text}
    for setting in wrong:
        text = f"`{setting.text}` is not something it can be"
        draft.notes.append(Note(setting.word, text, setting.key or setting.span))
    if after:
        draft.parents.append(after)
        draft.used.add("output_dir")
        draft.reasons |= dict.fromkeys(
            ("model_name_or_path", "adapter_name_or_path"), f"`{after}` makes what is scored"
        )
    _method(draft)
    unknown.recipe_keys_first(draft)
    _precision(draft)
    for rule in dict.fromkeys(INVERSE.values()):
        rule(draft)
    from_overlay.tables(draft)
    parallel.silent(draft)
    _environment(draft)
    unknown.name_them(draft)
    from_overlay.rest(draft)
    _of_this_kind(draft)
    draft.values |= carried or {}
    outside.add_parameters(draft, open_settings)
    outside.variables(draft, LAUNCHER)
    _writable(draft, kind)
    _holes(draft)
    _silent(draft)
    if after:  # what its training stage carries, or names, is not lost here
        parameters_set = {setting.word for setting in draft.config.settings.values()}
        draft.notes = [note for note in draft.notes if note.word not in parameters_set]
    return draft


def shared(config: Config, paths: RecipePaths) -> StageDraft:
    """Words of an invocation that is no stage (a chat), or of DeepSpeed and accelerate files alone."""
    config, _ = outside.parted(config)
    config, _ = unknown.fitting(unknown.renamed(config))
    draft = StageDraft(config, "eval" if config.settings else "sft", paths, {})
    if config.settings:
        models.model(draft)
        from_overlay.tables(draft)
        unknown.name_them(draft)
        from_overlay.rest(draft)
        draft.values = {
            key: value for key, value in draft.values.items() if find("file", tuple(key.split("."))) is not None
        }
    else:
        _precision(draft)
        parallel.alone(draft)
    _writable(draft, SHARED)
    return draft


def _of_this_kind(draft: StageDraft) -> None:
    """Keys that a stage of this kind does not have are noted and left out (`load_best_model_at_end` beside `do_predict`)."""
    for key in list(draft.values):
        path = tuple(key.split("."))
        if find(draft.kind, path) is None and find("file", path) is None:
            del draft.values[key]
            draft.note(_parameter(draft, key), f"means nothing in `{draft.kind}`")


def _writable(draft: StageDraft, kind: str) -> None:
    """Secrets, and values that no recipe can express, are noted and left out; of a list, the items."""
    for key, value in list(draft.values.items()):
        if why := _secret(key.rpartition(".")[2], value):
            draft.note(_parameter(draft, key), f"{why}: its value is not copied")
            del draft.values[key]
            continue
        if not why_not(kind, key, value):
            continue
        reasons = {at: why_not(kind, key, item) for at, item in enumerate(value)} if isinstance(value, list) else {}
        wrong = [value[at] for at, why in reasons.items() if why] or [value]
        for item in wrong:
            text = f"`{_short(item)}` is not something `{key}` can be: {why_not(kind, key, item)}"
            draft.note(_parameter(draft, key), text)
        kept = [value[at] for at, why in reasons.items() if not why]
        draft.values[key] = kept
        if not kept:
            del draft.values[key]
    for name, value in list(draft.passed.items()):
        if why := _secret(name, value):
            del draft.passed[name]
            draft.note(name, f"{why}: its value is not copied")
        elif why := why_not(kind, f"llamafactory.{name}", value):
            del draft.passed[name]
            draft.note(name, f"`{_short(value)}` cannot be written: {why}")


def _secret(name: str, value: Any) -> str:
    """Why a value, or a part of it, must not be written down; "" when it may be."""
    if isinstance(value, Term):  # names of options are ours: `id` says nothing
        return next(filter(None, (_secret("", inner) for inner in value.options.values())), "")
    if isinstance(value, Mapping):
        return next(filter(None, (_secret(str(key), inner) for key, inner in value.items())), "")
    if isinstance(value, list | tuple):
        return next(filter(None, (_secret(name, item) for item in value)), "")
    return secret_in(name, value) if isinstance(value, str) else ""


def secrets_of(config: Config) -> Iterator[str]:
    """The secret values of an invocation, so that no message repeats them."""
    given = [(name, setting.value) for name, setting in config.settings.items()]
    given += list(config.launch.env.items()) if config.launch else []
    for document in filter(None, (config.deepspeed, config.accelerate)):
        given += [(path.rpartition(".")[2], setting.value) for path, setting in document.settings.items()]
    for name, value in given:
        yield from _secrets_in(name, value)


def _secrets_in(name: str, value: Any) -> Iterator[str]:
    """The secrets in a value, however deep."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _secrets_in(str(key), inner)
    elif isinstance(value, list):
        for item in value:
            yield from _secrets_in(name, item)
    elif secret_in(name, value):
        yield str(value)


def _parameter(draft: StageDraft, key: str) -> str:
    """The parameter a key comes from, if the overlay has it; else the key's own name."""
    parameters = next(
        (catalog.parameters_of(entry) for known, entry in entries("llamafactory", draft.kind) if known == key), ()
    )
    return next((name for name in parameters if draft.given(name)), key.partition(".")[2] or key)


def _short(value: Any) -> str:
    text = str(value.number) if isinstance(value, Amount) else settings.shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _method(draft: StageDraft) -> None:
    """`finetuning_type` opens a method block; an adapter that is trained further opens none."""
    for name in ("stage", "do_train", "do_eval", "do_predict", "finetuning_type", "create_new_adapter"):
        draft.used.add(name)
    if draft.training:
        method = str(draft.config.value("finetuning_type"))
        further = draft.config.has("adapter_name_or_path") and not draft.config.on("create_new_adapter")
        known = catalog.engine_schema("llamafactory")["finetuning_type"].get("choices") or ()
        if known and method not in known:
            draft.note(
                "finetuning_type",
                f"`{method}` is no method of LLaMA-Factory ({', '.join(known)}): write the block of one",
            )
        elif not (further and method == "lora"):
            draft.blocks.add(method)
    if draft.config.has("quantization_bit") and draft.kind != "quantize":
        draft.blocks.add("quantize")


def _precision(draft: StageDraft) -> None:
    """`accelerate launch` decides where the engine's parameters do not (transformers/training_args.py)."""
    mixed = draft.config.accelerate.get("mixed_precision") if draft.config.accelerate else None
    if not draft.training or mixed not in ("bf16", "fp16"):
        return
    own = next((name for name in ("bf16", "fp16", "pure_bf16") if draft.config.on(name)), "")
    if not own and not draft.given("bf16", "fp16", "pure_bf16"):
        draft.set("precision", Term(mixed))
        draft.reasons[mixed] = "set by `accelerate`"
    elif own and mixed not in own and draft.config.accelerate is not None:
        at = draft.config.accelerate.at("mixed_precision")
        draft.notes.append(Note(at.word, f"`{mixed}` has no effect: `{own}` of the engine wins", at.key or at.span))


def _silent(draft: StageDraft) -> None:
    """What the engine requires and a recipe derives."""
    if draft.training and not draft.given("do_train"):
        draft.notes.append(
            Note("do_train", "is missing, and the engine would do nothing: taken as training", carried=True)
        )
    if not draft.given("template"):
        draft.reasons["template"] = "a recipe takes the template of the model's family"
    if draft.kind == "eval" and draft.config.on("do_train"):
        draft.reasons["dataset"] = "an `eval` stage answers `eval_dataset`"
    if not draft.given("output_dir"):
        draft.reasons["output_dir"] = "a recipe's results are in its run folder"


def _holes(draft: StageDraft) -> None:
    """What an engine cannot do without and nothing names is asked for: a `param` without a value."""
    for key in HOLES:
        if key in draft.values or (key == "model" and draft.parents) or not draft.may_have(key):
            continue
        if key == "data" and not draft.training:
            continue
        asked = draft.ask_for(key)
        draft.values[key] = asked if key == "model" else [asked]


def _environment(draft: StageDraft) -> None:
    for name, value in (draft.config.launch.env if draft.config.launch else {}).items():
        why = secret_in(name, value)
        if not _VARIABLE.fullmatch(name):
            draft.notes.append(Note(name, "is no name of a variable"))
        elif why:
            draft.set(f"env.{name}", Secret(name))
            text = f"{why}: its value is not copied, set the variable where the recipe runs"
            draft.notes.append(Note(name, text, carried=True))
        elif name not in LAUNCHER:
            draft.set(f"env.{name}", value)


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LAUNCHER = frozenset(
    "FORCE_TORCHRUN NNODES NODE_RANK NPROC_PER_NODE MASTER_ADDR MASTER_PORT MIN_NNODES MAX_NNODES MAX_RESTARTS RDZV_ID USE_RAY "
    "USE_MCA USE_MEGATRON_BRIDGE CUDA_VISIBLE_DEVICES ASCEND_RT_VISIBLE_DEVICES WANDB_PROJECT WANDB_TAGS RANK WORLD_SIZE "
    "LOCAL_RANK ACCELERATE_USE_DEEPSPEED OMP_NUM_THREADS".split()
)
"""Variables that a recipe has keys for, or sets itself."""


def name_of(text: str, kind: str, taken: Set[str], spoken: Set[str] = frozenset()) -> str:
    """A stage's name from a file's (letters, digits and `_`), or from its kind; never one that is taken, nor a name that
    occurs as a value (`spoken`, members, keys): it would be taken for the stage."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or kind
    name = name if name[0].isalpha() else f"{kind}_{name}"
    numbered = (f"{name}_{number}" for number in count(2))
    names = chain((name, kind, f"{name}_{kind}"), numbered)
    return next(
        candidate
        for candidate in names
        if candidate not in taken and (candidate == kind or not (candidate in spoken or candidate in meaning()))
    )


def forced(config: Config, defaults: Mapping[str, Any]) -> Config:
    """The same invocation with these engine defaults set explicitly."""
    extra = {name: Setting(name, value, name, None, None, is_explicit=False) for name, value in defaults.items()}
    return replace(config, settings={**extra, **config.settings})

"""How LLaMA-Factory's own files are read: the stage of an invocation, and the inverse of every lowering.

`INVERSE` is keyed by the overlay's own rule names; a test holds it complete.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.catalog import foreign
from ftdsl.engines.llamafactory.abilities import NAME, TITLE
from ftdsl.importers import datasets, from_overlay, inverse, models, parallel, unknown, verify
from ftdsl.importers.dialect import Dialect, Inverse, Named
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.lint.config import Config, Setting
from ftdsl.record import replace

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}

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
    stage = "dpo" if config.stage in ALGORITHMS else config.stage
    return (STAGES.get(stage, "sft"), *scores)


def no_stage(config: Config) -> str:
    """The stage an invocation names and the engine does not have; "" if it has it."""
    known = config.stage in STAGES or config.stage in ALGORITHMS
    return "" if config.kind != "train" or known else config.stage


ALGORITHMS = {"orpo": "orpo", "simpo": "simpo"}
"""Names of preference losses that people write as a stage -> `pref_loss` of `stage: dpo`."""


def named(config: Config) -> Named:
    """Values and losses that are known under another name, then parameters that are."""
    notes: list[Note] = []
    reasons: dict[str, str] = {}
    settings = dict(config.settings)
    for setting, value in _other_values(config):
        settings[setting.name] = replace(setting, value=value)
        text = f"LLaMA-Factory has no `{setting.value}`; taken as `{value}`"
        notes.append(Note(setting.word, text, setting.span, carried=True))
        reasons[setting.name] = text
    if config.kind == "export" and config.has("output_dir") and not config.has("export_dir"):
        at = settings.pop("output_dir")
        settings["export_dir"] = replace(at, name="export_dir")
        text = "where an export was written to once; taken as `export_dir`"
        notes.append(Note(at.word, text, at.key or at.span, carried=True))
        reasons |= dict.fromkeys(("output_dir", "export_dir"), text)
    if (loss := ALGORITHMS.get(config.stage)) is not None and config.is_explicit("stage"):
        at = config.at("stage")
        settings["stage"] = replace(at, value="dpo")
        settings.setdefault("pref_loss", Setting("pref_loss", loss, at.word, at.span, at.key))
        text = f"no stage, a loss of `dpo`: taken as `stage: dpo` and `pref_loss: {loss}`"
        notes.append(Note(at.word, text, at.span, carried=True))
        reasons |= {"stage": text, "pref_loss": text}
    return Named(unknown.renamed(replace(config, settings=settings)), notes, reasons)


def _other_values(config: Config) -> Iterator[tuple[Setting, Any]]:
    """Settings with a value that the engine knows under another name (`template: qwen2`), with that value."""
    for name, setting in config.settings.items():
        if name in ("stage", "finetuning_type", "export_device") or not isinstance(setting.value, str | bool):
            continue
        if value := foreign.value_of(name, str(setting.value)):
            yield setting, value


def begin(draft: StageDraft) -> None:
    _method(draft)
    unknown.recipe_keys_first(draft)
    parallel.mixed_precision(draft)


def _method(draft: StageDraft) -> None:
    """`finetuning_type` opens a method block; an adapter that is trained further opens none."""
    for name in ("stage", "do_train", "do_eval", "do_predict", "finetuning_type", "create_new_adapter"):
        draft.used.add(name)
    if draft.training:
        method = str(draft.config.value("finetuning_type"))
        further = draft.config.has("adapter_name_or_path") and not draft.config.on("create_new_adapter")
        known = catalog.engine_schema(NAME)["finetuning_type"].get("choices") or ()
        if known and method not in known:
            draft.note(
                "finetuning_type",
                f"`{method}` is no method of LLaMA-Factory ({', '.join(known)}): write the block of one",
            )
        elif not (further and method == "lora"):
            draft.blocks.add(method)
    if draft.config.has("quantization_bit") and draft.kind != "quantize":
        draft.blocks.add("quantize")


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


def shared(draft: StageDraft) -> None:
    """Keys of an invocation that is no stage: a chat."""
    models.model(draft)
    from_overlay.tables(draft)


DIALECT = Dialect(
    engine=NAME,
    title=TITLE,
    kinds=kinds,
    no_stage=no_stage,
    stages="pt, sft, rm, ppo, dpo, kto",
    named=named,
    begin=begin,
    rules=tuple(dict.fromkeys(INVERSE.values())),
    end=_silent,
    shared=shared,
    holes={"model": "model_name_or_path", "data": "dataset"},
    compare=verify.compare,
)

"""TRL's dialect: the kind of stage of an invocation, and the inverse of every lowering."""

from __future__ import annotations

from collections.abc import Mapping

from ftdsl.catalog.trainers import trainers
from ftdsl.engines.trl.abilities import NAME, TITLE
from ftdsl.importers import from_overlay, inverse, parallel, unknown
from ftdsl.importers.dialect import Dialect, Inverse, Named
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.trl import adapter, answers, data, verify
from ftdsl.language.values import Term
from ftdsl.lint.config import Config

TEXT = "dataset_text_field"


def kinds(config: Config) -> tuple[str, ...]:
    """One stage. SFT on rows of text is a pretraining."""
    if config.trainer == "sft" and config.is_explicit(TEXT) and not _chats(config):
        return ("pretrain",)
    kind = trainers(NAME)[config.trainer]["kind"] if config.trainer else ""
    return (kind,) if kind else ()


def _chats(config: Config) -> bool:
    return config.on("assistant_only_loss") or config.has("completion_only_loss")


def no_stage(config: Config) -> str:
    return "" if not config.trainer or kinds(config) else config.trainer


def named(config: Config) -> Named:
    """Parameters under names of earlier releases, or of other tools that train with TRL."""
    return Named(unknown.renamed(config))


_ELSEWHERE = {
    "model_init_kwargs": "the model is loaded by the recipe's own keys",
    "teacher_model_init_kwargs": "the teacher is loaded like the model",
    "dataset_kwargs": "rows are prepared by the recipe's own keys",
    "chat_template_path": "write `template = …`, or a template of the recipe's own",
    "chat_template_kwargs": "write `template`, `thinking` or `keep_thinking`",
    "eos_token": "the template decides which token ends an answer",
    "pad_token": "the template decides which token pads",
    "truncation_mode": "rows are cut at their ends, answers last",
    "eval_packing": "rows of an evaluation are packed like those of the training",
    "push_to_hub_token": "a secret belongs into the environment",
}
"""Parameters that TRL's trainer reads and a recipe's does not, since what they are about is decided elsewhere."""


def elsewhere(draft: StageDraft) -> None:
    for name, why in _ELSEWHERE.items():
        if draft.given(name) and name not in draft.used and draft.raw(name) not in (None, draft.default(name)):
            draft.note(name, why)


def evaluation(draft: StageDraft) -> None:
    if str(draft.config.value("eval_strategy")) != "no":
        inverse.eval_every(draft)
        return
    draft.used.add("eval_strategy")
    for name in ("eval_steps", "per_device_eval_batch_size"):
        if draft.given(name) and draft.raw(name) is not None:
            draft.note(name, "has no effect: `eval_strategy` is `no`")


def resume(draft: StageDraft) -> None:
    """A checkpoint of another run; a stage resumes from its own by itself."""
    where = draft.raw("resume_from_checkpoint")
    if isinstance(where, str) and where.lower() not in ("true", "false"):
        draft.set("resume", Term("file", {"path": draft.paths.seen(where)}))
    elif where is not None:
        draft.reasons["resume_from_checkpoint"] = "a stage resumes from its own checkpoints"


def checkpointing(draft: StageDraft) -> None:
    kwargs = inverse.table(draft.config.value("gradient_checkpointing_kwargs"))
    draft.used.update(("gradient_checkpointing", "gradient_checkpointing_kwargs"))
    if kwargs.pop("selective", False):
        draft.note("gradient_checkpointing_kwargs", "`selective` has no key for TRL: every layer is recomputed")
    reentrant = kwargs.pop("use_reentrant", None)
    if kwargs:
        draft.note("gradient_checkpointing_kwargs", f"`{', '.join(kwargs)}` cannot be said")
    if not draft.config.on("gradient_checkpointing"):
        draft.set("memory.checkpointing", Term("none"))
    else:
        draft.set("memory.checkpointing", Term("full", {"reentrant": True} if reentrant else {}))


def processes(draft: StageDraft) -> None:
    if (count := draft.raw("dataset_num_proc")) is not None:
        draft.set("loader.tokenize", count)


INVERSE: Mapping[str, Inverse] = {
    "model": adapter.model, "peft": inverse.nothing, "quantisation": inverse.nothing, "precision": inverse.nothing,
    "dataset": data.dataset, "template": data.trained_tokens, "duration": inverse.duration, "packing": data.packing,
    "compile": inverse.compile, "resume": resume, "push": inverse.push, "preference_losses": answers.losses,
    "reference": inverse.nothing, "weights": answers.rewards, "backend": answers.backend, "answers": answers.answers,
    "teacher": answers.teacher, "divergence": inverse.nothing, "betas": inverse.betas, "schedule": inverse.schedule,
    "warmup": inverse.warmup, "checkpointing": checkpointing, "save_every": inverse.save_every, "keep": inverse.keep,
    "best_by": inverse.best_by, "eval_every": evaluation, "metrics": inverse.nothing, "track_to": inverse.track_to,
    "track_project": inverse.track_project, "run_name": inverse.track_name, "log_every": inverse.log_every,
    "guard": inverse.guard, "patience": inverse.nothing, "strategy": parallel.strategy, "use_cpu": inverse.nothing,
    "count": parallel.hardware, "nodes": inverse.nothing, "launcher": parallel.launcher, "rendezvous": parallel.rendezvous,
    "export_device": inverse.nothing,
}  # fmt: skip
"""The inverse of every lowering of the overlay by its name, in the order in which parameters are claimed."""

_MORE: tuple[Inverse, ...] = (answers.scale, data.text_field, processes, elsewhere)


def _begin(draft: StageDraft) -> None:
    if draft.config.trainer == "sft" and draft.kind == "pretrain":
        at = draft.config.at(TEXT)
        draft.used.add(TEXT)
        draft.notes.append(Note(at.word, "SFT on rows of text is a `pretrain` stage", at.key or at.span, carried=True))
    unknown.recipe_keys_first(draft)
    adapter.begin(draft)


def _end(draft: StageDraft) -> None:
    draft.reasons["template"] = "a recipe takes the template of the model's family, TRL the tokenizer's own"
    if not draft.given("output_dir"):
        draft.reasons["output_dir"] = "a recipe's results are in its run folder"


def _shared(draft: StageDraft) -> None:
    from_overlay.tables(draft)


DIALECT = Dialect(
    engine=NAME,
    title=TITLE,
    kinds=kinds,
    no_stage=no_stage,
    stages=", ".join(verb for verb, fact in trainers(NAME).items() if fact["kind"]),
    named=named,
    begin=_begin,
    rules=(*dict.fromkeys(INVERSE.values()), *_MORE),
    end=_end,
    shared=_shared,
    holes={"model": "model_name_or_path", "data": "dataset_name"},
    compare=verify.compare,
)

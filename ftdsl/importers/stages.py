"""Configs to stages: the kind of each, its keys, and which stage starts from which."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Set
from itertools import chain, count
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import secret_in
from ftdsl.engines.shared.overlay import entries
from ftdsl.importers import dialects, from_overlay, outside, parallel, unknown
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.values import meaning
from ftdsl.importers.write import SHARED, why_not
from ftdsl.language.resolve.keys import find
from ftdsl.language.values import Amount, Secret, StageRef, Term
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe import settings
from ftdsl.record import replace


def kinds(config: Config) -> tuple[str, ...]:
    """The kinds of stages in one invocation."""
    return dialects.of(config.engine).kinds(config)


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
    dialect = dialects.of(config.engine)
    config, open_settings = outside.parted(config)
    named = dialect.named(config)
    config, wrong = unknown.fitting(named.config)
    draft = StageDraft(config, kind, paths, results, notes=list(named.notes), reasons=dict(named.reasons))
    for setting in wrong:
        text = f"`{setting.text}` is not something it can be"
        draft.notes.append(Note(setting.word, text, setting.key or setting.span))
    if after:
        draft.parents.append(after)
        draft.used.add("output_dir")
        draft.reasons |= dict.fromkeys(
            ("model_name_or_path", "adapter_name_or_path"), f"`{after}` makes what is scored"
        )
    dialect.begin(draft)
    for rule in dialect.rules:
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
    _holes(draft, dialect.holes)
    dialect.end(draft)
    if after:  # what its training stage carries, or names, is not lost here
        parameters_set = {setting.word for setting in draft.config.settings.values()}
        draft.notes = [note for note in draft.notes if note.word not in parameters_set]
    return draft


def shared(config: Config, paths: RecipePaths) -> StageDraft:
    """Words of an invocation that is no stage (a chat), or of DeepSpeed and accelerate files alone."""
    dialect = dialects.of(config.engine)
    config, _ = outside.parted(config)
    config, _ = unknown.fitting(dialect.named(config).config)
    draft = StageDraft(config, "eval" if config.settings else "sft", paths, {})
    if config.settings:
        dialect.shared(draft)
        unknown.name_them(draft)
        from_overlay.rest(draft)
        draft.values = {
            key: value for key, value in draft.values.items() if find("file", tuple(key.split("."))) is not None
        }
    else:
        parallel.mixed_precision(draft)
        parallel.alone(draft)
    _writable(draft, SHARED)
    return draft


def _of_this_kind(draft: StageDraft) -> None:
    """Keys that a stage of this kind does not have are noted and left out (`load_best_model_at_end` beside `do_predict`)."""
    for key in list(draft.values):
        path = tuple(key.split("."))
        if find(draft.kind, path) is None and (find("file", path) is None or path[0] == "parallel"):
            del draft.values[key]
            if path[0] != "parallel":
                draft.note(_parameter(draft, key), f"means nothing in `{draft.kind}`")
            elif key == "parallel.strategy":
                draft.note(_parameter(draft, key), UNCUT.format(kind=draft.kind))


UNCUT = "a stage of the kind `{kind}` holds the whole model in each process, and cuts up nothing"


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
        elif why := why_not(kind, f"{draft.engine}.{name}", value):
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
        (catalog.parameters_of(entry) for known, entry in entries(draft.engine, draft.kind) if known == key), ()
    )
    return next((name for name in parameters if draft.given(name)), key.partition(".")[2] or key)


def _short(value: Any) -> str:
    text = str(value.number) if isinstance(value, Amount) else settings.shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _holes(draft: StageDraft, parameters: Mapping[str, str]) -> None:
    """What an engine cannot do without and nothing names is asked for: a `param` without a value."""
    for key, parameter in parameters.items():
        if key in draft.values or (key == "model" and draft.parents) or not draft.may_have(key):
            continue
        if key == "data" and not draft.training:
            continue
        asked = draft.ask_for(key, parameter)
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

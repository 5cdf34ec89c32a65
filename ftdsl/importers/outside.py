"""Values known only when a script runs (`$1`, `$LR`, `$(date)`): parameters of the recipe, or a note; never text in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ftdsl import catalog
from ftdsl.importers.bash_words import CLOSE, OPEN, shown
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.values import in_scope
from ftdsl.importers.write import key_at
from ftdsl.language.printing import RESERVED
from ftdsl.language.types import parse_type
from ftdsl.language.values import StageRef, Term
from ftdsl.lint.config import Config, Setting
from ftdsl.record import replace

RUN = "run"
"""The name a recipe has for the run of an axis, which is no parameter."""

_MARK = re.compile(f"{OPEN}(\\w+){CLOSE}")
_TEXTS = frozenset(
    "output_dir export_dir run_name logging_dir tokenized_path resume_from_checkpoint adapter_name_or_path reward_model "
    "ref_model ref_model_adapters hub_model_id export_hub_model_id swanlab_project swanlab_run_name project default_system "
    "export_quantization_dataset media_dir dataset_dir".split()
)
"""Parameters that are texts or paths in a recipe too: the variable is part of the text (`to = "out/{name}"`)."""

_MODELS_AND_DATA: Mapping[str, tuple[str, str]] = {
    "model_name_or_path": ("model", "model"), "dataset": ("data", "data"), "dataset_name": ("data", "data"),
    "teacher_model_name_or_path": ("teacher", "model"), "ref_model": ("reference", "model"),
}  # fmt: skip
"""Parameter -> the key that it decides alone, and the type of a parameter of the recipe for it."""

STAND_INS: Mapping[str, str] = {
    "int": "2", "number": "1", "count": "1000", "share": "5%", "rate": "1e-4", "bool": "true", "time": "30min", "bytes": "1GB",
    "span": "1 epoch", "steps": "10 steps", "every": "10 steps", "text": '"x"', "path": '"x"', "model": 'hf("org/{name}")',
    "data": 'hf("org/{name}")',
}  # fmt: skip
"""Type of a parameter -> a value to compile with."""
_AS = {"warmup": "steps", "level": "number", "part": "share"}
_BY_NAME = {"warmup_ratio": "share", "warmup_steps": "steps", "num_train_epochs": "span", "max_steps": "span"}
_FOLLOWS = {"lora_rank": ("lora_alpha",), "logging_steps": ("eval_steps",)}
"""Parameters whose default is worked out from another one."""
SET_OUTSIDE = "set outside of this script"


def name_of(variable: str) -> str:
    """The parameter of a recipe for a variable of a script: no name that means something there."""
    name = variable.lower()
    return f"given_{name}" if name in in_scope() or name in RESERVED or name == RUN else name


def renamed(text: str) -> str:
    """A marked text with the recipe's names."""
    return _MARK.sub(lambda match: f"{OPEN}{name_of(match[1])}{CLOSE}", text)


def parted(config: Config) -> tuple[Config, list[Setting]]:
    """The invocation without settings whose values are known only to a running shell, and those; texts and paths stay, with the
    recipe's names in them."""
    kept: dict[str, Setting] = {}
    named_only: list[Setting] = []
    for name, setting in config.settings.items():
        value = setting.value
        if not isinstance(value, str) or OPEN not in value:
            kept[name] = setting
            continue
        named = replace(setting, value=renamed(value))
        whole = _MARK.fullmatch(value) is not None
        alone = whole and not (name == "ref_model" and config.has("ref_model_adapters"))
        if not alone if name in _MODELS_AND_DATA else name in _TEXTS:
            kept[name] = named
        else:
            named_only.append(named)
    return replace(config, settings=kept, unknown=frozenset()), named_only


def add_parameters(draft: StageDraft, settings: list[Setting]) -> None:
    """Each as a parameter of the recipe, if one can have the type; else a note."""
    for setting in settings:
        draft.used.add(setting.name)
        draft.reasons |= dict.fromkeys((setting.name, *_FOLLOWS.get(setting.name, ())), SET_OUTSIDE)
        key, kind = _typed(draft, setting.name)
        match = _MARK.fullmatch(str(setting.value))
        if match is None or not kind or not draft.may_have(key):
            why = f"`{setting.text if setting.span else shown(str(setting.value))}` is {SET_OUTSIDE}"
            draft.notes.append(Note(setting.word, f"{why}: write `{key} = …`" if key else why, setting.span))
            continue
        value: Any = StageRef(match[1])
        draft.values[key] = [value] if kind == "data" else value
        if kind == "name":
            at = key_at(draft.kind, key)
            draft.samples[match[1]] = next(iter(at.members or ()), "") or "qwen"
        ask(draft, match[1], kind, setting)
    for name in sorted(set(_marks(draft.values))):
        if name != RUN:
            draft.holes.setdefault(name, "text")
    for name, setting in draft.config.settings.items():
        if isinstance(setting.value, str) and OPEN in setting.value:
            draft.reasons[name] = SET_OUTSIDE


def ask(draft: StageDraft, name: str, kind: str, setting: Setting) -> None:
    """A parameter of the recipe that has no value yet."""
    draft.holes[name] = kind
    draft.notes.append(Note(setting.word, f"{SET_OUTSIDE}: give it with `-p {name}=…`", setting.span, carried=True))


def _typed(draft: StageDraft, parameter: str) -> tuple[str, str]:
    """The key that a parameter decides, and the type a `param` for it has; "" where none fits."""
    if parameter in _MODELS_AND_DATA:
        return _MODELS_AND_DATA[parameter]
    status = catalog.parameter_status(draft.engine, parameter)
    word = status.word if status else catalog.facts("words").get(draft.engine, {}).get(parameter, "")
    if not word:
        return "", ""
    if parameter in _BY_NAME:
        return word, _BY_NAME[parameter]
    key = key_at(draft.kind, word)
    kind = parse_type(key.type)
    if kind.name == "member" or key.catalog == "templates":
        return word, "name"
    names = [_AS.get(member.name, member.name) for member in (kind, *kind.options)]
    return word, next((name for name in names if name in STAND_INS and name not in ("model", "data")), "")


def launch(draft: StageDraft, names: tuple[str, ...], key: str, kind: str) -> bool:
    """A flag or variable of the launcher whose value only a shell knows, as a parameter; whether there was one."""
    unknown = draft.config.launch.unknown if draft.config.launch else {}
    flag = next((name for name in names if name in unknown), None)
    match = _MARK.fullmatch(unknown[flag]) if flag else None
    if flag is None:
        return False
    if match is None:
        text = shown(unknown[flag]).strip()
        what = f"`{text}`" if text else "its value"
        draft.notes.append(Note(flag, f"{what} is known only when the script runs: write `{key} = …`"))
        return True
    name = name_of(match[1])
    value: Any = f"{OPEN}{name}{CLOSE}" if kind == "text" else StageRef(name)
    draft.set(key, value)
    ask(draft, name, kind, Setting(flag, None, flag))
    return True


_PATHS = frozenset(
    "PATH PYTHONPATH LD_LIBRARY_PATH RANK NODE_RANK LOCAL_RANK WORLD_SIZE node_rank machine_rank PWD".split()
)


def variables(draft: StageDraft, read: frozenset[str]) -> None:
    """Variables that are exported with a value only a shell knows, without those that each node sets itself."""
    for name, marked in (draft.config.launch.unknown if draft.config.launch else {}).items():
        if (
            name not in _PATHS
            and name not in ("MASTER_ADDR", "MASTER_PORT")
            and name not in read
            and not name.islower()
        ):
            value = f"`{shown(marked)}` " if shown(marked).strip() else "its value "
            draft.notes.append(Note(name, f"{value}is known only when the script runs: write it into `env {{ }}`"))


def _marks(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _MARK.findall(value)
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _marks(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _marks(inner)
    elif isinstance(value, Term):
        yield from _marks(value.options)

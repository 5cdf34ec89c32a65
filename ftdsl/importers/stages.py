"""Configs to stages: which kind each is, what it says, and which starts from which."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import chain, count
from typing import Any

from ftdsl import catalog
from ftdsl.credentials import secret_in
from ftdsl.engines.llamafactory.words import entries
from ftdsl.importers import datasets, models, parallel, rules, unknown, words
from ftdsl.importers.places import Places
from ftdsl.importers.said import Note, Said
from ftdsl.importers.values import meaning
from ftdsl.importers.write import SHARED, why_not
from ftdsl.language.resolve.words import find
from ftdsl.language.values import Amount, Secret, StageRef, Term
from ftdsl.lint.config import Config, Setting
from ftdsl.recipe import settings
from ftdsl.record import changed

STAGES = {"pt": "pretrain", "sft": "sft", "rm": "reward", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}

Inverse = Callable[[Said], None]
INVERSE: Mapping[str, Inverse] = {
    "model": models.model, "reference": models.reference, "reward": models.reward,
    "dataset": datasets.dataset, "mix": rules.nothing, "eval_data": datasets.eval_data, "calibrate": datasets.calibrate,
    "format": rules.nothing, "duration": rules.duration, "packing": rules.packing, "tokenize": rules.tokenize,
    "upcast": rules.upcast, "compile": rules.compile, "trainable": rules.trainable, "checkpointing": rules.checkpointing,
    "layers": rules.layers, "oft_rank": rules.oft_rank, "oft_targets": rules.oft_targets, "special": rules.special,
    "token_init": rules.token_init, "betas": rules.betas, "schedule": rules.schedule, "warmup": rules.warmup,
    "save_every": rules.save_every,
    "keep": rules.keep, "best_by": rules.best_by, "eval_every": rules.eval_every, "metrics": rules.metrics,
    "track_to": rules.track_to, "track_project": rules.track_project, "track_name": rules.track_name,
    "log_every": rules.log_every, "logging_dir": rules.logging_dir, "guard": rules.guard,
    "temperature": rules.temperature, "beams": rules.beams, "resume": rules.resume, "push": rules.push,
    "export_device": rules.export_device, "strategy": parallel.strategy, "use_cpu": rules.nothing,
    "count": parallel.hardware, "nodes": rules.nothing, "launcher": parallel.launcher, "rendezvous": parallel.rendezvous,
    "eval_stage": rules.eval_stage, "run_name": rules.nothing,
}  # fmt: skip
"""Every rule of the overlay by its name, read backwards, in the order in which words are claimed."""


def kinds(config: Config) -> tuple[str, ...]:
    """The stages one invocation stands for: training may be followed by prediction; a chat is none."""
    if config.kind == "export":
        return ("quantize",) if config.has("export_quantization_bit") else ("merge",)
    if config.kind == "chat":
        return ()
    scores = ("eval",) if config.on("do_predict") or (config.on("do_eval") and not config.on("do_train")) else ()
    if not config.on("do_train") and scores:
        return scores
    return (STAGES.get(config.stage, "sft"), *scores)


def say(
    config: Config, kind: str, places: Places, results: Mapping[str, StageRef], carried: Mapping[str, Any] | None = None
) -> Said:
    """Everything one stage says. `carried`: keys of the tools' own blocks to say besides (`deepspeed.aio.…`)."""
    config, wrong = unknown.fitting(unknown.renamed(config))
    said = Said(config, kind, places, results)
    for setting in wrong:
        text = f"`{setting.text}` is not something it can be"
        said.notes.append(Note(setting.word, text, setting.key or setting.span))
    _method(said)
    unknown.words_first(said)
    _precision(said)
    for inverse in dict.fromkeys(INVERSE.values()):
        inverse(said)
    words.tables(said)
    _environment(said)
    unknown.name_them(said)
    words.rest(said)
    said.values |= carried or {}
    _writable(said, kind)
    _holes(said)
    _silent(said)
    return said


def shared(config: Config, places: Places) -> Said:
    """Words of an invocation that is no stage (a chat), or of DeepSpeed and accelerate files alone."""
    config, _ = unknown.fitting(unknown.renamed(config))
    said = Said(config, "eval" if config.settings else "sft", places, {})
    if config.settings:
        models.model(said)
        words.tables(said)
        unknown.name_them(said)
        words.rest(said)
        said.values = {
            key: value for key, value in said.values.items() if find("file", tuple(key.split("."))) is not None
        }
    else:
        _precision(said)
        parallel.alone(said)
    _writable(said, SHARED)
    return said


def _writable(said: Said, kind: str) -> None:
    """Secrets, and values that no recipe can say, are noted and left out; of a list, the items."""
    for key, value in list(said.values.items()):
        if why := _secret(key.rpartition(".")[2], value):
            said.note(_parameter(said, key), f"{why}: its value is not copied")
            del said.values[key]
            continue
        if not why_not(kind, key, value):
            continue
        reasons = {at: why_not(kind, key, item) for at, item in enumerate(value)} if isinstance(value, list) else {}
        wrong = [value[at] for at, why in reasons.items() if why] or [value]
        for item in wrong:
            text = f"`{_short(item)}` is not something `{key}` can be: {why_not(kind, key, item)}"
            said.note(_parameter(said, key), text)
        kept = [value[at] for at, why in reasons.items() if not why]
        said.values[key] = kept
        if not kept:
            del said.values[key]
    for name, value in list(said.passed.items()):
        if why := _secret(name, value):
            del said.passed[name]
            said.note(name, f"{why}: its value is not copied")
        elif why := why_not(kind, f"llamafactory.{name}", value):
            del said.passed[name]
            said.note(name, f"`{_short(value)}` cannot be written: {why}")


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
    """The secret values an invocation holds, so that nothing that is said of it repeats them."""
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


def _parameter(said: Said, key: str) -> str:
    """The parameter a key comes from, as far as the overlay tells; else the key's own name."""
    told = next((catalog.told(entry) for known, entry in entries(said.kind) if known == key), ())
    return next((name for name in told if said.given(name)), key.partition(".")[2] or key)


def _short(value: Any) -> str:
    text = str(value.number) if isinstance(value, Amount) else settings.shown(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _method(said: Said) -> None:
    """`finetuning_type` opens a method block; an adapter that is trained further opens none."""
    for name in ("stage", "do_train", "do_eval", "do_predict", "finetuning_type", "create_new_adapter"):
        said.used.add(name)
    if said.training:
        method = str(said.config.value("finetuning_type"))
        further = said.config.has("adapter_name_or_path") and not said.config.on("create_new_adapter")
        if not (further and method == "lora"):
            said.blocks.add(method)
    if said.config.has("quantization_bit") and said.kind != "quantize":
        said.blocks.add("quantize")


def _precision(said: Said) -> None:
    """What `accelerate launch` says counts where the engine is told nothing (transformers/training_args.py)."""
    mixed = said.config.accelerate.get("mixed_precision") if said.config.accelerate else None
    if said.training and mixed in ("bf16", "fp16") and not said.given("bf16", "fp16", "pure_bf16"):
        said.say("precision", Term(mixed))
        said.reasons[mixed] = "`accelerate` says so"


_HOLES = {"model": ("base", "model", "model_name_or_path"), "data": ("rows", "data", "dataset")}


def _silent(said: Said) -> None:
    """What the engine wants said and a recipe works out."""
    if said.training and not said.given("do_train"):
        said.notes.append(
            Note("do_train", "nothing says so, and the engine would do nothing: taken as training", carried=True)
        )
    if not said.given("template"):
        said.reasons["template"] = "a recipe takes the template of the model's family"
    if not said.given("output_dir"):
        said.reasons["output_dir"] = "a recipe's results lie in its run folder"


def _holes(said: Said) -> None:
    """What an engine cannot do without and nothing names is asked for: a `param` without a value."""
    for key, (name, kind, parameter) in _HOLES.items():
        if key in said.values or (key == "model" and said.parents) or not said.may_have(key):
            continue
        if key == "data" and not said.training:
            continue
        said.holes[name] = kind
        said.values[key] = StageRef(name) if key == "model" else [StageRef(name)]
        said.reasons[parameter] = "nothing named one"
        text = f"nothing names one, and the engine would refuse to start: give it with `-p {name}=…`"
        said.notes.append(Note(parameter, text, carried=True))


def _environment(said: Said) -> None:
    for name, value in (said.config.launch.env if said.config.launch else {}).items():
        why = secret_in(name, value)
        if not _VARIABLE.fullmatch(name):
            said.notes.append(Note(name, "is no name of a variable"))
        elif why:
            said.say(f"env.{name}", Secret(name))
            text = f"{why}: its value is not copied, set the variable where the recipe runs"
            said.notes.append(Note(name, text, carried=True))
        elif name not in LAUNCHER:
            said.say(f"env.{name}", value)


_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
LAUNCHER = frozenset(
    "FORCE_TORCHRUN NNODES NODE_RANK NPROC_PER_NODE MASTER_ADDR MASTER_PORT MIN_NNODES MAX_NNODES MAX_RESTARTS RDZV_ID USE_RAY "
    "USE_MCA USE_MEGATRON_BRIDGE CUDA_VISIBLE_DEVICES ASCEND_RT_VISIBLE_DEVICES WANDB_PROJECT WANDB_TAGS RANK WORLD_SIZE "
    "LOCAL_RANK ACCELERATE_USE_DEEPSPEED OMP_NUM_THREADS".split()
)
"""Variables that a recipe has words for, or sets itself."""


def name_of(text: str, kind: str, taken: Set[str], spoken: Set[str] = frozenset()) -> str:
    """A stage's name from a file's (letters, digits and `_`), or from its kind; never one that is taken, nor a word that a
    value could say (`spoken`, members, keys): it would be taken for the stage."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_") or kind
    name = name if name[0].isalpha() else f"{kind}_{name}"
    numbered = (f"{name}_{number}" for number in count(2))
    names = chain((name, kind, f"{name}_{kind}"), numbered)
    return next(one for one in names if one not in taken and (one == kind or not (one in spoken or one in meaning())))


def forced(config: Config, defaults: Mapping[str, Any]) -> Config:
    """The same invocation with these of the engine's defaults said aloud."""
    extra = {name: Setting(name, value, name, None, None, said=False) for name, value in defaults.items()}
    return changed(config, settings={**extra, **config.settings})

"""Configs to stages: which kind each is, what it says, and which starts from which."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from itertools import chain, count
from typing import Any

from ftdsl.importers import datasets, models, parallel, rules, unknown, words
from ftdsl.importers.places import Places
from ftdsl.importers.said import Note, Said, is_secret
from ftdsl.language.resolve.words import find
from ftdsl.language.values import Secret, StageRef, Term
from ftdsl.lint.config import Config, Setting
from ftdsl.record import replace

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


def say(config: Config, kind: str, places: Places, results: Mapping[str, StageRef]) -> Said:
    """Everything one stage says."""
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
    return said


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
        if is_secret(name):
            said.say(f"env.{name}", Secret(name))
            text = "is a secret: its value is not copied, set the variable where the recipe runs"
            said.notes.append(Note(name, text, carried=True))
        elif name not in LAUNCHER:
            said.say(f"env.{name}", value)


LAUNCHER = frozenset(
    "FORCE_TORCHRUN NNODES NODE_RANK NPROC_PER_NODE MASTER_ADDR MASTER_PORT MIN_NNODES MAX_NNODES MAX_RESTARTS RDZV_ID USE_RAY "
    "USE_MCA USE_MEGATRON_BRIDGE CUDA_VISIBLE_DEVICES ASCEND_RT_VISIBLE_DEVICES WANDB_PROJECT WANDB_TAGS RANK WORLD_SIZE "
    "LOCAL_RANK ACCELERATE_USE_DEEPSPEED OMP_NUM_THREADS".split()
)
"""Variables that a recipe has words for, or sets itself."""


def name_of(text: str, kind: str, taken: Set[str]) -> str:
    """A stage's name from a file's (letters, digits and `_`), or from its kind; never one that is taken."""
    name = re.sub(r"\W+", "_", text).strip("_") or kind
    name = name if name[0].isalpha() else f"{kind}_{name}"
    numbered = (f"{name}_{number}" for number in count(2))
    return next(one for one in chain((name, kind, f"{name}_{kind}"), numbered) if one not in taken)


def forced(config: Config, defaults: Mapping[str, Any]) -> Config:
    """The same invocation with these of the engine's defaults said aloud."""
    extra = {name: Setting(name, value, name, None, None, said=False) for name, value in defaults.items()}
    return replace(config, settings={**extra, **config.settings})

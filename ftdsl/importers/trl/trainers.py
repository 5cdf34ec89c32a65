"""Which of TRL's trainers a file is for: its command says it, a YAML alone does not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.history import schema
from ftdsl.catalog.trainers import own_parameters, trainer_schema, trainers
from ftdsl.engines.trl.abilities import NAME

CLI = "trl"
_SURE = ("model_name_or_path", "dataset_name", "datasets", "config")
"""Flags of TRL's scripts that tell them from others of the same name."""


def trainer_of_script(path: str, arguments: Sequence[str]) -> str:
    """The trainer of a script by its name: `trl/scripts/sft.py`, `sft.py`; "" for any other, and for one that is given nothing
    that TRL's takes."""
    parts = PurePosixPath(path).parts
    name = parts[-1] if parts else ""
    verb = next((verb for verb, fact in trainers(NAME).items() if name in (f"{verb}.py", *fact.get("scripts", ()))), "")
    others = {module for tool, entry in catalog.tools().items() if tool != NAME for module in entry.get("modules", ())}
    if not verb or others & set(parts[:-1]):
        return ""
    flags = {text.lstrip("-").partition("=")[0].replace("-", "_") for text in arguments if text.startswith("--")}
    return verb if CLI in parts[:-1] or flags & set(_SURE) else ""


_HELPERS = ("vllm-serve", "env", "chat", "skills")


def helps(words: Sequence[str]) -> bool:
    """Whether a command of TRL's is one beside a training: the server that writes answers for it, a look at the environment."""
    return any(PurePosixPath(word).name == CLI and after in _HELPERS for word, after in pairwise(words))


def is_verb(text: str) -> bool:
    """Whether `trl TEXT` trains."""
    return text in trainers(NAME)


def trainer_of_file(settings: Mapping[str, Any], path: str) -> tuple[str, str]:
    """(trainer, why): the one that has most of the parameters, then the one whose name is in the path, then SFT.

    settings: parameter -> value.
    """
    given = frozenset(settings)
    kinds = {verb: len(given & own_parameters(NAME, verb)) for verb in trainers(NAME)}
    most = max(kinds.values())
    left = [verb for verb, count in kinds.items() if count == most and _takes(verb, settings)]
    left = left or [verb for verb, count in kinds.items() if count == most]
    if len(left) == 1:
        only = sorted(given & own_parameters(NAME, left[0]))
        return left[0], f"`{only[0]}` is a parameter of it" if only else ""
    words = list(_words(path.lower()))
    if other := next((name for name in _experimental() if name in words), ""):
        return left[0], f"its path names `{other}`, which TRL's command line does not have"
    named = [verb for verb in left if verb in words]
    if named:
        return named[-1], "its path names it"
    return left[0], ""


@cache
def _experimental() -> frozenset[str]:
    """Trainers of TRL without a verb: `orpo`, `cpo`, `gkd`."""
    classes = {name.partition(".")[0] for name in schema(NAME, "", "parameters")}
    return frozenset(name.removesuffix("Config").lower() for name in classes) - frozenset(trainers(NAME)) - {"model"}


def _takes(verb: str, params: Mapping[str, Any]) -> bool:
    """Whether a trainer has the values too: `loss_type: hinge` is DPO's, task `SEQ_CLS` that of a reward model."""
    choices = trainer_schema(NAME, verb).get("loss_type", {}).get("choices")
    loss = params.get("loss_type")
    if choices and isinstance(loss, str) and loss not in choices:
        return False
    return str(params.get("lora_task_type", "CAUSAL_LM")) == ("SEQ_CLS" if verb == "reward" else "CAUSAL_LM")


def _words(path: str) -> Iterable[str]:
    return re.split(r"[^a-z]+", path.replace("reward_model", "reward").replace("distill_", "distillation_"))

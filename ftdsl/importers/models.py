"""Models read backwards: what is trained, what it is compared with, what rewards it."""

from __future__ import annotations

from typing import Any

from ftdsl.importers.said import Said
from ftdsl.language.values import StageRef, Term


def model(said: Said) -> None:
    """Base and adapters. What another stage of this import makes becomes `from` that stage."""
    base, adapters = said.raw("model_name_or_path"), _csv(said.raw("adapter_name_or_path"))
    options = _options(said)
    said.raw("create_new_adapter")
    if base is None:
        return
    if adapters and (made := said.results.get(_place(adapters[-1]))) is not None:
        said.parents.append(made.stage)
        return
    if not adapters and (made := said.results.get(_place(str(base)))) is not None:
        said.parents.append(made.stage)
        return
    value = said.places.model(str(base), **options)
    for adapter in adapters:
        folder = {"folder": said.raw("adapter_folder")} if said.given("adapter_folder") else {}
        value = Term("adapter", {"where": said.places.model(adapter), "base": value, **folder})
    said.say("model", value)


def _options(said: Said) -> dict[str, Any]:
    options: dict[str, Any] = {}
    revision = said.raw("model_revision")
    if revision not in (None, "main"):
        options["revision"] = revision
    if said.on("trust_remote_code"):
        options["trust_remote_code"] = True
    if said.on("train_from_scratch"):
        said.note("train_from_scratch", "write `model = scratch(like = …)`: random weights are a model of their own")
    return options


def _csv(value: Any) -> list[str]:
    items = value if isinstance(value, list) else str(value).split(",") if value else []
    return [str(item).strip() for item in items]


def _place(path: str) -> str:
    return path.removeprefix("./").rstrip("/")


def place_of(said: Said, path: str) -> StageRef | None:
    """The stage of this import that puts its result at a path."""
    return said.results.get(_place(path))


def reference(said: Said) -> None:
    """`ref_model` and its adapters; without it the engine compares with where the stage starts."""
    where, adapters = said.raw("ref_model"), _csv(said.raw("ref_model_adapters"))
    if where is None or not said.may_have("reference"):
        return
    value: Any = place_of(said, str(where)) or said.places.model(str(where))
    for adapter in adapters:
        value = place_of(said, adapter) or Term("adapter", {"where": said.places.model(adapter), "base": value})
    said.say("reference", value)


def reward(said: Said) -> None:
    """`reward_model_type`: lora (an adapter on this stage's base), full, or api (a server)."""
    where, kind = said.raw("reward_model"), str(said.take("reward_model_type"))
    said.used.update(("reward_model_adapters",))
    if where is None or not said.may_have("reward"):
        return
    made = place_of(said, str(where))
    if made is not None:
        said.say("reward", made)
    elif kind == "api":
        said.say("reward", Term("server", {"url": where}))
    elif kind == "full":
        said.say("reward", said.places.model(str(where)))
    else:
        base = said.values.get("model")
        said.say(
            "reward", Term("adapter", {"where": said.places.model(str(where)), **({"base": base} if base else {})})
        )

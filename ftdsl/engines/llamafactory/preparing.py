"""Stages that need no engine: data work, and the user's own scripts."""

from __future__ import annotations

import re
from typing import Any

from ftdsl.engines.jobs import Command, Document, Job, Raw
from ftdsl.engines.llamafactory import words
from ftdsl.engines.llamafactory.parallel import PYTHON
from ftdsl.engines.llamafactory.places import seen_from_run
from ftdsl.engines.llamafactory.scratch import needed_by
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Amount, Script, Secret, Slot, StageRef, Term
from ftdsl.recipe.shape import PAIRS, first_row, settings_of, shape_of

_LATER = ("tokens", "languages", "weight", "mix", "entry", "split", "subset", "folder", "revision", "media")


def lower_data(work: Work) -> Job:
    """Rows read, checked, split and written engine-ready by `runtime/data.py`."""
    settings = work.stage.settings
    for key in _LATER:
        if work.said(key):
            work.refuse(key, f"`{key}` cannot be worked off by a data stage yet")
    sources, inputs = _sources(work)
    if settings.name("dedupe") == "near":
        work.refuse("dedupe", "near-duplicates cannot be found yet", "write `dedupe = exact`")
    drop = [words.plain(rule) for rule in settings.get("drop") or ()]
    for rule in drop:
        if rule not in ("bad_roles", "empty"):
            work.refuse("drop", f"`{rule}` cannot be worked off by a data stage yet")
    row = first_row(settings.items("source")[0], work.plan.recipe.folder, work.session.files) if sources else None
    kind = work.plan.recipe.reader(work.stage)
    shape = shape_of(settings, row, kind)
    family = "preference-" if kind in PAIRS else "kto-" if kind == "kto" else ""
    seed = settings.get("seed")
    seed = work.plan.recipe.seed if seed is None else seed
    spec: dict[str, Any] = {
        "stage": work.folder,
        "where": work.where,
        "format": family + shape.format,
        "sources": sources,
        "columns": dict(shape.columns),
        "roles": dict(shape.roles),
        "drop": drop,
        "dedupe": settings.name("dedupe") or "none",
        "seed": seed,
        "holdout": _holdout(work, seed),
    }
    document = Document(f"{work.folder}/data.json", "json", spec)
    parquet = any(path.endswith(".parquet") for path in inputs)
    return Job(
        key=work.stage.key,
        folder=work.folder,
        kind="data",
        title=f"{shape.format} rows",
        needs=needed_by(work),
        documents=(document,),
        commands=(Command((PYTHON, "runtime/data.py", document.path)),),
        env=_env(work),
        runtime=("data",),
        inputs=tuple(dict.fromkeys(inputs)),
        result=work.folder,
        result_kind="dataset",
        packages=("pyarrow",) if parquet else (),
        where=work.where,
    )


def _sources(work: Work) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    inputs: list[str] = []
    span = work.stage.spans.get("source", work.stage.span)
    settings = work.stage.settings
    if not settings.items("source"):
        work.session.sink.error("FT011", f"`{work.stage.name}` has no source", work.stage.span)
    for item in settings.items("source"):
        if isinstance(item, StageRef):
            path = f"{work.places.folder(item)}/{item.part or 'train'}.jsonl"
            options: Any = Term("stage")
        elif isinstance(item, Term) and item.name == "file" and "://" not in seen_from_run(str(item.options["path"])):
            path, options = seen_from_run(str(item.options["path"])), item
            if path.startswith(("inputs/", "/")):
                inputs.append(str(item.options["path"]))
        else:
            text = "only files (JSON, JSON Lines, CSV, Parquet) can be prepared by a data stage yet"
            work.refuse("source", text, 'read the source in a stage itself: `data = hf("…")`')
            continue
        own = settings_of(options)
        entry: dict[str, Any] = {"path": path, "where": work.plan.recipe.where(span)}
        for word, default in (("limit", None), ("sample", None), ("repeat", 1)):
            value = own.get(word)
            entry[word] = settings.get(word) or default if value is None else value
        found.append(entry)
    return found, inputs


def _holdout(work: Work, seed: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("eval", "test"):
        value = work.get(f"holdout.{part}")
        if isinstance(value, Amount):
            found[part] = {"share": value.number} if value.unit == "share" else {"count": int(value.number)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[part] = {"share": value} if value < 1 else {"count": int(value)}
        elif value is not None:
            paths = []
            for item in work.stage.settings.items(f"holdout.{part}"):
                if isinstance(item, Term) and item.name == "file":
                    paths.append(seen_from_run(str(item.options["path"])))
                else:
                    work.refuse(f"holdout.{part}", "only files can be held out yet")
            found[part] = {"paths": paths}
    if found:
        own = work.get("holdout.seed")
        found["seed"] = seed if own is None else own
    return found


def _env(work: Work) -> dict[str, str | Raw]:
    return {name: exported(value) for name, value in words.environment(work).items()}


def exported(value: Any) -> str | Raw:
    """A value for the environment; a secret only ever as a reference to the variable that holds it."""
    if isinstance(value, Secret):
        return Raw(f'"${{{value.variable}:?{value.variable} is not set}}"')
    return value if isinstance(value, Raw) else str(value)


def lower_shell(work: Work) -> Job:
    """The user's own code. It works in the run folder, and its outputs are seen from there.

    Names in it become variables, exported quoted: a value never becomes part of the code.
    """
    script = work.get("run")
    env = _env(work)
    code = ""
    if isinstance(script, Script):
        for part in script.parts:
            if isinstance(part, Slot):
                name = "FT_" + re.sub(r"\W", "_", part.name).upper()
                env[name] = _slot(work, part)
                code += f"${{{name}}}"
            else:
                code += part
    else:
        work.session.sink.error("FT011", f"`{work.stage.name}` has nothing to run", work.stage.span)
    outputs = [str(words.plain(item)) for item in work.stage.settings.items("outputs") if isinstance(item, str)]
    return Job(
        key=work.stage.key,
        folder=work.folder,
        kind="shell",
        title="shell",
        needs=needed_by(work),
        documents=(),
        commands=(Command(shell=code, comment=f"the author's own code ({work.where})"),),
        env=env,
        inputs=tuple(_shell_inputs(work)),
        result=outputs[0] if outputs else f"{work.folder}/result",
        outputs=tuple(outputs),
        where=work.where,
    )


def _slot(work: Work, slot: Slot) -> str:
    return "".join(_piece(work, part) for part in slot.value)


def _piece(work: Work, value: str | StageRef) -> str:
    if isinstance(value, str):
        return value
    if value.stage == work.stage.name:
        return f"{work.folder}/result"
    return work.places.result(value)


def _shell_inputs(work: Work) -> list[str]:
    items = work.stage.settings.items("inputs")
    return [str(item.options["path"]) for item in items if isinstance(item, Term) and item.name == "file"]

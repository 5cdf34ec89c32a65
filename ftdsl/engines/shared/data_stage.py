"""Data stages: rows read, checked, cleaned, mixed, split and written engine-ready by `runtime/data/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.shared import overlay
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.scratch import needed_by
from ftdsl.engines.shared.shell_stage import env_of
from ftdsl.engines.shared.sources import beside, works
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, Range, StageRef, Term
from ftdsl.recipe.shape import PAIRS, Shape, first_row, settings_of, shape_of

Spec = dict[str, Any]
_OPTIONS = ("path", "id", "limit", "sample", "repeat", "weight", "split", "subset", "folder", "revision", "format")
"""What a source of a data stage may say for itself."""
_HUB = ("split", "subset", "folder", "revision")
ALIKE = 0.85
"""The share that counts where `dedupe = near` says none."""


def lower_data(context: StageContext) -> Job:
    """One document, one command."""
    inputs: list[str] = []
    _check_keys(context)
    sources = [source for item in _items(context, "source") if (source := _source(context, "source", item, inputs))]
    shape, kind = _shape(context)
    spec: Spec = {"stage": context.folder, "where": context.where}
    spec |= _format(shape, kind)
    spec |= {"sources": sources, **_cleaning(context, made_up=_made_up(sources))}
    spec |= {"mix": _mix(context, sources), "seed": _seed(context, "seed", context.plan.recipe.seed)}
    spec["holdout"] = _holdout(context, spec["seed"], inputs)
    if media := _media(context, shape, inputs):
        spec["media"] = media
    spec["tokenizer"] = _tokenizer(context, inputs)
    document = Document(f"{context.folder}/data.json", "json", spec)
    return Job(
        key=context.stage.key,
        folder=context.folder,
        kind="data",
        title=f"{shape.format} rows",
        needs=needed_by(context),
        documents=(document,),
        commands=(Command((PYTHON, "-m", "runtime.data", document.path)),),
        env=env_of(context),
        runtime=("data", "events"),
        inputs=tuple(dict.fromkeys(inputs)),
        result=context.folder,
        result_kind="dataset",
        packages=tuple(_packages(spec)),
        where=context.where,
    )


def _packages(spec: Spec) -> Iterator[str]:
    yield from ("orjson", "numpy", "xxhash")
    sources = [
        *spec["sources"],
        *(s for part in spec["holdout"].values() if isinstance(part, dict) for s in part.get("sources", ())),
    ]
    if any("hub" in source for source in sources):
        yield "datasets"
    if any(source.get("path", "").endswith((".parquet", ".zst")) for source in sources):
        yield "pyarrow"
    if spec["dedupe"] == "near":
        yield "rensa"
    if spec.get("languages"):
        yield "py3langid"


# --- where rows come from


def _items(context: StageContext, key: str) -> list[Term | StageRef]:
    items = [item for item in context.stage.settings.items(key) if isinstance(item, Term | StageRef)]
    if key == "source" and not items and key not in context.stage.unknown:
        context.session.sink.error("FT011", f"`{context.stage.name}` has no source", context.stage.span)
    return items


def _source(context: StageContext, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    """A source in the spec's words; None, and said, when it cannot be read."""
    span = context.stage.spans.get(key, context.stage.span)
    place = _place(context, key, item, inputs)
    if place is None:
        return None
    entry: Spec = {**place, "where": context.plan.recipe.where(span)}
    own = settings_of(item) if isinstance(item, Term) else None
    for word in ("limit", "sample", "repeat", "weight"):
        value = own.get(word) if own else None
        value = context.get(word) if value is None and key == "source" else value
        if value is not None:
            entry[word] = overlay.plain(value) if word != "weight" else float(getattr(value, "number", value))
    return entry


def _check_keys(context: StageContext) -> None:
    """Keys of the block that none of its sources can use."""
    sources = _items(context, "source") if context.stage.settings.items("source") else []
    hub = any(isinstance(item, Term) and item.name != "file" for item in sources)
    for word in _HUB:
        if not hub and context.get(word) is not None and context.is_explicit(word) and not _is_shared(context, word):
            context.refuse(word, f"`{word}` is for data sets of a hub, and there is none here", "drop it")
    if context.get("entry") is not None:
        help = "name it in the stage that trains, without a `data` stage"
        context.refuse("entry", "a data stage reads rows, and `entry` names a description of them", help)


def _is_shared(context: StageContext, key: str) -> bool:
    """Whether a key stands at file level, for all stages that can use it."""
    return context.stage.origins[key].kind in ("file", "include")


def _why_at_all(context: StageContext) -> str:
    """Why the engine does not read the rows itself."""
    asked = works(context.stage.settings)
    return f" (`{asked[0]}` asks for a data stage)" if asked else ""


def _place(context: StageContext, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    if isinstance(item, StageRef):
        return {"path": context.paths.rows(item)}
    for word in item.options:
        if word not in _OPTIONS and word != "entry":
            help = f"write `{word}` as a key of the data stage, or give the source a data stage of its own"
            context.refuse(key, f"`{word}` is for all sources of a data stage, not for one", help)
        if word in _HUB and item.name == "file":
            context.refuse(key, f"`{word}` is for data sets of a hub, and this is a file", "drop it")
        if word == "weight" and key != "source":
            context.refuse(key, "rows that are held out are not mixed", "drop `weight`")
    if "entry" in item.options:
        help = "name it in the stage that trains, without a `data` stage"
        context.refuse(
            key, f"a data stage reads rows, and `entry` names a description of them{_why_at_all(context)}", help
        )
    if item.name == "hf":
        said = {word: item.options.get(word, context.get(word)) for word in _HUB}
        return {"hub": "hf", "id": str(item.options["id"]), **{word: value for word, value in said.items() if value}}
    if item.name != "file":
        help = 'download it and write `file("…")`, or let the engine read it: name it in the stage that trains'
        context.refuse(key, f"a data stage cannot read from `{item.name}` yet{_why_at_all(context)}", help)
        return None
    written = str(item.options["path"])
    seen = seen_from_run(written)
    if "://" in seen:
        help = "copy it here first (`aws s3 cp`), or let the engine read it: name it in the stage that trains"
        context.refuse(key, f"a data stage reads files, and `{written}` is an address{_why_at_all(context)}", help)
        return None
    if not written.startswith("run://"):
        inputs.append(written)
    return {"path": seen}


def _made_up(sources: list[Spec]) -> bool:
    """Whether all rows are a smoke run's own."""
    return bool(sources) and all(source.get("path", "").startswith("smoke/") for source in sources)


# --- what rows look like


def _shape(context: StageContext) -> tuple[Shape, str]:
    """The shape of the rows, and the kind of stage that reads them."""
    kind = context.plan.recipe.reader(context.stage)
    items = _items(context, "source") if context.stage.settings.items("source") else []
    settings, row = context.stage.settings, None
    formats = [_format_of(context, item) for item in items]
    for part in ("holdout.eval", "holdout.test"):
        for item in context.stage.settings.items(part):
            own = settings_of(item).name("format") if isinstance(item, Term) else ""
            if own not in ("", "auto", *formats):
                context.refuse(
                    part, f"rows that are held out have the format of the others, not `{own}`", "drop `format`"
                )
    if len(found := {format for format in formats if format}) > 1:
        help = "give each format a data stage of its own; the stage that trains takes several: data = [a, b]"
        context.refuse("source", f"the sources are of several formats: {', '.join(sorted(found))}", help)
    if items:
        row = first_row(items[0], context.plan.recipe.folder, context.session.files)
    if found and context.name("format") in ("", "auto"):
        settings = settings.with_values({"format": Term(min(found))})
    return shape_of(settings, row, kind), kind


def _format_of(context: StageContext, item: Term | StageRef) -> str:
    """The format that a source says, that its stage says, or that its first row shows; "" of what cannot be seen."""
    own = settings_of(item).name("format") if isinstance(item, Term) else ""
    if (said := own or context.name("format")) not in ("", "auto"):
        return said
    row = first_row(item, context.plan.recipe.folder, context.session.files)
    return shape_of(context.stage.settings, row, "sft").format if row is not None else ""


def _format(shape: Shape, kind: str) -> Spec:
    family = "preference-" if kind in PAIRS else "kto-" if kind == "kto" else ""
    return {"format": family + shape.format, "columns": dict(shape.columns), "roles": dict(shape.roles)}


def _media(context: StageContext, shape: Shape, inputs: list[str]) -> str | None:
    """The folder that pictures and sound are seen from: said, or that of the data."""
    said = context.get("media")
    if not {"images", "videos", "audios"} & set(shape.columns):
        if said and not _is_shared(context, "media"):
            help = 'name the column: columns { images = "images" }'
            why = "`media` is for pictures, videos and sound, and no column of these rows is known to hold any"
            context.refuse("media", why, help)
        return None
    return seen_from_run(str(said)) if said else beside(inputs[0]) if inputs else None


# --- what is done with them


def _cleaning(context: StageContext, *, made_up: bool) -> Spec:
    """Rules that leave rows out. Rows a smoke run made up are too much alike, and too short, to be held to them."""
    drop = [overlay.plain(rule) for rule in context.get("drop") or ()]
    longest = _longest(context) if "too_long" in drop else None
    dedupe = context.name("dedupe") or "none"
    if made_up:
        return {"drop": ["bad_roles"], "dedupe": "none"}
    found: Spec = {"drop": [rule for rule in drop if rule != "too_long"], "dedupe": dedupe}
    if dedupe == "near":
        share = context.option("dedupe", "share")
        found["near"] = ALIKE if share is None else float(getattr(share, "number", share))
        if not 0.3 <= found["near"] <= 1:
            context.refuse("dedupe", "rows less than 30% alike are not alike", "write `dedupe = near(85%)`")
    if isinstance(tokens := context.get("tokens"), Range):
        found["tokens"] = [overlay.plain(tokens.low), overlay.plain(tokens.high)]
    if longest:
        found["longest"] = longest
    if languages := context.get("languages"):
        found["languages"] = [overlay.plain(language) for language in languages]
    return found


def _longest(context: StageContext) -> int | None:
    """`max_len` of the stage that reads the rows."""
    lengths = [
        length
        for reader in context.plan.readers(context.stage)
        if isinstance(length := reader.settings.get("max_len"), int)
    ]
    if not lengths:
        context.refuse("drop", "no stage says how long is too long", "write `tokens = 1 .. 4Ki`")
    return min(lengths, default=None)


def _mix(context: StageContext, sources: list[Spec]) -> str:
    mix = context.get("mix")
    weights = [source for source in sources if "weight" in source]
    if weights and len(weights) != len(sources):
        context.refuse("source", "all sources of a mixture have a weight, or none has")
    if mix is None or mix.name == "concat":
        if weights and mix is not None:
            help = "write `mix = interleave(all)`"
            context.refuse("mix", "weights need `interleave`; `concat` takes every row once", help)
        return "all" if weights else "concat"
    until = mix.options.get("until")
    return until.name if isinstance(until, Term) else str(until or "all")


def _seed(context: StageContext, key: str, default: int) -> int:
    said = context.get(key)
    return default if said is None else int(said)


def _holdout(context: StageContext, seed: int, inputs: list[str]) -> Spec:
    found: Spec = {}
    for part in ("eval", "test"):
        value = context.get(f"holdout.{part}")
        if isinstance(value, Amount):
            found[part] = {"share": value.number} if value.unit == "share" else {"count": int(value.number)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[part] = {"share": value} if value < 1 else {"count": int(value)}
        elif value is not None:
            key = f"holdout.{part}"
            named = [source for item in _items(context, key) if (source := _source(context, key, item, inputs))]
            found[part] = {"sources": named}
    if found:
        found["seed"] = _seed(context, "holdout.seed", seed)
    return found


# --- whose tokens count


def _tokenizer(context: StageContext, inputs: list[str]) -> Spec | None:
    """The tokenizer of the model that reads the rows first, by where it can be found."""
    reader = next((reader for reader in context.plan.readers(context.stage) if reader.start), None)
    base = context.plan.origin(reader) if reader else None
    if base is None or isinstance(base, str):
        return {"made_by": base} if base else None
    if base.name == "scratch":
        return {"made_by": "scratch()"}
    if base.name == "file":
        written = str(base.options["path"])
        inputs.append(f"{written}/tokenizer.json")
        return {"path": seen_from_run(written)}
    if base.name != "hf":
        return None
    revision = base.options.get("revision")
    return {"hub": str(base.options["id"]), **({"revision": str(revision)} if revision else {})}

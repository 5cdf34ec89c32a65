"""Data stages: `runtime/data/` reads, checks, cleans, mixes and splits rows, and writes them in the engine's format."""

from __future__ import annotations

import re
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
from ftdsl.recipe.shape import Shape, first_row, own_format, settings_of, shape_of, shape_of_sources

Spec = dict[str, Any]
_OPTIONS = ("path", "id", "limit", "sample", "repeat", "weight", "split", "subset", "folder", "revision", "format")
"""Options that a source of a data stage may have of its own."""
_HUB = ("split", "subset", "folder", "revision")
ALIKE = 0.85
"""The similarity used where `dedupe = near` gives none."""


def lower_data(context: StageContext) -> Job:
    """A job with one document, `data.json`, and one command."""
    inputs: list[str] = []
    _check_keys(context)
    sources = [source for item in _items(context, "source") if (source := _source(context, "source", item, inputs))]
    shape, kind = _shape(context)
    spec: Spec = {"stage": context.folder, "where": context.location}
    spec |= shape.spec(kind)
    _with_own_shape(context, "source", sources, shape, kind)
    spec |= {"sources": sources, **_cleaning(context, made_up=_made_up(sources))}
    spec |= {"mix": _mix(context, sources), "seed": _seed(context, "seed", context.plan.recipe.seed)}
    spec["holdout"] = _holdout(context, spec["seed"], inputs)
    for part in ("eval", "test"):
        if isinstance(held := spec["holdout"].get(part), dict) and "sources" in held:
            _with_own_shape(context, f"holdout.{part}", held["sources"], shape, kind)
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
        location=context.location,
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


# --- sources


def _items(context: StageContext, key: str) -> list[Term | StageRef]:
    items = [item for item in context.stage.settings.items(key) if isinstance(item, Term | StageRef)]
    if key == "source" and not items and key not in context.stage.unknown:
        context.session.sink.error("FT011", f"`{context.stage.name}` has no source", context.stage.span)
    return items


def _source(context: StageContext, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    """A source as the spec has it; None, with an error in the sink, if it cannot be read."""
    span = context.stage.spans.get(key, context.stage.span)
    path_of_rows = _location_spec(context, key, item, inputs)
    if path_of_rows is None:
        return None
    entry: Spec = {**path_of_rows, "where": context.plan.recipe.location(span)}
    own = settings_of(item) if isinstance(item, Term) else None
    for name in ("limit", "sample", "repeat", "weight"):
        value = own.get(name) if own else None
        value = context.get(name) if value is None and key == "source" else value
        if value is not None:
            entry[name] = overlay.plain(value) if name != "weight" else float(getattr(value, "number", value))
    return entry


def _check_keys(context: StageContext) -> None:
    """Keys of the block that none of its sources can use."""
    sources = _items(context, "source") if context.stage.settings.items("source") else []
    hub = any(isinstance(item, Term) and item.name != "file" for item in sources)
    for word in _HUB:
        if not hub and context.get(word) is not None and context.is_explicit(word) and not context.is_shared(word):
            context.refuse(word, f"`{word}` is for data sets of a hub, and there is none here", "drop it")
    if context.get("entry") is not None:
        help = "name it in the stage that trains, without a `data` stage"
        context.refuse("entry", "a data stage reads rows, and `entry` names a description of them", help)


def _why_at_all(context: StageContext) -> str:
    """Why the engine does not read the rows itself."""
    keys = works(context.stage.settings)
    return f" (`{keys[0]}` needs a data stage)" if keys else ""


def _location_spec(context: StageContext, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    if isinstance(item, StageRef):
        return {"path": context.paths.rows(item)}
    for word in item.options:
        if word not in _OPTIONS and word != "entry":
            help = f"write `{word}` as a key of the data stage, or give the source a data stage of its own"
            context.refuse(key, f"`{word}` applies to all sources of a data stage, not to one", help)
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
        hub_options = {option: item.options.get(option, context.get(option)) for option in _HUB}
        return {
            "hub": "hf",
            "id": str(item.options["id"]),
            **{option: value for option, value in hub_options.items() if value},
        }
    if item.name != "file":
        help = (
            'download it and write `file("…")`, or let the engine read it: put it into `data` of the stage that trains'
        )
        context.refuse(key, f"a data stage cannot read from `{item.name}` yet{_why_at_all(context)}", help)
        return None
    written = str(item.options["path"])
    path = seen_from_run(written)
    if "://" in path:
        help = "copy it first (`aws s3 cp`), or let the engine read it: put it into `data` of the stage that trains"
        context.refuse(key, f"a data stage reads local files, not the URL `{written}`{_why_at_all(context)}", help)
        return None
    if not written.startswith("run://"):
        inputs.append(written)
    return {"path": path}


def _made_up(sources: list[Spec]) -> bool:
    """Whether all rows are generated by a smoke run."""
    return bool(sources) and all(source.get("path", "").startswith("smoke/") for source in sources)


# --- the shape of rows


def _shape(context: StageContext) -> tuple[Shape, str]:
    """The shape of the rows, and the kind of stage that reads them."""
    kind = context.plan.recipe.reader(context.stage)
    items = _items(context, "source") if context.stage.settings.items("source") else []
    formats = {format for item in items if (format := _format_of(context, item, kind))}
    for part in ("holdout.eval", "holdout.test"):
        formats |= {format for item in _parts(context, part) if (format := _format_of(context, item, kind))}
    if len(formats) > 1 and "text" in formats:
        help = "give each a data stage of its own; the stage that trains takes several: data = [a, b]"
        context.refuse("source", f"plain text does not mix with other formats: {', '.join(sorted(formats))}", help)
    return shape_of_sources(context.stage.settings, context.plan.recipe.folder, kind, context.session.files), kind


def _parts(context: StageContext, key: str) -> list[Term | StageRef]:
    return [item for item in context.stage.settings.items(key) if isinstance(item, Term | StageRef)]


def _own_shape(context: StageContext, item: Term | StageRef, kind: str) -> Shape | None:
    """The shape of one source; None if nothing is known of its rows."""
    own, settings = own_format(item), context.stage.settings
    row = first_row(item, context.plan.recipe.folder, context.session.files)
    if row is None and not own:
        return None
    return shape_of(settings.with_values({"format": Term(own)}) if own else settings, row, kind)


def _format_of(context: StageContext, item: Term | StageRef, kind: str) -> str:
    shape = _own_shape(context, item, kind)
    return shape.format if shape is not None else ""


def _with_own_shape(context: StageContext, key: str, sources: list[Spec], shape: Shape, kind: str) -> None:
    """Add to a source's entry how its rows are read, where they are not of the shape that is written."""
    for entry, item in zip(sources, _parts(context, key), strict=False):
        own = _own_shape(context, item, kind)
        if own is not None and (own.format != shape.format or own.roles != shape.roles):
            entry |= {"format": own.format, "columns": dict(own.columns), "roles": dict(own.roles)}


def _media(context: StageContext, shape: Shape, inputs: list[str]) -> str | None:
    """The folder that media paths are relative to: `media`, or that of the data."""
    media = context.get("media")
    if not {"images", "videos", "audios"} & set(shape.columns):
        if media and not context.is_shared("media"):
            help = 'name the column: columns { images = "images" }'
            why = "`media` is for images, videos and audio, but no column of these rows holds any"
            context.refuse("media", why, help)
        return None
    return seen_from_run(str(media)) if media else beside(inputs[0]) if inputs else None


# --- cleaning, mixing and splitting


def _cleaning(context: StageContext, *, made_up: bool) -> Spec:
    """Rules that drop rows. Generated rows of a smoke run are too similar and too short for most of them."""
    rules = {rule.name: rule for rule in context.get("drop") or ()}
    drop = list(rules)
    longest = _longest(context) if "too_long" in drop else None
    dedupe = context.name("dedupe") or "none"
    if made_up:
        return {"drop": ["bad_roles"], "dedupe": "none"}
    named = _named_rows(context)
    cleaning: Spec = {"drop": [rule for rule in drop if rule != "too_long"], "dedupe": dedupe}
    at_most = {word: _share(rule.options["at_most"]) for word, rule in rules.items() if "at_most" in rule.options}
    if at_most:
        cleaning["at_most"] = at_most
    if dedupe == "near":
        share = context.option("dedupe", "share")
        cleaning["near"] = ALIKE if share is None else float(getattr(share, "number", share))
        if not 0.3 <= cleaning["near"] <= 1:
            context.refuse("dedupe", "the similarity of `near` is 30% to 100%", "write `dedupe = near(85%)`")
    if isinstance(tokens := context.get("tokens"), Range):
        cleaning["tokens"] = [overlay.plain(tokens.low), overlay.plain(tokens.high)]
    if longest:
        cleaning["longest"] = longest
    if named:
        cleaning["drop_rows"] = named
    if languages := context.get("languages"):
        cleaning["languages"] = [overlay.plain(language) for language in languages]
    return cleaning


def _share(value: Any) -> float:
    return float(getattr(value, "number", value))


_NAMED_ROW = re.compile(
    r"(?P<where>\S.*?(?::\d+)(?:: row \d+)?|\S.*?: row \d+)(?:\s+#(?P<hash>[0-9a-f]{12}))?(?:\s+(?P<reason>[^#\s].*))?"
)


def _named_rows(context: StageContext) -> list[Spec]:
    """`drop_rows` as entries of the spec: where, hash, reason."""
    rows: list[Spec] = []
    for text in context.get("drop_rows") or ():
        match = _NAMED_ROW.fullmatch(str(text).strip())
        if match is None:
            help = (
                'write "data/a.jsonl:212", then the row\'s hash and a reason: "data/a.jsonl:212 #d17027a7c66e garbage"'
            )
            context.refuse("drop_rows", f"`{text}` is no place of a row", help)
            continue
        parts = {name: value for name, value in match.groupdict().items() if value}
        rows.append(parts | {"where": seen_from_run(parts["where"])})
    return rows


def _longest(context: StageContext) -> int | None:
    """`max_len` of the stage that reads the rows."""
    lengths = [
        length
        for reader in context.plan.readers(context.stage)
        if isinstance(length := reader.settings.get("max_len"), int)
    ]
    if not lengths:
        context.refuse(
            "drop", "`too_long` needs the `max_len` of a stage that reads these rows", "write `tokens = 1 .. 4Ki`"
        )
    return min(lengths, default=None)


def _mix(context: StageContext, sources: list[Spec]) -> str:
    mix = context.get("mix")
    weights = [source for source in sources if "weight" in source]
    if weights and len(weights) != len(sources):
        context.refuse(
            "source", "some sources of this mixture have a weight and some have none", "give each a `weight`"
        )
    if mix is None or mix.name == "concat":
        if weights and mix is not None:
            help = "write `mix = interleave(all)`"
            context.refuse("mix", "weights need `interleave`; `concat` takes every row once", help)
        return "all" if weights else "concat"
    until = mix.options.get("until")
    return until.name if isinstance(until, Term) else str(until or "all")


def _seed(context: StageContext, key: str, default: int) -> int:
    seed = context.get(key)
    return default if seed is None else int(seed)


def _holdout(context: StageContext, seed: int, inputs: list[str]) -> Spec:
    holdout: Spec = {}
    for part in ("eval", "test"):
        value = context.get(f"holdout.{part}")
        if isinstance(value, Amount):
            holdout[part] = {"share": value.number} if value.unit == "share" else {"count": int(value.number)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            holdout[part] = {"share": value} if value < 1 else {"count": int(value)}
        elif value is not None:
            key = f"holdout.{part}"
            named = [source for item in _items(context, key) if (source := _source(context, key, item, inputs))]
            holdout[part] = {"sources": named}
    if holdout:
        holdout["seed"] = _seed(context, "holdout.seed", seed)
    return holdout


# --- the tokenizer


def _tokenizer(context: StageContext, inputs: list[str]) -> Spec | None:
    """Where to find the tokenizer of the first model that reads the rows."""
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

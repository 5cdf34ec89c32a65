"""Data stages: rows read, checked, cleaned, mixed, split and written engine-ready by `runtime/data/`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftdsl.engines.jobs import Command, Document, Job
from ftdsl.engines.llamafactory import words
from ftdsl.engines.llamafactory.datasets import beside, works
from ftdsl.engines.llamafactory.parallel import PYTHON
from ftdsl.engines.llamafactory.places import seen_from_run
from ftdsl.engines.llamafactory.scratch import needed_by
from ftdsl.engines.llamafactory.scripting import env_of
from ftdsl.engines.llamafactory.work import Work
from ftdsl.language.values import Amount, Range, StageRef, Term
from ftdsl.recipe.shape import PAIRS, Shape, first_row, settings_of, shape_of

Spec = dict[str, Any]
_OPTIONS = ("path", "id", "limit", "sample", "repeat", "weight", "split", "subset", "folder", "revision", "format")
"""What a source of a data stage may say for itself."""
_HUB = ("split", "subset", "folder", "revision")
ALIKE = 0.85
"""The share that counts where `dedupe = near` says none."""


def lower_data(work: Work) -> Job:
    """One document, one command."""
    inputs: list[str] = []
    _check_keys(work)
    sources = [source for item in _items(work, "source") if (source := _source(work, "source", item, inputs))]
    shape, kind = _shape(work)
    spec: Spec = {"stage": work.folder, "where": work.where}
    spec |= _format(shape, kind)
    spec |= {"sources": sources, **_cleaning(work, made_up=_made_up(sources))}
    spec |= {"mix": _mix(work, sources), "seed": _seed(work, "seed", work.plan.recipe.seed)}
    spec["holdout"] = _holdout(work, spec["seed"], inputs)
    if media := _media(work, shape, inputs):
        spec["media"] = media
    spec["tokenizer"] = _tokenizer(work, inputs)
    document = Document(f"{work.folder}/data.json", "json", spec)
    return Job(
        key=work.stage.key,
        folder=work.folder,
        kind="data",
        title=f"{shape.format} rows",
        needs=needed_by(work),
        documents=(document,),
        commands=(Command((PYTHON, "-m", "runtime.data", document.path)),),
        env=env_of(work),
        runtime=("data",),
        inputs=tuple(dict.fromkeys(inputs)),
        result=work.folder,
        result_kind="dataset",
        packages=tuple(_packages(spec)),
        where=work.where,
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


def _items(work: Work, key: str) -> list[Term | StageRef]:
    items = [item for item in work.stage.settings.items(key) if isinstance(item, Term | StageRef)]
    if key == "source" and not items:
        work.session.sink.error("FT011", f"`{work.stage.name}` has no source", work.stage.span)
    return items


def _source(work: Work, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    """A source in the spec's words; None, and said, when it cannot be read."""
    span = work.stage.spans.get(key, work.stage.span)
    place = _place(work, key, item, inputs)
    if place is None:
        return None
    entry: Spec = {**place, "where": work.plan.recipe.where(span)}
    own = settings_of(item) if isinstance(item, Term) else None
    for word in ("limit", "sample", "repeat", "weight"):
        value = own.get(word) if own else None
        value = work.get(word) if value is None and key == "source" else value
        if value is not None:
            entry[word] = words.plain(value) if word != "weight" else float(getattr(value, "number", value))
    return entry


def _check_keys(work: Work) -> None:
    """Keys of the block that none of its sources can use."""
    sources = _items(work, "source") if work.stage.settings.items("source") else []
    hub = any(isinstance(item, Term) and item.name != "file" for item in sources)
    for word in _HUB:
        if not hub and work.get(word) is not None and work.said(word) and not _is_shared(work, word):
            work.refuse(word, f"`{word}` is for data sets of a hub, and there is none here", "drop it")
    if work.get("entry") is not None:
        help = "name it in the stage that trains, without a `data` stage"
        work.refuse("entry", "a data stage reads rows, and `entry` names a description of them", help)


def _is_shared(work: Work, key: str) -> bool:
    """Whether a key stands at file level, for all stages that can use it."""
    return work.stage.origins[key].kind in ("file", "include")


def _why_at_all(work: Work) -> str:
    """Why the engine does not read the rows itself."""
    asked = works(work.stage.settings)
    return f" (`{asked[0]}` asks for a data stage)" if asked else ""


def _place(work: Work, key: str, item: Term | StageRef, inputs: list[str]) -> Spec | None:
    if isinstance(item, StageRef):
        return {"path": work.places.rows(item)}
    for word in item.options:
        if word not in _OPTIONS and word != "entry":
            help = f"write `{word}` as a key of the data stage, or give the source a data stage of its own"
            work.refuse(key, f"`{word}` is for all sources of a data stage, not for one", help)
        if word in _HUB and item.name == "file":
            work.refuse(key, f"`{word}` is for data sets of a hub, and this is a file", "drop it")
        if word == "weight" and key != "source":
            work.refuse(key, "rows that are held out are not mixed", "drop `weight`")
    if "entry" in item.options:
        help = "name it in the stage that trains, without a `data` stage"
        work.refuse(key, f"a data stage reads rows, and `entry` names a description of them{_why_at_all(work)}", help)
    if item.name == "hf":
        said = {word: item.options.get(word, work.get(word)) for word in _HUB}
        return {"hub": "hf", "id": str(item.options["id"]), **{word: value for word, value in said.items() if value}}
    if item.name != "file":
        help = 'download it and write `file("…")`, or let the engine read it: name it in the stage that trains'
        work.refuse(key, f"a data stage cannot read from `{item.name}` yet{_why_at_all(work)}", help)
        return None
    written = str(item.options["path"])
    seen = seen_from_run(written)
    if "://" in seen:
        help = "copy it here first (`aws s3 cp`), or let the engine read it: name it in the stage that trains"
        work.refuse(key, f"a data stage reads files, and `{written}` is an address{_why_at_all(work)}", help)
        return None
    if not written.startswith("run://"):
        inputs.append(written)
    return {"path": seen}


def _made_up(sources: list[Spec]) -> bool:
    """Whether all rows are a smoke run's own."""
    return bool(sources) and all(source.get("path", "").startswith("smoke/") for source in sources)


# --- what rows look like


def _shape(work: Work) -> tuple[Shape, str]:
    """The shape of the rows, and the kind of stage that reads them."""
    kind = work.plan.recipe.reader(work.stage)
    items = _items(work, "source") if work.stage.settings.items("source") else []
    settings, row = work.stage.settings, None
    formats = [_format_of(work, item) for item in items]
    for part in ("holdout.eval", "holdout.test"):
        for item in work.stage.settings.items(part):
            own = settings_of(item).name("format") if isinstance(item, Term) else ""
            if own not in ("", "auto", *formats):
                work.refuse(part, f"rows that are held out have the format of the others, not `{own}`", "drop `format`")
    if len(found := {format for format in formats if format}) > 1:
        help = "give each format a data stage of its own; the stage that trains takes several: data = [a, b]"
        work.refuse("source", f"the sources are of several formats: {', '.join(sorted(found))}", help)
    if items:
        row = first_row(items[0], work.plan.recipe.folder, work.session.files)
    if found and work.name("format") in ("", "auto"):
        settings = settings.with_values({"format": Term(min(found))})
    return shape_of(settings, row, kind), kind


def _format_of(work: Work, item: Term | StageRef) -> str:
    """The format that a source says, that its stage says, or that its first row shows; "" of what cannot be seen."""
    own = settings_of(item).name("format") if isinstance(item, Term) else ""
    if (said := own or work.name("format")) not in ("", "auto"):
        return said
    row = first_row(item, work.plan.recipe.folder, work.session.files)
    return shape_of(work.stage.settings, row, "sft").format if row is not None else ""


def _format(shape: Shape, kind: str) -> Spec:
    family = "preference-" if kind in PAIRS else "kto-" if kind == "kto" else ""
    return {"format": family + shape.format, "columns": dict(shape.columns), "roles": dict(shape.roles)}


def _media(work: Work, shape: Shape, inputs: list[str]) -> str | None:
    """The folder that pictures and sound are seen from: said, or that of the data."""
    said = work.get("media")
    if not {"images", "videos", "audios"} & set(shape.columns):
        if said and not _is_shared(work, "media"):
            help = 'name the column: columns { images = "images" }'
            why = "`media` is for pictures, videos and sound, and no column of these rows is known to hold any"
            work.refuse("media", why, help)
        return None
    return seen_from_run(str(said)) if said else beside(inputs[0]) if inputs else None


# --- what is done with them


def _cleaning(work: Work, *, made_up: bool) -> Spec:
    """Rules that leave rows out. Rows a smoke run made up are too much alike, and too short, to be held to them."""
    drop = [words.plain(rule) for rule in work.get("drop") or ()]
    longest = _longest(work) if "too_long" in drop else None
    dedupe = work.name("dedupe") or "none"
    if made_up:
        return {"drop": ["bad_roles"], "dedupe": "none"}
    found: Spec = {"drop": [rule for rule in drop if rule != "too_long"], "dedupe": dedupe}
    if dedupe == "near":
        share = work.option("dedupe", "share")
        found["near"] = ALIKE if share is None else float(getattr(share, "number", share))
        if not 0.3 <= found["near"] <= 1:
            work.refuse("dedupe", "rows less than 30% alike are not alike", "write `dedupe = near(85%)`")
    if isinstance(tokens := work.get("tokens"), Range):
        found["tokens"] = [words.plain(tokens.low), words.plain(tokens.high)]
    if longest:
        found["longest"] = longest
    if languages := work.get("languages"):
        found["languages"] = [words.plain(language) for language in languages]
    return found


def _longest(work: Work) -> int | None:
    """`max_len` of the stage that reads the rows."""
    lengths = [
        length for reader in work.plan.readers(work.stage) if isinstance(length := reader.settings.get("max_len"), int)
    ]
    if not lengths:
        work.refuse("drop", "no stage says how long is too long", "write `tokens = 1 .. 4Ki`")
    return min(lengths, default=None)


def _mix(work: Work, sources: list[Spec]) -> str:
    mix = work.get("mix")
    weights = [source for source in sources if "weight" in source]
    if weights and len(weights) != len(sources):
        work.refuse("source", "all sources of a mixture have a weight, or none has")
    if mix is None or mix.name == "concat":
        if weights and mix is not None:
            help = "write `mix = interleave(all)`"
            work.refuse("mix", "weights need `interleave`; `concat` takes every row once", help)
        return "all" if weights else "concat"
    until = mix.options.get("until")
    return until.name if isinstance(until, Term) else str(until or "all")


def _seed(work: Work, key: str, default: int) -> int:
    said = work.get(key)
    return default if said is None else int(said)


def _holdout(work: Work, seed: int, inputs: list[str]) -> Spec:
    found: Spec = {}
    for part in ("eval", "test"):
        value = work.get(f"holdout.{part}")
        if isinstance(value, Amount):
            found[part] = {"share": value.number} if value.unit == "share" else {"count": int(value.number)}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[part] = {"share": value} if value < 1 else {"count": int(value)}
        elif value is not None:
            key = f"holdout.{part}"
            named = [source for item in _items(work, key) if (source := _source(work, key, item, inputs))]
            found[part] = {"sources": named}
    if found:
        found["seed"] = _seed(work, "holdout.seed", seed)
    return found


# --- whose tokens count


def _tokenizer(work: Work, inputs: list[str]) -> Spec | None:
    """The tokenizer of the model that reads the rows first, by where it can be found."""
    reader = next((reader for reader in work.plan.readers(work.stage) if reader.start), None)
    base = work.plan.origin(reader) if reader else None
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

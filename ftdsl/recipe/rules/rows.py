"""The first rows of every local data file: whether they can be read and fit their format, and whether they fit `max_len`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ftdsl.catalog.vocabulary import TRAINING
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.heads import head_of
from ftdsl.recipe.recipe import Recipe, Stage
from ftdsl.recipe.rows import FILES, Look, far_too_long, fewer_than_a_pack, look_at, spec_of_entry, summary
from ftdsl.recipe.rules.data import named, shape_for
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import Shape, files_of, local_path, own_format, settings_of, shape_of, shape_of_sources
from ftdsl.session import Session
from ftdsl.source import Span

_FORMATS = ("alpaca", "sharegpt", "openai", "text")
_HELP = {
    "json": "fix the line, or leave such rows out: drop = [broken(1%)]",
    "missing": 'map the columns: columns { prompt = "…", response = "…" }, or leave such rows out: drop = [broken(1%)]',
    "type": "fix the row, or leave such rows out: drop = [broken(1%)]",
    "roles": 'map the speakers: roles { user = "…" }, or leave such rows out: drop = [bad_roles]',
    "empty": "leave such rows out: drop = [empty]",
    "tools": 'write tools as JSON: [{"name": "…", "description": "…", "parameters": {…}}]',
}
_DIRECT = "a `data` stage can leave such rows out: drop = [broken(1%)]"
_STAGES = {"pretrain": "pt", "reward": "rm"}
"""LLaMA-Factory's names of stages, where they differ."""
Looks = dict[str, list[Look]]


def rows_fit(recipe: Recipe, session: Session) -> None:
    """Rows must be readable and of their stage's format; a data stage's sources are checked at the data stage."""
    if session.elsewhere or recipe.smoke:
        return
    staged: Looks = {}
    for stage in recipe.stages:
        if stage.kind == "data" and not stage.unknown:
            staged[stage.key] = list(_sources_of(recipe, stage, session))
    for stage in recipe.stages:
        if stage.kind in TRAINING:
            _training(recipe, stage, staged, session)


def _sources_of(recipe: Recipe, stage: Stage, session: Session) -> Iterator[Look]:
    kind = recipe.reader(stage)
    shape = shape_of_sources(stage.settings, recipe.folder, kind, session.files)
    if not _is_checked(shape, kind):
        return
    rules = stage.settings.names("drop")
    spec = {**shape.spec(kind), "drop": rules}
    for key in ("source", "holdout.eval", "holdout.test"):
        for source in named(stage.settings, key):
            for file in _files(recipe, source, session):
                own = _own(stage.settings, source, file, kind, session)
                if own.missing:
                    _wrong_format(own, recipe, file, stage, key, session)
                    continue
                source_spec = {"format": own.format, "columns": own.columns, "roles": own.roles}
                look = look_at(file, session.files, spec, source=source_spec)
                _report(look, recipe, stage, key, session, skips="broken" in rules)
                if key == "source":
                    yield look


def _is_checked(shape: Shape, kind: str) -> bool:
    """Whether the rows are of a known format and, by the first, of the right one: else it is FT502."""
    return shape.format in _FORMATS and not shape.missing and (shape.format == "text") == (kind == "pretrain")


def _files(recipe: Recipe, source: Term | StageRef, session: Session) -> list[Path]:
    path = local_path(source, recipe.folder)
    return files_of(path, recipe.folder, session.files)[:FILES] if path is not None else []


def _own(settings: Settings, source: Term | StageRef, file: Path, kind: str, session: Session) -> Shape:
    """The shape of one source of a data stage, which may differ from that of the rows that are written."""
    name = own_format(source)
    head = head_of(file, session.files, rows=1)
    row = next((row for _, row in head.rows if isinstance(row, dict)), None) if not head.trouble else None
    return shape_of(settings.with_values({"format": Term(name)}) if name else settings, row, kind)


def _wrong_format(own: Shape, recipe: Recipe, file: Path, stage: Stage, key: str, session: Session) -> None:
    """The columns of a source are not those of the format that it names, or that the other sources have."""
    name = _name(file, recipe.folder)
    span = _inside(stage.spans.get(key, stage.span), name)
    missing = ", ".join(f"`{column}`" for column in own.missing)
    label = f"they have {', '.join(f'`{column}`' for column in list(own.row or {})[:8])}"
    text = f"{name}: rows in the {own.format} format need {missing}"
    session.sink.error("FT502", text, span, label=label, help='map the columns: columns { prompt = "…" }')


def _training(recipe: Recipe, stage: Stage, staged: Looks, session: Session) -> None:
    looks: list[Look] = []
    items = [("data", item) for item in named(stage.settings, "data")]
    items += [("evaluate.data", item) for item in named(stage.settings, "evaluate.data")]
    is_local = len(items) > 0
    for key, item in items:
        if isinstance(item, StageRef):
            looks += staged.get(item.key, ()) if key == "data" else ()
            is_local = is_local and (key != "data" or _is_all(recipe, recipe.find(item.key), session))
            continue
        if "entry" in item.options:
            is_local = False
            looks += _entry(recipe, item, stage, key, session)
            continue
        shape = shape_for(recipe, item, stage.kind, session)
        if shape is None or not _is_checked(shape, stage.kind) or shape.is_converted:
            is_local = False
            continue
        files = _files(recipe, item, session)
        is_local = is_local and (bool(files) or key != "data")
        for file in files:
            look = look_at(file, session.files, shape.spec(stage.kind), convert=False)
            _report(look, recipe, stage, key, session)
            looks += [look] if key == "data" else []
    _lengths(stage, looks, session, is_all=is_local)


def _is_all(recipe: Recipe, stage: Stage | None, session: Session) -> bool:
    """Whether the rows of a data stage are those of its local files, each once at most."""
    sources = list(named(stage.settings, "source")) if stage is not None and stage.kind == "data" else []
    settings = [stage.settings] if stage is not None else []
    settings += [settings_of(source) for source in sources if isinstance(source, Term)]
    several = any(entry.values.get(key) is not None for entry in settings for key in ("repeat", "sample", "weight"))
    return bool(sources) and not several and all(0 < len(_files(recipe, source, session)) < FILES for source in sources)


def _entry(recipe: Recipe, item: Term, stage: Stage, key: str, session: Session) -> list[Look]:
    """The rows of an entry of a dataset_info.json: the engine reads them by what the entry says."""
    info = local_path(item, recipe.folder)
    try:
        entry = session.files.json(info)[str(item.options["entry"])] if info is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if info is None or not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str):
        return []
    spec = spec_of_entry(entry, _STAGES.get(stage.kind, stage.kind))
    if spec is None:
        return []
    files = files_of(info.parent / entry["file_name"], recipe.folder, session.files)[:FILES]
    looks = [look_at(file, session.files, spec, convert=False) for file in files]
    for look in looks:
        _report(look, recipe, stage, key, session)
    return looks if key == "data" else []


def _report(look: Look, recipe: Recipe, stage: Stage, key: str, session: Session, *, skips: bool = False) -> None:
    """One message a file: it cannot be read, rows stop the run, or the engine passes over some without an error."""
    name = _name(look.path, recipe.folder)
    span = _inside(stage.spans.get(key, stage.span), name)
    staged = stage.kind == "data"
    if unreadable := look.of("file"):
        session.sink.error("FT527", summary(look, unreadable, name), span)
    elif stops := [] if skips else look.problems if staged else look.stops:
        help = _HELP.get(stops[0].kind, "") if staged else _DIRECT
        session.sink.error("FT511", summary(look, stops, name), span, help=help)
    elif len(look.dropped) == look.rows > 0:
        first = look.dropped[0]
        text = f"{summary(look, look.dropped, name)}, and `{first.kind}` leaves them out: no row is left"
        session.sink.error("FT511", text, span, help=_HELP["roles" if first.kind == "bad_roles" else "empty"])
    elif look.dropped and staged and not _is_explicit(stage, "drop"):
        text = f"{summary(look, look.dropped, name)}, and left out"
        session.sink.warning(
            "FT525", text, span, help="name it: drop = [bad_roles], or drop = [bad_roles(1%)] for 1 % at most"
        )
    elif look.problems and not staged:
        empty = look.problems[0].kind == "empty"
        does = "the engine trains on such rows" if empty else "the engine leaves such rows out without counting them"
        help = f"a `data` stage leaves them out and counts them: drop = [{'empty' if empty else 'bad_roles'}]"
        session.sink.warning("FT525", f"{summary(look, look.problems, name)}; {does}", span, help=help)


def _is_explicit(stage: Stage, key: str) -> bool:
    return key in stage.origins and stage.origins[key].kind not in ("auto", "default")


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()


def _inside(span: Span, name: str) -> Span:
    at = span.text.find(name)
    return Span(span.source, span.start + at, span.start + at + len(name)) if at >= 0 else span


def _lengths(stage: Stage, looks: list[Look], session: Session, *, is_all: bool) -> None:
    """Against `max_len`, by bytes: rows that are far too long, and too few to fill one pack. is_all: no other data is read."""
    limit = stage.settings.get("max_len")
    if not isinstance(limit, int) or "max_len" in stage.unknown:
        return
    span = stage.spans.get("max_len", stage.span)
    packing = stage.settings.get("packing")
    packs = packing is not False and (packing is not None or stage.kind == "pretrain")
    rows = sum(len(look.lengths) for look in looks)
    long = sum(far_too_long(look, limit) for look in looks)
    if long > 0.05 * rows and not packs:
        text = f"{long:,} of the {'' if is_all else 'first '}{rows:,} rows are much longer than {limit:,} tokens, and are cut"
        session.sink.warning(
            "FT505", text, span, help="raise `max_len`, or write `drop = [too_long]` in a `data` stage"
        )
    elif is_all and packs and stage.kind == "pretrain" and fewer_than_a_pack(looks, limit):
        text = f"all {rows:,} rows together are shorter than one pack of {limit:,} tokens: there is nothing to train on"
        session.sink.error("FT526", text, span, help="lower `max_len`, or write `packing = false`")

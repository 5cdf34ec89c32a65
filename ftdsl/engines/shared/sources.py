"""The data a stage reads, independent of the engine: sources, which of them the engine reads itself, the shape of rows."""

from __future__ import annotations

import posixpath
import re
from pathlib import PurePosixPath

from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.plan.plan import Plan
from ftdsl.recipe.heads import PACKED
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import Shape, first_row, only_source, settings_of, shape_of, shape_of_sources, with_own_options
from ftdsl.session import Session

CLOUDS = ("s3://", "gs://", "gcs://")
"""URLs that the engine reads itself (llamafactory/data/data_utils.py, read_cloud_json)."""

OURS = ("limit", "revision", "dedupe", "drop", "drop_rows", "tokens", "languages", "holdout.eval", "holdout.test")
"""Keys that only a data stage of ftdsl can carry out."""


def works(settings: Settings) -> list[str]:
    """What a data stage with one source is asked to do that only it can, by the keys that ask for it."""
    settings = with_own_options(settings)
    keys = [key for key in OURS if settings.values.get(key) is not None]
    return [key for key in keys if key != "dedupe"] + ["dedupe"] * (settings.name("dedupe") not in ("", "none"))


def passes_through(settings: Settings) -> Term | None:
    """The source of a data stage that has nothing to do: rows of a hub or a cloud, which go to the engine as they are."""
    source = only_source(settings)
    if source is None:
        return None
    if source.name == "file" and not str(source.options["path"]).startswith(CLOUDS):
        return None
    return None if works(settings) else source


def first_source(settings: Settings) -> Term | StageRef | None:
    return next((item for item in settings.items("source") if isinstance(item, Term | StageRef)), None)


def name_of(item: Term) -> str:
    """A readable name of a source, without characters that separate names."""
    source = str(item.options.get("path") or item.options.get("id") or item.name)
    stem = PurePosixPath(source).stem if item.name == "file" else source
    return re.sub(r"[^\w.-]+", "_", stem).strip("_.") or "data"


def beside(written: str) -> str:
    """The folder of one of the recipe's files, relative to the run folder."""
    return posixpath.dirname(seen_from_run(written)) or "."


def settings_in(plan: Plan, item: Term | StageRef) -> Settings:
    """What is set for a data set: in its own function, or in its data stage."""
    return settings_of(item) if isinstance(item, Term) else with_own_options(plan.stage(item.key).stage.settings)


def refuse_unreadable(context: StageContext, item: Term | StageRef, key: str) -> None:
    """Refuse a file of a training stage, or rows in it, that engines do not read and a data stage does."""
    if not isinstance(item, Term) or item.name != "file" or "entry" in item.options:
        return
    written, engine = str(item.options["path"]), context.engine.title
    help = f'put it into a `data` stage: data rows {{ source = file("{written}") }}, and `data = rows` here'
    if written.startswith(CLOUDS):
        return
    if (suffix := PurePosixPath(written).suffix) in PACKED:
        context.refuse(key, f"{engine} reads no `{suffix}` files", help)
    elif shape_in(context.plan, item, context.stage.kind, context.session).is_converted:
        layout = "messages in other columns, content parts, or `tools` as a list"
        context.refuse(key, f"{engine} does not read rows of this layout ({layout}); a data stage converts them", help)


def shape_in(plan: Plan, item: Term | StageRef, kind: str, session: Session) -> Shape:
    """The shape of a data set's rows for a stage of that kind."""
    settings = settings_in(plan, item)
    if isinstance(item, Term):
        return shape_of(settings, first_row(item, plan.recipe.folder, session.files), kind)
    return shape_of_sources(settings, plan.recipe.folder, kind, session.files)

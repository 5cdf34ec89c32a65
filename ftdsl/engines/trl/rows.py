"""The document's `data` block: the rows of a stage, as ftdsl's runtime reads them (runtime/tuning/sources.py)."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from ftdsl.engines.shared import chat_format
from ftdsl.engines.shared.mixing import held_out, mixture
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.sources import CLOUDS, OURS, passes_through, refuse_unreadable, settings_in, shape_in
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.record import mutable

_OPTIONS = ("split", "subset", "folder", "revision", "sample", "repeat")
_MEDIA = ("images", "videos", "audios")


@mutable
class Rows:
    """Collects the sources of a stage. inputs: files of the recipe's folder that are read."""

    context: StageContext
    inputs: list[str] = field(default_factory=list)

    def sources(self, key: str) -> list[dict[str, Any]]:
        """The sources at `data` or `evaluate.data`."""
        items = [item for item in self.context.stage.settings.items(key) if isinstance(item, Term | StageRef)]
        return [source for item in items if (source := self._source(item, key))]

    def _source(self, item: Term | StageRef, key: str) -> dict[str, Any]:
        plan, kind = self.context.plan, self.context.stage.kind
        settings = settings_in(plan, item)
        rows = item if isinstance(item, Term) else passes_through(plan.stage(item.key).stage.settings)
        source: dict[str, Any] = {}
        if rows is not None:
            source = self._outside(rows, settings, key)
        elif isinstance(item, StageRef):
            source["file"] = self.context.paths.rows(item)
        if isinstance(item, Term) and (ours := [name for name in OURS if settings.values.get(name) is not None]):
            title = self.context.engine.title
            help = "put the source into a `data` stage of its own"
            self.context.refuse(key, f"{title} has no `{ours[0]}` for one data set", help)
        refuse_unreadable(self.context, item, key)
        shape = shape_in(plan, item, kind, self.context.session)
        if media := [part for part in (*_MEDIA, "tools") if part in shape.columns]:
            why = f"{self.context.engine.title} stages read text: this data has {', '.join(media)}"
            self.context.refuse(key, why, "train this stage on LLaMA-Factory, or drop the columns")
        source["format"] = {"openai": "sharegpt", "text": "alpaca"}.get(shape.format, shape.format)
        source["columns"] = dict(shape.columns)
        return source | ({"roles": dict(shape.roles)} if shape.roles else {})

    def _outside(self, item: Term, settings: Settings, key: str) -> dict[str, Any]:
        """A file or a hub's data set that the stage reads itself."""
        source: dict[str, Any] = {}
        if item.name == "file":
            written = str(item.options["path"])
            if written.startswith(CLOUDS) or "entry" in item.options:
                why = f"{self.context.engine.title} stages read files and data sets of the Hugging Face hub"
                self.context.refuse(key, why, "read it in a `data` stage")
            if not written.startswith("run://"):
                self.inputs.append(written)
            source["file"] = seen_from_run(written)
        elif item.name == "hf":
            source["hub"] = str(item.options["id"])
        else:
            why = f"{self.context.engine.title} stages do not read from `{item.name}()`"
            self.context.refuse(key, why, "read it in a `data` stage")
        return source | {name: value for name in _OPTIONS if (value := settings.get(name)) is not None}


def block(context: StageContext, rows: Rows) -> dict[str, Any]:
    """`data`: kind, sources, mixture, held-out rows, chat format, and which tokens count."""
    kind, seed = context.stage.kind, context.get("seed")
    train = rows.sources("data")
    if kind == "eval":  # plain text is scored as in pretraining, answers as in SFT
        kind = "pretrain" if train and all(set(source["columns"]) == {"prompt"} for source in train) else "sft"
    data: dict[str, Any] = {"kind": kind, "train": train, "seed": 42 if seed is None else seed}
    data |= _mix(context)
    if (held := held_out(context)) is not None:
        data["held_out"] = held
    elif context.get("evaluate.data"):
        data["eval"] = rows.sources("evaluate.data")
    if (limit := context.get("limit")) is not None:
        data["limit"] = int(limit)
    if (processes := context.get("loader.tokenize")) and processes > 1:
        data["processes"] = int(processes)
    if template := chat_format.spec(context):
        data["template"] = template
    if context.stage.kind == "sft" and context.name("train_on"):
        data["train_on"] = context.name("train_on")
    if kind == "pretrain" and context.get("packing") is not False:
        data["packing"] = "wrapped"
    return data


def _mix(context: StageContext) -> dict[str, Any]:
    """How several sources are mixed; weights of the sources themselves."""
    items = [item for item in context.stage.settings.items("data") if isinstance(item, Term | StageRef)]
    weights = [settings_in(context.plan, item).get("weight") for item in items]
    given = [float(getattr(weight, "number", weight)) for weight in weights if weight is not None]
    mixed = mixture(context, len(weights), given)
    if mixed is None:
        return {}
    until, parts = mixed
    return {"mix": until} | ({"weights": [round(share, 6) for share in parts]} if parts else {})

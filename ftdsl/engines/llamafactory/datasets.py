"""Data sets of a stage: entries of `dataset_info.json`, and the parameters that name them.

Columns and roles are always written in full: as soon as one is given, LLaMA-Factory ignores the defaults of the others
(llamafactory/data/parser.py, DatasetAttr.join).
"""

from __future__ import annotations

import os.path
from dataclasses import field
from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.shared.mixing import held_out, mixture
from ftdsl.engines.shared.run_paths import seen_from_run
from ftdsl.engines.shared.sources import (
    CLOUDS,
    OURS,
    beside,
    first_source,
    name_of,
    passes_through,
    refuse_unreadable,
    settings_in,
    shape_in,
)
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.language.values import Amount, StageRef, Term
from ftdsl.recipe.settings import Settings
from ftdsl.recipe.shape import PAIRS, Shape
from ftdsl.record import mutable

_PARTS = {"label": "kto_tag"}
_TAGS = {"role": "role_tag", "content": "content_tag", "user": "user_tag", "assistant": "assistant_tag",
         "tool": "observation_tag", "call": "function_tag", "system": "system_tag"}  # fmt: skip

_DESCRIBED = {"split": "split", "subset": "subset", "folder": "folder", "sample": "num_samples", "format": ""}
"""Options of a source -> their names in dataset_info.json; `format` is handled with the columns."""


@mutable
class Datasets:
    """Collects the data sets of one stage.

    entries: of dataset_info.json, by name, in order; inputs: files of the recipe's folder that are read; media: folders that
    paths of images, videos and audio are relative to; remote: hub repositories that have their own dataset_info.json.
    """

    context: StageContext
    entries: dict[str, Any] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    media: set[str] = field(default_factory=set)
    remote: set[str] = field(default_factory=set)

    @property
    def folder(self) -> str:
        """`dataset_dir`: the stage's folder, or a hub repository that has its own dataset_info.json."""
        if self.remote and (self.entries or len(self.remote) > 1):
            why = "LLaMA-Factory takes all data sets of a stage from one dataset_info.json"
            self.context.refuse("data", why, "name `entry`s of one repository only, or its data sets by their own ids")
        return f"REMOTE:{min(self.remote)}" if self.remote else self.context.folder

    def names(self, key: str, *, mixed: bool = True) -> tuple[list[str], list[float]]:
        """The data sets at a key, with the weights of a mixture (empty without). `mixed`: they can be one."""
        names: list[str] = []
        weights: list[float] = []
        for item in self.context.stage.settings.items(key):
            if not isinstance(item, Term | StageRef):
                continue
            settings, rows = settings_in(self.context.plan, item), self._rows(item)
            if isinstance(item, Term) and not mixed and settings.get("weight") is not None:
                self._refuse(item, "weight", key, "rows that are only scored are not mixed", "drop `weight`")
            if rows is not None and rows.name == "hf" and settings.get("entry") is not None:
                added = self._remote(item, rows, settings, key)
            else:
                name, entry = self._entry(item, rows, settings, key)
                added = []
                for _ in range(settings.get("repeat") or 1 if rows is not None else 1):
                    added.append(self._unique(name, entry))
                    self.entries[added[-1]] = entry
            names += added
            if (weight := settings.get("weight")) is not None:
                weights += [float(weight.number if isinstance(weight, Amount) else weight)] * len(added)
        return names, weights

    def _remote(self, item: Term | StageRef, rows: Term, settings: Settings, key: str) -> list[str]:
        """Data sets described completely by a repository's own dataset_info.json."""
        self.remote.add(str(rows.options["id"]))
        entries = list(map(str, settings.items("entry")))
        conflicting = [
            word for word in (*OURS, *_DESCRIBED, "repeat", "media") if settings.values.get(word) is not None
        ]
        conflicting += [block for block in ("columns", "roles") if settings.inside(block)]
        if settings.get("weight") is not None and len(entries) > 1:
            conflicting.append("weight")
        for word in conflicting:
            why = f"`entry` uses the repository's own dataset_info.json, which replaces `{word}`"
            self._refuse(item, word, key, why, "drop one of them")
        return entries

    def _refuse(self, item: Term | StageRef, word: str, key: str, why: str, help: str = "") -> None:
        """Report at the key: in the stage, or in the data stage whose rows go to the engine unchanged."""
        if isinstance(item, Term):
            self.context.refuse(key, why, help)
            return
        stage = self.context.plan.stage(item.key).stage
        self.context.session.sink.error(
            "FT012", why, stage.spans.get(word) or stage.spans.get("source") or stage.span, help=help
        )

    def _rows(self, item: Term | StageRef) -> Term | None:
        """The source that the engine itself reads; None where a data stage writes the rows."""
        return item if isinstance(item, Term) else passes_through(self.context.plan.stage(item.key).stage.settings)

    def _unique(self, name: str, entry: Any) -> str:
        """A new name: the engine reads a name only once, so a repeated data set needs an entry of its own."""
        number, unique = 1, name
        while unique in self.entries:
            number += 1
            unique = f"{name}-{number}"
        return unique

    def _entry(
        self, item: Term | StageRef, rows: Term | None, settings: Settings, key: str
    ) -> tuple[str, dict[str, Any]]:
        if isinstance(item, StageRef):
            name = f"{item.stage}.{item.part}" if item.part else item.stage
            if rows is None:
                entry = {"file_name": self._from_here(self.context.paths.rows(item))}
                return name, entry | self._shape(item)
            return name, self._source(rows, settings, key) | self._shape(item)
        for option in OURS:
            if settings.values.get(option) is not None:
                why = f"LLaMA-Factory has no `{option}` for one data set"
                self.context.refuse(key, why, "put the source into a `data` stage of its own")
        if item.name == "file" and "entry" in item.options:
            return self._existing(item, settings, key)
        refuse_unreadable(self.context, item, key)
        return name_of(item), self._source(item, settings, key) | self._shape(item)

    def _source(self, item: Term, settings: Settings, key: str) -> dict[str, Any]:
        """Where the rows come from, in the format of dataset_info.json."""
        options = item.options
        if item.name == "file":
            written = str(options["path"])
            path = seen_from_run(written)
            if path.startswith(CLOUDS):
                entry: dict[str, Any] = {"cloud_file_name": path}
            else:
                if not written.startswith("run://"):
                    self.inputs.append(written)
                entry = {"file_name": self._from_here(path)}
        else:
            entry = {"hf_hub_url" if item.name == "hf" else "ms_hub_url": str(options["id"])}
        if settings.get("entry") is not None:  # of a hub's own dataset_info.json, or of one that is a file
            self.context.refuse(
                key, f"`{item.name}()` has no `entry`: it is for `hf()`, and for a dataset_info.json", "drop it"
            )
        return entry | _described(settings)

    def _from_here(self, path: str) -> str:
        """A path of the run folder, relative to the stage's folder, which has dataset_info.json."""
        if path.startswith("/") or "://" in path:
            return path
        inside = path.removeprefix("inputs/")  # a link: what follows it, `..` too, is the file system's to follow
        here = os.path.relpath("inputs" if inside != path else path, self.context.folder).replace(os.sep, "/")
        return f"{here}/{inside}" if inside != path else here

    def _existing(self, item: Term, settings: Settings, key: str) -> tuple[str, dict[str, Any]]:
        """An entry of a dataset_info.json the author has: copied, with its file seen from here."""
        written, name = str(item.options["path"]), str(item.options["entry"])
        path = self.context.plan.recipe.folder / written
        try:
            existing = self.context.session.files.json(path)[name]
        except FileNotFoundError:  # reported already: FT501
            existing = None
        except (OSError, ValueError, KeyError, TypeError):
            self.context.refuse(key, f"`{written}` has no entry `{name}`")
            return name, {}
        entry = dict(existing) if isinstance(existing, dict) else {}
        if isinstance(file := entry.get("file_name"), str):
            beside = str(PurePosixPath(written).parent / file)
            self.inputs.append(beside)
            entry["file_name"] = self._from_here(seen_from_run(beside))
        if "format" in item.options:
            self.context.refuse(key, f"`{name}` has a description of its rows, which replaces `format`", "drop it")
        if media := settings.get("media"):
            self.media |= {seen_from_run(str(media))}
        return name, entry | _described(settings)

    def _shape(self, item: Term | StageRef) -> dict[str, Any]:
        shape = shape_in(self.context.plan, item, self.context.stage.kind, self.context.session)
        seeing = bool({"images", "videos", "audios"} & set(shape.columns)) or settings_in(self.context.plan, item).get(
            "media"
        )
        if seeing and (folder := self._media(item)):
            self.media |= {folder}
        return dataset_entry(shape, self.context.stage.kind)

    def _media(self, item: Term | StageRef) -> str | None:
        """The folder that media paths are relative to: `media`, else the folder of the rows' file; hub rows hold their media."""
        settings = settings_in(self.context.plan, item)
        source = first_source(settings) if isinstance(item, StageRef) else item
        if folder := settings.get("media"):
            return seen_from_run(str(folder))
        written = str(source.options["path"]) if isinstance(source, Term) and source.name == "file" else ""
        return beside(written) if written and "://" not in written else None


def dataset_entry(shape: Shape, kind: str) -> dict[str, Any]:
    """Format, ranking, columns and tags in the format of dataset_info.json."""
    entry: dict[str, Any] = {"formatting": _formatting(shape)}
    if kind in PAIRS:
        entry["ranking"] = True
    entry["columns"] = {_PARTS.get(part, part): column for part, column in shape.columns.items()}
    if shape.roles:
        entry["tags"] = {_TAGS[role]: value for role, value in shape.roles.items()}
    return entry


def _formatting(shape: Shape) -> str:
    """The engine's `openai` converter writes "detailed thinking off" into the system prompt of every row without tools
    (llamafactory/data/converter.py:343, 0.9.5). Its `sharegpt` converter, with the roles given, reads the same rows unchanged;
    only tool calls, which it does not support, need `openai`.
    """
    if shape.format == "openai":
        turns = (shape.row or {}).get(shape.columns.get("messages", "")) or ()
        calls = any(isinstance(turn, dict) and turn.get("tool_calls") for turn in turns)
        return "openai" if calls or "tools" in shape.columns else "sharegpt"
    return "alpaca" if shape.format == "text" else shape.format


def _described(settings: Settings) -> dict[str, Any]:
    """Options of a source, as dataset_info.json has them."""
    return {name: value for key, name in _DESCRIBED.items() if name and (value := settings.get(key)) is not None}


def training(context: StageContext, datasets: Datasets) -> dict[str, Any]:
    """`dataset`, the mixing of several, and the evaluation data."""
    names, weights = datasets.names("data")
    params: dict[str, Any] = {"dataset": ",".join(names), "dataset_dir": context.folder}
    params |= _mix(context, names, weights)
    if (held := held_out(context)) is not None:
        params["val_size"] = held
    elif context.get("evaluate.data"):
        params["eval_dataset"] = ",".join(datasets.names("evaluate.data", mixed=False)[0])
    params |= media(context, datasets)
    params["dataset_dir"] = datasets.folder
    return params


def media(context: StageContext, datasets: Datasets) -> dict[str, Any]:
    """`media_dir`, one for all data sets; without it, media paths are relative to dataset_info.json."""
    if len(datasets.media) > 1:
        folders = ", ".join(sorted(datasets.media))
        context.refuse("data", f"LLaMA-Factory takes one `media` folder per stage; this stage has several: {folders}")
    return {"media_dir": min(datasets.media)} if datasets.media else {}


_MIXES = {"first": "interleave_under", "all": "interleave_over", "once": "interleave_once"}


def _mix(context: StageContext, names: list[str], weights: list[float]) -> dict[str, Any]:
    mixed = mixture(context, len(names), weights)
    if mixed is None:
        return {}
    until, parts = mixed
    shares = {"interleave_probs": ",".join(f"{share:.6g}" for share in parts)} if parts else {}
    return {"mix_strategy": _MIXES[until], **shares}

"""Data sets read backwards: entries of dataset_info.json become `file(…)` and `hf(…)` where these are equivalent.

An entry with more (columns or roles that the rows do not show) is referred to by name:
`file("data/dataset_info.json", entry = "identity")`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ftdsl.engines.llamafactory.datasets import dataset_entry
from ftdsl.engines.shared.existing_entries import read_json
from ftdsl.importers.beside import INFO
from ftdsl.importers.draft import Note, StageDraft
from ftdsl.importers.recognise import LOCATION_KEYS
from ftdsl.importers.values import number
from ftdsl.language.values import Amount, Term
from ftdsl.recipe.shape import first_row, settings_of, shape_of

COLUMNS = ("prompt", "query", "response", "history", "messages", "system", "tools", "images", "videos", "audios", "chosen",
           "rejected", "kto_tag")  # fmt: skip
_COLUMN_DEFAULTS = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
_TAG_DEFAULTS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
                 "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system"}  # fmt: skip


def dataset(draft: StageDraft) -> None:
    """What is trained on, and for an `eval` stage what is answered."""
    key = "eval_dataset" if draft.kind == "eval" and draft.given("eval_dataset") else "dataset"
    draft.used.update(("dataset", "dataset_dir", "interleave_probs", "mix_strategy", "media_dir"))
    if key == "eval_dataset":
        draft.used.add("eval_dataset")
    names = draft.config.items(key)
    if not names:
        return
    sources = _together([source(draft, name) for name in names])
    if draft.kind == "eval" and key == "dataset" and (held := draft.setting("val_size")) is not None and held.value:
        text = (
            f"the engine answers the rows it holds out (`{held.text}`), this stage all: hold them out in a `data` stage"
        )
        draft.notes.append(Note("rows of do_predict", text, held.key or held.span))
    _weigh(draft, sources)
    draft.set("data", sources)


def eval_data(draft: StageDraft) -> None:
    """A set of its own, or a share of the training data."""
    if not draft.training:
        return
    size = draft.raw("val_size")
    if names := draft.config.items("eval_dataset"):
        draft.used.add("eval_dataset")
        draft.set("evaluate.data", _together([source(draft, name) for name in names]))
    elif size:
        draft.set("evaluate.data", Amount(size, "share" if size < 1 else "count"))


def calibrate(draft: StageDraft) -> None:
    """Rows for quantisation: a file or a hub's data set."""
    where, count = str(draft.raw("export_quantization_dataset") or ""), draft.raw("export_quantization_nsamples")
    if where and draft.kind == "quantize":
        options = {"sample": count} if count is not None else {}
        file = PurePosixPath(where).suffix or draft.paths.files.exists(draft.paths.root / where)
        value = (
            Term("file", {"path": draft.paths.seen(where), **options}) if file else Term("hf", {"id": where, **options})
        )
        draft.set("calibrate", [value])


_MIXES = {"interleave_under": "first", "interleave_over": "all", "interleave_once": "once"}


def _weigh(draft: StageDraft, sources: list[Term]) -> None:
    strategy, shares = str(draft.take("mix_strategy")), draft.config.items("interleave_probs")
    if strategy in _MIXES:
        draft.set("mix", Term("interleave", {"until": Term(_MIXES[strategy])}))
    if shares and strategy == "concat":
        draft.note("interleave_probs", "has no effect without `mix_strategy: interleave_under` or `interleave_over`")
    elif len(shares) == len(sources):
        weights = [number(share) for share in shares]
        if None in weights:
            draft.note("interleave_probs", "has a share that is no number")
            return
        for at, weight in enumerate(weights):
            sources[at] = Term(sources[at].name, {**sources[at].options, "weight": Amount(weight or 0.0, "share")})


def source(draft: StageDraft, name: str) -> Term:
    """One data set by its name in dataset_info.json, with the folder of its images."""
    term, media = _source(draft, name), draft.config.value("media_dir")
    if not isinstance(media, str) or not media:
        return term
    if term.name == "hf" and "entry" in term.options:
        if "media_dir" not in draft.reasons:
            draft.note("media_dir", "rows described by a repository's own dataset_info.json have their images there")
        return term
    return Term(term.name, {**term.options, "media": draft.paths.seen(media)})


def _source(draft: StageDraft, name: str) -> Term:
    folder = draft.config.value("dataset_dir")
    folder = str(folder) if isinstance(folder, str) else "data"
    if folder == "ONLINE":
        return Term("hf", {"id": name})
    if folder.startswith("REMOTE:"):
        return Term("hf", {"id": folder.removeprefix("REMOTE:"), "entry": [name]})
    info = f"{folder.rstrip('/')}/{INFO}"
    by_entry = Term("file", {"path": draft.paths.seen(info), "entry": name})
    known = read_json(draft.paths.root / info, draft.paths.files)
    if isinstance(known, dict) and name not in known:
        draft.reasons |= dict.fromkeys(("dataset", "eval_dataset", "media_dir"), f"`{info}` has no entry `{name}`")
    entry = (known or {}).get(name)
    plain = _plain(draft, entry, folder) if isinstance(entry, dict) else None
    return plain if plain is not None and isinstance(entry, dict) and _same(draft, plain, entry) else by_entry


def _together(sources: list[Term]) -> list[Term]:
    """Entries of one hub's dataset_info.json as one source."""
    entries = [entry for source in sources if source.name == "hf" for entry in source.options.get("entry", ())]
    if len(entries) < 2 or len({source.options.get("id") for source in sources}) > 1:
        return sources
    return [Term("hf", {"id": sources[0].options["id"], "entry": entries})]


def _plain(draft: StageDraft, entry: Mapping[str, Any], folder: str) -> Term | None:
    """The source as a term of the language, as far as path, split and sampling go."""
    options = {"split": entry.get("split"), "subset": entry.get("subset"), "folder": entry.get("folder"),
               "sample": entry.get("num_samples")}  # fmt: skip
    given = {name: value for name, value in options.items() if value is not None}
    if "hf_hub_url" in entry:
        return Term("hf", {"id": str(entry["hf_hub_url"]), **given})
    if "cloud_file_name" in entry:
        return Term("file", {"path": str(entry["cloud_file_name"]), **given})
    if isinstance(entry.get("file_name"), str):
        return Term("file", {"path": draft.paths.seen(posixpath.join(folder.rstrip("/"), entry["file_name"])), **given})
    return None


def _same(draft: StageDraft, term: Term, entry: Mapping[str, Any]) -> bool:
    """Whether our own reading of the source is equivalent to the entry."""
    if any(key in entry for key in LOCATION_KEYS if key != _place_key(term)) and "hf_hub_url" not in entry:
        return False
    row = first_row(term, draft.paths.folder, draft.paths.files)
    if row is None:
        return False
    ours = dataset_entry(shape_of(settings_of(term), row, draft.kind), draft.kind)
    return effective(ours, row) == effective(entry, row)


def _place_key(term: Term) -> str:
    return "hf_hub_url" if term.name == "hf" else "file_name"


def effective(entry: Mapping[str, Any], row: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the engine makes of an entry (llamafactory/data/parser.py, DatasetAttr.join): columns that the rows have not
    read as nothing, so they count as not named; roles count for chats only."""
    columns = entry.get("columns", _COLUMN_DEFAULTS)
    kept = {part: columns.get(part) for part in COLUMNS if columns.get(part) is not None}
    chat = entry.get("formatting", "alpaca") != "alpaca"
    kept = {
        part: name
        for part, name in kept.items()
        if part not in (("prompt", "query", "response") if chat else ("messages",))
    }
    if row is not None:
        kept = {part: name for part, name in kept.items() if name in row}
    tags = entry.get("tags", _TAG_DEFAULTS) if chat else {}
    return {
        "formatting": entry.get("formatting", "alpaca"),
        "ranking": bool(entry.get("ranking")),
        "columns": kept,
        "tags": {name: value for name, value in tags.items() if value},
        **{name: entry.get(name) for name in ("subset", "folder", "num_samples")},
        "split": entry.get("split", "train"),
    }

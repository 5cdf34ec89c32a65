"""The surroundings of a file: the folder the engine would be started in, the data sets it names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftdsl.engines.shared.existing_entries import dataset, read_json
from ftdsl.lint import facts
from ftdsl.lint.config import Dataset, Setting
from ftdsl.session import Files, Session, reason

INFO = "dataset_info.json"


def root_of(path: Path, settings: Mapping[str, Setting], files: Files) -> Path:
    """The folder the engine is started in: the current one, or the nearest folder above the file in which its paths exist."""
    here = Path()
    wanted = [
        str(settings[name].value)
        for name in ("deepspeed",)
        if name in settings and isinstance(settings[name].value, str)
    ]
    folder = settings["dataset_dir"].value if "dataset_dir" in settings else "data"
    if isinstance(folder, str) and ":" not in folder:
        wanted.append(f"{folder}/{INFO}")
    for folder_above in (here, path.parent, *list(path.parent.parents)[:6]):
        if any(files.is_file(folder_above / name) for name in wanted):
            return folder_above
    return here


def around(settings: Mapping[str, Setting], root: Path, files: Files) -> dict[str, Any]:
    """The folders of the model, its adapters and the output, as fields of a Config."""
    model, output = _text(settings, "model_name_or_path"), _text(settings, "output_dir")
    reward = _text(settings, "reward_model") or _text(settings, "reward_model_name_or_path")
    adapters = [
        (name.strip(), root / name.strip())
        for name in _text(settings, "adapter_name_or_path").split(",")
        if name.strip()
    ]
    return {
        "output": facts.lies_in(root / output, files) if output else "",
        "adapter_bases": facts.adapter_bases(adapters, files),
        "adapters_below": facts.adapters_below(adapters, files),
        "adapters_of_parameters": facts.adapters_of_parameters(adapters, files),
        "reward_form": facts.reward_form(root / reward, files) if reward else "",
        "architecture": facts.architecture(model, root / model, files) if model else "",
        "layers": facts.layers(model, root / model, files) if model else 0,
        "window": facts.window(model, root / model, files) if model else 0,
    }


def report_unreadable(settings: Mapping[str, Setting], root: Path, session: Session) -> None:
    """FT050 for existing files that parameters lead to and that are not text: a pipe, a device, a huge file."""
    folder = settings["dataset_dir"].value if "dataset_dir" in settings else "data"
    named: list[tuple[str, Path]] = []
    if isinstance(folder, str) and ":" not in folder:
        if "dataset" in settings:
            _report_no_table(root / folder / INFO, settings["dataset"], session)
        named.append(("dataset_dir" if "dataset_dir" in settings else "dataset", root / folder / INFO))
    if model := _text(settings, "model_name_or_path"):
        named.append(("model_name_or_path", root / model / "config.json"))
    for adapter in filter(None, map(str.strip, _text(settings, "adapter_name_or_path").split(","))):
        adapter_folder = root / adapter
        files = (
            adapter_folder / "adapter_config.json",
            adapter_folder / "training_args.yaml",
            adapter_folder.parent / "train.yaml",
        )
        named += [("adapter_name_or_path", file) for file in files]
    for name, path in named:
        if name in settings and (trouble := session.files.trouble(path)):
            session.sink.error("FT050", f"`{path.as_posix()}` cannot be read: {trouble}", settings[name].span)


def _report_no_table(path: Path, setting: Setting, session: Session) -> None:
    """FT050 for a list of data sets that is no JSON object: the engine finds none in it."""
    if not session.files.is_file(path) or session.files.trouble(path):
        return
    try:
        content = session.files.json(path)
    except (OSError, ValueError) as error:
        text = f"`{path.as_posix()}` cannot be read: {error if isinstance(error, ValueError) else reason(error)}"
        session.sink.error("FT050", text.partition("\n")[0], setting.span)
        return
    if not isinstance(content, dict):
        text = f"`{path.as_posix()}` must be an object, with a key for each data set"
        session.sink.error("FT050", text, setting.span, help='write `{"name": {"file_name": "rows.json"}}`')


def _text(settings: Mapping[str, Setting], name: str) -> str:
    value = settings[name].value if name in settings else None
    return value if isinstance(value, str) else ",".join(map(str, value)) if isinstance(value, list) else ""


def datasets(settings: Mapping[str, Setting], root: Path, files: Files) -> tuple[Dataset, ...]:
    """Every data set that is named, with its entry and the state of its file."""
    return tuple(_datasets(settings, root, files))


def _datasets(settings: Mapping[str, Setting], root: Path, files: Files) -> Iterator[Dataset]:
    folder = settings["dataset_dir"].value if "dataset_dir" in settings else "data"
    if not isinstance(folder, str) or folder == "ONLINE" or folder.startswith("REMOTE:"):
        return
    info = read_json(root / folder / INFO, files)
    stage = str(settings["stage"].value) if "stage" in settings else "sft"
    for key, part in (("dataset", "train"), ("eval_dataset", "eval")):
        setting = settings.get(key)
        if setting is None or not isinstance(setting.value, str | list):
            continue
        names = setting.value if isinstance(setting.value, list) else setting.value.split(",")
        for name in map(str.strip, map(str, names)):
            yield dataset(name, part, info, root / folder, setting, files, stage)

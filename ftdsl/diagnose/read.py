"""What trainings log, as `Curves`: our `metrics.jsonl`, LLaMA-Factory's `trainer_log.jsonl`, the Trainer's `trainer_state.json`,
text that a trainer printed, and folders of these.

Files of any origin: what is not understood is passed over, nothing is executed, and no line makes a reader fail.
"""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftdsl.diagnose.curves import Curves, Series
from ftdsl.diagnose.names import STEPS, in_bytes, named
from ftdsl.diagnose.text import curves_of_text
from ftdsl.runtime import events
from ftdsl.session import LARGE, LIMIT, TooLargeError, is_absent, open_regular

LOG = "log.txt"
STATE, TRAINER_LOG = "trainer_state.json", "trainer_log.jsonl"


class UnreadableError(Exception):
    """A path in which nothing is that could be read as a training: a sentence."""


class CurvesBuilder:
    """Rows of logged numbers, in order, made into curves."""

    def __init__(self) -> None:
        self.loss, self.evals = Series(), Series()
        self.more: dict[str, Series] = {}

    def add(self, step: int, row: Mapping[str, Any]) -> None:
        """A row of one step: every value that is a number, or a text of one."""
        for name, value in named(row).items():
            if (number := measure(_seconds(value) if name == "elapsed" else value)) is None:
                continue
            if name == "loss":
                self.loss.add(step, number)
            elif name == "eval_loss":
                self.evals.add(step, number)
            else:
                if (series := self.more.get(name)) is None:
                    series = self.more[name] = Series()
                series.add(step, in_bytes(number) if name == "memory" else number)

    def add_events(self, rows: list[events.Event]) -> None:
        """Events of a stage of ours: steps and evaluations; a new attempt starts where its steps do."""
        for row in rows:
            metrics = row.get("metrics")
            if row["event"] == "step":
                self.add(row["step"], {**row, **(metrics if isinstance(metrics, dict) else {})})
            elif row["event"] == "eval" and isinstance(metrics, dict) and "step" in row:
                self.add(row["step"], {f"eval_{name}": value for name, value in metrics.items()})

    def curves(self, source: str, config: Mapping[str, Any], stage: str = "") -> Curves:
        return Curves(source, self.loss, self.evals, self.more, config, stage)


def measure(value: object) -> float | None:
    """A number, or a text that stands for one, NaN and infinities too; else None."""
    if isinstance(value, float):
        return value
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_CLOCKS = (
    re.compile(r"(?:(\d+) days?, )?(\d+):(\d\d):(\d\d)"),
    re.compile(r"(?:(\d+)d ?)?(?:(\d+)h ?)?(?:(\d+)m ?)?(\d+)s"),
)


def _seconds(value: object) -> object:
    """`1 day, 2:03:04`, `0:00:12` or `1h 2m 3s` in seconds."""
    match = next((fits for form in _CLOCKS if (fits := form.fullmatch(str(value)))), None)
    if match is None:
        return value
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(days * 86400 + hours * 3600 + minutes * 60 + seconds)


def trainings(path: Path) -> list[Curves]:
    """Every training that a file or folder tells of, in order. Raises: OSError; UnreadableError where there is none."""
    curves = list(_of_folder(path) if path.is_dir() else _of_file(path))
    if not curves:
        what = "no training was logged in this folder" if path.is_dir() else "no training was logged in this file"
        raise UnreadableError(f"{path.as_posix()}: {what}")
    return curves


def _of_folder(folder: Path) -> Iterator[Curves]:
    """A run of ours (a folder a stage), one stage, or an engine's output folder with its checkpoints."""
    for name in (events.METRICS, STATE, TRAINER_LOG):
        if (folder / name).is_file():
            curves = list(_of_file(folder / name))
            if curves:
                yield from curves
                return
    checkpoints = sorted(folder.glob(f"checkpoint-*/{STATE}"), key=_number)
    if checkpoints:
        yield from _of_file(checkpoints[-1])
        return
    below = [subfolder for subfolder in sorted(folder.iterdir()) if subfolder.is_dir() and not subfolder.is_symlink()]
    logged = [
        subfolder
        for subfolder in below
        if any((subfolder / name).is_file() for name in (events.METRICS, STATE, TRAINER_LOG))
    ]
    for subfolder in logged:
        yield from _of_folder(subfolder)
    if not logged:
        for log in sorted(folder.glob("*.log")) + sorted(folder.glob("*.txt")):
            yield from _of_file(log)


def _number(path: Path) -> int:
    text = path.parent.name.rpartition("-")[2]
    return int(text) if text.isdigit() and len(text) < 16 else -1


def _of_file(path: Path) -> Iterator[Curves]:
    content = content_of(path, LARGE)
    config = config_beside(path)
    curves = Curves()
    first = _json(content.strip().partition(b"\n")[0])
    document = _json(content) if path.suffix == ".json" or first is None else None
    if first is not None or document is not None:
        curves = of_document(document, path, config) if isinstance(document, dict) else _of_lines(content, path, config)
    else:
        curves = curves_of_text(content.decode("utf-8", "replace"), path.as_posix(), config)
    if len(curves.loss):
        yield curves


def content_of(path: Path, limit: int = LIMIT) -> bytes:
    """The content of a regular file. Raises: OSError, TooLargeError for more than `limit` bytes."""
    with open_regular(path) as handle:
        content = handle.read(limit + 1)
    if len(content) > limit:
        raise TooLargeError(errno.EFBIG, f"it is larger than {limit >> 20} megabytes", str(path))
    return content


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def of_document(document: Mapping[str, Any], path: Path, config: Mapping[str, Any]) -> Curves:
    """`trainer_state.json` (`log_history`), or `steps` and `evals` with the `config`, as benchmarks/diagnosis.py keeps runs."""
    builder = CurvesBuilder()
    for key in ("log_history", "steps", "evals"):
        rows = document.get(key)
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and (step := _step(row)) is not None:
                builder.add(step, row)
    own = document.get("config")
    return builder.curves(path.as_posix(), own if isinstance(own, dict) else config)


def _step(row: Mapping[str, Any]) -> int | None:
    for name in STEPS:
        value = row.get(name)
        if isinstance(value, str) and (match := _OF_SO_MANY.fullmatch(value)):
            return int(match[1])
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
            return int(value)
    return None


_OF_SO_MANY = re.compile(r"(\d{1,15})/\d{1,15}")
"""`5/100`, as ms-swift writes a step."""


def _of_lines(content: bytes, path: Path, config: Mapping[str, Any]) -> Curves:
    """JSON Lines: our events, LLaMA-Factory's log, or rows of any trainer that say `step`."""
    builder = CurvesBuilder()
    for raw in content.split(b"\n"):
        if not raw.startswith(b"{") or len(raw) > events.LONGEST:
            continue
        try:
            row = json.loads(raw)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict) or (step := _step(row)) is None:
            continue
        metrics = row.get("metrics")
        if row.get("event") == "eval" and isinstance(metrics, dict):
            row = {f"eval_{name}": value for name, value in metrics.items()}
        builder.add(step, row)
    stage = path.parent.name if path.name == events.METRICS else ""
    return builder.curves(path.as_posix(), config, stage)


CONFIGS = ("train.yaml", "training_args.yaml", "train.json")


ADAPTER = "adapter_config.json"


def config_beside(path: Path) -> Mapping[str, Any]:
    """The engine's parameters where they lie beside a log, else what PEFT says of the adapter; {} where neither can be read."""
    return _parameters_beside(path) or _adapter_beside(path)


def _adapter_beside(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(content_of(path.parent / ADAPTER))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        return {"finetuning_type": "prompt"} if isinstance(config, dict) and "num_virtual_tokens" in config else {}
    targets = config.get("target_modules")
    names = ",".join(map(str, targets)) if isinstance(targets, list) else "all"
    return {"finetuning_type": "lora", "lora_rank": config.get("r", 8), "lora_target": names}


def _parameters_beside(path: Path) -> Mapping[str, Any]:
    for name in CONFIGS:
        file = path.parent / name
        if not file.is_file():
            continue
        try:
            text = content_of(file).decode("utf-8")
            config = json.loads(text) if name.endswith(".json") else _yaml(text)
        except (OSError, ValueError, RecursionError) as error:
            if isinstance(error, OSError) and is_absent(error):
                continue
            return {}
        return config if isinstance(config, dict) else {}
    return {}


def _yaml(text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None

"""What goes out with a model: a card with the Hub's metadata, a generation config, a Modelfile; and the upload, at the very end.

Metadata: https://huggingface.co/docs/hub/model-cards. Nothing is made up: licence and intended use are the author's to write.
Standard library; transformers and huggingface_hub where they are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import checkpoints, events
from .report import StageError

CARD, GENERATION, MODELFILE = "README.md", "generation_config.json", "Modelfile"


def complete(model_folder: Path, card: dict[str, Any], *, parent: str = "") -> None:
    """Write what is not there yet. card: what engines/shared/card.py found in the recipe; parent: a folder whose Modelfile and
    generation config also suit this model.
    """
    if card:
        model_folder.joinpath(CARD).write_text("\n".join(_card(card)), encoding="utf-8")
    for name in (GENERATION, MODELFILE):
        if parent and not (model_folder / name).exists() and (source := Path(parent, name)).is_file():
            (model_folder / name).write_bytes(source.read_bytes())
    if not (model_folder / GENERATION).exists() and (model_folder / "config.json").exists():
        from transformers import AutoConfig, GenerationConfig

        try:
            GenerationConfig.from_model_config(AutoConfig.from_pretrained(model_folder)).save_pretrained(model_folder)
        except (ValueError, OSError) as error:  # a model with code of its own
            print(f"no {GENERATION}: {error}", flush=True)


def claim(model_folder: Path, stage: str) -> None:
    """Make a destination the stage's own. Raises: StageError when something lies there that is not a stage's to move."""
    try:
        aside = checkpoints.claim(model_folder, stage)
    except checkpoints.TakenError as error:
        help = "move it away, or name another folder in `to`"
        raise StageError(str(error), "to", help=help, code="FT957") from error
    if aside:
        print(f"{model_folder} held another result; it is now {aside}", flush=True)


def upload(model_folder: Path, repository: str, *, private: bool = False, revision: str | None = None) -> None:
    """Create the repository and upload the folder. Raises: StageError when the hub refuses."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    hub = HfApi()
    try:
        hub.create_repo(repository, private=private, exist_ok=True)
        if revision:
            hub.create_branch(repository, branch=revision, exist_ok=True)
        hub.upload_folder(repo_id=repository, folder_path=str(model_folder), revision=revision)
    except (HfHubHTTPError, OSError) as error:
        text = f"`{repository}` could not be uploaded: {str(error).splitlines()[0]}"
        help = f"the model is in {model_folder}; mend the token or the name, and run the stage again"
        raise StageError(text, "push", help=help, code="FT973") from error
    print(f"uploaded to {repository}{' (private)' if private else ''}", flush=True)


def _card(card: dict[str, Any]) -> Iterator[str]:
    scores = [(stage["stage"], metrics) for stage in card.get("scores", ()) if (metrics := _metrics(stage["folder"]))]
    yield "---"
    yield from _metadata(card, scores)
    yield from ("---", "", f"# {card['name']}", "", card["made"], "")
    for stage in card.get("trained", ()):
        yield from (
            f"## {stage['stage']}",
            "",
            *_table(("setting", "value"), [*map(list, stage["settings"].items())]),
            "",
        )
    if scores:
        names = list(dict.fromkeys(name for _, metrics in scores for name in metrics))
        rows = [
            [name, *(_value(name, metrics) for _, metrics in scores)] for name in names if not name.endswith("_stderr")
        ]
        yield from ("## Scores", "", *_table(("metric", *(stage for stage, _ in scores)), rows), "")


def _metadata(card: dict[str, Any], scores: list[tuple[str, dict[str, float]]]) -> Iterator[str]:
    """YAML of the keys the Hub knows; JSON strings are YAML."""
    for key in ("base_model", "base_model_relation", "library_name", "pipeline_tag", "datasets", "tags"):
        if card.get(key):
            yield f"{key}: {json.dumps(card[key], ensure_ascii=False)}"
    if scores:
        yield "model-index:"
        yield f"  - name: {json.dumps(card['name'])}"
        yield "    results:"
        for stage, metrics in scores[-1:]:
            for name, value in metrics.items():
                if name.endswith("_stderr"):
                    continue
                yield "      - task: {type: text-generation}"
                yield f"        dataset: {{name: {json.dumps(stage)}, type: {json.dumps(stage)}}}"
                yield f"        metrics: [{{type: {json.dumps(name)}, value: {value:.6g}}}]"


def _value(name: str, metrics: dict[str, float]) -> str:
    """A score with its standard error; "" where it was not measured."""
    if name not in metrics:
        return ""
    error = metrics.get(f"{name}_stderr")
    return f"{metrics[name]:.4g}" + (f" ± {error:.2g}" if error is not None else "")


def _metrics(folder: str) -> dict[str, float]:
    metrics = (events.read_result(folder) or {}).get("metrics", {})
    return {
        str(name): value for name, value in metrics.items() if isinstance(value, int | float) and math.isfinite(value)
    }


def _table(head: tuple[str, ...], rows: list[list[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_cell, head))} |"
    yield f"|{' --- |' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"


def _cell(text: str) -> str:
    """Text that cannot end a cell, or become markup."""
    return str(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")

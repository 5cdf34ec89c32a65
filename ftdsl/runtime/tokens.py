"""Token ids of a stage's rows, saved where its config says (`tokenized_path`), by the engine's own parts.

The engine itself would go on to train when it has saved them (llamafactory/data/loader.py, get_dataset).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

STAGES = {"dpo": "rm"}
"""The engine's stages whose rows are made as for another (llamafactory/train/dpo/workflow.py)."""
MARK = "made-by-ftdsl.json"


def clear(place: Path) -> None:
    """Make room: ids we made are made anew; anything else is set aside, or the engine would take it for this stage's."""
    if (place / MARK).exists():
        shutil.rmtree(place)
    elif place.is_dir() and any(place.iterdir()):
        number = 1
        while (aside := place.with_name(f"{place.name}.before-{number}")).exists():
            number += 1
        place.rename(aside)
        print(f"{place} held something else; it is now {aside}")


def make(config: dict[str, Any]) -> dict[str, Any]:
    """Save the ids. Gives the result of the job: where they are, and how many rows there are to train on."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    place = Path(config["tokenized_path"])
    clear(place)
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(config)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    stage = STAGES.get(finetuning_args.stage, finetuning_args.stage)
    made = get_dataset(template, model_args, data_args, training_args, stage=stage, **parts)
    rows = len(made["train_dataset"])
    (place / MARK).write_text(json.dumps({"rows": rows}) + "\n", encoding="utf-8")
    return {"kind": "dataset", "path": str(place), "metrics": {"rows": rows}}

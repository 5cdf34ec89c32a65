"""Token ids of a stage's rows, saved at `tokenized_path` of its config by the engine's own code.

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


def clear(path: Path) -> None:
    """Make room: ids we made are made anew; anything else is set aside, or the engine would take it for this stage's."""
    if (path / MARK).exists():
        shutil.rmtree(path)
    elif path.is_dir() and any(path.iterdir()):
        number = 1
        while (aside := path.with_name(f"{path.name}.before-{number}")).exists():
            number += 1
        path.rename(aside)
        print(f"{path} held something else; it is now {aside}")


def make(config: dict[str, Any]) -> dict[str, Any]:
    """Save the ids. Gives the result of the job: where they are, and how many rows there are to train on."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    path = Path(config["tokenized_path"])
    clear(path)
    model_args, data_args, training_args, finetuning_args, _ = get_train_args(config)
    parts = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(parts["tokenizer"], data_args)
    stage = STAGES.get(finetuning_args.stage, finetuning_args.stage)
    made = get_dataset(template, model_args, data_args, training_args, stage=stage, **parts)
    rows = len(made["train_dataset"])
    (path / MARK).write_text(json.dumps({"rows": rows}) + "\n", encoding="utf-8")
    return {"kind": "dataset", "path": str(path), "metrics": {"rows": rows}}

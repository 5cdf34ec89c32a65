"""`python trl_show_probe.py STAGE.json…`, under TRL's Python in a run folder: the rows that `ftc data show` gives of each stage,
and those that its trainer hands to the model: collated, one by one. Prints one JSON document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))

from runtime import stage as stages
from runtime import trl
from runtime.report import Log
from runtime.tuning import build, shown


def sides(trainer: Any) -> list[list[Any]]:
    """Of each row its sides as [ids, labels], without padding."""
    found = []
    for row in trainer.train_dataset:
        if not hasattr(trainer, "data_collator") or "prompt" in row:
            found.append([[trainer._tokenize_prompts([row["prompt"]])[0][0], None]])
            continue
        batch = {
            name: getattr(value, "tolist", lambda v=value: v)() for name, value in trainer.data_collator([row]).items()
        }
        rows = []
        for at, ids in enumerate(batch["input_ids"]):
            kept = batch["attention_mask"][at] if "attention_mask" in batch else [1] * len(ids)
            labels = batch["labels"][at] if "labels" in batch else None
            if "completion_mask" in batch:
                labels = [id if mask else -100 for id, mask in zip(ids, batch["completion_mask"][at], strict=True)]
            rows.append([[id for id, keep in zip(ids, kept, strict=True) if keep],
                         labels and [label for label, keep in zip(labels, kept, strict=True) if keep]])  # fmt: skip
        found.append(rows)
    return found


report = {}
for path in sys.argv[1:]:
    stage = stages.read(path)
    config = trl.config_of(stage.parts[0].config)
    ours = shown.rows(dict(config), 50)
    trainer = build.trainer(dict(config), stage, stage.parts[0], Log(stage.stage), [])
    report[Path(path).parent.name.partition("-")[2]] = {"ours": ours, "trainer": sides(trainer)}
print("\n" + json.dumps(report))

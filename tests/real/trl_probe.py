"""`python trl_probe.py STAGE.json…`, in a run folder under TRL's Python: carries the stages out one after the other in this
process, as their scripts would in one each, and looks at what they have made. Prints one JSON document: stage -> what was seen.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path.cwd()))
import torch
from runtime import trl  # type: ignore[import-not-found]
from runtime.stage import read  # type: ignore[import-not-found]
from runtime.tuning import build  # type: ignore[import-not-found]

torch.set_num_threads(1)
trainers: list[Any] = []
original = build.trainer


def kept(*arguments: Any) -> Any:
    trainers.append(original(*arguments))
    return trainers[-1]


build.trainer = kept
IDS = torch.arange(5, 17).unsqueeze(0)


def logits(model: Any) -> Any:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def again(config: dict[str, Any], output: str) -> Any:
    """The model as anybody loads it: plain transformers and PEFT, from what lies on the disk."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    scores = config["data"]["kind"] == "reward"
    kind, more = (AutoModelForSequenceClassification, {"num_labels": 1}) if scores else (AutoModelForCausalLM, {})
    if (Path(output) / "model.safetensors").exists():
        return kind.from_pretrained(output, **more)
    base = kind.from_pretrained(config["model_name_or_path"], **more)
    base.config.pad_token_id = trainers[-1].processing_class.pad_token_id
    below = list(config.get("adapter_name_or_path", ()))
    for path in below if config.get("peft") else below[:-1]:
        base = PeftModel.from_pretrained(base, path).merge_and_unload()
    return PeftModel.from_pretrained(base, output)


def looked_at(stage: Any, config: dict[str, Any]) -> dict[str, Any]:
    trainer = trainers[-1]
    parameters = list(trainer.model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    found: dict[str, Any] = {
        "trained": trained,
        "all": sum(parameter.numel() for parameter in parameters),
        "names": [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad],
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }
    if not config.get("load_in_4bit"):
        model = again(config, stage.output)
        found["reload"] = float((logits(model) - logits(trainer.model)).abs().max())
        if hasattr(model, "merge_and_unload"):
            before = logits(model)
            try:
                found["merge"] = float((logits(model.merge_and_unload()) - before).abs().max())
            except (NotImplementedError, AttributeError, TypeError, ValueError) as error:
                found["merge"] = f"{type(error).__name__}"
    return found


report: dict[str, Any] = {}
for path in sys.argv[1:]:
    stage = read(path)
    work = {"train": "train", "eval": "train", "export": "export"}[stage.kind]
    status = trl.main([work, path])
    found: dict[str, Any] = {"status": status}
    if status == 0 and stage.kind == "train":
        found |= looked_at(stage, trl.config_of(stage.parts[-1].config))
    report[Path(path).parent.name.partition("-")[2]] = found
print("\n" + json.dumps(report))

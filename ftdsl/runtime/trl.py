"""`trl.py fresh|train|export|show STAGE.json [--part N]`: TRL's trainers on a document of their own parameters, watched.

The document has the fields of a TRL configuration class and of its ModelConfig, a `peft` block (fields of a PEFT
configuration), and `data` (rows, chat format, reference model). What is expected of the stage is `stage.py`'s; events, guards and
results are those of every engine.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: its folder becomes the package `runtime`, and shadows none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import guarded, proof, shipping, training, watch
from .report import Log, StageError, mark, marked, save_result
from .stage import Part, Stage

OURS = ("data", "peft")
"""Blocks of the document that are no parameters of a TRL configuration."""


def config_of(path: str) -> dict[str, Any]:
    import yaml

    config: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not sys.stderr.isatty():
        config.setdefault("disable_tqdm", True)  # no progress bar in a log; metrics.jsonl has the same
    return config


def train(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Train, one part after the other. Raises: StageError."""
    watch.judge_launch(stage)
    training.restorable()
    for part in parts:
        config = config_of(part.config)
        _refuse(config, stage)
        if stage.kind == "eval":
            _scored(config, stage, part, log)
            continue
        metrics = _trained(config, stage, part, log)
        if log.first and not part.until:
            _finish(stage, str(config["output_dir"]), metrics)
    return 0


def _trained(config: dict[str, Any], stage: Stage, part: Part, log: Log) -> dict[str, Any]:
    """One training; its metrics. The model is saved."""
    from transformers.trainer_utils import get_last_checkpoint

    from .tuning import build, models, ranks

    trainer = build.trainer(config, stage, part, log, extensions(stage))
    output = str(config["output_dir"])
    resume = config.get("resume_from_checkpoint") or (get_last_checkpoint(output) if Path(output).is_dir() else None)
    outcome = trainer.train(resume_from_checkpoint=resume)
    metrics: dict[str, Any] = dict(outcome.metrics)
    if part.until:
        return metrics
    if (config.get("peft") or {}).get("peft_type") == ranks.TYPE:
        ranks.save(trainer.model, Path(output), trainer.state.global_step)
    trainer.save_model(output)
    if log.first:
        models.add_loader(trainer.model, output)
    trainer.save_state()
    if trainer.eval_dataset is not None:
        metrics |= trainer.evaluate()
    return metrics


def _scored(config: dict[str, Any], stage: Stage, part: Part, log: Log) -> None:
    """The loss of a model over rows."""
    from .tuning import build

    output = str(config["output_dir"])
    metrics = build.trainer(config, stage, part, log, []).evaluate()
    if log.first:
        scores = {"loss": metrics["eval_loss"], "perplexity": math.exp(min(metrics["eval_loss"], 700.0))}
        save_result(stage.stage, {"kind": "metrics", "path": output, "metrics": scores}, smoke=stage.smoke)


def export(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Merge adapters into their base and save. Raises: StageError."""
    from .tuning import models

    config = config_of(parts[0].config)
    _refuse(config, stage)
    folder = Path(str(config["output_dir"]))
    training.claim(folder, stage)
    log.event("progress", done=0, total=2, what="loading")
    tokenizer = models.tokenizer_of(config)
    base = models.base_of(config, tokenizer, scores=config["data"]["kind"] == "reward")
    log.event("progress", done=1, total=2, what="merging")
    model = models.with_adapters(base, config, new=True)
    shards = config.get("max_shard_size")
    model.save_pretrained(folder, **({"max_shard_size": f"{shards}GB"} if shards else {}))
    tokenizer.save_pretrained(folder)
    if not training.weights_of(folder):
        raise StageError(f"no model was written to {folder}", "to")
    del model
    adapters = config.get("adapter_name_or_path") or []
    adapters = [adapters] if isinstance(adapters, str) else list(adapters)
    proof.prove(folder, str(config["model_name_or_path"]), adapters, log, revision=config.get("model_revision"))
    if stage.smoke:
        if config["data"]["kind"] != "reward":
            training.reload(folder)
        mark(folder)
    shipping.complete(folder, stage.card)
    if name := config.get("hub_model_id"):
        shipping.upload(folder, name, private=bool(config["data"].get("private")), revision=stage.revision or None)
    size = sum(path.stat().st_size for path in training.weights_of(folder))
    save_result(stage.stage, {"kind": "model", "path": str(folder), "metrics": {"bytes": size}}, smoke=stage.smoke)
    log.event("progress", done=2, total=2, what="saved")
    return 0


def show(stage: Stage, parts: tuple[Part, ...], count: int, to: str) -> int:
    """Write the first rows as the model sees them. Raises: StageError."""
    from .tuning import shown

    config = config_of(parts[0].config)
    _refuse(config, stage)
    Path(to).write_text(json.dumps(shown.rows(config, count), ensure_ascii=False), encoding="utf-8")
    return 0


_STARTS = ("model_name_or_path", "adapter_name_or_path", "resume_from_checkpoint")


def _refuse(config: dict[str, Any], stage: Stage) -> None:
    """Raises: StageError for a toy as a base, and for a checkpoint that is none."""
    reference = config.get("data", {}).get("reference") or {}
    starts = [config.get(key) for key in _STARTS] + [reference.get("model"), reference.get("adapters")]
    for value in starts:
        for path in value if isinstance(value, list) else [value]:
            if path and not stage.smoke and marked(str(path)):
                text = f"{path} was made by a smoke run: a toy trained for a few steps"
                raise StageError(text, "model", "reference", "resume", help="name the real model", code="FT954")
    resume = config.get("resume_from_checkpoint")
    if isinstance(resume, str) and not Path(resume, "trainer_state.json").is_file():
        raise StageError(f"{resume} is no checkpoint: there is no trainer_state.json in it", "resume", code="FT806")


def extensions(stage: Stage) -> list[Any]:
    """What the recipe adds to the engine, as callbacks."""
    if not stage.extend:
        return []
    from . import extend

    return extend.callbacks(json.loads(Path(stage.extend).read_text(encoding="utf-8")))


def _finish(stage: Stage, output: str, measured: dict[str, Any]) -> None:
    """Write result.json. Raises: StageError when no weights were written."""
    if stage.result != "shards" and not training.weights_of(Path(output)):
        raise StageError(f"the engine ended without writing a model to {output}", "parallel.strategy", "parallel")
    metrics: dict[str, Any] = {"eval_loss": measured["eval_loss"]} if "eval_loss" in measured else {}
    metrics |= training.losses_of(stage.stage, measured.get("train_loss")) | training.rewards_of(stage.stage)
    kind = "model" if stage.result == "shards" else stage.result
    result = {"kind": kind, "path": output, "metrics": metrics} | guarded.ledger_of(output)
    save_result(stage.stage, result, smoke=stage.smoke)
    if stage.smoke:
        mark(Path(output))


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("train", "export", "fresh", "show"))
    parser.add_argument("stage", metavar="STAGE.json")
    parser.add_argument("--part", type=int, metavar="N", help="this part alone, from 1: each is started by itself")
    parser.add_argument("--rows", type=int, default=5, help="of show")
    parser.add_argument("--to", default="rows.json", help="of show: the file it writes")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """The exit status of a stage."""
    args = parse(argv)
    works: dict[str, training.Work] = {
        "train": train, "export": export, "show": lambda stage, parts, log: show(stage, parts, args.rows, args.to),
    }  # fmt: skip
    return training.run(args, Path(__file__).stem, "TRL", works)


if __name__ == "__main__":
    training.leave(main(sys.argv[1:]))

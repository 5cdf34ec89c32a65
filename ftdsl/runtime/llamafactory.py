"""`llamafactory.py fresh|train|export|tokens|show STAGE.json [--part N]`: LLaMA-Factory's own run_exp and export_model, watched.

Adds what its command line lacks: metrics as strict JSON while it runs, a world size that must be the planned one, a
stop (and a failure) when the loss is not a number or there is nothing to learn, and a result.json. The same YAML works
with `llamafactory-cli`. What is expected of the stage is `stage.py`'s.
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

from . import chat, events, guarded, proof, replace_trainers, shipping, training, watch
from .report import Log, StageError, mark, marked, save_result
from .stage import Part, Stage

SAMPLES = 20

NAMES = {
    "eval_loss": "loss", "eval_accuracy": "accuracy", "eval_perplexity": "perplexity", "predict_rouge-1": "rouge_1",
    "predict_rouge-2": "rouge_2", "predict_rouge-l": "rouge_l", "predict_bleu-4": "bleu",
}  # fmt: skip
"""The engine's names of what it measured, and ours."""


def config_of(path: str) -> dict[str, Any]:
    import yaml

    config: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not sys.stderr.isatty():
        config.setdefault("disable_tqdm", True)  # no progress bar in a log; metrics.jsonl has the same
    return config


def scores_of(folder: str) -> dict[str, Any]:
    """What the engine measured, from all_results.json."""
    try:
        scores = json.loads((Path(folder) / "all_results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return scores if isinstance(scores, dict) else {}


def samples_of(folder: str) -> list[dict[str, str]]:
    """The first generated answers."""
    try:
        lines = (Path(folder) / "generated_predictions.jsonl").read_text(encoding="utf-8").splitlines()[:SAMPLES]
    except OSError:
        return []
    rows = [json.loads(line) for line in lines]
    return [{name: str(row.get(name, "")) for name in ("prompt", "label", "predict")} for row in rows]


def train(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Train or score, one part after the other. Raises: StageError."""
    watch.judge_launch(stage)
    from llamafactory.train.tuner import run_exp

    training.restorable()
    added = extensions(stage)
    for part in parts:
        config = config_of(part.config)
        _refuse(config, stage, log)
        if stage.smoke:
            chat.blind(config)
        guard = replace_trainers.replaced(stage, config, log) if stage.kind == "train" else None
        run_exp(dict(config), callbacks=[watch.callback(stage, part, log, config, guard), *added])
        if log.first and not part.until:
            _finish(stage, str(config["output_dir"]))
    return 0


_STARTS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "reward_model",
           "resume_from_checkpoint")  # fmt: skip


def _refuse(config: dict[str, Any], stage: Stage, log: Log) -> None:
    """What the engine would take without a word: a toy as a base, a template the tokenizer cannot read. Raises: StageError."""
    for key in _STARTS:
        for path in str(config.get(key) or "").split(","):
            if path and not stage.smoke and marked(path):
                text = f"{path} was made by a smoke run: a toy trained for a few steps"
                raise StageError(text, "model", "reference", "resume", help="name the real model", code="FT954")
    resume = config.get("resume_from_checkpoint")
    if isinstance(resume, str) and not Path(resume, "trainer_state.json").is_file():
        raise StageError(f"{resume} is no checkpoint: there is no trainer_state.json in it", "resume", code="FT806")
    for fault in chat.faults(config) if stage.kind == "train" else ():
        if stage.smoke:
            raise fault
        log.warn(fault)


def extensions(stage: Stage) -> list[Any]:
    """What the recipe adds to the engine: callbacks, after a template of its own is made known."""
    if not stage.extend:
        return []
    from . import extend

    return extend.callbacks(extend.read(stage.extend))


def tokenise(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Token ids saved ahead of training."""
    from . import tokens

    log.event("progress", done=0, total=1, what="tokenising")
    extensions(stage)
    save_result(stage.stage, tokens.make(config_of(parts[0].config)), smoke=stage.smoke)
    return 0


def show(stage: Stage, parts: tuple[Part, ...], count: int, to: str) -> int:
    """The first rows as the model sees them, as JSON into a file."""
    from . import show as shown

    extensions(stage)
    config = config_of(parts[0].config)
    if stage.smoke:
        chat.blind(config)
    Path(to).write_text(json.dumps(shown.rows(config, count), ensure_ascii=False), encoding="utf-8")
    return 0


def _finish(stage: Stage, output: str) -> None:
    """Write result.json. Raises: StageError when the engine ended well and left no weights."""
    measured = scores_of(output)
    if stage.kind == "train":
        if stage.result != "shards" and not training.weights_of(
            Path(output)
        ):  # the next command makes a model of shards
            raise StageError(f"the engine ended without writing a model to {output}", "parallel.strategy", "parallel")
        metrics: dict[str, Any] = {"eval_loss": measured["eval_loss"]} if "eval_loss" in measured else {}
        metrics |= training.losses_of(stage.stage, measured.get("train_loss"))
        kind = "model" if stage.result == "shards" else stage.result
        result = {"kind": kind, "path": output, "metrics": metrics} | guarded.ledger_of(output)
        save_result(stage.stage, result, smoke=stage.smoke)
        if stage.smoke:
            mark(Path(output))
        return
    metrics = {ours: measured[theirs] for theirs, ours in NAMES.items() if theirs in measured}
    earlier = events.read_result(stage.stage) or {}  # of another part of this stage
    samples = samples_of(output) or earlier.get("samples", [])
    if "loss" in metrics and "perplexity" not in metrics:  # the engine gives it for plain text alone
        metrics["perplexity"] = math.exp(min(metrics["loss"], 700.0))
    metrics = {**earlier.get("metrics", {}), **metrics}
    scores: dict[str, Any] = {"kind": "metrics", "path": output, "metrics": metrics, "samples": samples}
    save_result(stage.stage, scores, smoke=stage.smoke)


def export(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Merge adapters into their base, save, compare what was saved, and only then upload it. Raises: StageError."""
    config = config_of(parts[0].config)
    config.pop("disable_tqdm", None)  # a word of training only
    upload = config.pop("export_hub_model_id", None)
    _refuse(config, stage, log)
    log.event("progress", done=0, total=3, what="loading")
    from llamafactory.train.tuner import export_model

    training.claim(Path(str(config["export_dir"])), stage)
    extensions(stage)
    log.event("progress", done=1, total=3, what="merging")
    export_model(dict(config))
    folder = Path(str(config["export_dir"]))
    weights = training.weights_of(folder)
    if not (folder / "config.json").exists() or not weights:
        raise StageError(f"the engine ended without writing a model to {folder}", "to")
    log.event("progress", done=2, total=3, what="comparing")
    _prove(folder, config, log)
    if stage.smoke:
        training.reload(folder)
        mark(folder)
    size = sum(path.stat().st_size for path in weights)
    save_result(stage.stage, {"kind": "model", "path": str(folder), "metrics": {"bytes": size}}, smoke=stage.smoke)
    shipping.complete(folder, stage.card)
    if upload:
        shipping.upload(folder, str(upload), private=stage.private, revision=stage.revision or None)
    log.event("progress", done=3, total=3, what="saved")
    return 0


def _prove(folder: Path, config: dict[str, Any], log: Log) -> None:
    """Raises: StageError when what was merged does not hold what its adapters learned."""
    if not config.get("export_quantization_bit"):
        adapters = [name for name in str(config.get("adapter_name_or_path") or "").split(",") if name]
        proof.prove(folder, str(config["model_name_or_path"]), adapters, log, revision=config.get("model_revision"))


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("train", "export", "tokens", "fresh", "show"))
    parser.add_argument("stage", metavar="STAGE.json")
    parser.add_argument("--part", type=int, metavar="N", help="this part alone, from 1: each is started by itself")
    parser.add_argument("--rows", type=int, default=5, help="of show")
    parser.add_argument("--to", default="rows.json", help="of show: the file it writes")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """The exit status of a stage."""
    args = parse(argv)
    works: dict[str, training.Work] = {
        "train": train, "export": export, "tokens": tokenise,
        "show": lambda stage, parts, log: show(stage, parts, args.rows, args.to),
    }  # fmt: skip
    return training.run(args, Path(__file__).stem, "LLaMA-Factory", works)


if __name__ == "__main__":
    training.leave(main(sys.argv[1:]))

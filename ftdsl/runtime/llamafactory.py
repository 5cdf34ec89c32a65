"""`llamafactory.py fresh|train|export|tokens|show STAGE.json [--part N]`: LLaMA-Factory's own run_exp and export_model, watched.

Adds what its command line lacks: metrics as strict JSON while it runs, a world size that must be the planned one, a
stop (and a failure) when the loss is not a number or there is nothing to learn, and a result.json. The same YAML works
with `llamafactory-cli`. What is expected of the stage is `stage.py`'s.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import sys
from pathlib import Path
from typing import Any

if (
    not __package__
):  # run by path: its folder becomes the package `runtime`, and stands in for none of the engine's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import chat, checkpoints, events, failures, proof, replace_trainers, shipping, stale_locks, watch
from .report import Log, StageError, carried_out, mark, marked, save_result
from .stage import Part, Stage, read

SAMPLES = 20

NAMES = {
    "eval_loss": "loss", "eval_accuracy": "accuracy", "eval_perplexity": "perplexity", "predict_rouge-1": "rouge_1",
    "predict_rouge-2": "rouge_2", "predict_rouge-l": "rouge_l", "predict_bleu-4": "bleu",
}  # fmt: skip
"""The engine's names of what it measured, and ours."""


def config_of(path: str) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not sys.stderr.isatty():
        found.setdefault("disable_tqdm", True)  # a bar has no place in a log; metrics.jsonl tells the same
    return found


def scores_of(folder: str) -> dict[str, Any]:
    """What the engine measured, from all_results.json."""
    try:
        found = json.loads((Path(folder) / "all_results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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

    _restorable()
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


def _restorable() -> None:
    """Several processes on a CPU save their optimizer as lying on `cpu:0`, which torch 2.13 does not know when it is loaded
    again: a checkpoint could not be gone on with.
    """
    import torch

    torch.serialization.register_package(
        30, lambda storage: None, lambda storage, place: storage if place.startswith("cpu:") else None
    )


_STARTS = ("model_name_or_path", "adapter_name_or_path", "ref_model", "ref_model_adapters", "reward_model",
           "resume_from_checkpoint")  # fmt: skip


def _refuse(config: dict[str, Any], stage: Stage, log: Log) -> None:
    """What the engine would take without a word: a toy as a base, a template the tokenizer cannot read. Raises: StageError."""
    for key in _STARTS:
        for place in str(config.get(key) or "").split(","):
            if place and not stage.smoke and marked(place):
                text = f"{place} was made by a smoke run: a toy trained for a few steps"
                raise StageError(text, "model", "reference", "resume", help="name the real model", code="FT954")
    resume = config.get("resume_from_checkpoint")
    if isinstance(resume, str) and not Path(resume, "trainer_state.json").is_file():
        raise StageError(f"{resume} is no checkpoint: there is no trainer_state.json in it", "resume", code="FT806")
    for fault in chat.faults(config) if stage.kind == "train" else ():
        if stage.smoke:
            raise fault
        log.warn(fault)


def weights_of(folder: Path) -> list[Path]:
    return [path for path in (*folder.glob("*.safetensors"), *folder.glob("*.bin")) if path.stem != "training_args"]


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
        if stage.result != "shards" and not weights_of(Path(output)):  # the next command makes a model of shards
            raise StageError(f"the engine ended without writing a model to {output}", "parallel.strategy", "parallel")
        metrics: dict[str, Any] = {"eval_loss": measured["eval_loss"]} if "eval_loss" in measured else {}
        metrics |= losses_of(stage.stage, measured.get("train_loss"))
        kind = "model" if stage.result == "shards" else stage.result
        result = {"kind": kind, "path": output, "metrics": metrics} | replace_trainers.ledger_of(output)
        save_result(stage.stage, result, smoke=stage.smoke)
        if stage.smoke:
            mark(Path(output))
        return
    metrics = {ours: measured[theirs] for theirs, ours in NAMES.items() if theirs in measured}
    earlier = events.read_result(stage.stage) or {}  # of another part of this stage
    samples = samples_of(output) or earlier.get("samples", [])
    metrics = {**earlier.get("metrics", {}), **metrics}
    scores: dict[str, Any] = {"kind": "metrics", "path": output, "metrics": metrics, "samples": samples}
    save_result(stage.stage, scores, smoke=stage.smoke)


def losses_of(stage: str, engines: float | None) -> dict[str, float]:
    """First, last and mean training loss of this stage, from its own events.

    engines: what the engine calls the mean. After a resume it is the sum of the losses since, over all steps: those before are
    added, as they were logged.
    """
    curve, since, resumed = learning_curve(events.read(Path(stage) / events.METRICS))
    if not curve:
        return {} if engines is None else {"train_loss": engines}
    found = {"first_loss": curve[0][1], "last_loss": curve[-1][1]}
    if engines is not None:
        total = curve[-1][0]
        found["train_loss"] = engines + since / total if resumed and total else engines
    return found


def learning_curve(found: list[dict[str, Any]]) -> tuple[list[tuple[int, float]], float, bool]:
    """(step, mean loss since the point before) of a training with all its resumes; the sum of the losses up to the step it was
    last resumed at; and whether it was.
    """
    curve: list[tuple[int, float]] = []
    before, start = 0.0, 0
    for event in found:
        if event["event"] == "start":
            start = event.get("step", 0)
            curve = [point for point in curve if point[0] <= start]
            steps = [0, *(step for step, _ in curve)]
            before = sum(loss * (step - last) for (step, loss), last in zip(curve, steps, strict=False))
            before += curve[-1][1] * (start - curve[-1][0]) if curve else 0.0  # what was not logged before it broke off
        elif event["event"] == "step" and "loss" in event:
            curve = [point for point in curve if point[0] < event["step"]]
            curve.append((event["step"], event["loss"]))
    return curve, before, start > 0


def export(stage: Stage, parts: tuple[Part, ...], log: Log) -> int:
    """Merge adapters into their base, save, compare what was saved, and only then upload it. Raises: StageError."""
    config = config_of(parts[0].config)
    config.pop("disable_tqdm", None)  # a word of training only
    upload = config.pop("export_hub_model_id", None)
    _refuse(config, stage, log)
    log.event("progress", done=0, total=3, what="loading")
    from llamafactory.train.tuner import export_model

    shipping.claim(Path(str(config["export_dir"])), stage.stage)
    extensions(stage)
    log.event("progress", done=1, total=3, what="merging")
    export_model(dict(config))
    place = Path(str(config["export_dir"]))
    weights = weights_of(place)
    if not (place / "config.json").exists() or not weights:
        raise StageError(f"the engine ended without writing a model to {place}", "to")
    log.event("progress", done=2, total=3, what="comparing")
    _prove(place, config, log)
    if stage.smoke:
        _answers(place)
        mark(place)
    size = sum(path.stat().st_size for path in weights)
    save_result(stage.stage, {"kind": "model", "path": str(place), "metrics": {"bytes": size}}, smoke=stage.smoke)
    shipping.complete(place, stage.card)
    if upload:
        shipping.upload(place, str(upload), private=stage.private, revision=stage.revision or None)
    log.event("progress", done=3, total=3, what="saved")
    return 0


def _prove(place: Path, config: dict[str, Any], log: Log) -> None:
    """What was merged holds what its adapters learned, and loads. Raises: StageError."""
    if config.get("export_quantization_bit") or not list(place.glob("*.safetensors")):
        return
    if adapters := [name for name in str(config.get("adapter_name_or_path") or "").split(",") if name]:
        base, revision = str(config["model_name_or_path"]), config.get("model_revision")
        text = proof.compare(base, adapters, place, log, revision=revision)
        print(text, flush=True)
        log.event("note", message=text)
    text = proof.reload(place)
    print(text, flush=True)
    log.event("note", message=text)


def _answers(place: Path) -> None:
    """A toy answers. Raises: StageError."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
        with torch.no_grad():
            scores = model(**tokenizer("a question", return_tensors="pt")).logits
    except Exception as error:
        text = f"what was merged cannot be loaded again: {type(error).__name__}: {error}"
        raise StageError(text, "model", "tokenizer.resize", "to", code="FT970") from error
    if not bool(torch.isfinite(scores).all()):
        raise StageError("what was merged gives numbers that are none", "dtype", "to", code="FT970")
    print(f"loaded again from {place}: {scores.shape[-1]:,} scores for each token")


def fresh(stage: Stage, log: Log) -> int:
    """Before a stage trains: what lies at its destination is its own, with a whole checkpoint to resume from, or is set aside.
    Raises: StageError.

    The engine resumes from any checkpoint it finds in its output_dir, also from one that another recipe left there.
    """
    for lock in stale_locks.unlock():
        print(f"{lock} was left by a build that was broken off; it is gone")
    if os.environ.get("NODE_RANK", "0") != "0":
        return 0  # the first node's business: all see one folder
    place = Path(stage.output)
    shipping.claim(place, stage.stage)
    for aside, why in checkpoints.set_broken_aside(place):
        left = checkpoints.newest_first(place)
        then = f"resumes from {left[0].name}" if left else "starts anew"
        text = f"{aside.name.removeprefix('broken-')} is damaged ({why}); it is now {aside.name}, and the stage {then}"
        log.warn(StageError(text, "save", code="FT806"))
    return 0


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
    stage = read(args.stage)
    Path(stage.stage).mkdir(parents=True, exist_ok=True)
    if args.work == "fresh":
        return carried_out(lambda log: fresh(stage, log), Log(stage.stage), last=False)
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and (known := _hopeless(stage)):
        print(f"error: {known}; started again, the same would happen", file=sys.stderr)
        return 1
    parts = stage.parts if args.part is None else stage.parts[args.part - 1 : args.part]
    try:
        import llamafactory  # noqa: F401
    except ImportError as error:
        print(f"error: {sys.executable} has no LLaMA-Factory ({error}); set FT_PYTHON", file=sys.stderr)
        return 1
    if args.work == "show":
        return carried_out(lambda log: show(stage, parts, args.rows, args.to), Log(stage.stage))
    work = {"train": train, "export": export, "tokens": tokenise}[args.work]
    return carried_out(lambda log: work(stage, parts, log), Log(stage.stage))


def _hopeless(stage: Stage) -> str:
    """Why the start before failed, where torchrun starts ranks again and a person has to mend something; "" otherwise."""
    seen = events.read(Path(stage.stage) / events.METRICS)
    if not seen or seen[-1]["event"] != "end":
        return ""
    failure = failures.failure_of(1, seen[-1:])
    return failure.why if failure.kind == failures.MEND else ""


def leave(status: int) -> None:
    """End at once where there are several ranks: everything is written, and DeepSpeed's own clearing up aborts about one
    two-process ZeRO-3 run in seven (seen with 0.19.8), which would call a good run failed.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        atexit._run_exitfuncs()  # trackers send their last lines there
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))

"""`engine.py fresh|train|export CONFIG.yaml… --stage FOLDER …`: LLaMA-Factory's own run_exp and export_model, watched.

Adds what its command line lacks: metrics as strict JSON while it runs, a world size that must be the planned one, a
stop (and a failure) when the loss is not a number, and a result.json. The same YAML works with `llamafactory-cli`.
"""

from __future__ import annotations

import argparse
import atexit
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

WRONG_WORLD = 4
SAMPLES = 20

NAMES = {
    "eval_loss": "loss", "eval_accuracy": "accuracy", "eval_perplexity": "perplexity", "predict_rouge-1": "rouge_1",
    "predict_rouge-2": "rouge_2", "predict_rouge-l": "rouge_l", "predict_bleu-4": "bleu",
}  # fmt: skip
"""The engine's names of what it measured, and ours."""


def strict(value: Any) -> Any:
    """NaN and infinities as text: JSON has no words for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if isinstance(value, dict):
        return {str(key): strict(inner) for key, inner in value.items()}
    return [strict(inner) for inner in value] if isinstance(value, list | tuple) else value


class Log:
    """metrics.jsonl of a stage; only the first rank writes (asked anew each time: Ray's workers get a copy of this)."""

    def __init__(self, stage: str) -> None:
        self.path = (Path(stage) / "metrics.jsonl").absolute()

    @property
    def first(self) -> bool:
        return os.environ.get("RANK", "0") == "0"

    def event(self, **event: Any) -> None:
        if self.first:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(strict(event), allow_nan=False) + "\n")


class Guard:
    """What went wrong, kept for the exit status."""

    def __init__(self) -> None:
        self.message = ""
        self.status = 0

    def fail(self, status: int, message: str) -> None:
        self.status, self.message = self.status or status, self.message or message


def by_ray() -> bool:
    """Whether LLaMA-Factory starts the ranks itself, as Ray's workers."""
    return os.environ.get("USE_RAY", "").lower() in ("1", "true", "y")


def planned(size: int, args: argparse.Namespace) -> bool:
    """An elastic job may have fewer ranks than it was planned for, down to `--at-least`."""
    least: int = args.at_least or args.world
    return least <= size <= int(args.world)


def callback(args: argparse.Namespace, log: Log, guard: Guard) -> Any:
    """A TrainerCallback that reports and guards."""
    from transformers import TrainerCallback

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.began = time.monotonic()
            self.scored = 0
            self.told = 0.0

        def on_init_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if not planned(training.world_size, args):
                text = f"the engine runs {training.world_size} processes where {args.world} were planned"
                guard.fail(WRONG_WORLD, text)
                raise SystemExit(WRONG_WORLD)

        def on_train_begin(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.monotonic()
            world = training.world_size
            log.event(event="start", stage=args.stage, total_steps=state.max_steps, world_size=world, time=time.time())

        def on_log(self, training: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            logs = logs or {}
            if "loss" in logs:
                self._step(state, control, logs)
            elif scores := {k: v for k, v in logs.items() if k.startswith("eval_") and isinstance(v, int | float)}:
                log.event(
                    event="eval",
                    step=state.global_step,
                    metrics={k.removeprefix("eval_"): v for k, v in scores.items()},
                )

        def _step(self, state: Any, control: Any, logs: dict[str, Any]) -> None:
            elapsed = time.monotonic() - self.began
            done = max(1, state.global_step)
            log.event(
                event="step", step=state.global_step, total_steps=state.max_steps, epoch=logs.get("epoch"),
                loss=logs["loss"], lr=logs.get("learning_rate"), grad_norm=logs.get("grad_norm"),
                elapsed=round(elapsed, 3), remaining=round(elapsed / done * (state.max_steps - done), 3),
            )  # fmt: skip
            bad = [name for name in ("loss", "grad_norm") if not math.isfinite(float(logs.get(name) or 0.0))]
            if bad and args.nan != "ignore":
                text = f"{bad[0]} is {float(logs[bad[0]])} at step {state.global_step}"
                print(f"{'error' if args.nan == 'stop' else 'warning'}: {text}", file=sys.stderr, flush=True)
                if args.nan == "stop":
                    guard.fail(1, f"{text}: a lower `optim.lr`, or `optim.clip`, may help")
                    control.should_training_stop = True

        def on_train_end(self, training: Any, state: Any, control: Any, **_: Any) -> None:
            if by_ray() and guard.status:  # the guard of a worker is a copy: only an exception reaches the driver
                raise RuntimeError(guard.message)

        def on_prediction_step(self, training: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.scored += 1
            if args.kind == "eval" and time.monotonic() - self.told > 0.5:
                self.told = time.monotonic()
                loader = kwargs.get("eval_dataloader")
                log.event(event="progress", done=self.scored, total=len(loader) if loader else None, what="batches")

    return Watch()


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


def save_result(stage: str, result: dict[str, Any]) -> None:
    """result.json, beside and then renamed."""
    place = Path(stage) / "result.json"
    beside = place.with_name(".result.json")
    beside.write_text(
        json.dumps(strict(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
    )
    beside.replace(place)


def losses(stage: str) -> dict[str, Any]:
    """First and last training loss of this stage, from its own log."""
    found: list[Any] = []
    for line in (Path(stage) / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "start":
            found.clear()
        if event["event"] == "step":
            found.append(event["loss"])
    return {"first_loss": found[0], "last_loss": found[-1]} if found else {}


def train(args: argparse.Namespace) -> int:
    """Train or score, one config after the other. Status 4: another world size than planned; 1: the loss is not a number."""
    log, guard = Log(args.stage), Guard()
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if not planned(launched, args) and not by_ray():
        print(f"error: {launched} processes were started where {args.world} were planned", file=sys.stderr)
        log.event(event="end", ok=False, message=f"{launched} processes were started where {args.world} were planned")
        return WRONG_WORLD
    from llamafactory.train.tuner import run_exp

    for path in args.configs:
        config = config_of(path)
        try:
            run_exp(dict(config), callbacks=[callback(args, log, guard)])
        except SystemExit:
            if not guard.status:
                raise
        if guard.status:
            print(f"error: {guard.message}", file=sys.stderr, flush=True)
            log.event(event="end", ok=False, message=guard.message)
            return guard.status
        if log.first and not _finish(args, str(config["output_dir"])):
            log.event(event="end", ok=False, message=f"no model was written to {config['output_dir']}")
            return 1
    log.event(event="end", ok=True)
    return 0


def weights_of(folder: str) -> list[Path]:
    return [*Path(folder).glob("*.safetensors"), *Path(folder).glob("*.bin")]


def _finish(args: argparse.Namespace, output: str) -> bool:
    """Write result.json; False when the engine ended well and left no weights (shards are gathered by the next command)."""
    measured = scores_of(output)
    if args.kind == "train":
        weights = [path for path in weights_of(output) if path.name != "training_args.bin"]
        if not weights and args.result != "shards":
            print(f"error: the engine ended without writing a model to {output}", file=sys.stderr, flush=True)
            return False
        metrics: dict[str, Any] = {key: measured[key] for key in ("train_loss", "eval_loss") if key in measured}
        kind = "model" if args.result == "shards" else args.result
        save_result(args.stage, {"kind": kind, "path": output, "metrics": {**losses(args.stage), **metrics}})
        return True
    metrics = {ours: measured[theirs] for theirs, ours in NAMES.items() if theirs in measured}
    earlier = _earlier(args.stage)
    samples = samples_of(output) or earlier.get("samples", [])
    metrics = {**earlier.get("metrics", {}), **metrics}
    save_result(args.stage, {"kind": "metrics", "path": output, "metrics": metrics, "samples": samples})
    return True


def _earlier(stage: str) -> dict[str, Any]:
    """What another command of the same stage measured."""
    try:
        found = json.loads((Path(stage) / "result.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def export(args: argparse.Namespace) -> int:
    """Merge adapters into their base and save."""
    log = Log(args.stage)
    config = config_of(args.configs[0])
    config.pop("disable_tqdm", None)  # a word of training only
    log.event(event="progress", done=0, total=2, what="loading")
    from llamafactory.train.tuner import export_model

    log.event(event="progress", done=1, total=2, what="merging")
    export_model(config)
    place = Path(str(config["export_dir"]))
    weights = weights_of(str(place))
    if not (place / "config.json").exists() or not weights:
        print(f"error: the engine ended without writing a model to {place}", file=sys.stderr)
        return 1
    size = sum(path.stat().st_size for path in weights)
    save_result(args.stage, {"kind": "model", "path": str(place), "metrics": {"bytes": size}})
    log.event(event="progress", done=2, total=2, what="saved")
    log.event(event="end", ok=True)
    return 0


def fresh(args: argparse.Namespace) -> int:
    """Before a stage trains: what lies at its destination is its own, with checkpoints to go on from, or is set aside.

    The engine goes on from any checkpoint it finds in its output_dir, also from one that another recipe left there.
    """
    if os.environ.get("NODE_RANK", "0") != "0":
        return 0  # the first node's business: all see one folder
    place, mark = Path(args.configs[0]), Path(args.stage) / "started"
    own = mark.exists() and any(place.glob("checkpoint-*"))
    if place.is_dir() and any(place.iterdir()) and not own:
        number = 1
        while (aside := place.with_name(f"{place.name}.before-{number}")).exists():
            number += 1
        place.rename(aside)
        print(f"{place} held the result of another run; it is now {aside}")
    mark.touch()
    return 0


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("train", "export", "fresh"))
    parser.add_argument("configs", nargs="+", metavar="CONFIG.yaml")
    parser.add_argument("--stage", required=True)
    parser.add_argument("--world", type=int, default=1)
    parser.add_argument("--at-least", type=int, default=0, help="fewest ranks of an elastic job")
    parser.add_argument("--kind", choices=("train", "eval"), default="train")
    parser.add_argument("--result", default="adapter")
    parser.add_argument("--nan", choices=("ignore", "warn", "stop"), default="stop")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    """The exit status of a stage."""
    args = parse(argv)
    Path(args.stage).mkdir(parents=True, exist_ok=True)
    if args.work == "fresh":
        return fresh(args)
    try:
        import llamafactory  # noqa: F401
    except ImportError as error:
        print(f"error: {sys.executable} has no LLaMA-Factory ({error}); set FT_PYTHON", file=sys.stderr)
        return 1
    return train(args) if args.work == "train" else export(args)


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
    sys.path.pop(0)  # this folder: a module of ours must not stand in for one of the engine's
    leave(main(sys.argv[1:]))

"""`benchmarks.py SPEC.json`: tasks of lm-evaluation-harness on one model, in lm-eval's own environment.

Leaves result.json (each task's main score under its name, with its standard error, and all others under `TASK_SCORE`),
benchmarks.json (all that lm-eval measured) and samples-TASK.jsonl (every answer). Tasks in files need no network, where their
data is a file. The spec is described in docs/eval.md.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

if (
    not __package__
):  # run by path: its folder becomes the package `runtime`, and stands in for none of the tool's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = Path(__file__).resolve().parent.name
    __import__(__package__)

from . import events
from .report import Log, StageError, carried_out, lacks

SAMPLES = 20
OFFLINE = ("ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "DatasetNotFoundError", "MaxRetryError",
           "ProxyError", "ConnectError", "DataFilesNotFoundError")  # fmt: skip
"""Exceptions of `datasets` and `huggingface_hub` where a data set cannot be had."""


def evaluate(spec: dict[str, Any], log: Log) -> int:
    """Score the model. Raises: StageError."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    log.event("progress", done=0, total=len(spec["tasks"]) + 1, what="loading")
    import lm_eval
    from lm_eval.tasks import TaskManager

    files = {task["name"]: task["file"] for task in spec["tasks"] if task.get("file")}
    manager = TaskManager()
    _known(spec["tasks"], set(manager.all_tasks))
    model = _model(spec)
    metrics: dict[str, float] = {}
    lower: list[str] = []
    aliases: dict[str, str] = {}
    shown: list[dict[str, str]] = []
    whole: dict[str, Any] = {}
    for done, task in enumerate(spec["tasks"], 1):
        log.event("progress", done=done, total=len(spec["tasks"]) + 1, what=task["name"])
        try:
            wanted = _own(manager, files[task["name"]]) if task["name"] in files else [task["name"]]
            results = lm_eval.simple_evaluate(
                model=model, tasks=wanted, num_fewshot=task.get("shots"), limit=spec.get("limit"), log_samples=True,
                task_manager=manager, random_seed=spec["seed"], numpy_random_seed=spec["seed"],
                torch_random_seed=spec["seed"], fewshot_random_seed=spec["seed"], apply_chat_template=bool(spec.get("chat")),
            )  # fmt: skip
        except Exception as error:
            if fault := _unavailable(error, task):
                raise fault from error
            raise
        assert results is not None, "only other ranks get nothing"
        scores, worse, names = scores_of(task["name"], results)
        if task["name"] not in scores:
            raise StageError(f"`{task['name']}` gives no number", "tasks", code="FT974")
        metrics |= scores
        lower += worse
        aliases |= names
        whole[task["name"]] = {
            key: results.get(key) for key in ("results", "groups", "n-shot", "n-samples", "versions")
        }
        shown += list(_keep(results.get("samples") or {}, Path(spec["stage"]), SAMPLES - len(shown)))
        print(f"{task['name']}: {_plus_minus(task['name'], scores)}", flush=True)
    text = json.dumps(events.strict(whole), indent=1, ensure_ascii=False, default=str)
    Path(spec["stage"], "benchmarks.json").write_text(text + "\n", encoding="utf-8")
    result = {"kind": "metrics", "path": spec["stage"], "metrics": metrics, "samples": shown, "aliases": aliases}
    events.save_result(spec["stage"], result | ({"lower_is_better": lower} if lower else {}))
    return 0


def _plus_minus(name: str, scores: dict[str, float]) -> str:
    error = scores.get(f"{name}_stderr")
    return f"{scores[name]:.4g}" + (f" ± {error:.2g}" if error is not None else "")


def _known(tasks: list[dict[str, Any]], known: set[str]) -> None:
    """Raises: StageError for a task that lm-eval has not."""
    from difflib import get_close_matches

    for task in tasks:
        if not task.get("file") and task["name"] not in known:
            near = get_close_matches(task["name"], known, 1)
            help = f"did you mean `{near[0]}`?" if near else 'a task of your own: `file("tasks/mine.yaml")`'
            raise StageError(f"lm-eval has no task `{task['name']}`", "tasks", help=help, code="FT974")


def _own(manager: Any, path: str) -> list[Any]:
    """The task of a file. Data files that it names lie beside it, and `datasets` looks for them in the working directory."""
    here, file = Path.cwd(), Path(path).resolve()
    os.chdir(file.parent)
    try:
        loaded = manager.load(file.as_posix())
    finally:
        os.chdir(here)
    return list(loaded["groups"].values()) or list(loaded["tasks"].values())


def _model(spec: dict[str, Any]) -> Any:
    """The model, loaded once for all tasks. Raises: StageError."""
    from lm_eval.api.registry import get_model

    arguments: dict[str, Any] = {"pretrained": spec["model"], "trust_remote_code": bool(spec.get("trust_remote_code"))}
    arguments |= {"batch_size": spec["batch"], "dtype": spec.get("dtype", "auto")}
    if spec.get("revision"):
        arguments["revision"] = spec["revision"]
    if spec.get("max_len"):
        arguments["max_length" if spec["backend"] == "hf" else "max_model_len"] = spec["max_len"]
    if spec["backend"] == "hf":
        arguments["device"] = spec["device"]
        if spec.get("adapter"):
            arguments["peft"] = spec["adapter"]
            if Path(spec["adapter"], "tokenizer_config.json").is_file():
                arguments["tokenizer"] = spec["adapter"]  # with the tokens that were added in training
    else:
        arguments |= {"tensor_parallel_size": spec.get("gpus", 1), **spec.get("backend_options", {})}
        if spec.get("adapter"):
            arguments["lora_local_path"] = spec["adapter"]
    try:
        return get_model(spec["backend"])(**arguments)
    except (OSError, ValueError) as error:
        text = f"the model cannot be loaded: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        raise StageError(text, "model", "from", code="FT974") from error


def _unavailable(error: BaseException, task: dict[str, Any]) -> StageError | None:
    """A task whose data is not there; None for another error."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__name__ in OFFLINE or isinstance(chain, FileNotFoundError):
            where = "is not there" if task.get("file") else "is on the Hub, which does not answer from here"
            text = f"the data of `{task['name']}` {where}: {str(chain).splitlines()[0][:200] if str(chain) else ''}"
            help = 'fetch it on a machine that reaches the Hub, or write a task of your own: `file("tasks/mine.yaml")`'
            return StageError(text, "tasks", help=help, code="FT974")
        chain = chain.__cause__ or chain.__context__
    return None


def scores_of(task: str, results: dict[str, Any]) -> tuple[dict[str, float], list[str], dict[str, str]]:
    """The scores of a task or group by our names; those of which less is better; other names of scores. The first score that
    lm-eval lists is the task's own: `gsm8k`, `gsm8k_stderr`; others are called `gsm8k_exact_match_flexible_extract`.
    """
    name = task if task in results["results"] else next(iter(results["results"]))
    row = (results.get("groups") or {}).get(name) or results["results"][name]
    better = (results.get("higher_is_better") or {}).get(name) or {}
    metrics: dict[str, float] = {}
    lower: list[str] = []
    aliases: dict[str, str] = {}
    for key, value in row.items():
        metric, _, filter_ = key.partition(",")
        if metric.endswith("_stderr") or not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if metric in ("sample_len",) or not math.isfinite(value):
            continue
        error = row.get(f"{metric}_stderr,{filter_}")
        own = _word(f"{task}_{metric}" + (f"_{filter_}" if filter_ not in ("", "none") else ""))
        word = own if task in metrics else task
        if word == task:
            aliases[own] = task
        metrics[word] = float(value)
        if isinstance(error, int | float) and math.isfinite(error):
            metrics[f"{word}_stderr"] = float(error)
        if better.get(metric) is False:
            lower.append(word)
    return metrics, lower, aliases


def _word(text: str) -> str:
    return re.sub(r"\W+", "_", text).strip("_")


def _keep(samples: dict[str, list[dict[str, Any]]], stage: Path, room: int) -> Iterator[dict[str, str]]:
    """Write every answer; the first ones for the result."""
    for task, rows in samples.items():
        with (stage / f"samples-{_word(task)}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(events.strict(row), ensure_ascii=False, default=str) + "\n")
                if room > 0:
                    room -= 1
                    yield {"prompt": _prompt(row), "label": str(row.get("target", "")), "predict": _answer(row)}


def _prompt(row: dict[str, Any]) -> str:
    arguments = row.get("arguments")
    first = next(iter(arguments.values()), {}) if isinstance(arguments, dict) else (arguments or [[""]])[0]
    text = next(iter(first.values()), "") if isinstance(first, dict) else first[0] if first else ""
    return str(text)


def _answer(row: dict[str, Any]) -> str:
    """What was generated; of a choice among answers the log-likelihood of each."""
    answers = row.get("filtered_resps") or []
    if len(answers) == 1 and isinstance(answers[0], str):
        return answers[0]
    return ", ".join(f"{answer[0]:.4g}" if isinstance(answer, list | tuple) else str(answer) for answer in answers)


def main(argv: list[str]) -> int:
    spec = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    if lacks("lm_eval", "lm-eval", "FT_LM_EVAL_PYTHON"):
        return 1
    return carried_out(lambda log: evaluate(spec, log), Log(spec["stage"]), last=bool(spec.get("last", True)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

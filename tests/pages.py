"""`python -m tests.pages`: writes the tables of docs/methods.md and docs/corpus.md from what the compiler says today."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.diagnostics import Diagnostic
from ftdsl.engines.jobs import Job
from ftdsl.engines.shared.lint_view import written_by
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import Checked, check
from ftdsl.plan.plan import PlannedStage
from ftdsl.session import Session
from tests import methods
from tests.conftest import CORPUS, NOWHERE, ROOT

Found = tuple[Checked, list[Diagnostic]]


@cache
def place() -> Path:
    """A folder with the rows that recipes of tests/methods.py name."""
    folder = Path(tempfile.mkdtemp(prefix="ftdsl-pages-"))
    methods.write_rows(folder)
    return folder


def judged(text: str) -> Found:
    """A recipe checked, with its errors and warnings."""
    path = place() / "r.ft"
    path.write_text(text, encoding="utf-8")
    return _judged(path, Session(env=dict(NOWHERE)))


def _judged(path: Path, session: Session) -> Found:
    checked = check(path, Options(), session)
    found = [one for one in session.sink.ordered() if one.severity.value != "info"]
    return checked, [one for one in found if one.code != "FT903"]  # packages that are not here are another matter


def table(heads: str, rows: Iterator[str]) -> str:
    return "\n".join([heads, re.sub(r"[^|]+", "---", heads), *rows])


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


def sentence(one: Diagnostic) -> str:
    """A diagnostic in one line."""
    text = f"{one.code}: {one.message}" + (f"; {one.help}" if one.help else "")
    return escaped(re.sub(r"[\d.,]+ GiB", "… GiB", text))  # estimates get better; what does not fit stays


# --- docs/methods.md: words and parameters


def compiled(row: methods.Row) -> tuple[PlannedStage, Job, list[Diagnostic]]:
    """The one stage of a row, as it is planned and lowered."""
    checked, found = judged((methods.CARD if row.card else methods.HEAD) + row.stage("it"))
    assert checked.plan is not None, row.label
    job = next(job for job in checked.jobs if job.key == "it")
    return checked.plan.stage("it"), job, found


def parameters(job: Job) -> dict[str, Any]:
    """What the engine is told of a stage."""
    found: dict[str, Any] = next(document.data for document in job.documents if document.path.endswith("train.yaml"))
    return found


def becomes(row: methods.Row, planned: PlannedStage, job: Job) -> str:
    """The parameters that words of the stage itself wrote, and what the runtime is told; of the method where it is the matter."""
    origins = planned.stage.origins
    passed = ("model", "data") if row.group == "method" else ("model", "data", "lora.rank")
    parts = [f"`finetuning_type: {planned.method}`"] if row.group == "method" else []
    for name, value in parameters(job).items():
        keys = [
            key for key, _ in written_by(planned.engine.name, planned.stage.kind).get(name, ()) if key not in passed
        ]
        if any(key in origins and origins[key].kind == "stage" for key in keys):
            parts.append(f"`{name}: {value}`")
    added = next((document.data for document in job.documents if document.path.endswith("extend.json")), {})
    return ", ".join([*parts, *(f"`extend.json`: {name}" for name in added)]) or "nothing: it is so"


def word_rows(group: str) -> Iterator[str]:
    for row in methods.TABLE:
        if row.group != group:
            continue
        planned, job, found = compiled(row)
        assert found == [], (row.label, [one.message for one in found])
        runs = f"no: {row.card}" if row.card else "run"
        yield f"| `{row.label}` | {becomes(row, planned, job)} | {runs} | {row.know} |"


def words() -> str:
    groups = dict.fromkeys(row.group for row in methods.TABLE)
    heads = "| words | become | on a CPU | to know |"
    return "\n\n".join(f"### {group.capitalize()}\n\n{table(heads, word_rows(group))}" for group in groups)


# --- docs/methods.md: what goes with what

DOWN = {
    "checkpointing": "memory { checkpointing = full }",
    "activations offloaded": "memory { checkpointing = full, offload_activations = true }",
    "8-bit AdamW": "optim { name = adamw_8bit }",
    "paged 8-bit AdamW": "optim { name = paged_adamw_8bit }",
    "GaLore": "optim { name = galore(rank = 8) }",
    "APOLLO": "optim { name = apollo(rank = 8) }",
    "BAdam": "optim { name = badam(mode = layer) }",
    "Adam-mini": "optim { name = adam_mini }",
    "Muon": "optim { name = muon }",
    "optimizer offloaded": "parallel { offload = [optimizer] }",
    "parameters offloaded": "parallel { offload = [optimizer, params] }",
    "base in 4 bits": "quantize { bits = 4 }",
    "pure bf16": "precision = pure_bf16",
    "Liger": "kernels = liger",
    "Unsloth": "kernels = unsloth",
    "neat packing": "packing = neat",
}
ACROSS = {
    "full": "full {}",
    "freeze": "freeze {}",
    "LoRA": "lora { rank = 8 }",
    "DoRA": "lora { rank = 8, variant = dora }",
    "PiSSA": "lora { rank = 8, init = pissa }",
    "OFT": "oft {}",
    "QLoRA": "lora { rank = 8 }, quantize { bits = 4 }",
    "ZeRO-2": "full {}, parallel { strategy = zero2 }, hardware { count = 2 }",
    "ZeRO-3": "full {}, parallel { strategy = zero3 }, hardware { count = 2 }",
    "ZeRO-3, LoRA": "lora { rank = 8 }, parallel { strategy = zero3 }, hardware { count = 2 }",
    "FSDP2": "full {}, parallel { strategy = fsdp2 }, hardware { count = 2 }",
    "FSDP2, LoRA": "lora { rank = 8 }, parallel { strategy = fsdp2 }, hardware { count = 2 }",
}


@cache
def pair(down: str, across: str) -> Found:
    """Both in one stage, on cards large enough."""
    words, more = ACROSS[across], DOWN[down]
    if "parallel {" in words and "parallel {" in more:
        more = more.replace("parallel { offload = ", "parallel.offload = ").removesuffix(" }")
    if "quantize" in words and "quantize" in more:
        more = ""
    lr = "1e-5" if "full" in words or "freeze" in words else "1e-4"
    text = f"""
hardware {{ gpu = h100(80GB), memory = 512GB }}
optim {{ lr = {lr} }}
sft it {{
  model = hf("Qwen/Qwen3-0.6B"), data = file("rows.jsonl"), template = qwen3_nothink, duration = 100 steps
  precision = bf16
  {words}
  {more}
}}
"""
    if more.startswith("precision"):
        text = text.replace("  precision = bf16\n", "")
    return judged(text)


def cell(down: str, across: str) -> str:
    _, found = pair(down, across)
    return " ".join(dict.fromkeys(one.code for one in found)) or "yes"


def together() -> str:
    rows = (f"| {down} | " + " | ".join(cell(down, across) for across in ACROSS) + " |" for down in DOWN)
    return table("| | " + " | ".join(ACROSS) + " |", rows)


def why() -> str:
    """What each refusal of the table above says, once."""
    said: dict[str, str] = {}
    for down in DOWN:
        for across in ACROSS:
            for one in pair(down, across)[1]:
                said.setdefault(f"{one.code} {one.message}", f"- {down} with {across}, {sentence(one)}")
    return "\n".join(said.values())


# --- docs/corpus.md


def corpus_row(path: Path) -> str:
    session = Session(env={**NOWHERE, "MODEL": "x", "HF_HOME": "/tmp"}, elsewhere=True)
    checked, found = _judged(path, session)
    stages = len(checked.plan.stages) if checked.plan else 0
    errors = [one for one in found if one.severity.value == "error"]
    said = "<br>".join(dict.fromkeys(map(sentence, found))) or "nothing"
    return f"| {path.name} | {stages} | {'refused' if errors else 'compiles'} | {said} |"


def corpus() -> str:
    recipes = [path for path in CORPUS if path.stem not in ("common", "profiles")]
    return table("| recipe | stages | | what `ftc check --no-data` says |", map(corpus_row, recipes))


# --- docs/corpus.md: the handbook

SMALL_DATA = 'data = file("rows.jsonl"), duration = 5500 steps'


class Lesson:
    """Something the handbook teaches: where, as words of a stage, and where it is shown."""

    def __init__(self, chapter: str, what: str, words: str, shown: str, rest: str = "") -> None:
        self.chapter, self.what, self.words, self.shown, self.rest = chapter, what, words, shown, rest

    def text(self) -> str:
        return f"""
hardware {{ gpu = h100(80GB), count = 4, memory = 1TB }}
sft {{
  model = hf("Qwen/Qwen3-14B"), {SMALL_DATA}
  {self.words}
}}
{self.rest}
"""


_GUARD = "run in tests/real/test_guard.py"
_RUN = "run in tests/real/test_methods.py"
_XFORMERS = "its kernel is in torch's sdpa, and transformers has no other way to it; `attention = xformers` is told so"
_14B = "examples/handbook_14b.ft"
_SEARCH = "search { sampler = tpe, goal = minimize(sft.eval_loss), trials = 100 }"
HANDBOOK = [
    Lesson("1", "full fine-tuning", "full {}, optim { name = adamw, lr = 1e-5 }, parallel { strategy = zero3 }", _RUN),
    Lesson("1", "LoRA", "lora { rank = 8 }", _RUN),
    Lesson("1", "QLoRA", "lora { rank = 8 }, quantize { bits = 4 }", f"{_RUN}, examples/qlora_24gb.ft"),
    Lesson("1", "adapters for several tasks", "adapter { size = 64 }", "run in tests/real/test_trl_policy.py"),
    Lesson("1", "prefix tuning", "prefix { tokens = 30 }", "run in tests/real/test_trl.py, on TRL"),
    Lesson("1", "the method by memory", "", "the table below, `ftc plan`"),
    Lesson(
        "2.1",
        "three phases of the rate",
        "lora {}, optim { lr = 1e-4, schedule = [warmup(500 steps, start = 50%), hold(3000 steps),"
        " decay(2000 steps, to = 1%)] }",
        _RUN,
    ),
    Lesson(
        "2.2",
        "a batch that grows",
        "lora {}, batch { ramp = [phase(until = 1000 steps, micro = 2, accumulate = 8), phase(micro = 8, accumulate = 2)] }",
        "run in tests/real/test_ramp.py",
    ),
    Lesson("2.3", "FP32, to look for faults", "lora {}, precision = fp32", _RUN),
    Lesson("2.3", "AMP in 16 bits", "lora {}, precision = fp16", "the engine's parser"),
    Lesson("2.3", "BF16", "lora {}, precision = bf16", _RUN),
    Lesson(
        "2.3",
        "4 bits, NF4, constants quantised too",
        "lora {}, precision = bf16, quantize { bits = 4, scheme = nf4, double = true }",
        _RUN,
    ),
    Lesson("3.1", "FlashAttention 2", "lora {}, attention = flash2", "the engine's parser"),
    Lesson("3.1", "attention dropout", "lora {}, attention_dropout = 10%", _RUN),
    Lesson("3.1", "hidden dropout of 0", "lora {}, hidden_dropout = 0", "no effect to show: it is 0"),
    Lesson("3.1", "hidden dropout of more", "lora {}, hidden_dropout = 10%", _RUN),
    Lesson("3.1", "softmax in FP32", "lora {}, upcast = [softmax]", f"{_RUN}; every attention has it so anyway"),
    Lesson("3.1", "xFormers", "lora {}, attention = sdpa", f"{_RUN}; {_XFORMERS}"),
    Lesson("3.2", "activations computed again", "lora {}, memory { checkpointing = full }", _RUN),
    Lesson(
        "3.2",
        "parameters and optimizer in main memory",
        "full {}, optim { lr = 1e-5 }, parallel { strategy = zero3, offload = [optimizer, params] }",
        "tests/real/test_stages.py and the golden files",
    ),
    Lesson("3.2", "8-bit Adam", "lora {}, optim { name = adamw_8bit }", _RUN),
    Lesson(
        "3.2",
        "8-bit Adam in main memory",
        "full {}, optim { name = adamw_8bit, lr = 1e-5 }, parallel { strategy = zero3, offload = [optimizer] }",
        "",
    ),
    Lesson(
        "3.3", "data parallel by DeepSpeed", "lora {}, launch { with = deepspeed }, parallel { strategy = zero2 }", _14B
    ),
    Lesson(
        "3.3",
        "tensor and pipeline parallel",
        "full {}, optim { lr = 1e-5 }, parallel { strategy = megatron, tensor = 2, pipeline = 2 }",
        "docs/rules.md, the golden files; its numbers run by megatron-core in tests/megatron/test_3d.py",
    ),
    Lesson(
        "3.3",
        "3D",
        "full {}, optim { lr = 1e-5 }, hardware { gpu = h100(80GB), count = 8, nodes = 2 },"
        " parallel { strategy = megatron, tensor = 4, pipeline = 2, data = 2 }",
        "",
    ),
    Lesson(
        "4.1", "a dashboard", "lora {}, track { to = [wandb], every = 5 steps }", "`ftc run`'s own view needs no word"
    ),
    Lesson(
        "4.1", "a loss that is not a number ends the run", "lora {}, guard { nan = stop }", "tests/real/test_stages.py"
    ),
    Lesson("4.1", "a spike of the loss is seen", "lora {}, guard { spike = warn(factor = 2) }", _GUARD),
    Lesson("4.2", "gradients clipped", "lora {}, optim { clip = 1.0 }", "examples/handbook_opening.ft"),
    Lesson("4.2", "steps with large gradients skipped", "lora {}, guard { grad_norm = skip(5.0) }", _GUARD),
    Lesson(
        "4.3",
        "both losses side by side",
        "lora {}, evaluate { data = 10%, every = 100 steps }",
        "`ftc run` shows both; it does not name what it sees",
    ),
    Lesson("5.1", "the 14B configuration", "lora { rank = 64, alpha = 128, dropout = 10% }, optim { lr = 3e-5 }", _14B),
    Lesson(
        "5.2",
        "Optuna's search",
        "lora { rank ~ uniform(8 .. 128) }, optim { lr ~ log(1e-6 .. 1e-4), warmup ~ uniform(0% .. 20%) },"
        " batch { global ~ choice(8, 16, 32) }, evaluate { data = 10% }",
        "examples/search.ft; run in tests/real/test_search.py",
        _SEARCH,
    ),
    Lesson("5.3", "checkpoints in rotation", "lora {}, save { every = 100 steps, keep = 5 }", _RUN),
    Lesson(
        "5.3",
        "early stop",
        "lora {}, evaluate { data = 10%, every = 100 steps }, save { every = 100 steps, best_by = eval_loss },"
        " guard { patience = 3 }",
        _RUN,
    ),
    Lesson("5.3", "rolling back", "lora {}, guard { nan = rollback }", _GUARD),
    Lesson("6.1", "MoE-LoRA", "lora { experts = 4 }", "run in tests/real/test_trl_policy.py"),
    Lesson("6.2", "dynamic rank", "lora { rank_budget = 16 }", "run in tests/real/test_trl.py, on TRL"),
]


def lesson_row(lesson: Lesson) -> str:
    path = place() / "r.ft"
    path.write_text(lesson.text(), encoding="utf-8")
    session = Session(env=dict(NOWHERE))
    checked, _ = _judged(path, session)
    searched = checked.resolved is not None and any(stage.dimensions for stage in checked.resolved.stages)
    said = [one for one in session.sink.ordered() if one.severity.value != "info"]
    stands = sentence(said[0]) if said else "`ftc run` searches" if searched else "compiles"
    words = f"`{lesson.words}`" if lesson.words else "(no method said)"
    return f"| {lesson.chapter} | {lesson.what} | {words} | {stands} | {lesson.shown} |"


def handbook() -> str:
    return table("| chapter | what | words | where it stands | shown by |", map(lesson_row, HANDBOOK))


MODELS = ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-4B", "Qwen/Qwen3-8B", "Qwen/Qwen3-14B", "Qwen/Qwen3-32B")
CARDS = ("rtx3090", "rtx4090", "a100(40GB)", "h100(80GB)")


def method_of(model: str, card: str) -> str:
    """What the planner takes when a recipe leaves the method open: with the strategy, what is offloaded and which kernels."""
    checked, _ = judged(
        f'hardware {{ gpu = {card} }}\nsft {{ model = hf("{model}"), data = file("rows.jsonl"), duration = 1 epoch }}\n'
    )
    assert checked.plan is not None
    planned = checked.plan.stages[0]
    settings = planned.stage.settings
    parts = [planned.method]
    parts += [f"{settings.get('quantize.bits')} bits"] if settings.has("quantize") else []
    parts += [planned.strategy] if planned.strategy else []
    parts += (
        [" and ".join(settings.names("parallel.offload")) + " offloaded"] if settings.names("parallel.offload") else []
    )
    return ", ".join(parts + [name for name in settings.names("kernels") if name != "none"])


def chosen() -> str:
    rows = (f"| {model} | " + " | ".join(method_of(model, card) for card in CARDS) + " |" for model in MODELS)
    return table("| | " + " | ".join(CARDS) + " |", rows)


def adapters() -> str:
    """PEFT's other adapters: members of `lora.variant` and `lora.init`."""
    rows = []
    for key in ("variant", "init"):
        for name, entry in catalog.variants(key).items():
            takes = ", ".join(f"`{part}`" for part in ("rank", "alpha", "dropout") if entry.get(part))
            merges = "yes" if entry.get("merges", True) else "no"
            rows.append(f"| `{key} = {name}` | {entry['about']} | {takes} | {merges} |")
    return table("| member | what it trains | takes | merges |", iter(rows))


TABLES: dict[str, dict[str, Callable[[], str]]] = {
    "methods.md": {"words": words, "together": together, "why": why, "adapters": adapters},
    "corpus.md": {"corpus": corpus, "handbook": handbook, "chosen": chosen},
}


def page(name: str) -> str:
    """A page with its tables as they are today."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for mark, made in TABLES[name].items():
        start, end = f"<!-- {mark}: python -m tests.pages -->", f"<!-- end of {mark} -->"
        before, found, rest = text.partition(start)
        assert found, f"{name} has no {start}"
        text = f"{before}{start}\n\n{made()}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    import sys

    sys.setrecursionlimit(20_000)
    for name in TABLES:
        (ROOT / "docs" / name).write_text(page(name), encoding="utf-8")

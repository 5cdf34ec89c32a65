"""Every message that the tables of wrong recipes and configurations provoke, as a person reads them: tests/golden/messages.txt.

Wording is part of the product: `make golden` writes the file, a change of it is read like a change of code. Each message is
there once, under its code, with the text beside the span (`label`), what else is pointed at (`see`), and `help`.
"""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ftdsl.diagnostics import Diagnostic
from ftdsl.diagnostics.codes import CODES
from ftdsl.diagnostics.meanings import meanings
from ftdsl.importers.checking import check as check_other
from ftdsl.language.resolve.resolve import Options
from ftdsl.lint.about import Example, examples, sections
from ftdsl.lint.check import load
from ftdsl.pipeline import check, report_search
from ftdsl.session import Session
from tests.conftest import ALPACA, NOWHERE, ROWS, small
from tests.engines import test_limits as limits
from tests.engines import test_parallel as parallel
from tests.language import test_messages as language
from tests.language import test_post_training as post_training
from tests.lint import test_wrong as wrong
from tests.lint.reading import lint
from tests.plan import test_fitting as fitting
from tests.plan import test_measured as measured
from tests.run import test_data as data

HEAD = """\
# Every message that the tests' tables provoke (`make golden` writes this; read what changes as you would read code)
"""

MORE = [
    small("lora { rank = 8"),
    small('to = "."'),
    small('resume = file("ck")'),
    small("attention = eager seed = 3"),
    small(r'system = "a \q b"'),
    small('system = "{1 2} b"'),
    small("seed in []"),
    small("optim { lr ~ 3 }"),
    small("template = qwen3") + 'dpo from sft { template = llama3, data = file("pairs.jsonl"), duration = 1 epoch }\n',
    small("optim { lr ~ log(1e-6 .. 1e-4) }", "search { trials = 20, goal = minimize(eval_loss) }"),
    fitting.recipe("rtx4090", stage=fitting.WHOLE),
    *(measured.RECIPE.replace("GPU", "h100(80GB)").replace("BUDGET", budget) for budget, *_ in measured.BUDGETS),
]
"""Recipes for messages that no other table has."""
ON_THE_COMMAND_LINE = [Options(params=("x=3",)), Options(profiles=("laptpo",))]
NOT_RECIPES = {
    "v1.yaml": "model: Qwen/Qwen3-0.6B\ntrain_dataset: x.yaml\n",
    "other.yaml": "colour: red\n",
    "broken.yaml": "a: [1\n",
    "nested.json": '{"zero_optimization": {"stage": 2}, "tokens": 1}\n',
    "outside.sh": "llamafactory-cli train --stage sft --model_name_or_path $MODEL --learning_rate $1 --dataset rows\n",
    "cut.sh": "llamafactory-cli train --stage sft \\\n  # --lora_rank 8 \\\n  --model_name_or_path a/b --dataset rows\n",
    "blank.sh": "llamafactory-cli train --stage sft \\ \n  --model_name_or_path a/b --dataset rows\n",
    "other.sh": "trl sft --model_name_or_path a/b\nllamafactory-cli train not/here.yaml\n",
    "nothing.sh": "rsync -a b c\n",
    "train.py": "from trl import SFTTrainer\n",
    "train.bat": "@echo off\n",
    "trl.yaml": "model_name_or_path: a/b\ndataset_name: c/d\nmax_length: 8\nuse_peft: true\noutput_dir: e\n",
    "dataset_info.json": '{"rows": {"file_name": "r.json", "format": "sharegpt"}}\n',
}
ELSEWHERE = {
    "FT041", "FT049", "FT085", "FT086", "FT089", "FT095", "FT096", "FT097",
    "FT510", "FT520", "FT524", "FT900", "FT910", "FT911", "FT912",
    "FT950", "FT951", "FT952", "FT953", "FT954", "FT955", "FT956", "FT958", "FT970", "FT971", "FT973", "FT975", "FT976", "FT977",
}  # fmt: skip
"""Codes of runs, locks, targets and upgrades, which no check of a file gives: fewer, never more."""

Recipe = tuple[str, Mapping[str, str | bytes]]


def recipes() -> Iterator[Recipe]:
    """Text, and files beside it."""
    for about in meanings().values():
        for name in ("stage", "file"):
            if name in about:
                yield (small(about[name]) if name == "stage" else small() + about[name] + "\n"), ROWS
    for text, *_ in language.CASES:
        yield small(text), ROWS
    for text, *_ in language.FILES:
        yield small('system = "{x}"' if "param" in text else "", text), ROWS
    for kind, gpu, stage, *_ in limits.CASES:
        rows = {"rows.jsonl": limits.PAIRS if kind == "dpo" else ALPACA}
        yield limits.RECIPE.format(kind=kind, gpu=gpu, stage=stage), rows
    for stage, *_ in parallel.WRONG:
        yield parallel.recipe(parallel.FULL + stage), ROWS
    for stage, _, _, strategy in parallel.PASSTHROUGH:
        yield parallel.recipe(f"{stage}\n  parallel {{ strategy = {strategy or 'zero3'} }}"), ROWS
    for stage, *_ in parallel.LIMITS:
        yield parallel.recipe(stage), ROWS
    for stage, machine, *_ in parallel.SILENT:
        yield parallel.recipe(stage, **machine), ROWS
    for text in MORE:
        yield text, {**ROWS, "pairs.jsonl": limits.PAIRS}
    for text in wrong.RECIPES:
        yield wrong.recipe_of(text), ROWS
    for rewards, code, _ in post_training.REWARDS:
        if code:
            yield post_training.grpo(rewards), post_training.FILES
    for more, codes, _ in post_training.TEACHERS:
        if codes:
            yield post_training.distill(more), post_training.FILES
    for more, severity in post_training.ROOM:
        if severity:
            yield post_training.grpo(more=more), {**post_training.FILES, "rows.jsonl": post_training.LONG_PROMPTS}
    for block, _ in data.REFUSED:
        yield f"data mixed {{ {block} }}\n", data.files()


def configurations() -> Iterator[Example]:
    """Of every rule, and of our own invention."""
    for rule in load().values():
        yield from (one for one in examples(sections(rule)["Example"]) if "recipe.ft" not in one.files)
    yield from (Example({"train.yaml": text}) for text in wrong.CONFIGS)


def provoked() -> Iterator[Diagnostic]:
    """What all of them say, infos too."""
    with tempfile.TemporaryDirectory() as folder:
        for at, (text, files) in enumerate(recipes()):
            yield from found(Path(folder) / str(at), {"recipe.ft": text, **files})
        for at, options in enumerate(ON_THE_COMMAND_LINE):
            yield from found(Path(folder) / f"options{at}", {"recipe.ft": small(), **ROWS}, options)
        for name, text in NOT_RECIPES.items():
            yield from found(Path(folder) / "others", {name: text})
    for example in configurations():
        yield from lint(example)


def found(place: Path, files: Mapping[str, str | bytes], options: Options | None = None) -> list[Diagnostic]:
    """What a check of the first file says, with the others beside it."""
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    session, first = Session(env=dict(NOWHERE)), place / next(iter(files))
    if first.suffix != ".ft":
        check_other(first, session)
        return session.sink.ordered()
    checked = check(first, options or Options(), session)
    if checked.resolved is not None:
        report_search(checked.resolved, session)  # as a compile would
    return session.sink.ordered()


def entry(one: Diagnostic) -> str:
    """A message with all that is shown beside it."""
    lines = [f"{one.severity.value}: {one.message}"]
    parts = [("label", one.label), *(("see", label.text) for label in one.labels), ("help", one.help)]
    parts += [("fix", one.fix.title)] if one.fix else []
    lines += [f"    {name}: {text}" for name, text in parts if text]
    text = "\n".join(f"  {line}" for line in lines)
    text = re.sub(r"[\d.,]+ (GiB|GB|s|h|min|USD)\b", r"… \1", text)  # estimates get better; the wording stays
    return re.sub(r"`duration = \d+ steps`", "`duration = … steps`", text)


def text_of(found: Iterable[Diagnostic]) -> str:
    """The file: by code, each message once."""
    entries: defaultdict[str, set[str]] = defaultdict(set)
    for one in found:
        entries[one.code].add(entry(one))
    parts = (f"\n{code} {CODES[code]}\n" + "\n".join(sorted(entries[code])) + "\n" for code in sorted(entries))
    return HEAD + "".join(parts)

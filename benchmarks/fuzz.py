"""Wrong input by the thousand: recipes, YAML, JSON, scripts and data, mutated, through the verbs that read and execute nothing.

    python -m benchmarks.fuzz [--recipes 3000] [--files 3000] [--rows 1000] [--seed 1] [--jobs 1] [--minutes N] [--keep FOLDER]
    make fuzz     # the nightly form: 200,000 inputs

Whatever comes, a verb ends with 0, 1 or 2 and in less than `LIMIT` seconds of processor time, each part of `PART` inputs (a
process of its own) in less than `MEMORY` MiB, what it says stands inside the file, and what it imports is a recipe that can be
read and runs no shell. Prints each traceback once, with the input that brought it about in `--keep`. Files are mutated as text,
and by their structure: any value, key or word becomes one of tests/hostile.py.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import gzip
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import resource
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftdsl import catalog
from ftdsl.catalog.vocabulary import vocabulary
from ftdsl.cli.main import main as ftc
from ftdsl.diagnostics import Sink
from ftdsl.importers import shell
from ftdsl.language import tree
from ftdsl.language.parser import parse
from ftdsl.language.yaml_tree import read
from ftdsl.source import Source
from tests.hostile import VALUES

ROOT = Path(__file__).parent.parent
LIMIT = 5
MEMORY = 500

ODD = (
    "0", "-1", "1", "3", "1e400", "nan", "-0.0", "0.5", "3%", "-5%", "300%", "1 epoch", "0 steps", "1/0", "10 GiB", "5 h",
    "true", "null", "auto", "none", "all", '""', '"x"', '"é\\n"', "[]", "[[]]", "[1, x]", "{}", "hf()", 'hf("a/b", 3)', "file()",
    'file("x.jsonl")', "base", "sft", "sft.eval", "env(X)", "lowest(loss)", "at_least(1)", "galore(rank = 0)", "pissa()",
    "9" * 40, "1 .. 2", "2 .. 1", "cosine", "zero3", "fsdp2", "x ++ y", "lora.rank * 2", "999999999999 steps",
)  # fmt: skip
ODD_YAML = (
    "0", "-1", "1e400", ".nan", ".inf", "0.5", "'1e-4'", "true", "no", "null", "~", "''", "[]", "{}", "[1, {a: b}]",
    "{a: [1]}", "2024-01-01", "0o17", "1:30", "9" * 40, "x", "lora", "full", "dpo", "a,b,,c", "&a 3", "*a", "!!python/object x",
    "|\n  text", "'unclosed", "\"\\x\"", "auto", "all", "ds.json", "é",
)  # fmt: skip


PART = 200
"""Inputs of one process: the next part has a fresh one, so that nothing which one leaves behind hides in another."""


@dataclass
class Part:
    """Inputs of one kind, by number. crashes: description -> times; peak: MiB."""

    kind: str
    first: int
    last: int
    crashes: dict[str, int] = field(default_factory=dict)
    peak: int = 0


def main() -> int:
    """Exit 1 when anything crashed or hung, or a process took more than `MEMORY` MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", type=int, default=3000)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=1e6, help="stop after so many; the kinds take turns")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-crashes"))
    args = parser.parse_args()
    began, count, peak = time.monotonic(), 0, 0
    crashes: dict[str, int] = {}
    counts = {"recipe": args.recipes, "document": args.files, "rows": args.rows}
    todo = [(part, args.seed, args.keep.absolute()) for part in parts(counts)]
    with multiprocessing.get_context("fork").Pool(args.jobs, maxtasksperchild=1) as pool:
        for part in pool.imap(run_part, todo):
            count, peak = count + part.last - part.first, max(peak, part.peak)
            for description, times in part.crashes.items():
                crashes[description] = crashes.get(description, 0) + times
            if count % 5000 < PART:
                rate = count / (time.monotonic() - began)
                print(f"{count:,} inputs, {rate:.1f} a second, {peak} MiB, {len(crashes)} kinds of crash", flush=True)
            if time.monotonic() - began > 60 * args.minutes:
                pool.terminate()
                break
    for description, times in crashes.items():
        print(f"--- {times} times\n{description}")
    rate = count / (time.monotonic() - began)
    print(f"{count:,} inputs, {rate:.1f} a second, {len(crashes)} kinds of crash, {peak} MiB")
    return int(bool(crashes) or peak > MEMORY)


def parts(counts: dict[str, int]) -> Iterator[Part]:
    """All inputs in parts, the kinds in turns, as often as they have inputs."""
    numbered = [
        ((first + PART / 2) / count, Part(kind, first, min(first + PART, count)))
        for kind, count in counts.items()
        for first in range(0, count, PART)
    ]
    yield from (part for _, part in sorted(numbered, key=lambda pair: pair[0]))


def run_part(given: tuple[Part, int, Path]) -> Part:
    """The part with its crashes and its peak of memory; in a process of its own."""
    part, seed, keep = given
    case = {"recipe": recipe, "document": document, "rows": rows}[part.kind]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", folder, dirs_exist_ok=True)
        shutil.copytree(ROOT / "tests" / "corpus", folder, dirs_exist_ok=True)
        os.chdir(folder)
        os.environ["FTC_TRACEBACK"] = "1"
        for number in range(part.first, part.last):
            case(random.Random(f"{seed} {number}"), part.crashes, keep)
        os.chdir(ROOT)
    part.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return part


def recipe(dice: random.Random, crashes: dict[str, int], keep: Path) -> None:
    """A mutated recipe through the verbs that read one."""
    seeds = recipes()
    text = dice.choice(seeds)
    for _ in range(dice.choice((1, 1, 2, 4))):
        text = dice.choice(RECIPE)(text, dice)
    Path("fuzzed.ft").write_text(text, encoding="utf-8")
    Path("other.ft").write_text(dice.choice(seeds), encoding="utf-8")
    verbs = [["check", "fuzzed.ft", "--output-format", "json"], ["plan", "fuzzed.ft"], ["fmt", "--diff", "fuzzed.ft"]]
    more = [["check", "--diff", "--unsafe-fixes", "fuzzed.ft"], ["diff", "fuzzed.ft", "other.ft"], ["graph", "fuzzed.ft"],
            ["upgrade", "fuzzed.ft", "--to", "transformers==5.15", "--diff"], ["explain", "fuzzed.ft", "sft.optim.lr"],
            ["plan", "fuzzed.ft", "--apply", "1", "--diff"], ["check", "--output-format", "sarif", "fuzzed.ft"]]  # fmt: skip
    for verb in (*verbs, dice.choice(more)):
        attempt(verb, "fuzzed.ft", crashes, keep)


def document(dice: random.Random, crashes: dict[str, int], keep: Path) -> None:
    """A mutated YAML, JSON or script through the verbs that read one."""
    name, text = dice.choice(documents())
    mutations = SCRIPT if name.endswith(".sh") else YAML
    for _ in range(dice.choice((1, 1, 2, 4))):
        text = dice.choice(mutations)(text, dice)
    name = f"fuzzed{Path(name).suffix}"
    Path(name).write_text(text, encoding="utf-8", errors="replace")
    beside(dice)
    verbs = [["check", name, "--output-format", "json"], ["import", name, "-o", IMPORTED, "--force"]]
    more = [["check", "--diff", "--unsafe-fixes", name], ["diff", name, "quickstart.ft"], ["import", name, "--verify", "--json"],
            ["upgrade", name, "--to", "transformers==5.15", "--diff"], ["upgrade", name, "--to", "llamafactory==0.9.0", "--diff"],
            ["diff", name, "other.yaml"]]  # fmt: skip
    Path("other.yaml").write_text(dice.choice([t for n, t in documents() if n.endswith(".yaml")]), encoding="utf-8")
    Path(IMPORTED).unlink(missing_ok=True)
    for verb in (*verbs, dice.choice(more)):
        attempt(verb, name, crashes, keep)
    if Path(IMPORTED).exists():
        attempt(["check", IMPORTED, "--output-format", "json"], IMPORTED, crashes, keep)


def rows(dice: random.Random, crashes: dict[str, int], keep: Path) -> None:
    """Mutated rows, of which a check looks at the first, named by a recipe, its data stage and a YAML."""
    name, seeds = dice.choice(ROWS)
    text = seeds if name.endswith((".csv", ".txt")) else "\n".join(dice.choice(seeds.split("\n")) for _ in range(4))
    if name.endswith(".json"):
        text = f"[{text.replace(chr(10), ', ')}]"
    mutations = (*ANY, cut) if name.endswith((".csv", ".txt")) else (*ANY, cut, hostile_row, hostile_row, hostile_row)
    for _ in range(dice.choice((1, 1, 2, 4))):
        text = dice.choice(mutations)(text, dice)
    content = text.encode(dice.choice(("utf-8", "utf-8", "utf-8", "utf-16", "gbk")), "replace")
    ending = dice.choice(("", "", "", ".gz"))
    Path(f"fuzzed{name}{ending}").write_bytes(gzip.compress(content) if ending else content)
    kind = dice.choice(("sft", "sft", "dpo", "kto", "pretrain", "reward"))
    model = 'model = hf("Qwen/Qwen3-8B"), template = qwen3, max_len = 64, lora { rank = 8 }, duration = 3 steps'
    format = dice.choice(("", "", ", format = openai", ", format = sharegpt", ", format = alpaca"))
    drop = dice.choice(("", "", ", drop = [broken(1%)]", ", drop = [empty, no_text, bad_roles]"))
    source = f'file("fuzzed{name}{ending}"{format})'
    Path("direct.ft").write_text(f"{kind} {{ {model}, data = {source} }}\n", encoding="utf-8")
    staged = f'data d {{ source = [{source}, file("capitals.jsonl")]{drop} }}\n{kind} {{ {model}, data = d }}\n'
    Path("staged.ft").write_text(staged, encoding="utf-8")
    entry = {"file_name": f"fuzzed{name}{ending}", "formatting": dice.choice(("alpaca", "sharegpt", "openai"))}
    Path("dataset_info.json").write_text(json.dumps({"rows": entry}), encoding="utf-8")
    text = (
        f"stage: {dice.choice(('sft', 'dpo', 'kto', 'pt'))}\nmodel_name_or_path: a/b\ndataset: rows\ndataset_dir: .\n"
    )
    Path("rows.yaml").write_text(text + "do_train: true\noutput_dir: o\ntemplate: qwen\n", encoding="utf-8")
    for file in ("direct.ft", "staged.ft", "rows.yaml"):
        attempt(["check", file, "--output-format", "json"], file, crashes, keep)


ROWS = [
    (".jsonl", '{"instruction": "q", "input": "", "output": "a", "history": [["x", "y"]], "system": "s"}\n'
     '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": [{"name": "f"}]}\n'
     '{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "images": ["p.png"]}\n'
     '{"prompt": [{"role": "user", "content": [{"type": "text", "text": "q"}]}], "chosen": [], "rejected": [{"role": "x"}]}\n'
     '{"input": {"messages": [{"role": "user", "content": "q"}]}, "preferred_output": [], "non_preferred_output": 1}'),
    (".json", '{"instruction": "q", "input": "", "output": "a"}\n{"prompt": "q", "completion": "a", "label": true}\n'
     '{"text": "t"}'),
    (".csv", "instruction,input,output\nq,,a\nq,,a\n"),
    (".txt", "a text\n\nanother\n"),
]  # fmt: skip

IMPORTED = "imported.ft"


def beside(dice: random.Random) -> None:
    """What configurations name: lists of data, DeepSpeed and accelerate files, mutated now and then."""
    Path("data").mkdir(exist_ok=True)
    for name, text in BESIDE.items():
        for _ in range(dice.choice((0, 0, 0, 1, 3))):
            text = dice.choice(STRUCTURED)(text, dice)
        Path(name).write_text(text, encoding="utf-8", errors="replace")


BESIDE = {
    "data/dataset_info.json": """{
  "capitals": {"file_name": "capitals.jsonl", "columns": {"prompt": "instruction"}},
  "x": {"hf_hub_url": "a/b", "split": "train", "num_samples": 5, "formatting": "sharegpt", "tags": {"role_tag": "from"}}
}""",
    "ds.json": """{
  "zero_optimization": {"stage": 3, "offload_optimizer": {"device": "cpu"}}, "bf16": {"enabled": "auto"},
  "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}}, "aio": {"block_size": 1048576}
}""",
    "fsdp.yaml": "distributed_type: FSDP\nnum_processes: 2\nfsdp_config: {fsdp_version: 2, fsdp_offload_params: true}\n",
}


def attempt(verb: list[str], name: str, crashes: dict[str, int], keep: Path) -> None:
    """Run one verb in this process; a traceback or a hang is kept."""
    signal.signal(signal.SIGPROF, _late)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()):
            status = ftc(verb)
        if status not in (0, 1, 2):
            raise AssertionError(f"exit {status}")
        if "json" in verb:
            _inside(json.loads(out.getvalue()), name)
        if IMPORTED in verb and verb[0] == "import" and status == 0:
            _recipe(Path(IMPORTED).read_text(encoding="utf-8"))
    except SystemExit:
        pass
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "ftdsl" in f.filename]
        where = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in frames[:-4:-1])
        said = f"{type(error).__name__}: {str(error)[:200]}\n  at {where}"
        key = f"{type(error).__name__} at {where}"
        if not any(key in other for other in crashes):
            keep.mkdir(parents=True, exist_ok=True)
            stem = hashlib.sha256(key.encode()).hexdigest()[:8]
            shutil.copy(name, keep / f"{stem}{Path(name).suffix}")
            crashes[f"{said}\n  {key}\n  ftc {' '.join(verb)}  ({stem})"] = 1
        else:
            known = next(other for other in crashes if key in other)
            crashes[known] += 1
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        gc.enable()  # a verb turns it off: a process of its own has not long to live


def _inside(found: dict[str, Any], name: str) -> None:
    """Every place that is said lies in the file, from its start to its end."""
    size = len(Path(name).read_text(encoding="utf-8"))
    for one in found["diagnostics"]:
        places = [one, *(edit for edit in (one.get("fix") or {}).get("edits", ()))]
        for place in places:
            if place.get("file") == name and not 0 <= place["offset"] <= place["end_offset"] <= size:
                raise AssertionError(f"{one['code']} at {place['offset']}..{place['end_offset']} of {size}")


def _recipe(text: str) -> None:
    """What was imported can be read, and holds nothing that a configuration cannot say."""
    sink = Sink()
    items = parse(Source(IMPORTED, text), sink).items
    if sink.failed:
        raise AssertionError("an imported recipe cannot be read")
    strange = [one for one in items if not isinstance(one, tree.Bind | tree.Block | tree.Param)]
    if strange or any(isinstance(one, tree.Block) and one.kind.text in ("shell", "profile", "search") for one in items):
        raise AssertionError("an imported recipe holds what no configuration says")


def _late(*_: object) -> None:
    raise TimeoutError(f"more than {LIMIT} s")


# --- where they start


def recipes() -> list[str]:
    """Recipes that are fine."""
    if not _RECIPES:
        _RECIPES.extend(path.read_text(encoding="utf-8") for path in sorted(Path().glob("[!fo]*.ft")))
    return _RECIPES


_RECIPES: list[str] = []
_DOCUMENTS: list[tuple[str, str]] = []


def documents() -> list[tuple[str, str]]:
    """Configurations, DeepSpeed and accelerate files, and commands made of them."""
    if not _DOCUMENTS:
        golden = ROOT / "tests" / "golden"
        for path in sorted([*golden.rglob("*.yaml"), *golden.rglob("ds_config.json"), *golden.rglob("*.sh")]):
            text = path.read_text(encoding="utf-8")
            _DOCUMENTS.append((path.name, text))
            if path.name.endswith("train.yaml"):
                _DOCUMENTS.append(("train.sh", _command(text)))
    return _DOCUMENTS


def _command(text: str) -> str:
    pairs = re.findall(r"^(\w+): (.*)$", text, flags=re.MULTILINE)
    return "torchrun --nproc_per_node 2 src/train.py \\\n" + " \\\n".join(
        f"    --{name} {value}" for name, value in pairs
    )


# --- what is done to them

Mutation = Callable[[str, random.Random], str]


def _line(text: str, dice: random.Random) -> tuple[list[str], int]:
    lines = text.split("\n")
    return lines, dice.randrange(len(lines))


def drop_line(text: str, dice: random.Random) -> str:
    lines, at = _line(text, dice)
    return "\n".join(lines[:at] + lines[at + 1 :])


def double_line(text: str, dice: random.Random) -> str:
    lines, at = _line(text, dice)
    return "\n".join(lines[: at + 1] + lines[at:])


def move_line(text: str, dice: random.Random) -> str:
    lines, at = _line(text, dice)
    line = lines.pop(at)
    lines.insert(dice.randrange(len(lines) + 1), line)
    return "\n".join(lines)


def stray(text: str, dice: random.Random) -> str:
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice("{}()[]\"'=,.#:%\\\n\t \0é-@$&*!|>~0") + text[at + dice.randrange(2) :]


def swapped(pattern: str, values: Sequence[str], text: str, dice: random.Random) -> str:
    """One of the places that the pattern's group finds, with another value."""
    found = list(re.finditer(pattern, text))
    if not found:
        return text
    one = dice.choice(found)
    return f"{text[: one.start(1)]}{dice.choice(values)}{text[one.end(1) :]}"


def odd_value(text: str, dice: random.Random) -> str:
    """One value of a recipe, another."""
    return swapped(r"= *([^,{}\n#]+)", [f"{value} " for value in ODD], text, dice)


def odd_number(text: str, dice: random.Random) -> str:
    return swapped(r"\b(\d[\d._e-]*)", ("0", "-1", "1e30", "0.5", "7", "10007", "3e-9"), text, dice)


def any_key(text: str, dice: random.Random) -> str:
    """A key of the language, in any block, with any value."""
    found = [match.end() for match in re.finditer(r"\{", text)]
    if not found:
        return text
    at = dice.choice(found)
    kind = dice.choice(("sft", "dpo", "kto", "ppo", "data", "eval", "merge", "quantize", "pretrain", "reward"))
    words = vocabulary()
    keys = list(words.keys_of(kind))
    keys += [f"{block.name}.{word}" for block in words.blocks_in(kind) for word in block.keys]
    members = [name for entry in catalog._load("vocabulary.json").get("types", {}).values() for name in _names(entry)]
    value = dice.choice([*ODD, *members])
    return f"{text[:at]} {dice.choice(keys)} = {value}\n {text[at:]}"


def _names(entry: object) -> Iterator[str]:
    if isinstance(entry, dict):
        for name, inner in entry.items():
            yield str(name)
            yield from _names(inner)
    elif isinstance(entry, list):
        yield from (str(one) for one in entry if isinstance(one, str))


def cut(text: str, dice: random.Random) -> str:
    return text[: dice.randrange(len(text) + 1)]


def hostile_row(text: str, dice: random.Random) -> str:
    """A value of a JSON row, wherever it is, becomes another: of another type, hostile, deep."""
    parts = list(re.finditer(r'"[^"]*"|\btrue\b|\[|\{', text))
    if not parts:
        return text
    part = dice.choice(parts)
    odd = ("null", "3", "[]", "{}", "[[]]", "true", '""', '"\\ud800"', "1e400", "NaN", "9" * 30, "[" * 2000,
           json.dumps(dice.choice(VALUES)))  # fmt: skip
    return f"{text[: part.start()]}{dice.choice(odd)}{text[part.end() :]}"


def odd_yaml(text: str, dice: random.Random) -> str:
    return swapped(r": *([^\n,]*)", ODD_YAML, text, dice)


def any_parameter(text: str, dice: random.Random) -> str:
    """A parameter of the engine, or of DeepSpeed, with any value."""
    names = sorted({**catalog.engine_schema("llamafactory"), **catalog.passthrough_schema("deepspeed")})
    value = dice.choice(ODD_YAML)
    if text.lstrip().startswith("{"):
        return text.replace("{", "{" + f"{json.dumps(dice.choice(names))}: {json.dumps(value)},", 1)
    return f"{text.rstrip()}\n{dice.choice(names)}: {value}\n"


def any_flag(text: str, dice: random.Random) -> str:
    names = sorted(catalog.engine_schema("llamafactory"))
    odd = dice.choice(
        ("", "0", "-1", "''", '"$X"', "$(date)", "`x`", "a b", '{"a": 1}', "1e400", "\\", "|", ">", "&&", "<<E")
    )
    at = dice.choice([match.end() for match in re.finditer(r"\\\n", text)] or [len(text)])
    return f"{text[:at]} --{dice.choice(names)} {odd} \\\n{text[at:]}"


def hostile_part(text: str, dice: random.Random) -> str:
    """A value or key of YAML or JSON, by its place in the tree, becomes a hostile one, in a list, a map, under a tag."""
    root = read(Source("x", text), Sink())
    parts = [(entry.name, entry.value.span) for _, entry in root.walk()] if root is not None else []
    if not parts:
        return text
    key, value = dice.choice(parts)
    one = dice.choice(VALUES)
    quoted = json.dumps(one, ensure_ascii=dice.random() < 0.5).encode("utf-8", "replace").decode()
    if dice.random() < 0.15:
        return f"{text[: key.start]}{quoted}{text[key.end :]}"
    forms = [quoted] * 6 + [
        f"[{quoted}]",
        f"[{quoted}, [{quoted}]]",
        f"{{{quoted}: {quoted}}}",
        f"{{x: {{y: [{quoted}]}}}}",
    ]
    if not text.lstrip().startswith("{"):
        tag = dice.choice(
            (
                "!!int",
                "!!bool",
                "!!float",
                "!!timestamp",
                "!!binary",
                "!!set",
                "!!omap",
                "!!python/name:os.system",
                "!x",
            )
        )
        forms += [one, f"{tag} {quoted}", f"&a [{quoted}, *a]", "*b", "&b [*a, *a, *a]", f"|\n  {one}"]
    return f"{text[: value.start]}{dice.choice(forms)}{text[value.end :]}"


def swapped_parts(text: str, dice: random.Random) -> str:
    """Two values of YAML or JSON, each in the other's place."""
    root = read(Source("x", text), Sink())
    spans = [entry.value.span for _, entry in root.walk()] if root is not None else []
    if len(spans) < 2:
        return text
    one, other = sorted(dice.sample(spans, 2), key=lambda span: span.start)
    if one.end > other.start:
        return text
    return f"{text[: one.start]}{other.text}{text[one.end : other.start]}{one.text}{text[other.end :]}"


def hostile_word(text: str, dice: random.Random) -> str:
    """A word of a script, by its place, becomes a hostile one: quoted, as it is, as a variable, behind a flag."""
    commands = shell.read(Source("x", text), Sink()).commands
    words = [word for command in commands for word in (*command.words, *command.env.values())]
    if not words:
        return text
    span = dice.choice(words).span
    one = dice.choice(VALUES).encode("utf-8", "replace").decode()
    name = dice.choice(sorted(catalog.engine_schema("llamafactory")))
    quoted = shlex.quote(one)
    forms = (quoted, quoted, f'"{one}"', one, f"--{name} {quoted}", f"--{name}={quoted}", f"env {quoted}=1 {span.text}",
             f"A={quoted} {span.text}", f"--deepspeed ds.json {span.text}")  # fmt: skip
    return f"{text[: span.start]}{dice.choice(forms)}{text[span.end :]}"


ANY: tuple[Mutation, ...] = (drop_line, double_line, move_line, stray, odd_number)
RECIPE: tuple[Mutation, ...] = (*ANY, odd_value, odd_value, odd_value, any_key, any_key, any_key)
STRUCTURED: tuple[Mutation, ...] = (hostile_part, hostile_part, hostile_part, swapped_parts)
YAML: tuple[Mutation, ...] = (*ANY, odd_yaml, odd_yaml, any_parameter, any_parameter, *STRUCTURED, *STRUCTURED)
SCRIPT: tuple[Mutation, ...] = (
    *ANY,
    any_flag,
    any_flag,
    any_flag,
    hostile_word,
    hostile_word,
    hostile_word,
    hostile_word,
)

if __name__ == "__main__":
    sys.exit(main())

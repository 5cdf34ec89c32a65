"""Command lines and scripts: read, never executed, and what cannot be known is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftdsl.diagnostics import Sink
from ftdsl.importers import shell
from ftdsl.importers.bash_words import MAX_WORD
from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import check
from ftdsl.plan.plan import PlannedStage
from ftdsl.session import Session
from ftdsl.source import Source
from tests.conftest import ftc

FLAGS = (
    "--stage sft --do_train --model_name_or_path Qwen/Qwen3-8B --dataset rows --template qwen3 --output_dir out --bf16"
)
YAML = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen3-8B
dataset: rows
template: qwen3
output_dir: saves/sft
bf16: true
"""
EXPORT = """\
model_name_or_path: Qwen/Qwen3-8B
adapter_name_or_path: saves/sft
template: qwen3
export_dir: out/merged
"""
FSDP = "distributed_type: FSDP\nnum_machines: 2\nnum_processes: 16\nmain_process_ip: 10.0.0.1\nfsdp_config: {fsdp_version: 2}\n"


@pytest.fixture
def place(place: Path) -> Path:
    """With configurations of each kind beside the data."""
    for name, text in (("sft.yaml", YAML), ("export.yaml", EXPORT), ("fsdp.yaml", FSDP)):
        (place / name).write_text(text, encoding="utf-8")
    (place / "ds.json").write_text('{"zero_optimization": {"stage": 3}}', encoding="utf-8")
    return place


def imported(place: Path, script: str, *arguments: str) -> dict[str, Any]:
    (place / "run.sh").write_text(script, encoding="utf-8")
    done = ftc("import", "run.sh", "-o", "recipe.ft", "--force", "--json", *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert ftc("fmt", "--check", "recipe.ft", cwd=place).returncode == 0
    return found


def stages(place: Path) -> dict[str, PlannedStage]:
    session = Session()
    found = check(place / "recipe.ft", Options(), session)
    assert found.plan is not None, [one.message for one in session.sink]
    return {planned.key: planned for planned in found.plan.stages}


@pytest.mark.parametrize(
    ("command", "world", "strategy"),
    [
        (f"llamafactory-cli train {FLAGS}", 1, "ddp"),
        (f"python src/train.py {FLAGS}", 1, "ddp"),
        (f"CUDA_VISIBLE_DEVICES=0,1 llamafactory-cli train {FLAGS}", 2, "ddp"),
        (f"export NPROC_PER_NODE=4\nFORCE_TORCHRUN=1 llamafactory-cli train {FLAGS}", 4, "ddp"),
        (f"torchrun --nproc_per_node 8 src/train.py {FLAGS} --deepspeed ds.json", 8, "zero3"),
        (f"torchrun --nnodes=2 --nproc-per-node=4 --master_addr=10.0.0.1 src/train.py {FLAGS}", 8, "ddp"),
        (f"python -m torch.distributed.run --nproc_per_node 2 src/train.py {FLAGS}", 2, "ddp"),
        (f"accelerate launch --config_file fsdp.yaml src/train.py {FLAGS}", 16, "fsdp2"),
        (f"accelerate launch --num_processes 2 --use_deepspeed --zero_stage 2 src/train.py {FLAGS}", 2, "zero2"),
        (f"deepspeed --num_gpus 4 src/train.py {FLAGS} --deepspeed ds.json", 4, "zero3"),
        ("nohup torchrun --nproc_per_node 2 src/train.py sft.yaml > log.txt 2>&1 &", 2, "ddp"),
    ],
)
def test_launchers(command: str, world: int, strategy: str, place: Path) -> None:
    imported(place, command)
    found = next(iter(stages(place).values()))
    assert (found.world.size, found.strategy) == (world, strategy)


def test_training_then_export_is_one_recipe(place: Path) -> None:
    script = """\
#!/bin/bash
set -euo pipefail
BASE=sft   # the file
llamafactory-cli train "${BASE}.yaml" learning_rate=2e-5 \\
    num_train_epochs=1
llamafactory-cli export export.yaml
"""
    found = imported(place, script)
    assert "merge export from sft {" in found["recipe"]
    planned = stages(place)
    assert planned["sft"].stage.settings.get("optim.lr") == 2e-5
    assert str(planned["sft"].stage.settings.get("duration").number) == "1"
    assert planned["export"].stage.parents == ("sft",)
    assert not any(one["why"] == "" for stage in found["differences"].values() for one in stage)


def test_the_same_on_two_nodes_is_one_stage(place: Path) -> None:
    lines = [
        f"FORCE_TORCHRUN=1 NNODES=2 NODE_RANK={rank} MASTER_ADDR=10.0.0.1 llamafactory-cli train sft.yaml"
        for rank in (0, 1)
    ]
    found = imported(place, "\n".join(lines))
    assert found["recipe"].count("sft {") == 1
    assert "nodes = 2" in found["recipe"]


WRONG = """\
accelerate launch --num_processes 4 --mixed_precision bf16 --use_deepspeed \\
    llamafactory-cli train \\
    --per_device_batch_size 4 \\
    --gradient_accumulation 8 \\
    --lr_scheduler cosine \\
    --target_modules "q_proj,v_proj" \\
    --flash_attention_2 \\
    --fsdp "full_shard auto_wrap" \\
    --deepspeed_stage 3
"""


def test_flags_that_no_tool_has_are_named_with_their_line(place: Path) -> None:
    found = imported(place, WRONG)
    draft = {note["word"]: note for note in found["notes"]}
    for line, word, instead in (
        (3, "--per_device_batch_size", "--per_device_train_batch_size"),
        (4, "--gradient_accumulation", "--gradient_accumulation_steps"),
        (5, "--lr_scheduler", "--lr_scheduler_type"),
        (6, "--target_modules", "--lora_target"),
        (7, "--flash_attention_2", "--flash_attn fa2"),
        (8, "--fsdp", "DeepSpeed and FSDP exclude each other"),
        (9, "--deepspeed_stage", "parallel.strategy = zero3"),
    ):
        assert draft[word]["where"] == f"run.sh:{line}"
        assert instead in draft[word]["text"]
    assert "param base: model" in found["recipe"]
    done = ftc("check", "recipe.ft", "-p", 'base=hf("Qwen/Qwen3-14B")', "-p", 'rows=file("data/rows.json")', cwd=place)
    assert "strategy = zero3" in found["recipe"]
    assert done.returncode == 0, done.stdout


def test_nothing_is_executed_and_secrets_stay_where_they_are(place: Path) -> None:
    script = (
        f"export WANDB_API_KEY=s3cret\ntouch gone; $(touch gone)\nllamafactory-cli train {FLAGS} --seed $(date +%s)\n"
    )
    found = imported(place, script)
    assert not (place / "gone").exists()
    assert "s3cret" not in json.dumps(found)
    assert 'WANDB_API_KEY = secret("WANDB_API_KEY")' in found["recipe"]
    assert any("set outside of this script" in note["text"] for note in found["notes"])


def test_a_recipe_that_is_there_is_not_lost(place: Path) -> None:
    (place / "mine.ft").write_text("# mine\n", encoding="utf-8")
    done = ftc("import", "sft.yaml", "-o", "mine.ft", cwd=place)
    assert (done.returncode, "--force" in done.stderr) == (1, True)
    assert (place / "mine.ft").read_text(encoding="utf-8") == "# mine\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a \'b c\' "d\\"e"', [["a", "b c", 'd"e']]),
        ("a \\\n  b # c\n\nd", [["a", "b"], ["d"]]),
        ("X=1; a $X ${X}y ${Z:-2} '$X'", [["a", "1", "1y", "2", "$X"]]),
        ('a --x="b c" > log 2>&1 && e | f', [["a", "--x=b c"], ["e"], ["f"]]),
        ("cat <<EOF\nllamafactory-cli train x.yaml\nEOF\na", [["cat"], ["a"]]),
        ("a 'never closed", [["a", "never closed"]]),
    ],
)
def test_words_of_a_shell(text: str, words: list[list[str]]) -> None:
    assert [[word.text for word in one.words] for one in shell.read(Source("x.sh", text), Sink()).commands] == words


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("x.yaml", "model: Qwen/Qwen3-0.6B\ntrain_dataset: x.yaml\n", "v1 trainer"),
        ("x.yaml", "colour: red\n", "no configuration that is known here"),
        ("x.sh", "rsync -a b c\n", "no command here starts LLaMA-Factory"),
        ("x.yaml", "a: [1\n", "expected"),
    ],
)
def test_what_cannot_be_imported_is_one_sentence(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    done = ftc("import", name, cwd=tmp_path)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


ODD_BLANKS = ("\u00a0", "\f", "\v", "\u2028", "\u0085", "\u3000", "\u200b", "\x1c", "\0")


@pytest.mark.parametrize("char", ODD_BLANKS, ids=ascii)
def test_only_a_blank_parts_words(char: str, place: Path) -> None:
    """A shell takes everything but blanks, tabs and line breaks for letters."""
    script = shell.read(Source("x.sh", f"echo a{char}b {char}\n{char} c\n"), Sink())
    assert [[word.text for word in one.words] for one in script.commands] == [["echo", f"a{char}b", char], [char, "c"]]
    for text in (
        f"llamafactory-cli train{char}sft.yaml\n",
        f"llamafactory-cli{char}train sft.yaml\n",
        f"{char}",
        f"a{char}=1 x\n",
    ):
        (place / "run.sh").write_text(text, encoding="utf-8")
        for verb in ("check", "import"):
            done = ftc(verb, "run.sh", cwd=place)
            assert "Traceback" not in done.stderr
            assert "bug" not in done.stderr


@pytest.mark.parametrize("number", ["9" * 70_000, "²", "٣", "1e400", "-1", "0", "nan", "0x10", "9" * 16, ""])
@pytest.mark.parametrize(
    "command",
    ["accelerate launch --num_processes={} src/train.py", "torchrun --nproc_per_node={} --nnodes={} src/train.py",
     "NNODES={} NPROC_PER_NODE={} MASTER_PORT={} CUDA_VISIBLE_DEVICES={} MAX_RESTARTS={} MIN_NNODES={} llamafactory-cli train",
     "python src/train.py --tensor_model_parallel_size {} --ray_num_workers {} --lora_rank {} --lr {}"],
)  # fmt: skip
@pytest.mark.slow
def test_numbers_of_any_length(command: str, number: str, place: Path) -> None:
    (place / "run.sh").write_text(f"{command.replace('{}', number)} {FLAGS}\n", encoding="utf-8")
    done = ftc("import", "run.sh", "--json", cwd=place)
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert "sft {" in json.loads(done.stdout)["recipe"]


def test_variables_of_variables_have_an_end() -> None:
    lines = ["A0=xxxxxxxxxx", *(f"A{n}=$A{n - 1}$A{n - 1}" for n in range(1, 60)), "echo $A59 $A3"]
    script = shell.read(Source("x.sh", "\n".join(lines)), Sink())
    words = script.commands[0].words
    assert not words[1].known
    assert all(len(word.text) <= MAX_WORD for word in words)
    assert words[2].text == "x" * 80


@pytest.mark.parametrize(
    "text", ["echo \\", "torchrun src/train.py\\", "a '", 'a "', "a $(", "a `", "a ${", "<<E", "a \\\r"]
)
def test_places_lie_in_the_script(text: str) -> None:
    script = shell.read(Source("x.sh", text), Sink())
    spans = [word.span for one in script.commands for word in one.words] + [
        note.span for note in script.notes if note.span
    ]
    assert all(0 <= span.start <= span.end <= len(text) for span in spans)


def test_a_script_that_is_none_is_not_read() -> None:
    sink = Sink()
    assert shell.read(Source("x.sh", "a" * (shell.MAX_SCRIPT + 1)), sink).commands == []
    assert [one.code for one in sink] == ["FT050"]

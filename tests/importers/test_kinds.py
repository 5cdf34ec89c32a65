"""Kinds of files that strangers have, each with several inputs: what is made of them, and what is said."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import Checked, check
from ftdsl.session import Files, Session
from tests.conftest import ftc

FLAGS = (
    "--stage sft --do_train --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset rows --template qwen --finetuning_type lora "
    "--output_dir out/x --bf16 --report_to none --learning_rate 1e-4"
)
YAML = """\
stage: sft
do_train: true
model_name_or_path: Qwen/Qwen2.5-3B-Instruct
dataset: rows
template: qwen
finetuning_type: lora
output_dir: out/x
bf16: true
report_to: none
learning_rate: 1.0e-4
"""
MERGE = "model_name_or_path: Qwen/Qwen2.5-3B-Instruct\nadapter_name_or_path: out/x\ntemplate: qwen\nexport_dir: out/m\n"
ZERO3 = '{"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}'


class Workspace:
    """A folder with data, in which files are checked and imported."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, **files: str) -> None:
        for name, text in files.items():
            self.write(name.replace("__", "/").replace("_dot_", "."), text)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def checked(self, name: str, *arguments: str) -> tuple[int, str]:
        done = ftc("check", name, *arguments, cwd=self.folder)
        assert "bug in ftc" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    def codes(self, name: str) -> dict[str, str]:
        """Code -> message of errors and warnings."""
        _, out = self.checked(name)
        return dict(re.findall(r"^(?:error|warning)\[(\w+)\][^:]*: (.*)", out, re.M))

    def imported(self, name: str, target: str = "recipe.ft") -> dict[str, Any]:
        """What `ftc import --json` tells; the recipe lies at `target`, reads back, and differs in nothing unexplained."""
        (self.folder / target).parent.mkdir(parents=True, exist_ok=True)
        done = ftc("import", name, "-o", target, "--force", "--json", "--verify", cwd=self.folder)
        assert done.stdout, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        unexplained = [one for some in found["differences"].values() for one in some if not one["why"]]
        assert unexplained == []
        assert done.returncode == 0, done.stderr
        return found

    def recipe(self, name: str, target: str = "recipe.ft") -> str:
        """The recipe's text on one line, blanks folded."""
        return " ".join(str(self.imported(name, target)["recipe"]).split())

    def notes(self, name: str) -> str:
        return "\n".join(f"{one['word']}: {one['text']}" for one in self.imported(name)["notes"])

    def refused(self, name: str) -> str:
        done = ftc("import", name, cwd=self.folder)
        assert done.returncode == 1, done.stdout
        assert "bug in ftc" not in done.stderr
        return done.stderr

    def compiled(self, recipe: str = "recipe.ft", *params: str, text: str | None = None) -> Checked:
        path = self.folder / recipe
        session = Session(Files({path: text} if text is not None else None))
        found = check(path, Options(params=params), session)
        assert found.plan is not None, [one.message for one in session.sink]
        return found


@pytest.fixture
def here(place: Path) -> Workspace:
    return Workspace(place)


# --- shell as people write it

SAME = {
    "a variable": f"M=8\nllamafactory-cli train {FLAGS} --lora_rank $M\n",
    "arithmetic": f"W=64\nllamafactory-cli train {FLAGS} --lora_rank $((W / 4 / 2))\n",
    "arithmetic in a variable": f"R=$(( (2 + 2) * 2 ))\nllamafactory-cli train {FLAGS} --lora_rank ${{R}}\n",
    "words of a variable": f'A="{FLAGS}"\nllamafactory-cli train $A --lora_rank 8\n',
    "words over lines": f'A="{FLAGS} \\\n  --lora_rank 8"\nllamafactory-cli train ${{A}}\n',
    "added to": f'A="{FLAGS}"\nA+=" --lora_rank 8"\nllamafactory-cli train $A\n',
    "an array": f'A=({FLAGS}\n  --lora_rank 8)\nllamafactory-cli train "${{A[@]}}"\n',
    "an array added to": f'A=({FLAGS})\nA+=(--lora_rank 8)\nllamafactory-cli train ${{A[*]}}\n',
    "a default": f"llamafactory-cli train {FLAGS} --lora_rank ${{RANK:-8}}\n",
    "an argument's default": f"R=${{1:-8}}\nllamafactory-cli train {FLAGS} --lora_rank $R\n",
    "a function": f'go() {{ llamafactory-cli train {FLAGS} --lora_rank "$1"; }}\ngo 8\n',
    "a known test": f'K=a\nif [ "$K" = a ]; then R=8; else R=16; fi\nllamafactory-cli train {FLAGS} --lora_rank $R\n',
    "a case": f'K=b\ncase $K in a) R=4;; b) R=8;; esac\nllamafactory-cli train {FLAGS} --lora_rank $R\n',
    "eval": f'C="llamafactory-cli train {FLAGS} --lora_rank 8"\neval $C\n',
    "a command in a variable": f'C="llamafactory-cli train"\n$C {FLAGS} --lora_rank 8\n',
    "arguments looped over": f'while [ $# -gt 0 ]; do case $1 in --rank) RANK=$2; shift;; esac; shift; done\n'
                             f"llamafactory-cli train {FLAGS} --lora_rank ${{RANK:-8}}\n",
    "basename": f'F=/a/b/8.json\nllamafactory-cli train {FLAGS} --lora_rank $(basename "$F" .json)\n',
    "cut with %": f'F=8.json\nllamafactory-cli train {FLAGS} --lora_rank ${{F%.json}}\n',
    "srun": f"srun --gres=gpu:1 -n 1 llamafactory-cli train {FLAGS} --lora_rank 8\n",
    "srun torchrun": f"srun torchrun --nproc_per_node 1 src/train.py {FLAGS} --lora_rank 8\n",
    "uv run": f"uv run --frozen llamafactory-cli train {FLAGS} --lora_rank 8\n",
    "poetry run": f"poetry run llamafactory-cli train {FLAGS} --lora_rank 8\n",
    "conda run": f"conda run -n lf --no-capture-output llamafactory-cli train {FLAGS} --lora_rank 8\n",
    "docker": f'docker run --rm --gpus all img bash -c "cd /app && llamafactory-cli train {FLAGS} --lora_rank 8"\n',
    "docker exec": f"docker exec -it box llamafactory-cli train {FLAGS} --lora_rank 8\n",
    "numactl": f"numactl --cpunodebind=0 --membind=0 python src/train.py {FLAGS} --lora_rank 8\n",
    "nohup time env": f"nohup time env FOO=1 llamafactory-cli train {FLAGS} --lora_rank 8 > log 2>&1 &\n",
    "mpirun": f"mpirun -np 1 python src/train.py {FLAGS} --lora_rank 8\n",
    "timeout": f"timeout 24h llamafactory-cli train {FLAGS} --lora_rank 8 | tee log\n",
    "lmf": f"lmf train {FLAGS} --lora_rank 8\n",
    "launcher as a module": f"torchrun --nproc_per_node 1 -m llamafactory.launcher {FLAGS} --lora_rank 8\n",
    "python -u": f"python3 -u -m llamafactory.cli train {FLAGS} --lora_rank 8\n",
    "a Python of a variable": f"$PYTHON src/train.py {FLAGS} --lora_rank 8\n",
    "bash here": f"bash <<'END'\nllamafactory-cli train {FLAGS} --lora_rank 8\nEND\n",
    "tmux": f'tmux new-session -d -s a bash -c "llamafactory-cli train {FLAGS} --lora_rank 8"\n',
    "Windows line ends": f"llamafactory-cli train {FLAGS} \\\r\n  --lora_rank 8\r\n",
}  # fmt: skip


@pytest.mark.parametrize("script", SAME.values(), ids=SAME)
@pytest.mark.slow
def test_one_command_however_it_is_written(script: str, here: Workspace) -> None:
    """Each is the same run: the plain flags and rank 8."""
    here.write("run.sh", script)
    here.imported("run.sh")
    found = here.compiled().plan
    assert found is not None
    stage = found.stages[0].stage.settings
    assert (stage.get("lora.rank"), stage.get("optim.lr"), stage.get("to")) == (8, 1e-4, "out/x")
    assert here.checked("run.sh")[0] == 0


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "for lr in 1e-5 2e-5; do\nllamafactory-cli train {F} --learning_rate $lr --output_dir s/$lr\ndone",
            ["lr in [1e-5, 2e-5]", "s/{run}"],
        ),
        (
            "LRS=(1e-5 2e-5)\nfor lr in ${{LRS[@]}}; do llamafactory-cli train {F} --learning_rate $lr; done",
            ["lr in [1e-5, 2e-5]"],
        ),
        (
            "for r in {{1..3}}; do llamafactory-cli train {F} --lora_rank $((r * 8)) --output_dir s/r$r; done",
            ["rank in [8, 16, 24]"],
        ),
        (
            "for r in $(seq 8 8 24); do llamafactory-cli train {F} --lora_rank $r --run_name a$r; done",
            ["rank in [8, 16, 24]"],
        ),
        (
            "for a in 1 2; do for b in 4 8; do llamafactory-cli train {F} --num_train_epochs $a --lora_rank $b "
            "--output_dir s/$a-$b; done; done",
            ["duration in [1 epoch, 2 epochs]", "rank in [4, 8]", "s/{run}"],
        ),
        (
            "for m in org/a org/b; do llamafactory-cli train {F} --model_name_or_path $m --output_dir s/$m; done",
            ['model in [hf("org/a"), hf("org/b")]', "{run}"],
        ),
    ],
)
def test_loops_over_lists_are_axes(script: str, words: list[str], here: Workspace) -> None:
    here.write("run.sh", script.format(F=FLAGS))
    recipe = here.recipe("run.sh")
    assert all(word in recipe for word in words), recipe
    assert here.checked("run.sh")[0] == 0
    assert here.checked("recipe.ft")[0] == 0
    assert "$" not in recipe


def test_loops_over_files_are_stages(here: Workspace) -> None:
    here.put(a_dot_yaml=YAML, b_dot_yaml=YAML.replace("out/x", "out/y"))
    here.write("run.sh", 'for f in a b; do llamafactory-cli train "$f.yaml"; done\n')
    recipe = here.recipe("run.sh")
    assert "sft a {" in recipe
    assert "sft b {" in recipe


OUTSIDE = {
    "--learning_rate $1": ("lr = arg1", "param arg1: rate"),
    "--learning_rate ${LR}": ("lr = given_lr", "param given_lr: rate"),
    "--num_train_epochs $EPOCHS": ("duration = epochs", "param epochs: span"),
    "--output_dir out/$2": ('to = "out/{arg2}"', "param arg2: text"),
    "--output_dir $OUT_DIR/a": ('to = "{out_dir}/a"', "param out_dir: text"),
    "--model_name_or_path $MODEL_PATH": ("model = model_path", "param model_path: model"),
    "--model_name_or_path $HOME/m": ('model = file("{home}/m")', "param home: text"),
    "--dataset $DATASET": ("data = dataset", "param dataset: data"),
    "--template $TPL": ("template = tpl", "param tpl: name"),
    "--lora_rank $(nproc)": ("rank = nproc", "param nproc: int"),
    "--seed `date +%s`": ("seed = date", "param date: int"),
    "--warmup_ratio $W": ("warmup = w", "param w: share"),
    "--cutoff_len $LEN": ("max_len = len", "param len: count"),
}


@pytest.mark.parametrize("flags", OUTSIDE)
def test_what_only_the_script_would_know_is_a_parameter(flags: str, here: Workspace) -> None:
    here.write("run.sh", f"llamafactory-cli train {FLAGS} {flags}\n")
    recipe = here.recipe("run.sh")
    assert all(word in recipe for word in OUTSIDE[flags]), recipe
    assert "$" not in recipe
    status, out = here.checked("run.sh")
    assert status == 0
    assert "FT052" in out


@pytest.mark.parametrize(
    "flags",
    ["--nnodes $NNODES --node_rank $RANK --nproc_per_node 8 --master_addr $MASTER_ADDR", "--nnodes=$NNODES --nproc_per_node=8 "
     "--master_addr=$MASTER_ADDR --node_rank=$SLURM_PROCID"],
)  # fmt: skip
def test_nodes_that_are_not_known_are_asked_for(flags: str, here: Workspace) -> None:
    here.write("run.sh", f"torchrun {flags} src/train.py {FLAGS}\n")
    recipe = here.recipe("run.sh")
    assert "nodes = nnodes" in recipe
    assert 'head = "{master_addr}"' in recipe
    found = here.compiled("recipe.ft", "nnodes=2", 'master_addr="10.0.0.1"').plan
    assert found is not None
    assert found.stages[0].world.size == 16


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (f"cat > conf.yaml <<EOT\n{YAML}EOT\nllamafactory-cli train conf.yaml\n", "conf"),
        (f"cat <<'EOF' > c/conf.yaml\n{YAML}EOF\nllamafactory-cli train c/conf.yaml\n", "conf"),
        (
            f"LR=1.0e-4\ncat > conf.yaml <<EOT\n{YAML.replace('1.0e-4', '$LR')}EOT\nllamafactory-cli train conf.yaml\n",
            "conf",
        ),
        (f"tee conf.yaml <<EOT\n{YAML}EOT\nllamafactory-cli train conf.yaml\n", "conf"),
        (f"cat <<EOT | tee conf.yaml > /dev/null\n{YAML}EOT\nllamafactory-cli train conf.yaml\n", "conf"),
        (f"C=conf.yaml\ncat > $C <<EOT\n{YAML}EOT\nllamafactory-cli train $C\n", "conf"),
    ],
)
def test_here_documents_are_files(written: str, name: str, here: Workspace) -> None:
    here.write("run.sh", written)
    assert "lr = 1e-4" in here.recipe("run.sh")
    assert here.checked("run.sh")[0] == 0
    assert not (here.folder / "conf.yaml").exists()


def test_a_deepspeed_file_of_a_here_document(here: Workspace) -> None:
    here.write(
        "run.sh",
        f"cat > ds.json <<'E'\n{ZERO3}\nE\ntorchrun --nproc_per_node 2 src/train.py {FLAGS} --deepspeed ds.json\n",
    )
    assert "strategy = zero3" in here.recipe("run.sh")


@pytest.mark.parametrize(
    ("middle", "line"),
    [(" # --lora_rank 64 \\\n", 3), (" #--a b \\\n #--c d \\\n", 4), ("", 2)],
)
def test_a_command_cut_short_is_told_as_bash_sees_it(middle: str, line: int, here: Workspace) -> None:
    end = "\\\n" if middle else "\\ \n"
    here.write(
        "run.sh",
        f"llamafactory-cli train --stage sft --do_train {end}{middle} --model_name_or_path a/b --dataset rows\n",
    )
    found = here.codes("run.sh")
    assert set(found) == {"FT053"}
    assert f"line {line} is not part of it" in found["FT053"]
    assert "is not part of a command" in here.notes("run.sh")


# --- what a file is

LF = f"llamafactory-cli train {FLAGS}\n"
NOT_OURS = {
    "a.yml": ("base_model: a/b\nadapter: lora\ndatasets:\n  - path: x/y\n    type: alpaca\nsequence_len: 4096\n", "Axolotl"),
    "s.sh": ("trl vllm-serve --model a/b\n", "trains nothing that a recipe has a stage for"),
    "t.sh": ("python grpo.py --lr 1e-6\n", "trains nothing that a recipe has a stage for"),
    "x.sh": ("accelerate launch -m axolotl.cli.train conf.yml\n", "Axolotl"),
    "w.sh": ("CUDA_VISIBLE_DEVICES=0 swift sft --model a/b --train_type lora\n", "ms-swift"),
    "u.sh": ("python unsloth-cli.py --model_name a/b\n", "Unsloth"),
    "v.sh": ("python3 -m verl.trainer.main_ppo data.train_files=a\n", "verl"),
    "o.sh": ("deepspeed --module openrlhf.cli.train_sft --pretrain a/b\n", "OpenRLHF"),
    "n.sh": ("tune run --nproc_per_node 2 full_finetune_distributed --config a\n", "torchtune"),
    "c.sh": ("torchrun --nproc_per_node 2 run_clm.py --model_name_or_path gpt2 --do_train\n", "transformers' example scripts"),
    "e.sh": ("python src/train_sft.py --do_train --model_name_or_path a/b --output_dir o\n", "LLaMA-Efficient-Tuning"),
    "clm.json": ('{"model_name_or_path": "gpt2", "dataset_name": "wikitext", "dataset_config_name": "a", "output_dir": "o"}\n',
                 "transformers' example scripts"),
    "f.py": ("import torch\nfrom trl import SFTTrainer\nprint(1)\n", "Python script that trains with TRL"),
    "g.py": ("from unsloth import FastLanguageModel\n", "Python script that trains with Unsloth"),
    "n.ipynb": ('{"cells": [], "nbformat": 4}', "notebook"),
    "b.bat": (f"@echo off\nset CUDA_VISIBLE_DEVICES=0\n{LF}", "Windows batch file"),
    "p.ps1": (f'$env:CUDA_VISIBLE_DEVICES="0"\n{LF}', "PowerShell"),
    "config.yaml": ("learning_rate:\n  desc: null\n  value: 1.0e-4\nlora_rank:\n  desc: null\n  value: 8\n", "Weights & Biases"),
    "m.yaml": ("model: unsloth/x\nlora: {r: 16}\n", "no configuration that is known here"),
    "k.yaml": ("task: gsm8k\ndataset_path: gsm8k\noutput_type: generate_until\nmetric_list: [a]\n",
               "no configuration that is known here"),
    "q.sh": ("rsync -a b c\nmake data\n", "no command here starts LLaMA-Factory or TRL"),
    "q2.sh": ("rsync -a b c\npython other.py --x 1\n", "`other.py` is a program of its own"),
    "r.sh": ("llamafactory-cli train conf/not_here.yaml learning_rate=3e-5\n", "there is no file `conf/not_here.yaml`"),
    "l.sh": ("llamafactory-cli eval x.yaml\n", "was taken out of LLaMA-Factory"),
    "z.yaml": ("model: a/b\ntrain_dataset: x.yaml\nmodel_class: llm\n", "v1 trainer"),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_OURS)
def test_every_verb_judges_a_file_alike_and_never_calls_it_fine(name: str, here: Workspace) -> None:
    text, sentence = NOT_OURS[name]
    here.write(name, text)
    status, out = here.checked(name)
    assert status == 1
    assert ": fine" not in out
    assert sentence in out
    assert sentence in here.refused(name)
    other = ftc("diff", name, name, cwd=here.folder)
    assert other.returncode == 2
    assert sentence in other.stderr


@pytest.mark.parametrize("name", ["run.slurm", "run.sbatch", "run.job", "run", "run.bash", "train.sub"])
def test_scripts_are_known_by_what_is_in_them(name: str, here: Workspace) -> None:
    here.write(name, f"#!/bin/bash\n#SBATCH --gres=gpu:2\nset -e\n{LF}")
    assert here.checked(name)[0] == 0
    assert "count = 2" in here.recipe(name)


@pytest.mark.parametrize(
    ("verb", "file", "stage"), [("train", MERGE, "merge {"), ("export", YAML, "sft {"), ("train", YAML, "sft {")]
)
def test_a_verb_with_another_verbs_file(verb: str, file: str, stage: str, here: Workspace) -> None:
    here.put(x_dot_yaml=file)
    here.write("run.sh", f"llamafactory-cli {verb} x.yaml\n")
    assert stage in here.recipe("run.sh")
    assert (here.checked("run.sh")[0] == 1) == ((verb, file) != ("train", YAML))


def test_chats_beside_training(here: Workspace) -> None:
    chat = "llamafactory-cli chat --model_name_or_path Qwen/Qwen2.5-7B --template qwen\n"
    here.write("run.sh", f"{chat}{LF}{chat.replace('chat ', 'api ').replace('7B', '3B')}")
    assert here.recipe("run.sh").count("model = ") == 1
    assert here.checked("recipe.ft")[0] == 0
    assert here.notes("run.sh").count("is not a stage") == 2


# --- nothing is lost in silence


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            '"optimizer": {"type": "AdamW", "params": {"lr": "auto", "weight_decay": "auto"}}',
            ["params.lr = auto", "weight_decay = auto"],
        ),
        (
            '"scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto", "warmup_min_lr": 0}}',
            ["total_num_steps = auto"],
        ),
        ('"optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}', ["params.lr = 1e-4"]),
    ],
)
def test_auto_of_optimizers_and_schedules_is_kept(part: str, words: list[str], here: Workspace) -> None:
    here.put(ds_dot_json=f'{{"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {{"stage": 2}}, {part}}}')
    here.put(a_dot_yaml=YAML + "deepspeed: ds.json\n")
    recipe = here.recipe("a.yaml")
    assert all(word in recipe for word in words), recipe
    document = next(one for job in here.compiled().jobs for one in job.documents if one.path.endswith("ds_config.json"))
    if "optimizer" in part:
        assert document.data["optimizer"]["params"]["lr"] in ("auto", 1e-4)


@pytest.mark.parametrize(("stage", "loss"), [("orpo", "loss = orpo"), ("simpo", "loss = simpo")])
def test_a_loss_that_is_written_as_a_stage(stage: str, loss: str, here: Workspace) -> None:
    here.put(a_dot_yaml=YAML.replace("stage: sft", f"stage: {stage}"))
    recipe = here.recipe("a.yaml")
    assert "dpo {" in recipe
    assert loss in recipe


@pytest.mark.parametrize("stage", ["grpo", "dop", "SFT", "rlhf", "pretrain"])
def test_stages_that_do_not_exist_are_refused(stage: str, here: Workspace) -> None:
    here.put(a_dot_yaml=YAML.replace("stage: sft", f"stage: {stage}"))
    assert f"`stage` has no `{stage}`" in here.refused("a.yaml")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("examples/deepspeed/ds_z3_config.json", "strategy = zero3, offload = none"),
        ("examples/deepspeed/ds_z3_offload_config.json", "strategy = zero3, offload = [optimizer, params]"),
        ("examples/deepspeed/ds_z2_offload_config.json", "strategy = zero2, offload = optimizer"),
        ("conf/zero3.json", "strategy = zero3"),
        ("stage_2_offload.json", "offload = optimizer"),
        ("ds_config_stage1.json", "strategy = zero1"),
        ("deepspeed_config.json", "write `parallel { strategy = zero2 }`"),
    ],
)
def test_a_deepspeed_file_that_is_not_there(name: str, words: str, here: Workspace) -> None:
    here.put(a_dot_yaml=YAML + f"deepspeed: {name}\n")
    assert words in here.recipe("a.yaml") + here.notes("a.yaml")
    assert ("FT501" in here.codes("a.yaml")) == (not name.startswith("examples/"))


def test_a_deepspeed_file_alone_keeps_its_keys(here: Workspace) -> None:
    here.put(ds_dot_json='{"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3, "overlap_comm": false},'
                         '"wall_clock_breakdown": true, "offload_optimizer": {"device": "cpu"}}')  # fmt: skip
    recipe = here.recipe("ds.json")
    assert "zero_optimization.overlap_comm = false" in recipe
    assert "wall_clock_breakdown = true" in recipe
    assert "offload_optimizer" in here.notes("ds.json")


FLAGS_OF_LAUNCHERS = [
    ("deepspeed --hostfile hosts.txt --num_nodes 2 --num_gpus 8", "note", "--hostfile"),
    (
        "accelerate launch --dynamo_backend inductor --num_processes 2",
        "recipe",
        "dynamo_config.dynamo_backend = inductor",
    ),
    (
        "accelerate launch --use_deepspeed --deepspeed_config_file zero2.json --num_processes 4",
        "recipe",
        "strategy = zero2",
    ),
    (
        "accelerate launch --use_deepspeed --deepspeed_config_file ds.json --num_processes 4",
        "note",
        "`ds.json` does not exist",
    ),
    ("torchrun --nproc_per_node 2 --numa_binding node", "note", "--numa_binding"),
    ("accelerate launch --main_process_port 0 --num_processes 2", "recipe", "count = 2"),
]


@pytest.mark.parametrize(("launcher", "where", "words"), FLAGS_OF_LAUNCHERS)
@pytest.mark.slow
def test_flags_of_launchers_are_carried_or_named(launcher: str, where: str, words: str, here: Workspace) -> None:
    here.write("run.sh", f"{launcher} src/train.py {FLAGS}\n")
    assert words in (here.recipe("run.sh") if where == "recipe" else here.notes("run.sh"))
    assert "port = 0" not in here.recipe("run.sh")


@pytest.mark.parametrize("start", ["export WANDB_PROJECT=abc; ", "WANDB_PROJECT=abc "])
def test_the_project_of_a_tracker(start: str, here: Workspace) -> None:
    here.write("run.sh", f"{start}{LF.strip()} --report_to wandb\n")
    assert 'project = "abc"' in here.recipe("run.sh")


@pytest.mark.parametrize(
    ("lines", "word"),
    [("ref_model: a/b\n", "ref_model"), ("temperature: 0.5\n", "temperature"), ("dispatch_batches: false\n", "dispatch_batches"),
     ("ddp_timeout: 3e-9\n", "ddp_timeout"), ("adapter_name_or_path: out/sft\nlora_target: q_proj\n", "lora_target"),
     ("max_new_tokens: 100\n", "max_new_tokens"), ("reward_model: out/rm\n", "reward_model")],
)  # fmt: skip
def test_what_has_no_effect_is_named_once(lines: str, word: str, here: Workspace) -> None:
    here.put(a_dot_yaml=YAML + lines)
    notes = [one for one in here.imported("a.yaml")["notes"] if one["word"] == word]
    assert len(notes) == 1
    assert not notes[0]["carried"]
    assert here.checked("recipe.ft")[0] == 0


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("load_best_model_at_end: true\neval_strategy: steps\neval_steps: 100\nsave_steps: 100\nval_size: 0.1\n", ""),
        ("save_steps: 100\nsave_strategy: epoch\n", ""),
        ("val_size: 0.1\neval_strategy: epoch\neval_steps: 100\n", ""),
        ("logging_strategy: epoch\nlogging_steps: 7\n", ""),
        ("top_p: 0.9\ndo_sample: true\n", ""),
        ("wandb_project: abc\nreport_to: wandb\n", ""),
        ("template: qwen2\n", ""),
        ("export_device: gpu\n", ""),
    ],
)
def test_verify_tells_no_difference_that_is_none(lines: str, why: str, here: Workspace) -> None:
    """`imported` refuses a difference without a reason."""
    text = "".join(line for line in YAML.splitlines(True) if line.partition(":")[0] not in lines) + lines
    here.put(a_dot_yaml=text if "export" not in lines else MERGE + lines)
    here.imported("a.yaml")
    assert here.checked("recipe.ft")[0] == 0


@pytest.mark.parametrize(
    ("script", "target", "to", "data"),
    [
        ("scripts/run.sh", "recipe.ft", "saves/one", "data/rows.json"),
        ("scripts/run.sh", "other/x.ft", "../saves/one", "../data/rows.json"),
        ("scripts/run.sh", "scripts/x.ft", "../saves/one", "../data/rows.json"),
    ],
)
def test_paths_move_with_the_recipe(script: str, target: str, to: str, data: str, here: Workspace) -> None:
    here.write(script, f"llamafactory-cli train {FLAGS} --dataset_dir ../data --output_dir ../saves/one\n")
    recipe = here.recipe(script, target)
    assert f'to = "{to}"' in recipe
    assert f'file("{data}")' in recipe


def test_data_above_the_recipes_folder_is_found_by_the_engine(here: Workspace) -> None:
    """`inputs` of a run is a link: `..` behind it is not to be folded into what stands before."""
    here.put(a_dot_yaml=YAML)
    here.imported("a.yaml", "recipes/x.ft")
    found = here.compiled("recipes/x.ft")
    info = next(one for job in found.jobs for one in job.documents if one.path.endswith("dataset_info.json"))
    file = next(iter(info.data.values()))["file_name"]
    run = here.folder / "run"
    (run / Path(info.path).parent).mkdir(parents=True)
    (run / "inputs").symlink_to(here.folder / "recipes")
    assert (run / Path(info.path).parent / file).read_text() == (here.folder / "data/rows.json").read_text()


# --- the recipe means the same when the card is named

SILENT = {
    "lora": "",
    "full": "finetuning_type: full\n",
    "zero3": "finetuning_type: full\ndeepspeed: ds.json\n",
    "qlora": "quantization_bit: 4\n",
    "dpo": "stage: dpo\n",
}


@pytest.mark.parametrize(
    "card", ["gpu = rtx3090, count = 8", "gpu = h100(80GB), count = 8", "gpu = a100(40GB), count = 1"]
)
@pytest.mark.parametrize("kind", SILENT)
def test_naming_the_card_changes_nothing_the_file_decides(kind: str, card: str, here: Workspace) -> None:
    more = SILENT[kind]
    base = "".join(line for line in YAML.splitlines(True) if line.partition(":")[0] not in more)
    here.put(a_dot_yaml=base + more, ds_dot_json=ZERO3)
    text = here.imported("a.yaml")["recipe"]
    before = parameters(here.compiled())
    named = re.sub(r"hardware \{.*?\n\}", f"hardware {{ {card} }}", text, flags=re.S)
    assert card in named
    after = parameters(here.compiled(text=named))
    kept = {name: value for name, value in before.items() if name not in BY_THE_MACHINE}
    assert {name: after.get(name) for name in kept} == kept
    assert set(after) - set(before) <= BY_THE_MACHINE


BY_THE_MACHINE = {
    "deepspeed",
    "use_cpu",
    "dataloader_num_workers",
    "preprocessing_num_workers",
    "ddp_timeout",
    "run_name",
}


def parameters(found: Checked) -> dict[str, Any]:
    return dict(next(one.data for job in found.jobs for one in job.documents if one.path.endswith("train.yaml")))


# --- files beside a run

DEEPSPEED = {
    '"zero_optimization": {"stage": 2, "offload_optimizer": true}': "FT434",
    '"zero_optimization": {"stage": 2, "offload_optimizer": "cpu"}': "FT434",
    '"zero_optimization": true': "FT434",
    '"zero_optimization": {"stage": "two"}': "FT434",
    '"zero_optimization": {"stage": 2, "reduce_bucket_size": "big"}': "FT434",
    '"zero_optimization": {"stage": 2, "overlap_comm": "maybe"}': "FT434",
    '"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdmaW", "params": {"lr": "auto"}}': "FT435",
    '"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupDecay", "params": {}}': "FT435",
    '"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW", "params": {"weight_decay": 0}}': "FT436",
    '"zero_optimization": {"stage": 2}, "optimizer": {"type": "Adam"}': "FT436",
    '"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 5}}': "FT436",
    '"zero_optimization": {"stage": 2}, "offload_optimizer": {"device": "cpu"}': "FT009",
    '"zero_optimization": {"stage": 2}, "bfloat16": {"enabled": true}': "",
    '"zero_optimization": {"stage": 2, "reduce_bucket_size": "auto", "overlap_comm": true}': "",
    '"zero_optimization": {"stage": 3, "stage3_prefetch_bucket_size": 5e8, "sub_group_size": 1e9}': "",
    '"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "cpu", "pin_memory": true}}': "",
    '"zero_optimization": {"stage": 2}, "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}}': "",
    '"zero_optimization": {"stage": 2}, "optimizer": {"type": "SGD", "params": {"lr": 1e-3}}': "",
    '"zero_optimization": {"stage": 2}, "gradient_clipping": "auto", "steps_per_print": 10': "",
}


@pytest.mark.parametrize("part", DEEPSPEED)
def test_types_and_keys_of_deepspeed_files(part: str, here: Workspace) -> None:
    here.put(ds_dot_json=f'{{"train_micro_batch_size_per_gpu": "auto", {part}}}')
    assert set(here.codes("ds.json")) == ({DEEPSPEED[part]} if DEEPSPEED[part] else set())


ACCELERATE = {
    "distributed_type: DEEPSPEED\ndeepspeed_config: {zero_stage: 2, gradient_accumulation_steps: 4}\nnum_processes: 4\n": "",
    "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 1\n": "FT437",
    "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 7\n": "FT437",
    "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 2\nnum_processes: 16\n": "",
    "distributed_type: FSDP\nfsdp_config: yes\nnum_processes: 2\n": "FT434",
    "distributed_type: MULTI_GPU\nnum_processes: four\n": "FT434",
}


@pytest.mark.parametrize("text", ACCELERATE)
def test_accelerates_files(text: str, here: Workspace) -> None:
    here.put(acc_dot_yaml=text)
    found = set(here.codes("acc.yaml")) - {"FT007", "FT410"}
    assert found == ({ACCELERATE[text]} if ACCELERATE[text] else set())


@pytest.mark.parametrize(
    ("layer", "model", "wrong"),
    [
        ("GPT2Block", "Qwen/Qwen2.5-7B", True),
        ("LlamaDecoderLayer", "Qwen/Qwen2.5-7B", True),
        ("Qwen2DecoderLayer", "Qwen/Qwen2.5-7B", False),
        ("LlamaDecoderLayer", "meta-llama/Llama-3.1-8B", False),
        ("Gemma3DecoderLayer", "google/gemma-3-1b-it", False),
        ("LlamaDecoderLayer", "google/gemma-3-1b-it", True),
        ("MyLayer", "Qwen/Qwen2.5-7B", False),
    ],
)
def test_the_class_that_fsdp_wraps(layer: str, model: str, wrong: bool, here: Workspace) -> None:
    here.put(acc_dot_yaml="distributed_type: FSDP\nnum_processes: 4\nfsdp_config: {fsdp_version: 2, fsdp_auto_wrap_policy: "
                          f"TRANSFORMER_BASED_WRAP, fsdp_transformer_layer_cls_to_wrap: {layer}}}\n")  # fmt: skip
    here.write(
        "run.sh", f"accelerate launch --config_file acc.yaml src/train.py {FLAGS} --model_name_or_path {model}\n"
    )
    assert ("FT438" in here.codes("run.sh")) == wrong


def test_numbers_of_accelerates_file_against_the_run(here: Workspace) -> None:
    here.put(
        acc_dot_yaml="distributed_type: DEEPSPEED\nnum_processes: 4\n"
        "deepspeed_config: {zero_stage: 2, gradient_accumulation_steps: 8}\n"
    )
    here.write(
        "run.sh", f"accelerate launch --config_file acc.yaml src/train.py {FLAGS} --gradient_accumulation_steps 2\n"
    )
    assert "is 8 here and 2 in the run" in here.codes("run.sh")["FT402"]


@pytest.mark.parametrize(
    ("entry", "guess"),
    [({"format": "sharegpt"}, "formatting"), ({"columns": {"instruction": "q"}}, "prompt"), ({"num_sample": 5}, "num_samples"),
     ({"formatting": "alpaca", "file_sha1": "x"}, ""), ({"columns": {"prompt": "q", "response": "a"}, "tags": {}}, "")],
)  # fmt: skip
def test_keys_of_dataset_info(entry: dict[str, Any], guess: str, here: Workspace) -> None:
    here.put(data__dataset_info_dot_json=json.dumps({"rows": {"file_name": "rows.json", **entry}}), a_dot_yaml=YAML)
    for name in ("data/dataset_info.json", "a.yaml"):
        _, out = here.checked(name)
        assert ("FT523" in out) == bool(guess)
        assert guess in out


RECIPE = """\
hardware {{ gpu = h100(80GB), count = 2 }}
sft {{
  model = hf("Qwen/Qwen2.5-3B-Instruct")
  template = qwen
  data = file("data/rows.json")
  precision = bf16
  lora {{ rank = 8 }}
  optim {{ lr = 1e-4 }}
  batch {{ global = 16 }}
  parallel {{ strategy = zero2 }}
  deepspeed {{ {0} }}
}}
"""


@pytest.mark.parametrize(
    ("block", "code"),
    [
        ("optimizer.type = AdamW, optimizer.params.lr = 3e-4", "FT402"),
        ("zero_optimization.offload_optimizer = true", "FT434"),
        ("optimizer.type = AdmaW, optimizer.params.lr = auto", "FT435"),
        ("optimizer.type = AdamW, optimizer.params.weight_decay = auto", "FT436"),
        ("wall_clock_breakdown = true", ""),
        ("optimizer.type = AdamW, optimizer.params.lr = auto", ""),
        ("zero_optimization.overlap_comm = false", ""),
    ],
)
def test_a_recipe_is_held_to_the_rules_for_the_files_it_compiles_to(block: str, code: str, here: Workspace) -> None:
    here.put(x_dot_ft=RECIPE.format(block))
    assert set(here.codes("x.ft")) == ({code} if code else set())


# --- invocations of several stages


def test_training_and_prediction_in_one_command(here: Workspace) -> None:
    more = "do_predict: true\npredict_with_generate: true\neval_dataset: rows\nfreeze_vision_tower: true\nsave_total_limit: 2\n"
    here.put(a_dot_yaml=YAML + more)
    recipe = here.recipe("a.yaml")
    assert "eval from sft {" in recipe
    assert here.checked("recipe.ft")[0] == 0
    assert "learning_rate" not in here.notes("a.yaml")


def test_prediction_of_a_quantised_base(here: Workspace) -> None:
    text = YAML.replace(
        "do_train: true", "do_predict: true\npredict_with_generate: true\nquantization_bit: 8\neval_dataset: rows"
    )
    here.put(a_dot_yaml=text.replace("dataset: rows\ntemplate", "template"))
    here.imported("a.yaml")
    assert here.checked("recipe.ft")[0] == 0


def test_a_reward_model_without_a_model(here: Workspace) -> None:
    text = YAML.replace("model_name_or_path: Qwen/Qwen2.5-3B-Instruct\n", "reward_model: out/rm\n").replace(
        "stage: sft", "stage: ppo"
    )
    here.put(a_dot_yaml=text)
    assert "param base: model" in here.recipe("a.yaml")


# --- false alarms


@pytest.mark.parametrize(
    ("script", "code", "wanted"),
    [
        (f"CUDA_VISIBLE_DEVICES=0,1 {LF.strip()} --deepspeed ds.json\n", "FT405", False),
        (f"CUDA_VISIBLE_DEVICES=0 {LF.strip()} --deepspeed ds.json\n", "FT405", True),
        (f"BS=$((64 / 4 / 2))\n{LF.strip()} --gradient_accumulation_steps $BS\n", "FT060", False),
        (f"{LF.strip()} --gradient_accumulation_steps $BS\n", "FT060", False),
        (f"{LF.strip()} --gradient_accumulation_steps many\n", "FT060", True),
    ],
)
def test_rules_know_what_the_shell_knows(script: str, code: str, wanted: bool, here: Workspace) -> None:
    here.put(ds_dot_json=ZERO3)
    here.write("run.sh", script)
    assert (code in here.checked("run.sh")[1]) == wanted


def test_an_old_name_is_one_message(here: Workspace) -> None:
    here.put(
        a_dot_yaml=YAML
        + "evaluation_strategy: steps\neval_steps: 100\nval_size: 0.1\nload_best_model_at_end: true\nsave_steps: 100\n"
    )
    assert set(here.codes("a.yaml")) == {"FT116"}


def test_the_environment_has_what_the_run_reads(here: Workspace) -> None:
    """Not what the script only keeps its own values in, or hands to `envsubst`."""
    own = "export MODEL=Qwen/Qwen2.5-3B-Instruct\nexport learning_rate=1e-4\nexport NCCL_DEBUG=INFO HF_HOME=/h MY_FLAG=1\n"
    here.write("run.sh", f"{own}llamafactory-cli train {FLAGS} --model_name_or_path $MODEL\n")
    recipe = here.recipe("run.sh")
    assert re.search(r"env { (.*?) }", recipe)
    assert all(name in recipe for name in ("NCCL_DEBUG", "HF_HOME", "MY_FLAG"))
    assert "MODEL =" not in recipe
    assert "learning_rate =" not in recipe


@pytest.mark.parametrize("flag", ["--flash_attn", "--flash_attn True", "--flash_attn flash_attention_2"])
def test_values_of_earlier_releases(flag: str, here: Workspace) -> None:
    here.write("run.sh", f"{LF.strip()} {flag}\n")
    assert "attention = flash2" in here.recipe("run.sh")
    assert "FT002" in here.codes("run.sh")


@pytest.mark.parametrize("second", ["", "--num_train_epochs 2"])
def test_two_commands_into_one_folder(second: str, here: Workspace) -> None:
    here.write("run.sh", f"{LF}{LF.strip()} --seed 7 {second}\n")
    recipe = here.recipe("run.sh")
    assert recipe.count('to = "out/x"') == 1
    assert here.checked("recipe.ft")[0] == 0


def test_a_line_without_a_backslash_ends_the_command(here: Workspace) -> None:
    here.write("run.sh", f"{LF}--overwrite_output_dir\n")
    assert "ends without a backslash" in here.codes("run.sh")["FT053"]


@pytest.mark.parametrize("module", ["src.llmtuner.cli", "llmtuner.cli", "llamafactory.cli"])
def test_modules_of_earlier_releases(module: str, here: Workspace) -> None:
    here.put(a_dot_yaml=YAML)
    here.write(
        "run.sh", f"accelerate launch --num_processes 2 -m {module} train a.yaml\npython -m {module} train a.yaml\n"
    )
    assert "sft" in here.recipe("run.sh")


def test_places_to_be_filled_in_are_words(here: Workspace) -> None:
    here.write("run.sh", f"cd <YOUR_PATH_TO_LLAMA_FACTORY>\n\n{LF}")
    assert here.checked("run.sh")[0] == 0


@pytest.mark.parametrize(
    ("row", "entry", "stage", "wrong"),
    [
        ({"question": "a", "answer": "b"}, {}, "sft", True),
        ({"question": "a", "answer": "b"}, {"columns": {"prompt": "question", "response": "answer"}}, "sft", False),
        ({"instruction": "a", "input": "", "output": "b"}, {}, "sft", False),
        ({"conversations": []}, {}, "sft", True),
        ({"conversations": []}, {"formatting": "sharegpt"}, "sft", False),
        ({"messages": []}, {"formatting": "sharegpt"}, "sft", True),
        ({"text": "a"}, {}, "pt", True),
        ({"text": "a"}, {"columns": {"prompt": "text"}}, "pt", False),
        ({"instruction": "a", "chosen": "b"}, {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen",
                                                                          "rejected": "rejected"}}, "dpo", True),
    ],
)  # fmt: skip
def test_rows_are_looked_at_for_yaml_and_scripts(
    row: dict[str, Any], entry: dict[str, Any], stage: str, wrong: bool, here: Workspace
) -> None:
    here.put(
        data__r_dot_json=json.dumps([row]),
        data__dataset_info_dot_json=json.dumps({"rows": {"file_name": "r.json", **entry}}),
    )
    here.put(a_dot_yaml=YAML.replace("stage: sft", f"stage: {stage}"))
    here.write("run.sh", LF.replace("--stage sft", f"--stage {stage}"))
    for name in ("a.yaml", "run.sh"):
        assert ("FT502" in here.codes(name)) == wrong, name


def test_rows_of_an_entry_are_counted_in_its_file(here: Workspace) -> None:
    """Not in the lines of dataset_info.json."""
    entries = {f"other{at}": {"file_name": "rows.json"} for at in range(300)} | {"rows": {"file_name": "r.json"}}
    rows = json.dumps([{"instruction": "a", "input": "", "output": "b"}] * 40, indent=2)
    here.put(data__dataset_info_dot_json=json.dumps(entries, indent=2), data__r_dot_json=rows)
    recipe = (
        'hardware {{ gpu = h100(80GB), count = 1 }}\nsft {{\n  model = hf("Qwen/Qwen2.5-3B-Instruct")\n  data = {0}\n'
        "  lora {{ rank = 8 }}\n  batch {{ global = 4 }}\n  duration = 1 epoch\n}}\n"
    )
    here.put(x_dot_ft=recipe.format('file("data/dataset_info.json", entry = "rows")'))
    assert "; 10 steps" in ftc("plan", "x.ft", cwd=here.folder).stdout


ADAPTER = "adapter_name_or_path: out/sft\nstage: dpo\npref_beta: 0.1\n"


@pytest.mark.parametrize(
    ("lines", "reference"),
    [
        (ADAPTER, 'hf("Qwen/Qwen2.5-3B-Instruct")'),
        (ADAPTER + "create_new_adapter: true\n", ""),
        (ADAPTER + "pref_loss: simpo\n", ""),
        (ADAPTER + "ref_model: a/b\n", 'hf("a/b")'),
    ],
)
def test_an_adapter_that_is_trained_further_is_compared_with_the_base(
    lines: str, reference: str, here: Workspace
) -> None:
    """LLaMA-Factory switches the adapter off, so its reference is the base; a recipe's is what the stage starts from."""
    here.write("dpo.yaml", YAML.replace("stage: sft\n", "") + lines)
    recipe = here.recipe("dpo.yaml")
    assert (f"reference = {reference}" in recipe) == bool(reference), recipe


def test_data_with_an_absolute_path(here: Workspace) -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": "/mnt/rows.json"}}))
    here.write("a.yaml", YAML)
    assert "data/mnt" not in here.recipe("a.yaml")


@pytest.mark.parametrize("program", ["$(which llamafactory-cli)", '"$(command -v llamafactory-cli)"'])
def test_a_program_by_where_it_is(program: str, here: Workspace) -> None:
    here.write("run.sh", f"{program} train {FLAGS}\n")
    assert "sft {" in here.recipe("run.sh")


def test_flags_that_only_the_script_knows_are_not_missed(here: Workspace) -> None:
    """A command whose file or flags come from a function says nothing of what is not in it."""
    here.write("run.sh", 'CONFIG=$(make_config a b)\nllamafactory-cli train "$CONFIG"\n')
    assert not {"FT011", "FT517"} & here.codes("run.sh").keys()


def test_the_best_checkpoint_without_anything_to_evaluate_on(here: Workspace) -> None:
    here.write("a.yaml", YAML + "load_best_model_at_end: true\nsave_strategy: epoch\n")
    assert "does not evaluate" in here.codes("a.yaml")["FT105"]
    assert "best_by" not in here.recipe("a.yaml")


def test_a_stage_that_starts_from_inside_its_output_folder(here: Workspace) -> None:
    here.write("a.yaml", YAML + "adapter_name_or_path: out/x/checkpoint-14\n")
    assert 'to = "out' not in here.recipe("a.yaml")
    assert "keeps its result in the run folder" in json.dumps(here.imported("a.yaml"))


def test_saved_tokens_of_a_prediction(here: Workspace) -> None:
    here.write("a.yaml", YAML.replace("do_train: true", "do_predict: true\npredict_with_generate: true\ntokenized_path: t")
               .replace("dataset:", "eval_dataset:"))  # fmt: skip
    assert " tokenize = ahead" not in here.recipe("a.yaml")


@pytest.mark.parametrize("method", ["freeze_llm", "qlora", "dora"])
def test_methods_that_do_not_exist_are_not_lora(method: str, here: Workspace) -> None:
    here.write("a.yaml", YAML.replace("finetuning_type: lora", f"finetuning_type: {method}"))
    assert f"`{method}` is no method of LLaMA-Factory" in here.notes("a.yaml")
    assert (
        " lora "
        not in here.recipe("a.yaml").partition("sft {")[2].replace("# not carried", "").split("not carried")[-1]
    )
    assert "FT002" in here.codes("a.yaml")

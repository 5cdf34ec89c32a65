"""Kinds of files in public repositories that were read wrongly, or refused without help, when they were first tried."""

from __future__ import annotations

import json

import pytest

from tests.conftest import ftc
from tests.importers.test_kinds import FLAGS, YAML, Workspace, here

__all__ = ["here"]

RUN_BY_ITSELF = ["finetune_dpo.py", "train_mllm.py", "my.trainer.sft", "scripts/qwen_orpo.py"]


# --- scripts that start a program of their own


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("accelerate launch --config_file a.yaml finetune_dpo.py c.yaml --beta 0.1", "finetune_dpo.py"),
        ("deepspeed --include localhost:1,0 finetune_clm_lora.py --lora_r 8", "finetune_clm_lora.py"),
        ("torchrun --nproc_per_node=4 -m my.trainer.sft data.path=x", "my.trainer.sft"),
        ('for m in a b; do\n  python train_mllm.py --model "$m" --submit\ndone', "train_mllm.py"),
        ("CUDA_VISIBLE_DEVICES=5 python qwen_orpo.py --max_steps 10 --use_peft --lora_r=2", "qwen_orpo.py"),
        ("srun python -u src/my_main.py --epochs 3", "src/my_main.py"),
    ],
)
def test_a_program_of_its_own_is_named(here: Workspace, script: str, named: str) -> None:
    here.write("t.sh", f"#!/bin/bash\n{script}\n")
    assert f"`{named}` is a program of its own" in here.codes("t.sh")["FT051"]


@pytest.mark.parametrize("copies", ["cp ./t2.sh out/", "cat t2.sh", "chmod +x t2.sh", "rm -f t2.sh"])
def test_a_script_that_is_copied_is_not_one_that_is_started(here: Workspace, copies: str) -> None:
    here.write("t.sh", f"{copies}\ntorchrun mine.py --lr 1\n")
    assert "`mine.py` is a program of its own" in here.codes("t.sh")["FT051"]


@pytest.mark.parametrize("starts", ["bash t2.sh", "./t2.sh", "source ./t2.sh", "nohup bash t2.sh &", "sbatch t2.sh"])
def test_a_script_that_is_started_is_pointed_to(here: Workspace, starts: str) -> None:
    here.write("t.sh", f"{starts}\n")
    assert "t2.sh`, which it starts, may" in here.codes("t.sh")["FT051"]


@pytest.mark.parametrize(
    "program", ["petro-train", "python main.py", "torchrun --nproc_per_node 2 main.py", "python -m mytool.train"]
)
def test_a_program_that_takes_llamafactorys_flags_is_read(here: Workspace, program: str) -> None:
    here.write("t.sh", f"{program} {FLAGS}\n")
    found = here.imported("t.sh")
    assert 'model = hf("Qwen/Qwen2.5-3B-Instruct")' in " ".join(found["recipe"].split())
    assert any("taken as LLaMA-Factory's, by its flags" in note["text"] for note in found["notes"])


@pytest.mark.parametrize("program", ["python src/evaluate.py", "python LLaMA-Factory/src/evaluate.py"])
def test_the_script_of_benchmarks_was_taken_out(here: Workspace, program: str) -> None:
    here.write("t.sh", f"{program} --model_name_or_path a/b --template vanilla --task mmlu --n_shot 5\n")
    assert "evaluate.py` was taken out of LLaMA-Factory" in here.codes("t.sh")["FT051"]


# --- what a file is


def test_a_record_of_swift_is_swifts(here: Workspace) -> None:
    record = {
        "model": "a/b",
        "model_type": "llama3_2",
        "template": "llama3_2",
        "train_type": "lora",
        "torch_dtype": "bfloat16",
    }
    training = {"learning_rate": 1e-4, "num_train_epochs": 1, "output_dir": "o", "per_device_train_batch_size": 2,
                "bf16": True, "seed": 42, "target_modules": ["all-linear"], "lora_rank": 8}  # fmt: skip
    here.write("args.json", json.dumps(record | training))
    assert "ms-swift" in here.codes("args.json")["FT051"]


def test_a_template_beside_names_of_another_tool_stays_llamafactorys(here: Workspace) -> None:
    here.write("t.yaml", YAML + "lora_r: 8\ntorch_dtype: bfloat16\ntrain_type: lora\nmodel_type: qwen\n")
    assert "FT051" not in here.codes("t.yaml")


def test_the_configuration_of_a_program_that_hands_on_a_few_keys_is_no_trainers(here: Workspace) -> None:
    own = "".join(f"own_{number}: {number}\n" for number in range(20))
    here.write(
        "t.yaml",
        f"{own}per_device_train_batch_size: 2\nlearning_rate: 1e-5\nbeta: 0.1\nlora_r: 8\nmax_prompt_length: 9\n",
    )
    assert set(here.codes("t.yaml")) == {"FT051"}


# --- nothing to run


CHAT = (
    "model_name_or_path: Qwen/Qwen2.5-3B-Instruct\nadapter_name_or_path: out/x\ntemplate: qwen\nfinetuning_type: lora\n"
)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("chat.yaml", CHAT),
        ("chat.sh", "python src/cli_demo.py --model_name_or_path out/x --template qwen\n"),
        ("web.sh", "llamafactory-cli webchat --model_name_or_path out/x --template qwen\n"),
        ("ds.json", '{"train_batch_size": "auto", "zero_optimization": {"stage": 2}}'),
    ],
)
def test_a_recipe_without_a_stage_is_not_to_be_run(here: Workspace, name: str, text: str) -> None:
    here.write(name, text)
    done = ftc("import", name, "-o", "r.ft", cwd=here.folder)
    assert "next: add a stage" in done.stderr and "next: ftc run" not in done.stderr
    assert name.startswith("ds") or "is not a stage" in done.stderr


# --- accelerate's file alone

LAUNCHED = "compute_environment: LOCAL_MACHINE\nnum_machines: 1\nnum_processes: 4\nmachine_rank: 0\nuse_cpu: false\ntpu_env: []\n"
FSDP = "distributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2\n  fsdp_state_dict_type: FULL_STATE_DICT\n"


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ("distributed_type: DEEPSPEED\n", "strategy = zero2"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config: {}\n", "strategy = zero2"),
        ("distributed_type: DEEPSPEED\ndeepspeed_config:\n  zero_stage: 3\n", "strategy = zero3"),
        (
            "distributed_type: MULTI_GPU\ndynamo_config:\n  dynamo_backend: INDUCTOR\n",
            "dynamo_config.dynamo_backend = INDUCTOR",
        ),
        (f"{FSDP}  fsdp_transformer_layer_cls_to_wrap: Qwen3DecoderLayer\n", "cls_to_wrap = Qwen3DecoderLayer"),
    ],
)
def test_what_accelerates_file_sets_is_kept(here: Workspace, more: str, kept: str) -> None:
    here.write("a.yaml", LAUNCHED + more)
    assert kept in " ".join(here.imported("a.yaml")["recipe"].split())


@pytest.mark.parametrize(
    "more", ["distributed_type: MULTI_GPU\n", "distributed_type: 'NO'\ndowncast_bf16: 'no'\n", FSDP]
)
def test_what_a_recipe_sets_by_itself_is_not_repeated(here: Workspace, more: str) -> None:
    here.write("a.yaml", LAUNCHED + more)
    assert "accelerate {" not in here.imported("a.yaml")["recipe"]


# --- values


@pytest.mark.parametrize("path", [r"E:\models\qwen2_7b", "D:/models/qwen", r"\\server\share\qwen"])
def test_an_absolute_path_of_windows_stays_absolute(here: Workspace, path: str) -> None:
    here.write("conf/deep/t.yaml", YAML.replace("Qwen/Qwen2.5-3B-Instruct", path))
    here.write("conf/data/dataset_info.json", '{"rows": {"file_name": "rows.json"}}')
    assert (
        f"file('{path}')" in (recipe := here.imported("conf/deep/t.yaml", "deep/r.ft")["recipe"])
        or f'file("{path}")' in recipe
    )


@pytest.mark.parametrize(
    "extra",
    [
        "debug: underflow_overflow\nlog_level: debug\n",
        "debug: underflow_overflow\nlog_level_replica: debug\nlog_level: debug\n",
    ],
)
def test_a_value_that_is_the_name_of_another_parameter_stays_a_value(here: Workspace, extra: str) -> None:
    here.write("t.yaml", YAML + extra)
    assert 'log_level = "debug"' in " ".join(here.imported("t.yaml")["recipe"].split())


@pytest.mark.parametrize("names", ["a,b", "a, b, c"])
def test_several_evaluation_sets_are_all_evaluated_on(here: Workspace, names: str) -> None:
    """`imported` compiles the recipe again: none is lost."""
    info = {name: {"file_name": "rows.json"} for name in ("rows", "a", "b", "c")}
    here.write("data/dataset_info.json", json.dumps(info))
    here.write("t.yaml", f"{YAML}eval_dataset: {names}\neval_strategy: steps\neval_steps: 5\n")
    assert (
        here.imported("t.yaml")["recipe"].count("entry =") + here.imported("t.yaml")["recipe"].count("rows.json") >= 3
    )
    here.write(
        "far.yaml", f"{YAML}eval_dataset: {names}\ndataset_dir: /elsewhere\neval_strategy: steps\neval_steps: 5\n"
    )
    here.imported("far.yaml")


@pytest.mark.parametrize("file", ["/elsewhere/rows/", "/elsewhere/rows.json", "sub/../rows.json"])
def test_files_of_an_entry_are_compared_in_one_spelling(here: Workspace, file: str) -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": file}}))
    here.write("t.yaml", YAML)
    here.imported("t.yaml")


# --- scoring


ZERO3 = '{"train_micro_batch_size_per_gpu": "auto", "zero_optimization": {"stage": 3}}'


@pytest.mark.parametrize("switch", ["do_predict", "do_eval"])
def test_what_only_scores_may_be_sharded_and_needs_no_rate(here: Workspace, switch: str) -> None:
    text = YAML.replace("do_train", switch).replace("dataset:", "eval_dataset:").replace("1.0e-4", "0.0")
    here.write("ds.json", ZERO3)
    here.write("t.yaml", f"{text}num_train_epochs: 0.0\ndeepspeed: ds.json\n")
    assert "FT003" not in here.codes("t.yaml")
    assert "parallel {" not in here.imported("t.yaml")["recipe"]
    assert "FT005" not in here.codes("recipe.ft")


@pytest.mark.parametrize("name", ["learning_rate", "num_train_epochs"])
def test_a_training_needs_them(here: Workspace, name: str) -> None:
    here.write("t.yaml", YAML.replace("learning_rate: 1.0e-4\n", "") + f"{name}: 0.0\n")
    assert "FT003" in here.codes("t.yaml")


# --- entries of a dataset_info.json are judged in the recipe too


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"file_name": "none.json"}, "FT501"),
        ({"file_name": "/elsewhere/none.json"}, "FT501"),
        ({"file_name": "rows.json", "formatting": "sharegpt_relaxed"}, "FT522"),
        ({"file_name": "rows.json", "strict": True}, "FT523"),
        ({"file_name": "rows.json", "ranking": True}, "FT502"),
    ],
)
def test_an_entry_is_judged_alike_in_a_file_and_in_its_recipe(
    here: Workspace, entry: dict[str, object], code: str
) -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": entry}))
    here.write("t.yaml", YAML)
    here.write("r.ft", 'hardware { gpu = none }\nsft {\n  model = hf("Qwen/Qwen2.5-3B-Instruct")\n  template = qwen\n'
               '  data = file("data/dataset_info.json", entry = "rows")\n  lora {}\n}\n')  # fmt: skip
    assert code in here.codes("t.yaml")
    assert code in here.codes("r.ft")
    assert "FT501" not in dict.fromkeys(here.checked("r.ft", "--no-data")[1].split("[")) or code != "FT501"


@pytest.mark.parametrize(("file", "severity"), [("none.json", "error"), ("/elsewhere/none.json", "warning")])
def test_a_file_of_another_machine_is_a_warning(here: Workspace, file: str, severity: str) -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": file}}))
    here.write("t.yaml", YAML)
    assert f"{severity}[FT501]" in here.checked("t.yaml")[1]


@pytest.mark.parametrize("name", ["mine.json", "data/mine.jsonl", "/opt/data/mine.csv", r"data\mine.parquet"])
def test_a_path_is_no_name_of_an_entry(here: Workspace, name: str) -> None:
    here.write("data/dataset_info.json", json.dumps({"rows": {"file_name": "rows.json"}}))
    here.write("t.yaml", YAML.replace("dataset: rows", f"dataset: {name}"))
    out = here.checked("t.yaml")[1]
    assert "error[FT501]" in out and "names of entries, no paths" in out and "write `dataset: mine`" in out


# --- scripts of another machine


@pytest.mark.parametrize("path", ["/home/a/repo/conf/t.yaml", "/scratch/x/LLaMA-Factory/conf/t.yaml", "/conf/t.yaml"])
def test_a_file_of_another_checkout_is_read_from_this_one(here: Workspace, path: str) -> None:
    here.write("conf/t.yaml", YAML)
    here.write("jobs/t.sh", f"apptainer run --nv --pwd /scratch/x x.sif llamafactory-cli train {path}\n")
    code, out = here.checked("jobs/t.sh")
    assert code == 0 and "is not on this machine: `conf/t.yaml` is read for it" in out
    assert "not on this machine: read as `conf/t.yaml`" in here.notes("jobs/t.sh")
    assert "lora" in here.recipe("jobs/t.sh")


@pytest.mark.parametrize("path", ["/home/a/repo/other/t.yaml", "/t.yaml", "other/t.yaml"])
def test_a_file_that_is_nowhere_is_an_error(here: Workspace, path: str) -> None:
    here.write("t.yaml" if path != "/t.yaml" else "conf/u.yaml", YAML)
    here.write("t.sh", f"llamafactory-cli train {path}\n")
    assert "FT501" in here.codes("t.sh")


@pytest.mark.parametrize(
    "header", ["--gres=gpu:4", "--gpus-per-node=h100:4", "--gpus-per-node=4", "--gres=gpu:a100:4", "--gpus=4"]
)
def test_llamafactorys_own_torchrun_takes_all_gpus_of_the_job(here: Workspace, header: str) -> None:
    here.write("t.yaml", YAML)
    here.write(
        "t.sh", f"#!/bin/bash\n#SBATCH --nodes=1\n#SBATCH {header}\nFORCE_TORCHRUN=1 llamafactory-cli train t.yaml\n"
    )
    assert "count = 4" in here.recipe("t.sh")


@pytest.mark.parametrize("value", ["$(hostname)", "run_$(date +%s)", "$(cat a.txt)", "${SLURM_TMPDIR}/x"])
def test_a_variable_that_only_a_run_knows_is_named_so(here: Workspace, value: str) -> None:
    here.write("t.sh", f'export HF_HOME="{value}"\nllamafactory-cli train {FLAGS}\n')
    notes = here.notes("t.sh")
    assert "is known only when the script runs" in notes and "``" not in notes


@pytest.mark.parametrize("launcher", ["deepspeed --num_gpus 8", "torchrun --nproc_per_node 8", "accelerate launch"])
def test_a_blank_behind_a_backslash_before_the_script_is_seen(here: Workspace, launcher: str) -> None:
    here.write("t.sh", f"{launcher} \\\n  --master_port 9901 \\ \n  --num_machines 1 \\\n  src/train.py {FLAGS}\n")
    assert "ends the command" in here.codes("t.sh")["FT053"]


# --- what a file asks for, and cannot have


@pytest.mark.parametrize(
    ("launch", "file"),
    [
        ("CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 4 src/train.py", ""),
        ("CUDA_VISIBLE_DEVICES=3 accelerate launch --num_processes 2 src/train.py", ""),
        ("CUDA_VISIBLE_DEVICES=0,1 accelerate launch --config_file a.yaml src/train.py", "num_processes: 4\n"),
    ],
)
def test_more_processes_than_visible_gpus_are_an_error(here: Workspace, launch: str, file: str) -> None:
    here.write("a.yaml", f"compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU\nnum_machines: 1\n{file}")
    here.write("t.sh", f"{launch} {FLAGS}\n")
    assert "FT439" in here.codes("t.sh")


@pytest.mark.parametrize(
    "launch",
    [
        "CUDA_VISIBLE_DEVICES=0,1 torchrun --nproc_per_node 2 src/train.py",
        "CUDA_VISIBLE_DEVICES=0,1 deepspeed --num_gpus 4 src/train.py",  # ignores the variable
        "CUDA_VISIBLE_DEVICES=$GPUS torchrun --nproc_per_node 4 src/train.py",
        "torchrun --nproc_per_node 4 src/train.py",
        "CUDA_VISIBLE_DEVICES=0,1 llamafactory-cli train",
    ],
)
def test_as_many_processes_as_gpus_are_none(here: Workspace, launch: str) -> None:
    here.write("t.sh", f"{launch} {FLAGS}\n")
    assert "FT439" not in here.codes("t.sh")


@pytest.mark.parametrize("more", ["", "do_train: false\n"])
def test_a_training_file_that_asks_for_nothing_is_an_error(here: Workspace, more: str) -> None:
    here.write("t.yaml", YAML.replace("do_train: true\n", more))
    assert "FT641" in here.codes("t.yaml")


@pytest.mark.parametrize("more", ["do_predict: true\n", "do_eval: true\n", "tokenized_path: out/tokens\n"])
def test_a_file_that_scores_or_only_tokenises_asks_for_something(here: Workspace, more: str) -> None:
    here.write(
        "t.yaml",
        YAML.replace("do_train: true\n", more).replace("dataset:", "eval_dataset:" if "do_" in more else "dataset:"),
    )
    assert "FT641" not in here.codes("t.yaml")

"""Scripts as people write them: what each becomes, and what is reported of the part that only a running shell knows."""

from __future__ import annotations

import pytest

from tests.importers.test_kinds import FLAGS, MERGE, YAML, Workspace, here

__all__ = ["here"]

TRAIN = f"llamafactory-cli train {FLAGS}"


# --- commands inside of others

WRAPPED = {
    "ssh": 'ssh $h "cd /work && llamafactory-cli train t.yaml" &',
    "ssh in a loop": 'for h in a b; do ssh $h "llamafactory-cli train t.yaml"; done',
    "tmux": 'tmux new -d -s a "llamafactory-cli train t.yaml"',
    "tmux keys": 'tmux send-keys -t a "conda activate x && llamafactory-cli train t.yaml" C-m',
    "su": 'su user -c "llamafactory-cli train t.yaml"',
    "sbatch --wrap": 'sbatch --gres=gpu:1 --wrap="llamafactory-cli train t.yaml"',
    "sbatch --wrap apart": 'sbatch --wrap "llamafactory-cli train t.yaml"',
    "until": "until llamafactory-cli train t.yaml; do sleep 5; done",
    "if not": "if ! llamafactory-cli train t.yaml; then echo bad; exit 1; fi",
    "if": "if llamafactory-cli train t.yaml; then echo good; fi",
    "retry": "retry 3 llamafactory-cli train t.yaml",
    "salloc": "salloc --gres=gpu:1 llamafactory-cli train t.yaml",
    "files of a pattern": "for f in conf/*.yaml; do llamafactory-cli train $f; done",
    "echo -e": r'echo -e "stage: sft\ndo_train: true\nmodel_name_or_path: Qwen/Qwen2.5-3B-Instruct" > n.yaml'
    + "\n"
    + r'printf "dataset: rows\ntemplate: %s\noutput_dir: o\n" qwen >> n.yaml'
    + "\nllamafactory-cli train n.yaml",
}


@pytest.mark.parametrize("script", WRAPPED.values(), ids=WRAPPED.keys())
def test_commands_inside_of_others_are_read(here: Workspace, script: str) -> None:
    here.write("t.yaml", YAML)
    here.write("conf/one.yaml", YAML)
    here.write("t.sh", f"#!/bin/bash\n{script}\n")
    recipe = here.recipe("t.sh")
    assert 'model = hf("Qwen/Qwen2.5-3B-Instruct")' in recipe
    assert recipe.count(" template = qwen ") == 1


def test_files_of_a_pattern_are_a_stage_each(here: Workspace) -> None:
    here.write("conf/a.yaml", YAML)
    here.write("conf/b.yaml", YAML.replace("out/x", "out/y").replace("1.0e-4", "2.0e-5"))
    here.write("t.sh", "for f in conf/*.yaml; do\n  llamafactory-cli train $f\ndone\n")
    recipe = here.recipe("t.sh")
    assert "sft a {" in recipe and "sft b {" in recipe and "lr = 2e-5" in recipe


# --- values that are computed, or are not known

COMPUTED = {
    "let": "let R=64/8\n" + TRAIN + " --lora_rank $R\n",
    "expr": "R=$(expr 16 / 2)\n" + TRAIN + " --lora_rank $R\n",
}


@pytest.mark.parametrize("script", COMPUTED.values(), ids=COMPUTED.keys())
def test_whole_numbers_are_computed(here: Workspace, script: str) -> None:
    here.write("t.sh", script)
    assert "rank = 8" in here.recipe("t.sh")


APPENDED = {
    "an array": "A=(--stage sft --do_train --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset rows)\n"
    'if [ -n "$BF16" ]; then A+=(--bf16); fi\nllamafactory-cli train "${A[@]}" --template qwen --output_dir o\n',
    "a text": 'A="--stage sft --do_train --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset rows"\n'
    'if [ -n "$BF16" ]; then A="$A --bf16"; fi\nllamafactory-cli train $A --template qwen --output_dir o\n',
    "all arguments": "llamafactory-cli train --stage sft --do_train --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset rows "
    '--template qwen --output_dir saves/x "$@"\n',
    "behind a switch": "llamafactory-cli train --stage sft --model_name_or_path Qwen/Qwen2.5-3B-Instruct --dataset rows "
    "--template qwen --output_dir saves/x --do_train $EXTRA\n",
}


@pytest.mark.parametrize("script", APPENDED.values(), ids=APPENDED.keys())
def test_the_known_part_of_flags_stays_and_the_rest_is_reported(here: Workspace, script: str) -> None:
    here.write("t.sh", script)
    found = here.imported("t.sh")
    assert 'hf("Qwen/Qwen2.5-3B-Instruct")' in found["recipe"]
    assert ",{" not in found["recipe"] and "param" not in found["recipe"]
    assert any("its flags are not known" in note["text"] for note in found["notes"])
    _, out = here.checked("t.sh")
    assert "FT052" in out


def test_a_file_that_only_the_shell_knows_is_never_an_empty_stage(here: Workspace) -> None:
    here.write("t.sh", "llamafactory-cli train $CONFIG\n")
    status, out = here.checked("t.sh")
    assert status == 1 and "FT051" in out and "only the running script knows" in out
    assert "only the running script knows" in here.refused("t.sh")


@pytest.mark.parametrize("command", ["llamafactory-cli train", "echo t.yaml | xargs llamafactory-cli train"])
def test_a_command_without_arguments_is_never_a_stage(here: Workspace, command: str) -> None:
    here.write("t.sh", f"{command}\n")
    assert here.checked("t.sh")[0] == 1
    assert "error[FT051]" in here.refused("t.sh")


def test_flags_of_one_command_say_nothing_of_another(here: Workspace) -> None:
    here.write(
        "t.sh",
        'llamafactory-cli train --stage sft "$@"\nllamafactory-cli train --stage sft --do_train --dataset rows\n',
    )
    assert "FT011" in here.checked("t.sh")[1]


# --- launchers


@pytest.mark.parametrize(
    ("launcher", "wanted"),
    [
        ("torchrun --nnodes 2 --nproc_per_node 8 --rdzv_endpoint $HOST:29500 src/train.py", "launch { head"),
        ("torchrun --nnodes 2 --nproc_per_node 8 --rdzv_endpoint 10.0.0.1:29501 src/train.py", 'head = "10.0.0.1", port = 29501'),
        ('deepspeed --include "a:0,1@b:0,1" --master_addr a src/train.py', "count = 2, nodes = 2"),
    ],
)  # fmt: skip
def test_where_nodes_meet_is_carried(here: Workspace, launcher: str, wanted: str) -> None:
    here.write("t.sh", f"{launcher} {FLAGS}\n")
    assert wanted in here.recipe("t.sh")


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("deepspeed --hostfile hosts.txt src/train.py", "write `hardware { nodes = … }`"),
        ("accelerate launch --config_file no.yaml --num_cpu_threads_per_process 4 src/train.py", "no recipe carries"),
        ("accelerate launch --config_file no.yaml --num_processes 2 src/train.py", "write `parallel { }`"),
        ("accelerate launch --fsdp_sharding_strategy FULL_SHARD src/train.py", "has no effect without `--use_fsdp`"),
        ("accelerate launch --mixed_precision fp16 src/train.py", "`bf16` of the engine wins"),
        ("accelerate launch --num_machines 2 --num_processes 3 src/train.py", "3 is the total of 2 machines"),
        (f"torchrun --nproc_per_node {'9' * 40} src/train.py", "is no number of processes"),
        ("torchrun --nproc_per_node eight src/train.py", "is no number of processes"),
    ],
)
def test_flags_of_launchers_are_never_lost_in_silence(here: Workspace, command: str, note: str) -> None:
    here.write("t.sh", f"{command} {FLAGS}\n")
    assert note in here.notes("t.sh")


def test_flags_win_over_the_file_of_accelerate(here: Workspace) -> None:
    here.write("a.yaml", "distributed_type: MULTI_GPU\nnum_processes: 2\n")
    here.write("t.sh", f"accelerate launch --config_file a.yaml --num_processes 4 src/train.py {FLAGS}\n")
    assert "count = 4" in here.recipe("t.sh")


def test_a_number_of_processes_that_is_none_is_an_error_of_check(here: Workspace) -> None:
    here.write("t.sh", f"torchrun --nproc_per_node 1e9 src/train.py {FLAGS}\n")
    assert here.codes("t.sh")["FT060"] == "`1e9` is no number of processes"


# --- words that are no flags


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        ("––stage sft", "FT001", "`––stage` is no flag"),
        ("sft --do_train", "FT001", "`sft` belongs to no flag"),
        ("--stage --do_train", "FT060", "`--stage` takes a value, and none follows"),
        ("--lora_rank --do_train", "FT060", "`--lora_rank` takes a value, and none follows"),
    ],
)
def test_what_the_parser_refuses_is_an_error(here: Workspace, words: str, code: str, text: str) -> None:
    here.write(
        "t.sh",
        f"llamafactory-cli train {words} --model_name_or_path a/b --dataset rows --template qwen --output_dir o\n",
    )
    assert here.codes("t.sh")[code] == text


@pytest.mark.parametrize("blank", ["\u00a0", "\u2028", "\u3000", "\u0085"])
def test_a_blank_that_is_a_letter_is_named(here: Workspace, blank: str) -> None:
    here.write("t.sh", f"#!/bin/bash\nllamafactory-cli{blank}train t.yaml\n")
    assert "looks like a blank" in here.codes("t.sh")["FT032"]


# --- what trains nothing


def test_a_web_page_beside_training_is_noted(here: Workspace) -> None:
    here.write(
        "t.sh", f"{TRAIN}\nllamafactory-cli webui\npython src/web_demo.py --model_name_or_path a/b --template qwen\n"
    )
    assert "opens a web page" in here.notes("t.sh")
    assert here.checked("t.sh")[0] == 0


def test_a_script_that_only_opens_a_page_is_named(here: Workspace) -> None:
    here.write("t.sh", "llamafactory-cli webui\n")
    assert here.codes("t.sh")["FT051"].startswith("`llamafactory-cli webui` trains nothing")


def test_prediction_on_rows_held_out_is_noted(here: Workspace) -> None:
    here.write("t.yaml", YAML + "do_predict: true\npredict_with_generate: true\nval_size: 0.1\nload_best_model_at_end: true\n"
                         "eval_strategy: steps\neval_steps: 50\nsave_steps: 50\n")  # fmt: skip
    assert "the engine answers the rows it holds out" in here.notes("t.yaml")
    recipe = here.recipe("t.yaml")
    assert "best_by" in recipe and "best_by" not in recipe.partition("eval from sft")[2]


# --- models that nothing names


@pytest.mark.parametrize(
    ("yaml", "wanted"),
    [
        (MERGE.replace("model_name_or_path: Qwen/Qwen2.5-3B-Instruct\n", ""), 'model = adapter(file("out/x"), base = base)'),
        ("stage: sft\ndo_predict: true\nadapter_name_or_path: out/x\ntemplate: qwen\neval_dataset: rows\noutput_dir: o\n",
         'model = adapter(file("out/x"), base = base)'),
        (YAML.replace("model_name_or_path: Qwen/Qwen2.5-3B-Instruct\n", "adapter_name_or_path: out/x\n"),
         'model = adapter(file("out/x"), base = base)'),
    ],
)  # fmt: skip
def test_an_adapter_without_a_base_is_kept(here: Workspace, yaml: str, wanted: str) -> None:
    here.write("t.yaml", yaml)
    recipe = here.recipe("t.yaml")
    assert "param base: model" in recipe and wanted in recipe


def test_a_parameter_without_a_value_is_reported_once(here: Workspace) -> None:
    here.write(
        "x.ft",
        'param base: model\nppo { model = base, reward = adapter(file("rm"), base = base), data = hf("a/b"), lora {} }\n',
    )
    assert "FT015" not in here.codes("x.ft") and "FT045" in here.codes("x.ft")


def test_a_lora_reward_model_is_on_the_weights_below_the_adapter(here: Workspace) -> None:
    here.write(
        "t.yaml", YAML.replace("stage: sft", "stage: ppo") + "adapter_name_or_path: out/sft\nreward_model: out/rm\n"
    )
    assert 'reward = adapter(file("out/rm"), base = hf("Qwen/Qwen2.5-3B-Instruct"))' in here.recipe("t.yaml")


def test_the_adapters_of_a_reference_model_are_compiled(here: Workspace) -> None:
    here.write("p.jsonl", '{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    model = 'adapter(file("out/a"), base = hf("a/b"))'
    here.write("x.ft", f'dpo {{ model = {model}, reference = {model.replace("out/a", "out/b")}, template = qwen, '
                       'data = file("p.jsonl"), lora {} }\n')  # fmt: skip
    (document,) = [
        one for job in here.compiled("x.ft").jobs for one in job.documents if one.path.endswith("train.yaml")
    ]
    assert document.data["ref_model"] == "a/b" and document.data["ref_model_adapters"].endswith("out/b")


# --- paths


def test_a_recipe_in_a_folder_that_is_made_for_it(here: Workspace) -> None:
    here.write("conf/t.yaml", YAML + "logging_dir: logs\n")
    from tests.conftest import ftc

    done = ftc("import", "conf/t.yaml", "-o", "recipes/new/x.ft", "--verify", cwd=here.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert 'file("../../data/rows.json")' in (here.folder / "recipes/new/x.ft").read_text(encoding="utf-8")

"""Kinds of files of a second batch from public repositories: what was lost without a word, or refused without help."""

from __future__ import annotations

import json

import pytest

from ftdsl.importers.bash_syntax import Syntax
from ftdsl.source import Source
from tests.importers.test_kinds import FLAGS, YAML, Workspace, here

__all__ = ["here"]

INFO = {"rows": {"file_name": "rows.json"}, "held": {"file_name": "rows.json"},
        "seen": {"file_name": "seen.json", "formatting": "sharegpt", "columns": {"messages": "messages", "images": "pics"}},
        "hub": {"hf_hub_url": "org/rows"}}  # fmt: skip
SEEN = [{"messages": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "!"}], "pics": ["a.png"]}]


# --- the folder of images


@pytest.mark.parametrize("name", ["rows", "seen", "hub", "rows,seen"])
@pytest.mark.parametrize(
    ("folder", "kept"), [("pics", "pics"), ("./pics/", "pics"), ("/elsewhere/pics", "/elsewhere/pics")]
)
def test_the_folder_of_images_is_kept(here: Workspace, name: str, folder: str, kept: str) -> None:
    here.write("data/dataset_info.json", json.dumps(INFO))
    here.write("data/seen.json", json.dumps(SEEN))
    here.write("t.yaml", YAML.replace("dataset: rows", f"dataset: {name}") + f"media_dir: {folder}\n")
    assert here.recipe("t.yaml").count(f'media = "{kept}"') == len(name.split(","))


@pytest.mark.parametrize("folder", ["ONLINE", "REMOTE:org/rows"])
@pytest.mark.parametrize("names", ["a", "a,b"])
def test_the_folder_of_images_of_rows_on_a_hub_is_kept_or_named(here: Workspace, folder: str, names: str) -> None:
    here.write(
        "t.yaml", YAML.replace("dataset: rows", f"dataset: {names}") + f"dataset_dir: {folder}\nmedia_dir: pics\n"
    )
    kept, noted = here.recipe("t.yaml").count('media = "pics"'), here.notes("t.yaml").count("media_dir")
    assert (kept, noted) == ((len(names.split(",")), 0) if folder == "ONLINE" else (0, 1))


@pytest.mark.parametrize("flag", ["media_dir", "image_dir"])
def test_the_folder_of_images_of_a_command_and_of_rows_to_evaluate_on(here: Workspace, flag: str) -> None:
    here.write("data/dataset_info.json", json.dumps(INFO))
    here.write("t.sh", f"llamafactory-cli train {FLAGS} --{flag} /pics --eval_dataset held --eval_strategy epoch\n")
    assert here.recipe("t.sh").count('media = "/pics"') == 2


def test_without_a_folder_of_images_none_is_written(here: Workspace) -> None:
    here.write("data/dataset_info.json", json.dumps(INFO))
    here.write("t.yaml", YAML)
    assert "media" not in here.recipe("t.yaml")


@pytest.mark.parametrize("more", ["", "media_dir: /pics\n", "eval_dataset: none_such\neval_strategy: epoch\n"])
def test_an_entry_that_is_not_listed_is_the_reason_for_what_differs(here: Workspace, more: str) -> None:
    """`imported` fails where a difference has no reason."""
    here.write("data/dataset_info.json", json.dumps(INFO))
    here.write("t.yaml", YAML.replace("dataset: rows", "dataset: none_such") + more)
    here.imported("t.yaml")


# --- what only trains, in a file that scores


@pytest.mark.parametrize("switch", ["do_predict", "do_eval"])
@pytest.mark.parametrize("setting", ["warmup_ratio: 0.2", "warmup_steps: 20", "learning_rate: 1.0e-5"])
def test_what_only_trains_is_named_in_a_file_that_scores(here: Workspace, switch: str, setting: str) -> None:
    text = YAML.replace("do_train", switch).replace("dataset:", "eval_dataset:").replace("learning_rate: 1.0e-4\n", "")
    here.write("t.yaml", f"{text}{setting}\n")
    assert f"{setting.partition(':')[0]}: has no effect in a `eval` stage" in here.notes("t.yaml")


@pytest.mark.parametrize("setting", ["do_sample: false", "temperature: 0.2", "top_k: 3"])
def test_sampling_without_answers_is_named(here: Workspace, setting: str) -> None:
    text = YAML.replace("do_train", "do_eval").replace("dataset:", "eval_dataset:")
    here.write("t.yaml", f"{text}{setting}\n")
    assert "nothing is generated without `predict_with_generate`" in here.notes("t.yaml")
    assert "generate {" not in here.recipe("t.yaml")


@pytest.mark.parametrize("setting", ["trust_remote_code: true", "model_revision: v2"])
def test_what_belongs_to_a_model_that_is_not_named_is_named(here: Workspace, setting: str) -> None:
    here.write("t.yaml", YAML.replace("model_name_or_path: Qwen/Qwen2.5-3B-Instruct\n", "") + f"{setting}\n")
    assert "belongs to the model, and none is named" in here.notes("t.yaml")


# --- what only the running script knows


@pytest.mark.parametrize(
    "line", ['train "$1" $EXTRA', 'train "$CFG" "$@"', 'train "${CFG}" "${MORE[@]}"', 'train "$1" --bf16']
)
@pytest.mark.parametrize("start", ["llamafactory-cli", "srun python -m llamafactory.cli"])
def test_a_quoted_variable_behind_the_verb_is_a_file(here: Workspace, start: str, line: str) -> None:
    here.write("t.sh", f'if [[ $# -lt 1 ]]; then exit 1; fi\nCFG="$1"\n{start} {line}\n')
    assert "only the running script knows what it trains with" in here.codes("t.sh")["FT051"]


@pytest.mark.parametrize("line", ["train $ARGS $MORE", 'train "$@"', "train $MODEL_ARGS --bf16"])
def test_variables_that_may_hold_flags_are_no_file(here: Workspace, line: str) -> None:
    here.write("t.sh", f"llamafactory-cli {line}\n")
    assert "only the running script" not in here.codes("t.sh").get("FT051", "")


@pytest.mark.parametrize("runs", ["eval $CMD", 'eval "$CMD"', 'bash -c "$CMD"'])
@pytest.mark.parametrize("start", ["llamafactory-cli train", "torchrun --nproc_per_node 1 src/train.py"])
def test_a_command_that_branches_add_to_is_read(here: Workspace, start: str, runs: str) -> None:
    """Also where a part of it was not known before the branch."""
    here.write(
        "t.sh",
        f"""read LR BACK <<< "$(pick)"
CMD="{start} {FLAGS} --learning_rate ${{LR}}"
if [ "$BACK" != none ]; then
  CMD="$CMD --seed ${{BACK}}"
fi
CMD="$CMD \\
  --lora_rank 16"
{runs}
""",
    )
    assert set(here.codes("t.sh")) <= {"FT501"}
    recipe = here.recipe("t.sh")
    assert "rank = 16" in recipe and "lr = lr" not in recipe and 'hf("Qwen/Qwen2.5-3B-Instruct")' in recipe


@pytest.mark.parametrize("path", ["${ROOT}/conf/t.yaml", '"$ROOT/conf/t.yaml"', "$(pwd)/conf/t.yaml"])
@pytest.mark.parametrize("where", ["", "jobs/deep/"])
def test_a_file_below_a_folder_that_only_a_run_knows_is_read(here: Workspace, path: str, where: str) -> None:
    here.write("conf/t.yaml", YAML)
    here.write(f"{where}t.sh", f"source ./paths.sh\nllamafactory-cli train {path}\n")
    assert "lora" in here.recipe(f"{where}t.sh")


@pytest.mark.parametrize("path", ["$ROOT/t.yaml", "$ROOT/conf/other.yaml", "$A/$B/conf/t.yaml"])
def test_a_file_that_may_be_another_is_not_read(here: Workspace, path: str) -> None:
    here.write("conf/t.yaml", YAML)
    here.write("t.yaml", YAML)
    here.write("t.sh", f"llamafactory-cli train {path}\n")
    assert "FT051" in here.codes("t.sh")


@pytest.mark.parametrize("name", ["ref_model"])
def test_a_model_that_only_a_run_knows_is_a_parameter_of_that_type(here: Workspace, name: str) -> None:
    flags = FLAGS.replace("--stage sft", "--stage dpo")
    here.write("t.sh", f'while (( "$#" )); do case "$1" in --m) m="$2"; shift 2;; esac; done\n'
                       f"llamafactory-cli train {flags} --{name} ${{m}}\n")  # fmt: skip
    recipe = here.recipe("t.sh")
    assert "param m: model" in recipe and "reference = m " in recipe


@pytest.mark.parametrize("empty", ['""', ""])
def test_an_option_that_is_empty_until_it_is_given_is_not_known(here: Workspace, empty: str) -> None:
    here.write(
        "t.sh",
        f"""TASK={empty}
while [[ $# -gt 0 ]]; do
  case $1 in
    --task) TASK="$2"; shift 2 ;;
  esac
done
python scripts/$TASK.py --lr 1
""",
    )
    assert "`scripts/$TASK.py` is a program of its own" in here.codes("t.sh")["FT051"]


# --- what to do


@pytest.mark.parametrize(
    ("path", "help"),
    [
        ("jobs/old/3.yaml", "`jobs/3.yaml` has that name"),
        ("/home/a/3.yaml", "`jobs/3.yaml` has that name"),
        ("/home/a/other.yaml", "a path of another machine"),
        ("conf/other.yaml", "seen from where `ftc` is called"),
    ],
)
def test_a_file_that_is_not_here_is_answered_with_what_to_give(here: Workspace, path: str, help: str) -> None:
    here.write("jobs/3.yaml", YAML)
    here.write("jobs/t.sh", f"llamafactory-cli train {path}\n")
    assert help in here.checked("jobs/t.sh")[1]


@pytest.mark.parametrize("sourced", ["source /opt/x/setup.sh", ". ./env.sh", "source ./a.sh && conda activate x"])
def test_a_program_counts_before_a_script_that_only_prepares(here: Workspace, sourced: str) -> None:
    here.write("t.sh", f"{sourced}\npython3 scripts/infer.py --model_name_or_path a/b\n")
    assert "`scripts/infer.py` is a program of its own" in here.codes("t.sh")["FT051"]


@pytest.mark.parametrize("path", ["/workspace/conf/a.yaml", "/home/x/repo/conf/a.yaml"])
def test_accelerates_file_of_another_checkout_is_read_from_this_one(here: Workspace, path: str) -> None:
    here.write("conf/a.yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nnum_processes: 4\n"
                              "num_machines: 1\nfsdp_config:\n  fsdp_version: 2\n")  # fmt: skip
    here.write("t.sh", f"accelerate launch --config_file {path} src/train.py {FLAGS}\n")
    assert "strategy = fsdp2" in here.recipe("t.sh") and "count = 4" in here.recipe("t.sh")


@pytest.mark.parametrize(("own", "why"), [("--bf16", "`bf16` of the engine wins"), ("", "write `precision = fp8(")])
def test_fp8_of_accelerate_is_named(here: Workspace, own: str, why: str) -> None:
    here.write("a.yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nnum_processes: 1\nnum_machines: 1\n"
                         "mixed_precision: fp8\n")  # fmt: skip
    flags = FLAGS.replace("--bf16", own)
    here.write("t.sh", f"accelerate launch --config_file a.yaml src/train.py {flags}\n")
    assert why in here.notes("t.sh")


@pytest.mark.parametrize("start", ["python src/export_model.py", "llamafactory-cli export"])
def test_the_old_folder_of_an_export_is_its_folder(here: Workspace, start: str) -> None:
    here.write("t.sh", f"{start} --model_name_or_path a/b --checkpoint_dir out/x --template qwen --output_dir out/m\n")
    assert 'to = "out/m"' in here.recipe("t.sh")


def test_a_note_on_one_line_is_given_once(here: Workspace) -> None:
    here.write("t.yaml", YAML + "own_key: 3\n")
    here.write("t.sh", "run() { llamafactory-cli train t.yaml seed=$1 output_dir=out/$1; }\nrun 1\nrun 2\nrun 3\n")
    assert here.notes("t.sh").count("own_key") == 1


# --- accelerate's file


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("fsdp_config:\n  fsdp_version: 2\n  fsdp_state_dict_type: FULL_STAE_DICT\n", "FT002", "fsdp_state_dict_type"),
        ("fsdp_config:\n  fsdp_auto_wrap_policy: LAYERS\n", "FT002", "fsdp_auto_wrap_policy"),
        ("fsdp_config:\n  fsdp_version: 2\nkt_config:\n  enabled: true\n", "FT001", "accelerate has no `kt_config`"),
        ("fsdp_config:\n  fsdp_version: 2\nnum_proceses: 4\n", "FT001", "accelerate has no `num_proceses`"),
    ],
)
def test_what_accelerate_refuses_is_named(here: Workspace, text: str, code: str, message: str) -> None:
    here.write("a.yaml", f"compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\n{text}")
    assert message in here.codes("a.yaml")[code]
    here.write("t.sh", f"accelerate launch --config_file a.yaml src/train.py {FLAGS}\n")
    assert message in here.codes("t.sh")[code]


@pytest.mark.parametrize("value", ["FULL_STATE_DICT", "full_state_dict", "SHARDED_STATE_DICT", "1"])
def test_values_that_accelerate_takes_are_no_error(here: Workspace, value: str) -> None:
    here.write("a.yaml", "compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nfsdp_config:\n  fsdp_version: 2\n"
                         f"  fsdp_state_dict_type: {value}\n")  # fmt: skip
    assert "FT002" not in here.codes("a.yaml")


# --- no false alarm


@pytest.mark.parametrize(
    ("key", "value", "severity"),
    [("stage", '"sft"', "warning"), ("tag", '{"role_tag": "role"}', "error"), ("formating", '"sharegpt"', "error")],
)
def test_a_key_of_an_entry_is_a_slip_only_if_its_value_fits(
    here: Workspace, key: str, value: str, severity: str
) -> None:
    here.write("data/dataset_info.json", f'{{"rows": {{"file_name": "rows.json", "{key}": {value}}}}}')
    assert f"{severity}[FT523]" in here.checked("data/dataset_info.json")[1]


@pytest.mark.parametrize("name", ["torch_dtype", "dtype"])
def test_an_old_name_of_the_dtype_is_not_taken_for_none(here: Workspace, name: str) -> None:
    here.write(
        "t.sh", f"trl sft --model_name_or_path a/b --dataset_name c/d --use_peft --load_in_4bit --{name} bfloat16\n"
    )
    assert "FT636" not in here.codes("t.sh")


# --- words with several variables and no quotes


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("$A/$B/c", "one/two/c"),
        ("saves/$A/$B-lora", "saves/one/two-lora"),
        ("$A-$B.x", "one-two.x"),
        ("out/$A/é/$B/c/$A/d", "out/one/é/two/c/one/d"),
        ('"é"$A/$B/c', "éone/two/c"),
    ],
)
@pytest.mark.parametrize("how", ["{word}", "$OUT", "$ALL", "${{LIST[0]}}"])
def test_variables_in_a_word_without_quotes_are_all_put_in(here: Workspace, word: str, becomes: str, how: str) -> None:
    flags = FLAGS.replace("--output_dir out/x", f"--output_dir {how.format(word=word)}")
    here.write("t.sh", f"A=one\nB=two\nOUT={word}\nexport ALL={word}\nLIST=({word} other)\n"
                       f"llamafactory-cli train {flags}\n")  # fmt: skip
    assert f'to = "{becomes}"' in here.recipe("t.sh")


@pytest.mark.parametrize("word", ["$1/$2/c", "$1-$2.x", "out/$1/$2/c"])
def test_arguments_of_a_function_are_all_put_in(here: Workspace, word: str) -> None:
    flags = FLAGS.replace("--output_dir out/x", f"--output_dir {word}")
    here.write("t.sh", f"run() {{\n  llamafactory-cli train {flags}\n}}\nrun one two\n")
    assert f'to = "{word.replace("$1", "one").replace("$2", "two")}"' in here.recipe("t.sh")


@pytest.mark.parametrize(("mark", "written"), [("EOF", "one/two/c"), ("'EOF'", "$A/$B/c")])
def test_a_file_that_a_script_writes_keeps_its_text(here: Workspace, mark: str, written: str) -> None:
    text = YAML.replace("out/x", "$A/$B/c")
    here.write("t.sh", f"A=one\nB=two\ncat > $A/$B.yaml <<{mark}\n{text}EOF\nllamafactory-cli train $A/$B.yaml\n")
    assert written in here.recipe("t.sh")


@pytest.mark.parametrize("text", ["x=$A/$Б/c", "echo \\$A/$B/c '$A/$B' \"$A/$B/c\" $", "é=$A/$B/é/$C/d # $A/$B/c"])
def test_a_span_is_where_the_word_is_written(text: str) -> None:
    syntax = Syntax(Source("t.sh", text))
    assert syntax.of(syntax.root) == text
    nodes = [syntax.root]
    while nodes:
        node = nodes.pop()
        assert text[syntax.span(node).start : syntax.span(node).end] == syntax.of(node)
        assert not node.children or syntax.of(node).startswith(syntax.of(node.children[0]))
        nodes += node.children

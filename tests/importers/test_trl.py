"""TRL's commands, scripts and YAML: each parameter is carried, or named; what comes in means the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftdsl.catalog.trainers import own_parameters, trainer_schema, trainers
from ftdsl.importers import stages
from ftdsl.importers.recipe_paths import RecipePaths
from ftdsl.importers.trl import verify
from ftdsl.lint.config import Config, Setting
from ftdsl.session import Files
from tests.importers.test_kinds import Workspace

VERBS = [verb for verb, fact in trainers("trl").items() if fact["kind"]]
BASE: dict[str, Any] = {"model_name_or_path": "Qwen/Qwen3-8B", "dataset_name": "me/rows", "output_dir": "out"}
WITH: dict[str, dict[str, Any]] = {
    "lora_": {"use_peft": True}, "use_rslora": {"use_peft": True}, "use_dora": {"use_peft": True},
    "bnb_": {"load_in_4bit": True, "use_peft": True}, "use_bnb": {"load_in_4bit": True, "use_peft": True},
    "eval_": {"eval_strategy": "steps"}, "per_device_eval": {"eval_strategy": "steps"}, "vllm_": {"use_vllm": True},
    "hub_": {"push_to_hub": True}, "metric_for": {"load_best_model_at_end": True}, "greater_": {"load_best_model_at_end": True},
}  # fmt: skip
"""What a parameter has an effect with."""


def other(name: str, fact: dict[str, Any]) -> Any:
    """A value that is not the default, of the parameter's type."""
    kind, default = str(fact.get("type", "")), fact.get("default")
    if choices := [choice for choice in fact.get("choices") or () if choice != default]:
        return choices[0]
    if kind.startswith("bool"):
        return not default
    if name == "lr_scheduler_kwargs":
        return {"num_cycles": 2}
    if "dict" in kind:
        return {"a": 1}
    if kind.startswith("list"):
        return ["x"]
    if kind.startswith(("int", "float")):
        return (default if isinstance(default, int | float) else 0) + (2 if kind.startswith("int") else 0.25)
    return "x"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.slow
def test_no_parameter_is_lost_in_silence(verb: str, tmp_path: Path) -> None:
    lost = []
    for name, fact in trainer_schema("trl", verb).items():
        params = dict(BASE)
        for start, more in WITH.items():
            params |= more if name.startswith(start) else {}
        params[name] = other(name, dict(fact))
        settings = {key: Setting(key, value, key) for key, value in params.items()}
        config = Config(settings, None, "trl", trainer=verb)
        draft = stages.draft_of(config, stages.kinds(config)[0], RecipePaths(tmp_path, tmp_path, Files()), {})
        noted = any(note.word.startswith(name) for note in draft.notes)
        if name not in draft.used and name not in draft.passed and not noted:
            lost.append(name)
    assert lost == []


ODD: list[Any] = ["x", -1, 2.5, True, [], [1], ["a", None], {"a": {"b": [1]}}, None]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.slow
def test_no_value_makes_an_import_fail(verb: str, tmp_path: Path) -> None:
    """Parameters of the trainer's own; what all have is tried on SFT."""
    paths = RecipePaths(tmp_path, tmp_path, Files())
    names = own_parameters("trl", verb) | ({*trainer_schema("trl", "sft")} if verb == "sft" else set())
    for name in sorted(names):
        for value in ODD[:: 1 if name in own_parameters("trl", verb) else 3]:
            settings = {key: Setting(key, given, key) for key, given in {**BASE, name: value}.items()}
            config = Config(settings, None, "trl", trainer=verb)
            draft = stages.draft_of(config, stages.kinds(config)[0], paths, {})
            verify.normal(draft.config, paths, (False, None))


@pytest.fixture
def here(place: Path) -> Workspace:
    return Workspace(place)


FLAGS = (
    "--model_name_or_path Qwen/Qwen3-0.6B --dataset_name me/rows --learning_rate 2e-4 --use_peft --lora_r 8 "
    "--output_dir out/x"
)
YAML = """\
model_name_or_path: Qwen/Qwen3-0.6B
dataset_name: me/rows
learning_rate: 2.0e-4
use_peft: true
lora_r: 8
output_dir: out/x
"""
SAME = {
    "the command": f"trl sft {FLAGS}\n",
    "behind a wrapper": f"CUDA_VISIBLE_DEVICES=0 nohup uv run trl sft {FLAGS} > log 2>&1 &\n",
    "flags with =": f"trl sft {FLAGS.replace(' Qwen', '=Qwen').replace('_r 8', '_r=8')}\n",
    "flags with -": f"trl sft {FLAGS.replace('lora_r', 'lora-r').replace('learning_rate', 'learning-rate')}\n",
    "the script": f"python trl/scripts/sft.py {FLAGS}\n",
    "an example of TRL": f"python examples/scripts/sft.py {FLAGS}\n",
    "accelerate": f"accelerate launch --num_processes 1 sft.py {FLAGS}\n",
    "torchrun": f"torchrun --nproc_per_node 1 trl/scripts/sft.py {FLAGS}\n",
    "a module": f"python -m trl.scripts.sft {FLAGS}\n",
    "a variable": f"V=sft\ntrl $V {FLAGS}\n",
    "a file": "trl sft --config train.yaml\n",
    "a file and a flag that wins": "trl sft --config rank.yaml --lora_r 8\n",
    "a flag, then the file": "python trl/scripts/sft.py --lora_r 8 --config rank.yaml\n",
    "a file made by the script": f"cat > made.yaml <<EOF\n{YAML}EOF\ntrl sft --config made.yaml\n",
}  # fmt: skip


@pytest.mark.parametrize("script", SAME.values(), ids=SAME)
def test_one_command_however_it_is_written(script: str, here: Workspace) -> None:
    here.write("run.sh", script)
    here.write("train.yaml", YAML)
    here.write("rank.yaml", YAML.replace("lora_r: 8", "lora_r: 64"))
    here.imported("run.sh")
    plan = here.compiled().plan
    assert plan is not None
    stage = plan.stages[0]
    assert stage.engine.name == "trl"
    found = [stage.stage.settings.get(key) for key in ("lora.rank", "optim.lr", "to")]
    assert (stage.stage.kind, *found) == ("sft", 8, 2e-4, "out/x")


@pytest.mark.parametrize(
    ("name", "text", "verb"),
    [
        ("a.yaml", "reward_funcs: [accuracy_reward]\n", "grpo"),
        ("a.yaml", "desirable_weight: 2.0\n", "kto"),
        ("a.yaml", "packing: true\n", "sft"),
        ("a.yaml", "precompute_ref_log_probs: true\nf_divergence_type: reverse_kl\n", "dpo"),
        ("a.yaml", "teacher_model_name_or_path: a/c\n", "distillation"),
        ("a.yaml", "lora_task_type: SEQ_CLS\nuse_peft: true\n", "reward"),
        ("a.yaml", "", "sft"),
        ("recipes/zephyr/dpo/config.yaml", "", "dpo"),
        ("kto_config.yaml", "beta: 0.1\n", "kto"),
    ],
)
def test_the_trainer_of_a_file(name: str, text: str, verb: str, here: Workspace) -> None:
    here.write(name, "model_name_or_path: a/b\ndataset_name: me/rows\noutput_dir: o\n" + text)
    assert f"taken as TRL's `{verb}`" in here.notes(name)


MEANS = {
    "TRL's defaults": ("sft", "", ["lr = 2e-5", "schedule = linear", "full {}", "keep = all"]),
    "default of DPO": ("dpo", "", ["lr = 1e-6", "precision = bf16"]),
    "LoRA": ("sft", "--use_peft", ["lora { rank = 16, alpha = 32, dropout = 5%, targets = [q_proj, v_proj] }"]),
    "all linear": ("sft", "--use_peft --lora_target_modules all-linear", ["targets = all"]),
    "QLoRA": ("sft", "--use_peft --load_in_4bit", ["quantize { bits = 4 scheme = nf4 double = false }"]),
    "8 bits": ("sft", "--use_peft --load_in_8bit", ["quantize { bits = 8 scheme = int8 }"]),
    "weights in bf16": ("sft", "--dtype bfloat16", ["precision = pure_bf16"]),
    "fp16": ("sft", "--fp16", ["precision = fp16"]),
    "fp32": ("sft", "--bf16 false", ["precision = fp32"]),
    "all tokens": ("sft", "", ["train_on = everything"]),
    "the assistant": ("sft", "--assistant_only_loss", ["train_on = responses"]),
    "the completion": ("sft", "--completion_only_loss true", ["train_on = last_response"]),
    "packed": ("sft", "--packing --attn_implementation flash_attention_2", ["packing = neat", "attention = flash2"]),
    "wrapped": ("sft", "--packing --packing_strategy wrapped", ["packing = plain"]),
    "texts": ("sft", "--dataset_text_field text", ["pretrain {"]),
    "a subset": ("sft", "--dataset_config en --dataset_train_split train_sft", ['subset = "en"', 'split = "train_sft"']),
    "evaluation": ("sft", "--eval_strategy steps --eval_steps 50", ['data = hf("me/rows", split = "test")', "every = 50 steps"]),
    "a loss": ("dpo", "--loss_type hinge", ["loss = hinge"]),
    "RPO": ("dpo", "--loss_type sigmoid sft --loss_weights 1.0 0.2", ["sft_weight = 0.2"]),
    "KTO": ("kto", "--desirable_weight 2", ["chosen_weight = 2"]),
    "rewards": ("grpo", "--reward_funcs think_format_reward my.rewards.score --reward_weights 0.5 1",
                ["regex(", 'python("my/rewards.py:score", weight = 1)', "weight = 0.5"]),
    "answers": ("grpo", "--reward_funcs think_format_reward --max_completion_length 256 --temperature 0.7",
                ["max_new_tokens = 256", "temperature = 0.7", "max_len = 1280"]),
    "vLLM": ("grpo", "--reward_funcs think_format_reward --use_vllm --vllm_mode server --vllm_server_host gpu1",
             ['backend = vllm(server, url = "http://gpu1:8000")']),
    "a judge": ("grpo", "--reward_model_name_or_path org/rm", ["rewards = judge("]),
    "a teacher": ("distillation", "--teacher_model_name_or_path org/big", ['teacher = hf("org/big")', "divergence = 1"]),
    "ZeRO by name": ("sft", "--accelerate_config zero3 --num_processes 4", ["strategy = zero3", "count = 4"]),
    "passed through": ("grpo", "--reward_funcs think_format_reward --min_p 0.1", ["trl { min_p = 0.1 }"]),
    "an older name": ("sft", "--max_seq_length 4096", ["max_len = 4Ki"]),
    "a share of warm-up": ("sft", "--warmup_ratio 0.1", ["warmup = 10%"]),
    "no checkpointing": ("sft", "--gradient_checkpointing false", ["checkpointing = none"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MEANS)
def test_what_a_command_means(name: str, here: Workspace) -> None:
    """`imported` verifies too: the recipe compiles to the same parameters, or each difference has its reason."""
    verb, flags, parts = MEANS[name]
    here.write("my/rewards.py", "def score(completions, **_):\n    return [0.0] * len(completions)\n")
    script = f"trl {verb} --model_name_or_path Qwen/Qwen3-0.6B --dataset_name me/rows --output_dir out/x {flags}\n"
    here.write("run.sh", script)
    recipe = here.recipe("run.sh")
    assert [part for part in parts if part not in recipe] == [], recipe


def test_flags_of_accelerate_in_a_file(here: Workspace) -> None:
    text = YAML + "accelerate_config: zero2\nnum_processes: 4\nreport_to: none\n"
    here.write("sft.yaml", text)
    recipe = here.recipe("sft.yaml")
    assert "strategy = zero2" in recipe and "count = 4" in recipe
    assert here.codes("sft.yaml") == {}


def test_a_server_beside_a_training_is_no_error(here: Workspace) -> None:
    grpo = f"trl grpo {FLAGS.replace('me/rows', 'me/prompts')} --reward_funcs think_format_reward --use_vllm --vllm_mode server"
    here.write("run.sh", f"CUDA_VISIBLE_DEVICES=0 trl vllm-serve --model Qwen/Qwen3-0.6B &\n{grpo} --report_to none\n")
    assert "FT051" not in here.codes("run.sh")
    assert "trl: this command of TRL trains nothing" in here.notes("run.sh")


@pytest.mark.parametrize("flag", ["--model_name", "--model_name_or", "--model_name_or_path"])
def test_flags_cut_short_are_what_argparse_takes(flag: str, here: Workspace) -> None:
    here.write("run.sh", f"trl sft {FLAGS.replace('--model_name_or_path', flag)} --report_to none\n")
    assert here.codes("run.sh") == {}
    assert 'hf("Qwen/Qwen3-0.6B")' in here.recipe("run.sh")


@pytest.mark.parametrize("script", [f"trl sft {FLAGS} --learning_rte 1\n", f"python sft.py {FLAGS} --learning_rte 1\n"])
def test_a_script_is_checked(script: str, here: Workspace) -> None:
    here.write("run.sh", script)
    assert "has no `learning_rte`" in here.codes("run.sh")["FT001"]


OUTSIDE = {
    "a model": (
        "sft",
        "--model_name_or_path $MODEL --dataset_name me/rows",
        ["param given_model: model", "model = given_model"],
    ),
    "data": ("sft", "--model_name_or_path a/b --dataset_name $DATA", ["param given_data: data", "data = given_data"]),
    "a rate": (
        "dpo",
        "--model_name_or_path a/b --dataset_name c/d --learning_rate $1",
        ["param arg1: rate", "lr = arg1"],
    ),
    "a rank": (
        "sft",
        "--model_name_or_path a/b --dataset_name c/d --use_peft --lora_r $R",
        ["param r: int", "rank = r"],
    ),
    "a folder": (
        "sft",
        "--model_name_or_path a/b --dataset_name c/d --output_dir out/$NAME",
        ['to = "out/{given_name}"'],
    ),
    "processes": (
        "sft",
        "--model_name_or_path a/b --dataset_name c/d --num_processes $N",
        ["param n: int", "count = n"],
    ),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_what_only_the_shell_knows_is_asked_for(name: str, here: Workspace) -> None:
    verb, flags, parts = OUTSIDE[name]
    here.write("run.sh", f"trl {verb} {flags}\n")
    recipe = here.recipe("run.sh")
    assert [part for part in parts if part not in recipe] == [], recipe


NOTED = {
    "a reward nobody knows": ("grpo", "--reward_funcs tag_count", "is no reward of TRL"),
    "math_verify": ("grpo", "--reward_funcs accuracy_reward", "math_verify decides"),
    "a loss without a key": ("dpo", "--loss_type apo_zero", "a recipe has no `apo_zero`"),
    "packing without FlashAttention": ("sft", "--packing", "see each other"),
    "a template": ("sft", "--chat_template_path a/b", "write `template = …`"),
    "streaming": ("sft", "--dataset_streaming", "read all rows"),
    "LoRA that is off": ("sft", "--lora_r 8", "has no effect without `use_peft`"),
    "a name that is gone": ("dpo", "--max_prompt_length 512", "gone since TRL 0.29"),
    "a typo": ("sft", "--learning_rte 1e-4", "`--learning_rate` is the nearest"),
    "rows held out for nothing": ("sft", "--test_split_size 0.1", ""),
}


@pytest.mark.parametrize("name", NOTED)
def test_what_is_not_carried_is_named(name: str, here: Workspace) -> None:
    verb, flags, text = NOTED[name]
    script = f"trl {verb} --model_name_or_path Qwen/Qwen3-0.6B --dataset_name me/rows --output_dir out/x {flags}\n"
    here.write("run.sh", script)
    assert text in here.notes("run.sh")


@pytest.mark.parametrize("start", ["trl sft", "accelerate launch trl sft", "accelerate launch trl/scripts/sft.py"])
def test_a_file_of_accelerate_that_is_not_there_is_named(start: str, here: Workspace) -> None:
    command = start.replace("launch", "launch --config_file gone.yaml")
    more = "" if "launch" in start else " --config_file gone.yaml"
    here.write("run.sh", f"{command} {FLAGS}{more}\n")
    assert "--config_file gone.yaml: does not exist" in here.notes("run.sh")


def test_a_file_of_accelerate_that_a_file_names_is_there(here: Workspace) -> None:
    here.write("sft.yaml", YAML + "config_file: gone.yaml\n")
    assert here.codes("sft.yaml")["FT501"] == "no such file: `gone.yaml`"


def test_a_pipeline_of_commands(here: Workspace) -> None:
    here.write(
        "run.sh", f"trl sft {FLAGS}\ntrl dpo --model_name_or_path out/x --dataset_name me/pairs --output_dir out/y\n"
    )
    recipe = here.recipe("run.sh")
    assert "dpo from sft {" in recipe


def test_a_trainer_without_a_stage(here: Workspace) -> None:
    here.write("run.sh", f"trl rloo {FLAGS} --reward_funcs think_format_reward\n")
    assert "a recipe has no stage for TRL's `rloo`" in here.refused("run.sh")


CHECKED = {
    "a typo": ("learning_rte: 1.0e-4\n", "FT001", "has no `learning_rte`"),
    "another trainer's": ("packing: true\nbeta: 0.1\n", "FT001", "has no `beta`"),
    "an older name": ("max_seq_length: 512\n", "FT001", "has no `max_seq_length`"),
    "a wrong type": ("lora_r: eight\n", "FT060", "takes a number"),
    "a member": ("lr_scheduler_type: cosin\n", "FT002", "has no `cosin`"),
    "out of range": ("max_length: 0\n", "FT003", "cannot be 0"),
    "both precisions": ("fp16: true\nbf16: true\n", "FT201", "are both on"),
    "YAML's octal": ("save_steps: 0500\n", "FT007", "YAML reads"),
    "a removed name": ("evaluation_strategy: steps\n", "FT116", "was renamed"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_a_file_is_checked(name: str, here: Workspace) -> None:
    text, code, message = CHECKED[name]
    here.write("sft.yaml", f"model_name_or_path: a/b\ndataset_name: me/rows\noutput_dir: o\nreport_to: none\n{text}")
    found = here.codes("sft.yaml")
    assert message in found.get(code, ""), found


def test_a_file_that_is_fine_is_fine(here: Workspace) -> None:
    here.write("sft.yaml", YAML + "report_to: none\n")
    assert here.checked("sft.yaml") == (0, "sft.yaml: fine, a TRL configuration\n")

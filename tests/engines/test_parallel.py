"""Several processes: what each strategy and launcher writes and starts, and what is refused because it would lie."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from ftdsl import catalog
from ftdsl.engines.jobs import Job, Raw
from ftdsl.targets.artifacts import launch_text
from tests.conftest import ROWS, Outcome, small

CARDS = "hardware {{ gpu = {gpu}, count = {count}, nodes = {nodes} }}"


def recipe(stage: str, gpu: str = "a100(80GB)", count: int = 8, nodes: str = "1") -> str:
    text = small(stage).replace("hardware { gpu = none, count = 1 }", CARDS.format(gpu=gpu, count=count, nodes=nodes))
    assert gpu in text
    return text


def job_of(outcome: Outcome) -> Job:
    others = [code for code in outcome.codes if code != "FT410"]  # FSDP 1 is on its way out, which is said
    assert others == [], [(one.code, one.message) for one in outcome.found]
    return next(job for job in outcome.checked.jobs if job.kind == "sft")


def data(job: Job, name: str) -> Any:
    return next(document.data for document in job.documents if document.path.endswith(name))


def command(job: Job) -> str:
    """The line that starts the processes, on one line."""
    text = launch_text(job).replace("\\\n", "")
    return next(" ".join(line.split()) for line in text.splitlines() if "runtime/llamafactory.py train" in line)


Check = Callable[..., Outcome]

COMMANDS = [
    ("", {}, "-m torch.distributed.run --nnodes 1 --nproc_per_node 8 --standalone runtime/llamafactory.py"),
    ("launch { retries = 2 }", {},
     'runtime/retry.py 2 --stage 10-sft -- "$FT_PYTHON" -m torch.distributed.run --nnodes 1 --nproc_per_node 8 --standalone'),
    ("launch { with = deepspeed, retries = 1 }", {}, 'runtime/retry.py 1 --stage 10-sft -- "$FT_PYTHON" -m deepspeed'),
    ("launch { with = accelerate }", {},
     "-m accelerate.commands.launch --config_file 10-sft/accelerate.yaml runtime/llamafactory.py"),
    ("launch { with = accelerate, retries = 1 }", {"nodes": "2"},
     '--machine_rank "$NODE_RANK" --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT" --max_restarts 1'),
    ("launch { with = deepspeed }\n  parallel { strategy = zero2 }", {},
     '-m deepspeed.launcher.runner --no_local_rank --hostfile /dev/null --num_gpus 8 --master_port "$MASTER_PORT"'),
    ("launch { with = deepspeed }\n  parallel { strategy = zero2 }", {"nodes": "2"},
     '--hostfile 10-sft/hostfile --no_ssh --node_rank "$NODE_RANK" --num_gpus 8 --master_addr "$MASTER_ADDR"'),
    ("", {"nodes": "2"}, '--nnodes 2 --nproc_per_node 8 --node_rank "$NODE_RANK" --master_addr "$MASTER_ADDR"'),
    ("launch { retries = 3 }", {"nodes": "1 .. 3"}, "--nnodes 1:3 --nproc_per_node 8 --rdzv_backend c10d"),
    ("launch { with = ray }", {}, '"$FT_PYTHON" runtime/llamafactory.py train'),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "machine", "wanted"), COMMANDS, ids=[wanted[:60] for *_, wanted in COMMANDS])
def test_every_launcher_has_its_command(stage: str, machine: dict[str, Any], wanted: str, checked: Check) -> None:
    assert wanted in command(job_of(checked(recipe(stage, **machine), ROWS)))


def test_an_elastic_job_may_have_fewer_processes(checked: Check) -> None:
    spec = data(job_of(checked(recipe("launch { retries = 3 }", nodes="1 .. 3"), ROWS)), "stage.json")
    assert (spec["world"], spec["at_least"]) == (24, 8)


def test_nodes_are_started_by_hand_as_the_header_says(checked: Check) -> None:
    job = job_of(checked(recipe('launch { head = "10.0.0.1; rm -rf /" }', nodes="2"), ROWS))
    text = launch_text(job)
    assert "NODE_RANK=1 bash run.sh RUN_FOLDER" in text
    assert "export FT_HEAD='10.0.0.1; rm -rf /'" in text, "a recipe's value is quoted"
    assert 'export MASTER_ADDR="${MASTER_ADDR:-$FT_HEAD}"' in text
    assert (job.nodes, job.processes) == (2, 16)


@pytest.mark.parametrize(("port", "text"), [("", "socket"), (", port = 4242", '"${MASTER_PORT:-4242}"')])
def test_stages_side_by_side_meet_on_no_port(checked: Check, port: str, text: str) -> None:
    """DeepSpeed's launcher looks for no free one itself."""
    found = job_of(checked(recipe(f"launch {{ with = deepspeed{port} }}"), ROWS)).env["MASTER_PORT"]
    assert isinstance(found, Raw)
    assert text in found.text


def test_a_host_that_comes_back_may_join_again(checked: Check) -> None:
    assert job_of(checked(recipe("", nodes="1 .. 3"), ROWS)).env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" not in job_of(checked(recipe("", nodes="2"), ROWS)).env


def test_ray_workers_are_the_engines_own(checked: Check) -> None:
    job = job_of(checked(recipe('launch { with = ray, runtime_env { pip = ["emoji"] } }'), ROWS))
    found = data(job, "train.yaml")
    assert found["ray_num_workers"] == 8
    assert found["ray_init_kwargs"] == {"runtime_env": {"pip": ["emoji"]}}
    assert job.env["USE_RAY"] == "1"


FULL = "full {}\n  "
EQUATIONS = [
    ("parallel { strategy = zero1, tensor = 2 }", {}, "8 processes = 4 data-parallel x 2 tensor"),
    ("parallel { strategy = megatron, tensor = 4, pipeline = 2 }", {"nodes": "2"},
     "2 nodes x 8 processes = 16 = 2 data-parallel x 4 tensor x 2 pipeline"),
    ("parallel { strategy = zero3 }", {"count": 4}, "4 processes = 4 data-parallel"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "machine", "equation"), EQUATIONS, ids=[equation for *_, equation in EQUATIONS])
def test_the_equation_stands_in_every_header(
    stage: str, machine: dict[str, Any], equation: str, checked: Check
) -> None:
    job = job_of(checked(recipe(FULL + stage, **machine), ROWS))
    assert f"# {equation}\n" in launch_text(job)
    assert equation in next(d for d in job.documents if d.path.endswith("train.yaml")).header


WRONG = [
    ("parallel { strategy = zero1, tensor = 3 }", "FT403", "3 tensor = 3"),
    ("parallel { strategy = megatron, tensor = 4, pipeline = 3 }", "FT403", "4 tensor x 3 pipeline = 12"),
    ("parallel { strategy = megatron, tensor = 2, data = 3 }", "FT403", "3 data x 2 tensor = 6, and there are 8 processes"),
    ("parallel { strategy = megatron, expert = 3 }", "FT403", "8 processes = 8 data-parallel"),
    ("batch { global = 10, micro = 1 }\n  parallel { strategy = zero1, tensor = 2 }", "FT401",
     "1 micro x 2 accumulate x 4 data-parallel = 8; 8 processes = 4 data-parallel x 2 tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "code", "arithmetic"), WRONG, ids=[said for *_, said in WRONG])
def test_a_wrong_equation_shows_the_arithmetic(stage: str, code: str, arithmetic: str, checked: Check) -> None:
    assert checked(recipe(FULL + stage), ROWS).only(code).label == arithmetic


# --- DeepSpeed


def test_the_deepspeed_file_is_in_numbers(checked: Check) -> None:
    stage = 'batch { global = 64, micro = 2 }\n  parallel { strategy = zero3, offload = [optimizer(nvme = "/nvme"), params] }'
    found = data(job_of(checked(recipe(FULL + stage), ROWS)), "ds_config.json")
    assert (found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]) == (2, 4)
    assert "train_batch_size" not in found, "ZeRO-3 would read it before it knows the ranks"
    zero = found["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "nvme", "nvme_path": "/nvme", "pin_memory": True}
    assert zero["offload_param"]["device"] == "cpu"
    assert found["aio"]["queue_depth"] == 8
    assert zero["stage3_gather_16bit_weights_on_model_save"] is True
    assert zero["reduce_bucket_size"] == 1024 * 1024, "Qwen3-0.6B is 1024 wide"


def test_what_follows_from_a_width_nobody_knows_is_left_to_hugging_face(checked: Check) -> None:
    text = recipe("parallel { strategy = zero3 }").replace("Qwen/Qwen3-0.6B", "somebody/own-model")
    zero = data(job_of(checked(text.replace("duration", "template = qwen3\n  duration"), ROWS)), "ds_config.json")
    autos = {key for key, value in zero["zero_optimization"].items() if value == "auto"}
    assert autos == {"reduce_bucket_size", "stage3_prefetch_bucket_size", "stage3_param_persistence_threshold"}


def test_half_precision_scales_the_loss(checked: Check) -> None:
    found = data(job_of(checked(recipe("precision = fp16\n  parallel { strategy = zero2 }"), ROWS)), "ds_config.json")
    assert found["bf16"] == {"enabled": False}
    assert found["fp16"]["enabled"] is True
    assert found["fp16"]["loss_scale"] == 0


def test_hatches_go_in_as_they_stand(checked: Check) -> None:
    stage = "deepspeed { zero_optimization { sub_group_size = 1e9 }, steps_per_print = 10 }\n  parallel { strategy = zero3 }"
    found = data(job_of(checked(recipe(stage), ROWS)), "ds_config.json")
    assert found["zero_optimization"]["sub_group_size"] == 1_000_000_000
    assert found["steps_per_print"] == 10


PASSTHROUGH = [
    ("deepspeed { gradient_cliping = 1 }", "FT001", "did you mean `gradient_clipping`?", None),
    ("deepspeed { zero_optimization { subgroup_size = 1 } }", "FT001", "did you mean `sub_group_size`?", None),
    ("deepspeed { zero_optimization { stage = 2 } }", "FT014", "parallel.strategy", None),
    ("deepspeed { train_batch_size = 8 }", "FT014", "batch.micro", None),
    ("launch { with = accelerate }\n  accelerate { fsdp_config { fsdp_state_dic_type = X } }", "FT001",
     "fsdp_state_dict_type", "fsdp2"),
    ("launch { with = accelerate }\n  accelerate { num_procs = 2 }", "FT001", "accelerate has no key `num_procs`", "fsdp2"),
    ("full {}\n  megatron { tensor_model_parallel_size = 2 }", "FT014", "parallel.tensor", "megatron"),
    ("full {}\n  megatron { moe_grouped_gem = true }", "FT001", "did you mean `moe_grouped_gemm`?", "megatron"),
    ("full {}\n  megatron { moe_token_dispatcher_type = alltoal }", "FT012", "did you mean `alltoall`?", "megatron"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("stage", "code", "said", "strategy"), PASSTHROUGH, ids=[stage[:60] for stage, *_ in PASSTHROUGH]
)
def test_a_hatch_is_held_against_what_the_package_reads(
    stage: str, code: str, said: str, strategy: str | None, checked: Check
) -> None:
    """DeepSpeed ignores what it does not know at the top level, accelerate what it does not know in fsdp_config."""
    one = checked(recipe(f"{stage}\n  parallel {{ strategy = {strategy or 'zero3'} }}"), ROWS).only(code)
    assert said in f"{one.message} {one.label} {one.help}"


def test_key_lists_have_what_matters() -> None:
    assert {"gradient_clipping", "zero_optimization.stage"} <= catalog.passthrough_schema("deepspeed").keys()
    assert "fsdp_config.fsdp_state_dict_type" in catalog.passthrough_schema("accelerate")
    assert "recompute_granularity" in catalog.passthrough_schema("megatron")


# --- accelerate


def test_accelerate_starts_ranks_on_cpu_too(checked: Check) -> None:
    """With MULTI_CPU it would start one process, with use_cpu drop DeepSpeed and FSDP."""
    job = job_of(checked(recipe("launch { with = accelerate }", gpu="none", count=2), ROWS))
    found = data(job, "accelerate.yaml")
    assert (found["distributed_type"], found["num_processes"], found["use_cpu"]) == ("MULTI_GPU", 2, False)
    assert data(job, "train.yaml")["use_cpu"] is True


def test_accelerate_leaves_deepspeed_to_its_own_file(checked: Check) -> None:
    found = data(
        job_of(checked(recipe("launch { with = accelerate }\n  parallel { strategy = zero3 }"), ROWS)),
        "accelerate.yaml",
    )
    assert found["deepspeed_config"] == {"deepspeed_config_file": "10-sft/ds_config.json", "zero3_init_flag": True}
    assert "mixed_precision" not in found, "accelerate refuses it beside a DeepSpeed file"


@pytest.mark.parametrize("version", [1, 2])
def test_fsdp_is_accelerates(version: int, checked: Check) -> None:
    job = job_of(checked(recipe(f"parallel {{ strategy = fsdp{version}, offload = [optimizer, params] }}"), ROWS))
    found = data(job, "accelerate.yaml")
    assert found["distributed_type"] == "FSDP"
    assert found["fsdp_config"]["fsdp_version"] == version
    assert found["fsdp_config"]["fsdp_offload_params"] is True
    assert ("fsdp_sharding_strategy" in found["fsdp_config"]) is (version == 1)
    assert "accelerate.commands.launch" in command(job)


def test_copies_of_a_sharded_model(checked: Check) -> None:
    one = data(
        job_of(checked(recipe("parallel { strategy = fsdp1, replicate = 2 }", nodes="2"), ROWS)), "accelerate.yaml"
    )
    assert one["fsdp_config"]["fsdp_sharding_strategy"] == "HYBRID_SHARD"
    two = data(job_of(checked(recipe("parallel { strategy = fsdp2, replicate = 2 }"), ROWS)), "accelerate.yaml")
    assert list(two["parallelism_config"].values()) == [2, 4]


SHARDED = 'accelerate { fsdp_config { fsdp_state_dict_type = "SHARDED_STATE_DICT" } }\n  parallel { strategy = fsdp2 }'


def test_shards_become_a_model(checked: Check) -> None:
    job = job_of(checked(recipe(FULL + SHARDED), ROWS))
    assert "runtime/merge_shards.py 10-sft/train.yaml --stage 10-sft" in launch_text(job)
    assert "merge_shards" in job.runtime


# --- Megatron


def test_megatron_gets_its_own_names_and_nothing_else(checked: Check) -> None:
    stage = "optim { lr = 1e-5, min_lr = 10% }\n  parallel { strategy = megatron, tensor = 2, pipeline = 2 }"
    job = job_of(checked(recipe(FULL + stage), ROWS))
    found = data(job, "train.yaml")
    assert (found["tensor_model_parallel_size"], found["pipeline_model_parallel_size"]) == (2, 2)
    assert found["sequence_parallel"] is True
    assert found["save_hf_model"] is True, "or the result is no Hugging Face model"
    assert found["lr_scheduler_kwargs"] == {"min_lr": pytest.approx(1e-6)}, "a share would be read as 0"
    assert "overwrite_output_dir" not in found, "its parser refuses it"
    assert "optim" not in found
    assert job.env["USE_MCA"] == "1"


LIMITS = [
    ("lora {}\n  parallel { strategy = megatron }", "FT012", "ignores `lora` and trains all weights"),
    ("full {}\n  neftune = 5\n  parallel { strategy = megatron }", "FT012", "`neftune` has no effect"),
    ("full {}\n  optim { name = sgd }\n  parallel { strategy = megatron }", "FT012", "Megatron has no optimizer"),
    ("full {}\n  parallel { strategy = megatron, tensor = 8, sequence = false }\n  max_len = 2k", "", ""),
    ("full {}\n  parallel { strategy = megatron, pipeline = 8 }", "FT430", "28 layers cannot be split over 8 pipeline"),
    ("full {}\n  parallel { strategy = megatron, expert = 2 }", "FT430", "no experts to distribute"),
    ("full {}\n  parallel { strategy = megatron, sequence = true }", "FT430", "splits over tensor ranks"),
    ("full {}\n  parallel { strategy = megatron }\n  megatron { virtual_pipeline_model_parallel_size = 2 }", "FT430",
     "need a pipeline"),
    ("full {}\n  batch { accumulate = 3 }\n  parallel { strategy = megatron, pipeline = 2 }\n"
     "  megatron { virtual_pipeline_model_parallel_size = 2 }", "FT430", "3 micro-batches cannot be interleaved"),
    ("full {}\n  max_len = 1001\n  parallel { strategy = megatron, context = 2 }", "FT430", "cut into 4 equal parts"),
    ("full {}\n  parallel { strategy = megatron }\n  megatron { overlap_param_gather = true }", "FT430", "overlapped reduction"),
    ("full {}\n  parallel { strategy = megatron }\n  megatron { variable_seq_lengths = true }", "FT430", "alltoall"),
    ("full {}\n  parallel { strategy = megatron(bridge = true) }", "FT012", "no Megatron Bridge"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "code", "said"), LIMITS, ids=[said or "fine" for *_, said in LIMITS])
def test_limits_of_the_megatron_path(stage: str, code: str, said: str, checked: Check) -> None:
    found = checked(recipe(stage), ROWS)
    if not code:
        assert found.codes == [], [one.message for one in found.found]
        return
    one = found.only(code)
    assert said in f"{one.message} {one.help}"


# --- what would end well and be wrong

SILENT = [
    ("parallel { strategy = fsdp2 }", {"gpu": "none"}, "FT012", "silently run unsharded copies"),
    ("precision = fp16", {"gpu": "none"}, "FT216", "a CPU does not support fp16"),
    ("lora {}\n  parallel { strategy = zero1, tensor = 2 }", {}, "FT012", "AutoTP splits tensors here, and fails with `lora`"),
    ("full {}\n  parallel { strategy = zero1, tensor = 2 }\n"
     "  deepspeed { zero_optimization { gather_16bit_weights_on_model_save = false } }",
     {}, "FT427", "succeed and write no model"),
    ("parallel { strategy = zero3 }\n  deepspeed { zero_optimization { stage3_gather_16bit_weights_on_model_save = false } }",
     {}, "FT427", "succeed and write no model"),
    ("full {}\n  parallel { strategy = megatron }\n  megatron { save_hf_model = false }", {}, "FT427",
     "succeed and write no model"),
    ("full {}\n  save { every = never }\n  " + SHARDED, {}, "FT427", "merged from the last checkpoint"),
    ("lora {}\n  " + SHARDED, {}, "FT427", "shards of an adapter"),
    ("optim { name = sgd }\n  parallel { strategy = zero2, offload = [optimizer] }", {}, "FT408", "silently replace"),
    ("parallel { strategy = ddp, offload = [optimizer] }", {}, "FT408", "offload needs sharding"),
    ("parallel { strategy = zero2, offload = [params] }", {}, "FT408", "cannot offload parameters"),
    ('parallel { strategy = zero2, offload = [optimizer(nvme = "/n")] }', {}, "FT408", "to NVMe"),
    ("parallel { strategy = fsdp2, offload = [optimizer] }", {}, "FT408", "together"),
    ("parallel { strategy = fsdp2 }\n  launch { with = torchrun }", {}, "FT012", "`torchrun` cannot start `fsdp2`"),
    ("launch { with = accelerate }", {"nodes": "1 .. 2"}, "FT012", "cannot be elastic"),
    ("parallel { strategy = zero2 }", {"nodes": "1 .. 2"}, "FT432", "the same number of ranks"),
    ("parallel { strategy = ddp }\n  deepspeed { steps_per_print = 1 }", {}, "FT012",
     "nothing reads DeepSpeed's configuration"),
    ("launch { runtime_env { pip = [\"a\"] } }", {}, "FT012", "only Ray reads"),
    ("parallel { strategy = zero3, context = 2 }", {}, "FT012", "needs Megatron"),
]  # fmt: skip


@pytest.mark.parametrize(("stage", "machine", "code", "said"), SILENT, ids=[said for *_, said in SILENT])
def test_what_would_be_wrong_in_silence_is_refused(
    stage: str, machine: dict[str, Any], code: str, said: str, checked: Check
) -> None:
    one = checked(recipe(stage, **machine), ROWS).only(code)
    assert said in f"{one.message} {one.help}"


def test_reasons_stand_beside_every_line(checked: Check) -> None:
    job = job_of(checked(recipe("launch { with = accelerate }\n  parallel { strategy = zero3 }"), ROWS))
    for name in ("ds_config.json", "accelerate.yaml"):
        document = next(d for d in job.documents if d.path.endswith(name))
        leaves = json.dumps(document.data).count(":")
        assert len(document.why) == leaves - sum(isinstance(value, dict) for value in document.data.values())

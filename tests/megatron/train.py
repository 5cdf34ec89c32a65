"""`torchrun … train.py TRAIN.yaml SCRATCH.json OUT [--alone]`: some steps of megatron-core's GPT, sized and split as compiled.

Weights are drawn by their names in the whole model, and each rank takes its part; rows are drawn by their number. So every layout
begins alike and reads the same. `--alone`: the same model and batch in one process, unsplit. Each rank writes `OUT.RANK.jsonl`, a
line for each step: the mean loss of the global batch, the gradient norm, the parameters it holds.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.megatron import on_cpu  # type: ignore[import-not-found,unused-ignore]

on_cpu.install()

import torch  # noqa: E402
import yaml  # noqa: E402
from megatron.core import parallel_state as ranks  # noqa: E402
from megatron.core.distributed import (  # noqa: E402
    DistributedDataParallel,
    DistributedDataParallelConfig,
    finalize_model_grads,
)
from megatron.core.models.gpt import GPTModel  # noqa: E402
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec  # noqa: E402
from megatron.core.optimizer import OptimizerConfig, get_megatron_optimizer  # noqa: E402
from megatron.core.pipeline_parallel import get_forward_backward_func  # noqa: E402
from megatron.core.transformer.transformer_config import TransformerConfig  # noqa: E402

STEPS = 4


def config_of(compiled: dict[str, Any], sizes: dict[str, Any]) -> TransformerConfig:
    """A Llama of these sizes, split as compiled; fp32 on a CPU."""
    return TransformerConfig(
        num_layers=sizes["layers"], hidden_size=sizes["hidden"], num_attention_heads=sizes["heads"],
        ffn_hidden_size=4 * sizes["hidden"], gated_linear_unit=True, activation_func=torch.nn.functional.silu,
        normalization="RMSNorm", add_bias_linear=False, hidden_dropout=0.0, attention_dropout=0.0, use_cpu_initialization=True,
        params_dtype=torch.float32, pipeline_dtype=torch.float32, gradient_accumulation_fusion=False,
        bias_activation_fusion=False, masked_softmax_fusion=False, bias_dropout_fusion=False, apply_rope_fusion=False,
        tensor_model_parallel_size=compiled["tensor_model_parallel_size"],
        pipeline_model_parallel_size=compiled["pipeline_model_parallel_size"],
        context_parallel_size=compiled["context_parallel_size"],
        expert_model_parallel_size=compiled["expert_model_parallel_size"],
        sequence_parallel=compiled["sequence_parallel"],
    )  # fmt: skip


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A whole weight, by its name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(shape, generator=generator) * 0.1 + (1.0 if "norm" in name else 0.0)


def fill(model: Any, tensor: int) -> None:
    """Every rank's part of the whole model's weights."""
    at = ranks.get_tensor_model_parallel_rank()
    for name, parameter in model.named_parameters():
        whole_name = name
        if ".layers." in name:
            before, _, after = name.partition(".layers.")
            number, _, rest = after.partition(".")
            first = model.get_submodule(f"{before}.layers.{number}").layer_number
            whole_name = f"{before}.layers.{first}.{rest}"
        split = tensor > 1 and getattr(parameter, "tensor_model_parallel", False)
        axis = parameter.partition_dim if split else 0
        shape = list(parameter.shape)
        shape[axis] *= tensor if split else 1
        whole = drawn(whole_name, tuple(shape))
        parts = whole.chunk(2, 0) if "linear_fc1" in name else (whole,)  # gate and up are split each by itself
        own = torch.cat([part.chunk(tensor, axis)[at] for part in parts]) if split else whole
        with torch.no_grad():
            parameter.copy_(own)


def batches(
    compiled: dict[str, Any], vocab: int, rank: int, world: int, micro: int, count: int
) -> Iterator[torch.Tensor]:
    """Micro-batches (rows, tokens + 1) of one data-parallel rank; rows of a step go to ranks in turn."""
    length = compiled["cutoff_len"]
    for step in range(STEPS):
        for part in range(count):
            rows = []
            for row in range(micro):
                number = ((step * count + part) * world + rank) * micro + row
                generator = torch.Generator().manual_seed(1000 + number)
                rows.append(torch.randint(0, vocab, (length + 1,), generator=generator))
            yield torch.stack(rows)


def forward(data: Iterator[torch.Tensor], model: Any) -> tuple[torch.Tensor, Any]:
    rows = next(data)
    ids, labels = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
    length = ids.shape[1]
    places = torch.arange(length).expand_as(ids)
    mask = torch.triu(torch.ones(1, 1, length, length, dtype=torch.bool), 1)
    return model(ids, places, mask, labels=labels), mean


def mean(losses: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    loss = losses.mean()
    return loss, {"loss": loss.detach().clone()}  # the schedule divides in place


def main(compiled: dict[str, Any], sizes: dict[str, Any], out: Path, alone: bool) -> None:
    micro, count = compiled["per_device_train_batch_size"], compiled["gradient_accumulation_steps"]
    if alone:
        data = 8 // compiled["tensor_model_parallel_size"] // compiled["pipeline_model_parallel_size"]
        count *= data
        one = (
            "tensor_model_parallel_size",
            "pipeline_model_parallel_size",
            "context_parallel_size",
            "expert_model_parallel_size",
        )
        compiled = {**compiled, **dict.fromkeys(one, 1), "sequence_parallel": False, "use_distributed_optimizer": False}
    torch.distributed.init_process_group("gloo")
    tensor, pipeline = compiled["tensor_model_parallel_size"], compiled["pipeline_model_parallel_size"]
    ranks.initialize_model_parallel(tensor, pipeline)
    on_cpu.replace_kernels()
    config = config_of(compiled, sizes)
    model = GPTModel(
        config, get_gpt_layer_local_spec(normalization="RMSNorm"), sizes["vocab"], compiled["cutoff_len"],
        pre_process=ranks.is_pipeline_first_stage(), post_process=ranks.is_pipeline_last_stage(), position_embedding_type="rope",
    )  # fmt: skip
    fill(model, tensor)
    sharded = compiled["use_distributed_optimizer"]
    wrapped = DistributedDataParallel(config, DistributedDataParallelConfig(use_distributed_optimizer=sharded), model)
    config.finalize_model_grads_func = finalize_model_grads
    optimizer = get_megatron_optimizer(
        OptimizerConfig(
            optimizer="adam", lr=compiled["learning_rate"], weight_decay=compiled["weight_decay"],
            clip_grad=compiled["max_grad_norm"], use_distributed_optimizer=sharded, params_dtype=torch.float32,
        ),
        [wrapped],
    )  # fmt: skip
    step = partial(get_forward_backward_func(), forward_step_func=forward, model=[wrapped], num_microbatches=count,
                   seq_length=compiled["cutoff_len"], micro_batch_size=micro)  # fmt: skip
    data_rank, data_world = ranks.get_data_parallel_rank(), ranks.get_data_parallel_world_size()
    read = batches(compiled, sizes["vocab"], data_rank, data_world, micro, count)
    lines = []
    for _ in range(STEPS):
        wrapped.zero_grad_buffer()
        optimizer.zero_grad()
        found = step(data_iterator=read)
        fine, norm, _ = optimizer.step()
        assert fine
        loss = torch.stack([part["loss"] for part in found]).mean() if found else torch.zeros(())
        torch.distributed.all_reduce(loss)  # of the last stages: as many as there are tensor and data ranks
        mine = {"rank": torch.distributed.get_rank(), "parameters": sum(p.numel() for p in model.parameters())}
        lines.append({"loss": float(loss) / (tensor * data_world), "grad_norm": float(norm), **mine})
    out.with_suffix(f".{torch.distributed.get_rank()}.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    document, scratch, place, *more = sys.argv[1:]
    main(
        yaml.safe_load(Path(document).read_text()),
        json.loads(Path(scratch).read_text()),
        Path(place),
        "--alone" in more,
    )

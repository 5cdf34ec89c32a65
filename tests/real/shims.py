"""Test-only callbacks, named in a recipe's `callbacks`: what accelerate does elsewhere, brought about on this CPU.

Importing this changes accelerate before the engine starts it (runtime/extend.py imports callbacks first).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from transformers import TrainerCallback


class Sharded(TrainerCallback):
    """FSDP 2 without a card: accelerate makes plain copies there, whatever its file says.

    Each rank leaves `rank-N.json`: parameters it holds, and parameters there are.
    """

    def __init__(self) -> None:
        made = AcceleratorState.__init__

        def init(state: Any, *args: Any, **kwargs: Any) -> None:
            made(state, *args, **kwargs)
            if plugin := kwargs.get("fsdp_plugin"):
                state.distributed_type, state.fsdp_plugin = DistributedType.FSDP, plugin
                PartialState._shared_state["distributed_type"] = DistributedType.FSDP

        AcceleratorState.__init__ = init

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        count_parameters(args, model)


class Split(TrainerCallback):
    """Tensors split over ranks of a CPU: accelerate's check of its parallelism wants several GPUs. Leaves `rank-N.json` too."""

    def __init__(self) -> None:
        from accelerate.parallelism_config import ParallelismConfig

        ParallelismConfig._validate_accelerator = lambda *_: None

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        count_parameters(args, model)


def count_parameters(args: Any, model: Any) -> None:
    """`rank-N.json`: parameters that a rank holds, and parameters there are."""
    parameters = list(model.parameters())
    own = sum(getattr(one, "to_local", lambda one=one: one)().numel() for one in parameters)
    counts = {"own": own, "all": sum(one.numel() for one in parameters)}
    Path(f"rank-{args.process_index}.json").write_text(json.dumps(counts), encoding="utf-8")


class Logits(TrainerCallback):
    """Leaves `logits.pt` in the stage's folder: token ids, and the logits of the model at the end, before it is saved."""

    def on_train_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        import torch

        ids, training = torch.arange(5, 17).unsqueeze(0), model.training
        with torch.no_grad():  # by all ranks: each holds a part of the weights
            logits = model.eval()(input_ids=ids).logits
        model.train(training)
        logits = logits.full_tensor() if hasattr(logits, "full_tensor") else logits
        if args.process_index == 0:
            torch.save({"ids": ids, "logits": logits.float().clone()}, Path(args.output_dir).parent / "logits.pt")


class Alone(TrainerCallback):
    """accelerate 1.13 and later on a CPU, where `use_cpu` is missing: each rank trains by itself (state.py, _prepare_backend)."""

    def __init__(self) -> None:
        PartialState._prepare_backend = lambda *_, **__: (None, DistributedType.NO)


class Dies(TrainerCallback):
    """The second rank dies at the third step, the first time."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        mark = Path("died")
        if args.process_index == 1 and state.global_step == 3 and not mark.exists():
            mark.touch()
            os._exit(9)


class Rows(TrainerCallback):
    """Writes down which rows each step reads, by their tokens: `rows-STAGE-RANK.jsonl`, a line a micro-batch."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        stage = Path(args.output_dir).parent.name
        path = Path(f"rows-{stage}-{args.process_index}.jsonl")

        def seen(module: Any, arguments: Any, kwargs: Any) -> None:
            if module.training:
                ids, mask = kwargs["input_ids"], kwargs["attention_mask"]
                kept = mask.bool() if mask.dim() == 2 else ids >= 0  # packed neatly: a mask for each pair of tokens
                rows = [row[own].tolist() for row, own in zip(ids, kept, strict=True)]
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([state.global_step, rows]) + "\n")

        model.register_forward_pre_hook(seen, with_kwargs=True)

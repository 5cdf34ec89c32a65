"""What a recipe adds to the engine, through its public doors: a chat template, the curve of the rate, dropout, checkpoints by
the clock, callbacks of the author's own. Given a spec (JSON), gives callbacks for the Trainer; nothing of the engine is changed.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .report import StageError

EOS = {"eos_token"}


def read(path: str) -> dict[str, Any]:
    """The spec, with its template made known to the engine. Raises: OSError, ValueError."""
    spec: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    if "template" in spec:
        register(spec["template"])
    return spec


def register(template: dict[str, Any]) -> None:
    """A chat format of the recipe's (llamafactory/data/template.py, register_template)."""
    from llamafactory.data.formatter import EmptyFormatter, StringFormatter
    from llamafactory.data.template import register_template

    def formatter(part: str) -> Any:
        return StringFormatter(slots=[template[part]]) if part in template else None

    assistant = formatter("assistant") or StringFormatter(slots=["{{content}}", EOS])
    register_template(
        name=template["name"],
        format_user=formatter("user"),
        format_assistant=assistant,
        format_system=formatter("system") or formatter("user"),
        format_observation=formatter("tool"),
        format_prefix=EmptyFormatter(slots=[template["prefix"]]) if "prefix" in template else None,
        default_system=template.get("default_system", ""),
        stop_words=template.get("stop", []),
        replace_jinja_template=True,
    )


def callbacks(spec: dict[str, Any]) -> list[Any]:
    """In the order of the spec: the weights, the curve, dropout, the clock, and the author's own."""
    from transformers import TrainerCallback

    callbacks_made: list[Any] = []
    if spec.get("weights") == "float32":
        callbacks_made.append(_full_weights(TrainerCallback))
    if "schedule" in spec:
        callbacks_made.append(_curve(TrainerCallback, spec["schedule"]))
    if "dropout" in spec:
        callbacks_made.append(_dropout(TrainerCallback, spec["dropout"]))
    if "save_seconds" in spec:
        callbacks_made.append(_clock(TrainerCallback, float(spec["save_seconds"])))
    return [*callbacks_made, *map(_own, spec.get("callbacks", ()))]


def _own(reference: str) -> Any:
    """`package.module:Class`, looked for in the recipe's folder too."""
    if "inputs" not in sys.path:
        sys.path.append("inputs")
    module, _, name = reference.partition(":")
    try:
        return getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, TypeError) as error:
        raise StageError(f"the callback {reference} cannot be made: {error}", "callbacks") from error


# --- the curve of the rate

SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "1-sqrt": lambda x: 1 - math.sqrt(x),
}
"""What is left of the way down after a share `x` of the phase."""


def factor(phases: Sequence[dict[str, Any]], step: int, total: int) -> float:
    """The rate of an optimizer step as a share of the peak.

    phases: `{"kind": "warmup" | "hold" | "decay", "steps": n or "share": of all steps, "start"/"to": shares of the peak,
    "shape"}`; a phase starts from the level the one before it reached, and the last level is kept.
    """
    level = 0.0 if phases and phases[0]["kind"] == "warmup" else 1.0
    for phase in phases:
        length = phase["steps"] if "steps" in phase else round(phase["share"] * total)
        begin = phase.get("start", level) if phase["kind"] == "warmup" else level
        end = {"warmup": 1.0, "hold": level, "decay": phase.get("to", 0.0)}[phase["kind"]]
        if step < length:
            left = SHAPES[phase.get("shape", "linear")](step / length)
            return float(end + (begin - end) * left)
        step, level = step - length, end
    return level


def _curve(base: type, phases: Sequence[dict[str, Any]]) -> Any:
    """Replaces the lambdas of the scheduler, and the rate the first step would have had."""

    class Curve(base):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            scheduler = kwargs["lr_scheduler"]
            scheduler = getattr(scheduler, "scheduler", scheduler)
            if not hasattr(scheduler, "lr_lambdas"):
                raise StageError(f"the rate of {type(scheduler).__name__} cannot be drawn in phases", "optim.schedule")
            scheduler.lr_lambdas = [lambda step: factor(phases, step, state.max_steps)] * len(scheduler.base_lrs)
            rates = [rate * factor(phases, scheduler.last_epoch, state.max_steps) for rate in scheduler.base_lrs]
            for group, rate in zip(scheduler.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
            scheduler._last_lr = rates

    return Curve()


# --- weights in fp32


def _full_weights(base: type) -> Any:
    """Frozen weights in fp32 too. The engine loads a base in the type that its checkpoint has, and lifts only what is trained
    (llamafactory/model/loader.py: `torch_dtype = "auto"`; adapter.py: `cast_trainable_params_to_fp32`; 0.9.5)."""

    class FullWeights(base):  # type: ignore[misc]
        def on_init_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            full_weights(model)

    return FullWeights()


def full_weights(model: Any) -> int:
    """Cast every half-precision parameter and buffer to fp32, in place; their number."""
    import torch

    half = (torch.float16, torch.bfloat16)
    cast = [tensor for tensor in (*model.parameters(), *model.buffers()) if tensor.dtype in half]
    for tensor in cast:
        tensor.data = tensor.data.float()
    return len(cast)


# --- dropout

ATTRIBUTES = {
    "attention": ("attention_dropout", "attn_dropout"),
    "hidden": ("hidden_dropout", "resid_dropout", "post_attention_dropout", "post_mlp_dropout"),
}
"""Names of these attributes in models of transformers: a number read in each forward pass, or a Dropout module."""


def set_dropout(model: Any, where: str, rate: float) -> int:
    """Set the rate of every such attribute of the model; their number."""
    count = 0
    for module in model.modules():
        for name in ATTRIBUTES[where]:
            value = getattr(module, name, None)
            if isinstance(value, int | float):
                setattr(module, name, rate)
            elif value is not None and hasattr(value, "p"):
                value.p = rate
            else:
                continue
            count += 1
    return count


SUBLAYER = re.compile(
    r"^(?!.*(vision|visual|audio))\D*\.\d+\."
    r"(self_attn|attn|attention|self_attention|linear_attn|mixer|temporal_block|mlp|feed_forward|ffn|moe|block_sparse_moe)$"
)
"""Names of attention and MLP in a layer of the language model, in the model families of transformers."""


def place_dropout(model: Any, rate: float) -> int:
    """Drop shares of what each attention and each MLP adds to the hidden states, while the model trains (Vaswani et al. 2017,
    arXiv:1706.03762, 5.4), in models that have no such place of their own. Nothing of it is saved. Returns: the places.
    """
    sublayers = [sublayer for name, sublayer in model.named_modules() if SUBLAYER.match(f".{name}")]
    for sublayer in sublayers:
        if not hasattr(sublayer, PLACED):  # training may begin again with the same model
            sublayer.register_forward_hook(_drop)
        setattr(sublayer, PLACED, rate)
    return len(sublayers)


PLACED = "placed_hidden_dropout"


def _drop(module: Any, _inputs: Any, output: Any) -> Any:
    import torch

    if not module.training:
        return output
    first, *rest = output if isinstance(output, tuple) else (output,)
    dropped = torch.nn.functional.dropout(first, getattr(module, PLACED))
    return (dropped, *rest) if isinstance(output, tuple) else dropped


def _dropout(base: type, rates: dict[str, float]) -> Any:
    class Dropout(base):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
            for where, rate in rates.items():
                modules = set_dropout(model, where, rate)
                if not modules and rate and where == "hidden":
                    modules = place_dropout(model, rate)
                if not modules and rate:
                    raise StageError("this model has no such dropout", f"{where}_dropout", help="remove the key")

    return Dropout()


# --- the clock


def _clock(base: type, seconds: float) -> Any:
    """A checkpoint every so many seconds; the first rank decides, or ranks would wait for each other."""

    class Clock(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.last = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            due = time.monotonic() - self.last >= seconds
            if args.world_size > 1:
                import torch

                flag = torch.tensor([float(due)], device=args.device)
                torch.distributed.broadcast(flag, 0)
                due = bool(flag.item())
            if due:
                self.last = time.monotonic()
                control.should_save = True

    return Clock()

"""Stages that merge adapters into their base, and stages that measure the loss."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Job
from ftdsl.engines.shared import overlay, parallel, runtime_spec
from ftdsl.engines.shared.assemble import job_of, result_of, title_of
from ftdsl.engines.shared.card import card_of
from ftdsl.engines.shared.gates import gate_command, gates_of
from ftdsl.engines.shared.merging import merges_reward_model, refuse_quantised
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer.compute import use_cpu
from ftdsl.engines.trl import limits, lowerings
from ftdsl.engines.trl.documents import MODULES, PROGRAM, yaml_of
from ftdsl.engines.trl.lowerings.compute import precision
from ftdsl.engines.trl.lowerings.start import model, quantisation
from ftdsl.engines.trl.rows import Rows, block
from ftdsl.language.values import Term

_MERGED = frozenset({"dtype", "shards", "tokenizer.resize"})


def merge(context: StageContext) -> Job:
    """Each adapter in order, by PEFT's merge_and_unload."""
    overlay.refuse_unlowered(context, lowerings.names(lowerings.MERGING))
    limits.check(context, limits.MERGING)
    refuse_quantised(context)
    params: dict[str, Any] = model(context) | overlay.params(context, "merge", only=_MERGED)
    params.setdefault("dtype", "auto")
    params["output_dir"] = result_of(context)
    data: dict[str, Any] = {"kind": "reward"} if merges_reward_model(context) else {"kind": "merge"}
    if isinstance(push := context.get("push"), Term):
        params["hub_model_id"] = push.options["id"]
        data |= {"private": True} if push.options.get("private") else {}
    document = yaml_of(context, "export", params, {}, data)
    more: dict[str, Any] = {
        "card": card_of(context, title_of(context, "merge").capitalize() + ", by PEFT.", "finetune")
    }
    if revision := context.option("push", "revision"):
        more["revision"] = str(revision)
    spec = runtime_spec.spec(context, "export", [{"config": document.path}], None, **more)
    commands = [Command((PYTHON, PROGRAM, "export", spec.path))]
    return job_of(context, [document, spec], commands, [], "model", title_of(context, "merge"), runtime=MODULES)


def score(context: StageContext) -> Job:
    """The loss of a model over rows, by TRL's SFT trainer."""
    overlay.refuse_unlowered(context, lowerings.names(lowerings.SCORING))
    parallel.check(context)
    rows = Rows(context)
    for name in context.names("metrics"):
        if name not in ("loss", "perplexity"):
            why = f"{context.engine.title} stages measure loss and perplexity, not `{name}`"
            context.refuse("metrics", why, "write `engine = llamafactory`, or `metrics = [loss]`")
    params: dict[str, Any] = {**model(context), **quantisation(context), **precision(context), **use_cpu(context)}
    params |= overlay.params(context, "eval", only=frozenset({"batch", "max_len"}))
    params |= {"output_dir": result_of(context), "report_to": "none", "gradient_checkpointing": False}
    params = parallel.with_params(context, params)
    data = block(context, rows)
    documents = [yaml_of(context, "eval", params, {}, data), *parallel.documents(context)]
    spec = runtime_spec.spec(context, "eval", [{"config": documents[0].path}], None)
    documents.append(spec)
    gates = tuple(gates_of(context))
    commands = parallel.launch(context, (PROGRAM, "train"), 1)
    if gates:
        commands.append(gate_command(context, documents, gates))
    title = title_of(context, "evaluation")
    return job_of(context, documents, commands, rows.inputs, "metrics", title, gates, runtime=MODULES)

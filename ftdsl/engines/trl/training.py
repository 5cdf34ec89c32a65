"""Stages that train: the parameters of every key, the adapter, the rows, and the commands that start the processes."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Job
from ftdsl.engines.shared import overlay, parallel, runtime_spec
from ftdsl.engines.shared.assemble import job_of, result_of, title_of
from ftdsl.engines.shared.extending import own_files
from ftdsl.engines.shared.leaks import leak_check
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer import guard
from ftdsl.engines.trl import limits, lowerings, post_training
from ftdsl.engines.trl.documents import MODULES, PROGRAM, extension, packages_of, yaml_of
from ftdsl.engines.trl.lowerings.start import reference
from ftdsl.engines.trl.lowerings.watch import patience
from ftdsl.engines.trl.peft import peft
from ftdsl.engines.trl.rows import Rows, block

STAGES = {
    "pretrain": "SFTConfig", "sft": "SFTConfig", "reward": "RewardConfig", "dpo": "DPOConfig", "kto": "KTOConfig",
    "grpo": "GRPOConfig", "distill": "DistillationConfig",
}  # fmt: skip
"""Kind of stage -> the configuration class whose fields are its parameters."""


def train(context: StageContext) -> Job:
    overlay.refuse_unlowered(context, lowerings.names(lowerings.TRAINING))
    parallel.check(context)
    limits.check(context, limits.TRAINING)
    rows = Rows(context)
    params: dict[str, Any] = {}
    for rule in lowerings.TRAINING:
        params |= rule(context)
    params = {**overlay.params(context, context.stage.kind), **params, "output_dir": result_of(context)}
    params = parallel.with_params(context, params)
    data = block(context, rows) | reference(context) | post_training.block(context) | patience(context)
    documents = [yaml_of(context, "train", params, peft(context), data), *parallel.documents(context)]
    if added := extension(context):
        documents.append(added)
    method, train = context.planned.method, documents[0].path
    result = "model" if method == "full" else "adapter"
    written = "shards" if parallel.gather(context, "") else result
    parts, launched = runtime_spec.trainings(context, PROGRAM, train)
    more = guard.policy(context) | guard.ramp(context)
    spec = runtime_spec.spec(context, "train", parts, added, output=result_of(context), result=written, **more)
    documents.append(spec)
    comment = "keeps this stage's own checkpoints, to resume from; sets aside those of other runs"
    commands = [
        Command((PYTHON, PROGRAM, "fresh", spec.path), comment=comment),
        *launched,
        *parallel.gather(context, train),
    ]
    if leaks := leak_check(context):
        documents.append(leaks[0])
        commands.insert(0, leaks[1])
    inputs = [*rows.inputs, *own_files(context), *post_training.files(context)]
    title = title_of(context, f"{context.stage.kind} {method}")
    packages = packages_of(params)
    return job_of(context, documents, commands, inputs, result, title, runtime=MODULES, packages=packages)

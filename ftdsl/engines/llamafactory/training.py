"""Stages that train: the parameters of every key, the data sets, and the commands that start the processes."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Job
from ftdsl.engines.llamafactory import limits, lowerings, runtime_modules, sharding
from ftdsl.engines.llamafactory.datasets import Datasets, training
from ftdsl.engines.llamafactory.documents import dataset_info, job_of, yaml_of
from ftdsl.engines.llamafactory.extending import extension
from ftdsl.engines.llamafactory.lowerings.watch import reached
from ftdsl.engines.llamafactory.tokens import ahead
from ftdsl.engines.shared import overlay, parallel, runtime_spec
from ftdsl.engines.shared.assemble import result_of, title_of
from ftdsl.engines.shared.extending import own_files
from ftdsl.engines.shared.leaks import leak_check
from ftdsl.engines.shared.parallel import PYTHON
from ftdsl.engines.shared.stage_context import StageContext
from ftdsl.engines.shared.trainer import guard

STAGES = {"pretrain": "pt", "sft": "sft", "reward": "rm", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}


def train(context: StageContext) -> Job:
    overlay.refuse_unlowered(context, lowerings.names(lowerings.TRAINING))
    limits.check(context, limits.TRAINING)
    sharding.check(context)
    kind = context.stage.kind
    datasets = Datasets(context)
    params: dict[str, Any] = {"stage": STAGES[kind], "do_train": True}
    for rule in lowerings.TRAINING:
        params |= rule(context)
    params |= overlay.params(context, kind)
    params |= training(context, datasets)
    params |= ahead(context, params, datasets)
    params = {"overwrite_output_dir": False, **params, "output_dir": result_of(context)}
    params = sharding.with_params(context, params)
    documents = [yaml_of(context, "train", params), dataset_info(context, datasets), *parallel.documents(context)]
    method = context.planned.method
    result = "model" if method in ("full", "freeze") else "adapter"
    written = "shards" if parallel.gather(context, "") else result
    added = extension(context, training=True)
    if added is not None:
        documents.append(added)
    output, more = result_of(context), guard.policy(context, reaches=reached(context)[0]) | guard.ramp(context)
    train = documents[0].path
    parts, launched = runtime_spec.trainings(context, runtime_modules.PROGRAM, train)
    documents.append(runtime_spec.spec(context, "train", parts, added, output=output, result=written, **more))
    first = Command(
        (PYTHON, runtime_modules.PROGRAM, "fresh", documents[-1].path),
        comment="keeps this stage's own checkpoints, to resume from; sets aside those of other runs",
    )
    commands = [first, *launched, *parallel.gather(context, train)]
    if leaks := leak_check(context):
        documents.append(leaks[0])
        commands.insert(0, leaks[1])
    inputs = [*datasets.inputs, *own_files(context)]
    return job_of(context, documents, commands, inputs, result, title_of(context, f"{kind} {method}"))

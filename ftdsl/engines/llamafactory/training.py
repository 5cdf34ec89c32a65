"""Stages that train: parameters of every word, the data sets, and the command that starts the processes."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Job
from ftdsl.engines.llamafactory import limits, parallel, rules, runtime_modules, words
from ftdsl.engines.llamafactory.assemble import dataset_info, job_of, result_of, title_of, yaml_of
from ftdsl.engines.llamafactory.datasets import Datasets, training
from ftdsl.engines.llamafactory.extending import extension, own_files
from ftdsl.engines.llamafactory.leaks import leak_check
from ftdsl.engines.llamafactory.parallel import ENGINE, PYTHON
from ftdsl.engines.llamafactory.tokens import ahead
from ftdsl.engines.llamafactory.work import Work

STAGES = {"pretrain": "pt", "sft": "sft", "reward": "rm", "dpo": "dpo", "kto": "kto", "ppo": "ppo"}


def train(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.TRAINING))
    limits.check(work, limits.TRAINING)
    parallel.check(work)
    kind = work.stage.kind
    datasets = Datasets(work)
    params: dict[str, Any] = {"stage": STAGES[kind], "do_train": True}
    for rule in rules.TRAINING:
        params |= rule(work)
    params |= words.params(work, kind)
    params |= training(work, datasets)
    params |= ahead(work, params, datasets)
    params = {"overwrite_output_dir": False, **params, "output_dir": result_of(work)}
    params = parallel.with_params(work, params)
    documents = [yaml_of(work, "train", params), dataset_info(work, datasets), *parallel.documents(work)]
    method = work.planned.method
    result = "model" if method in ("full", "freeze") else "adapter"
    left = "shards" if parallel.gather(work, "") else result
    added = extension(work, training=True)
    if added is not None:
        documents.append(added)
    output, nan = result_of(work), work.name("guard.nan") or "stop"
    train = documents[0].path
    parts, launched = runtime_modules.trainings(work, train)
    documents.append(runtime_modules.spec(work, "train", parts, added, output=output, result=left, nan=nan))
    first = Command(
        (PYTHON, ENGINE, "fresh", documents[-1].path),
        comment="goes on from this stage's own checkpoints; what another run left there is set aside",
    )
    commands = [first, *launched, *parallel.gather(work, train)]
    if leaks := leak_check(work):
        documents.append(leaks[0])
        commands.insert(0, leaks[1])
    inputs = [*datasets.inputs, *own_files(work)]
    return job_of(work, documents, commands, inputs, result, title_of(work, f"{kind} {method}"))

"""Stages that write a model anew: adapters merged into their base."""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Job
from ftdsl.engines.llamafactory import rules, watched, words
from ftdsl.engines.llamafactory.assemble import job_of, result_of, title_of, yaml_of
from ftdsl.engines.llamafactory.parallel import PYTHON
from ftdsl.engines.llamafactory.work import Work


def merge(work: Work) -> Job:
    words.refuse_unlowered(work, rules.names(rules.MERGING))
    params: dict[str, Any] = {}
    for rule in rules.MERGING:
        params |= rule(work)
    params |= words.params(work, "merge", only=_MERGE_WORDS)
    params |= {"export_dir": result_of(work), "export_device": "cpu"}
    document = yaml_of(work, "export", params)
    command = Command(
        (PYTHON, "runtime/engine.py", "export", document.path, "--stage", work.folder, *watched.smoke(work))
    )
    return job_of(work, [document], [command], [], "model", title_of(work, "merge"))


_MERGE_WORDS = frozenset(
    "template system tools thinking keep_thinking dtype shards legacy tokenizer.add tokenizer.resize".split()
)

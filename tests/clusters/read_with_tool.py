"""Run by the Python of a tool: `read_with_tool.py kubernetes|skypilot FILE…` reads files as that tool does, and prints what it
made of them as JSON. Exits 1 with the tool's words where it refuses one.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def kubernetes(paths: list[str]) -> list[Any]:
    """Of each document its kind. The models of Kubeflow and JobSet drop what they do not know, so what they give back must be
    what was read.
    """
    import kubernetes_validate
    import yaml
    from kubeflow_trainer_api import models

    known = {"JobSet": models.JobsetV1alpha2JobSet, "TrainJob": models.TrainerV1alpha1TrainJob}
    found = []
    for path in paths:
        text = Path(path).read_text(encoding="utf-8")
        documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            if document["kind"] in known:
                made = known[document["kind"]].from_dict(document).to_dict()
                lost = [key for key in _paths(document) if key not in set(_paths(made))]
                if lost:
                    raise SystemExit(f"{path}: not in the schema: {', '.join(lost)}")
            else:
                kubernetes_validate.validate(document, "1.37", strict=True)
            found.append(document["kind"])
    return found


def _paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [inner for key, item in value.items() for inner in _paths(item, f"{path}.{key}")]
    if isinstance(value, list):
        return [inner for at, item in enumerate(value) for inner in _paths(item, f"{path}[{at}]")]
    return [path]


def skypilot(paths: list[str]) -> list[Any]:
    """Of each task: name, nodes, GPUs, script."""
    from sky.utils import dag_utils

    (path,) = paths
    dag = dag_utils.load_chain_dag_from_yaml(path)
    return [
        {"name": task.name, "nodes": task.num_nodes, "run": task.run,
         "gpus": [resources.accelerators for resources in task.resources]}
        for task in dag.tasks
    ]  # fmt: skip


if __name__ == "__main__":
    print(json.dumps({"kubernetes": kubernetes, "skypilot": skypilot}[sys.argv[1]](sys.argv[2:])))

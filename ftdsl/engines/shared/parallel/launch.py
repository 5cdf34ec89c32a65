"""Commands that start a stage's processes, on one node or on each of several, and the variables they need.

`python -m torch.distributed.run` instead of `torchrun`, and the same for the others: a script is looked up on PATH, where
another environment's may come first.
"""

from __future__ import annotations

from ftdsl.engines.jobs import Command, Document, Raw
from ftdsl.engines.shared.parallel import accelerate
from ftdsl.engines.shared.parallel.common import PYTHON, distributed, launcher
from ftdsl.engines.shared.stage_context import StageContext

Words = tuple[str | Raw, ...]

RETRY = "runtime/retry.py"
NODE_RANK = Raw('"$NODE_RANK"')
MASTER_ADDR, MASTER_PORT = Raw('"$MASTER_ADDR"'), Raw('"$MASTER_PORT"')
FREE_PORT = Raw(
    '"${MASTER_PORT:-$("$FT_PYTHON" -c \'import socket; s = socket.create_server(("", 0)); print(s.getsockname()[1])\')}"'
)
"""A free port: DeepSpeed's launcher does not look for one, and two stages at the same time would both use 29500."""

HOSTS = "hostfile"
ELASTIC = "last_call_timeout=3,keep_alive_interval=1,keep_alive_max_attempt=3,read_timeout=20"
"""A lost node is detected within seconds, and a new one awaited as long (measured with hosts in network namespaces)."""


def launch(context: StageContext, program: Words, parts: int) -> list[Command]:
    """The commands that train or score: one Python process for all parts of the stage, or a launcher for each.

    program: the script that runs the engine, and its verb; its last argument is the stage's stage.json.
    """
    run: Words = (*program, f"{context.folder}/stage.json")
    if not distributed(context) or launcher(context) == "ray":
        retry = _retry(context) if launcher(context) != "ray" else ()
        return [Command((PYTHON, *retry, *run))]
    start = {"torchrun": _torchrun, "accelerate": _accelerate, "deepspeed": _deepspeed}[launcher(context)](context)
    retry = _retry(context)
    if parts == 1:
        return [Command((PYTHON, *retry, *start, *run), each_node=True)]
    numbers = map(str, range(1, parts + 1))
    return [Command((PYTHON, *retry, *start, *run, "--part", part), each_node=True) for part in numbers]


def retries(context: StageContext) -> int:
    return int(context.get("launch.retries") or 0)


def agreed(context: StageContext) -> bool:
    """Whether several nodes must agree on a restart; the launchers do this by a rendezvous."""
    return context.planned.world.elastic or (context.planned.world.nodes > 1 and retries(context) > 0)


def _retry(context: StageContext) -> Words:
    """On one node the whole launcher is restarted: torchrun's own restarts hang with gloo, and DeepSpeed has none."""
    if not retries(context) or agreed(context):
        return ()
    return (RETRY, str(retries(context)), "--stage", context.folder, "--", PYTHON)


def _torchrun(context: StageContext) -> Words:
    world = context.planned.world
    each: Words = ("--nproc_per_node", str(world.processes_per_node))
    run: Words = ("-m", "torch.distributed.run")
    if world.nodes == 1 and not world.elastic:
        return (*run, "--nnodes", "1", *each, *_meet_here(context))
    if not agreed(context):
        where: Words = ("--node_rank", NODE_RANK, "--master_addr", MASTER_ADDR, "--master_port", MASTER_PORT)
        return (*run, "--nnodes", str(world.nodes), *each, *where)
    # Nodes that may leave and rejoin use a rendezvous, which also assigns their ranks.
    nodes = f"{world.least_nodes}:{world.nodes}" if world.elastic else str(world.nodes)
    meet: Words = ("--rdzv_backend", "c10d", "--rdzv_id", f"{context.plan.recipe.name}-{context.folder}")
    meet += ("--rdzv_endpoint", Raw('"$MASTER_ADDR:$MASTER_PORT"'), "--rdzv_conf", ELASTIC)
    return (
        *run,
        "--nnodes",
        nodes,
        *each,
        *meet,
        *(("--max-restarts", str(retries(context))) if retries(context) else ()),
    )


def _meet_here(context: StageContext) -> Words:
    if not (context.is_explicit("launch.head") or context.is_explicit("launch.port")):
        return ("--standalone",)  # finds a free port: stages may run at the same time
    head = context.get("launch.head") or "127.0.0.1"
    return ("--master_addr", str(head), "--master_port", str(context.get("launch.port")))


def _accelerate(context: StageContext) -> Words:
    run: Words = ("-m", "accelerate.commands.launch", "--config_file", f"{context.folder}/{accelerate.NAME}")
    if context.planned.world.nodes > 1:
        run += ("--machine_rank", NODE_RANK, "--main_process_ip", MASTER_ADDR, "--main_process_port", MASTER_PORT)
    return (*run, "--max_restarts", str(retries(context))) if retries(context) and agreed(context) else run


def _deepspeed(context: StageContext) -> Words:
    world = context.planned.world
    run: Words = ("-m", "deepspeed.launcher.runner", "--no_local_rank")
    if world.nodes > 1:
        hosts: Words = ("--hostfile", f"{context.folder}/{HOSTS}", "--no_ssh", "--node_rank", NODE_RANK)
        return (*run, *hosts, *_cards(context), "--master_addr", MASTER_ADDR, "--master_port", MASTER_PORT)
    # Without the option it would read /job/hostfile, which may be a cluster's.
    return (*run, "--hostfile", "/dev/null", *_cards(context), "--master_port", MASTER_PORT)


def _cards(context: StageContext) -> Words:
    """The GPUs, as DeepSpeed's options: it ignores CUDA_VISIBLE_DEVICES when a number is given."""
    devices, world = context.get("hardware.devices"), context.planned.world
    if not devices:
        return ("--num_gpus", str(world.processes_per_node))
    names = _names(context) if world.nodes > 1 else ["localhost"]
    listed = ",".join(map(str, devices))
    return ("--include", "@".join(f"{name}:{listed}" for name in names))


def _names(context: StageContext) -> list[str]:
    return [f"node-{number}" for number in range(context.planned.world.nodes)]


def hosts(context: StageContext) -> Document | None:
    """DeepSpeed's list of nodes. Without ssh it only counts the names: each node is started separately."""
    world = context.planned.world
    if world.nodes == 1 or launcher(context) != "deepspeed" or not distributed(context):
        return None
    slots = max([world.processes_per_node, *(int(device) + 1 for device in context.get("hardware.devices") or ())])
    lines = [f"{name} slots={slots}" for name in _names(context)]
    return Document(f"{context.folder}/{HOSTS}", "text", lines)


def environment(context: StageContext) -> dict[str, str | Raw]:
    """Visible GPUs, threads on CPU, and the address at which several nodes meet."""
    return _devices(context) | _meeting(context) | _switches(context)


def _devices(context: StageContext) -> dict[str, str | Raw]:
    if not context.planned.world.gpu:
        return {"OMP_NUM_THREADS": Raw('"${OMP_NUM_THREADS:-1}"')}
    npu = "ascend" in context.planned.world.gpu
    variable = "ASCEND_RT_VISIBLE_DEVICES" if npu else "CUDA_VISIBLE_DEVICES"
    devices = context.get("hardware.devices")
    if devices and not (launcher(context) == "deepspeed" and distributed(context)):
        return {variable: ",".join(map(str, devices))}
    if not distributed(context):  # the engine refuses a single process that sees several GPUs
        return {variable: Raw.variable(variable, default=0)}
    return {}


def _meeting(context: StageContext) -> dict[str, str | Raw]:
    if launcher(context) == "ray":
        return {}
    if context.planned.world.nodes == 1:
        return {"MASTER_PORT": _own_port(context)} if launcher(context) == "deepspeed" and distributed(context) else {}
    variables: dict[str, str | Raw] = {
        "NODE_RANK": Raw('"${NODE_RANK:?0 on the first node, 1 on the next, and so on}"')
    }
    head = context.get("launch.head")
    if head:
        variables["FT_HEAD"] = str(head)
    variables["MASTER_ADDR"] = Raw(
        '"${MASTER_ADDR:-$FT_HEAD}"' if head else '"${MASTER_ADDR:?address of the first node}"'
    )
    variables["MASTER_PORT"] = Raw.variable("MASTER_PORT", default=int(context.get("launch.port") or 29500))
    return variables


def _own_port(context: StageContext) -> Raw:
    port = context.get("launch.port") if context.is_explicit("launch.port") else None
    return Raw.variable("MASTER_PORT", default=int(port)) if port else FREE_PORT


def _switches(context: StageContext) -> dict[str, str | Raw]:
    variables: dict[str, str | Raw] = {}
    if context.planned.strategy == "megatron":
        variables["USE_MCA"] = "1"
        if context.planned.world.tensor > 1:
            variables["CUDA_DEVICE_MAX_CONNECTIONS"] = (
                "1"  # mcore: otherwise communication waits behind its own kernels
            )
    if launcher(context) == "ray":
        variables |= {"USE_RAY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    if agreed(context):
        # torch 2.13: a host cannot rejoin while the store is shared (0 of 3 attempts; 2 of 2 with this).
        variables["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    return variables


def by_hand(context: StageContext) -> tuple[str, ...]:
    """The command to type on each of several nodes."""
    nodes, head = context.planned.world.nodes, context.get("launch.head")
    if nodes == 1 or launcher(context) == "ray":
        return ()
    address = "" if head else " MASTER_ADDR=ADDRESS_OF_THE_FIRST"
    ranks = (0, 1) if nodes == 2 else (0, 1, nodes - 1)
    names = {0: "the first node", 1: "the second"}
    return tuple(
        f"NODE_RANK={rank}{address} bash run.sh RUN_FOLDER   # {names.get(rank, 'the last')}" for rank in ranks
    )

"""A throw-away Slurm on one machine: each node a network, host-name, mount and process namespace of its own, so that a node
can be killed, or not see a folder. Needs root, Linux and Debian's packages (`make tools`).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PROGRAMS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "ip": "iproute2"}
"""What is needed, and the package that has it."""
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
_numbers = itertools.count()

CONF = """\
ClusterName=ftdsl
SlurmctldHost={host}({controller})
SlurmctldPort={port}
AuthType=auth/none
CredType=cred/none
AuthInfo=cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/pid/slurmctld.pid
SlurmdPidFile={folder}/pid/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=5,batch_sched_delay=1,sched_min_interval=200000
EnforcePartLimits=ALL
JobRequeue=1
MinJobAge=3600
KillWait=5
SlurmdTimeout=6
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName=n[1-{nodes}] NodeAddr={network}.[1-{nodes}] Port={node_port} CPUs={cpus} RealMemory={memory}{gres} State=UNKNOWN
"""


def missing() -> str:
    """Why no Slurm can be started here; "" if one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "a throw-away Slurm needs root (network namespaces)"
    lacking = [package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None]
    return f"no {', '.join(lacking)} here: make tools" if lacking else ""


class Slurm:
    """A cluster that is started when it is entered.

    partitions: name -> fields of slurm.conf (`Nodes=n1 MaxTime=60`), the first being the default; gpus: fake ones, on each
    node; hidden: folders that a node does not see, by node.
    """

    def __init__(
        self,
        nodes: int = 2,
        *,
        cpus: int = 4,
        memory: int = 16000,
        gpus: int = 0,
        partitions: Mapping[str, str] | None = None,
        hidden: Mapping[str, Sequence[Path]] | None = None,
    ) -> None:
        self.nodes, self.cpus, self.memory, self.gpus = nodes, cpus, memory, gpus
        self.partitions = partitions or {"main": "Nodes=ALL MaxTime=60"}
        self.hidden = hidden or {}
        self.folder = Path(tempfile.mkdtemp(prefix="ft-slurm-"))
        number = (os.getpid() + 7919 * next(_numbers)) % 65536
        self.tag, self.network = f"ft{number:x}", f"10.{64 + number // 256 % 64}.{number % 256}"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands find this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": PATH}

    def __enter__(self) -> Slurm:
        try:
            self._network()
            self._configure()
            self.start_controller()
            for number in range(1, self.nodes + 1):
                self.start_node(f"n{number}")
            self.wait_for_nodes()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            self.run("scancel", "-u", "root", timeout=10)
        for name in list(self.daemons):
            self.kill(name)
        for number in range(1, self.nodes + 1):
            _quietly("ip", "netns", "del", f"{self.tag}n{number}")
        _quietly("ip", "link", "del", f"{self.tag}b")
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- what tests do with it

    def run(self, *command: str, timeout: float = 30, check: bool = False) -> subprocess.CompletedProcess[str]:
        """A command of Slurm's."""
        env = {**os.environ, **self.env}
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=check)

    def state(self, job: str) -> str:
        return self.run("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").stdout.strip()

    def start_node(self, name: str) -> None:
        """slurmd, as the first process of the node's process namespace."""
        hide = "".join(f"mount -t tmpfs none '{folder}'; " for folder in self.hidden.get(name, ()))
        conf, hosts = self.folder / "slurm.conf", self.folder / "hosts"
        script = f"mount --bind {hosts} /etc/hosts; {hide}hostname {name}; slurmd -D -f {conf} -N {name} & wait"
        enter = ["nsenter", f"--net=/run/netns/{self.tag}{name}"]
        apart = ["unshare", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        (self.folder / "spool" / name).mkdir(parents=True, exist_ok=True)
        # bash, since the first process of a namespace must reap the others
        self._daemon(name, [*enter, *apart, "bash", "-c", script])

    def start_controller(self) -> None:
        self._daemon("slurmctld", ["slurmctld", "-D", "-f", str(self.folder / "slurm.conf")])

    def kill(self, name: str) -> None:
        """A node with all that runs on it, or the controller: at once, as when the power goes."""
        process = self.daemons.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def stop_controller(self) -> None:
        """As an administrator does: it writes down what it knows."""
        process = self.daemons.pop("slurmctld")
        process.terminate()
        process.wait(20)

    def wait_for_nodes(self, count: int = 0) -> None:
        """Until so many nodes (all) are idle. Raises: AssertionError with the daemons' logs."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            idle = self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").stdout.split()
            if len({*idle}) >= (count or self.nodes):
                return
            time.sleep(0.1)
        raise AssertionError(self.run("sinfo").stdout + self.logs())

    def logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}"
            for path in (self.folder / "log").glob("*.log")
        )

    # --- how it is made

    def _daemon(self, name: str, command: list[str]) -> None:
        env = {**os.environ, **self.env}
        mortal = ["setpriv", "--pdeathsig", "KILL", *command]  # with the thread that starts it, however that ends
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                mortal, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _network(self) -> None:
        bridge = f"{self.tag}b"
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{self.network}.254/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        for number in range(1, self.nodes + 1):
            node, wire = f"{self.tag}n{number}", f"{self.tag}v{number}"
            _ip("netns", "add", node)
            _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", node)
            _ip("link", "set", wire, "master", bridge, "up")
            _ip("-n", node, "addr", "add", f"{self.network}.{number}/24", "dev", "eth0")
            _ip("-n", node, "link", "set", "eth0", "up")
            _ip("-n", node, "link", "set", "lo", "up")

    def _configure(self) -> None:
        host = socket.gethostname().partition(".")[0]
        for name in ("state", "spool", "log", "pid"):
            (self.folder / name).mkdir()
        lines = [f"{self.network}.254 {host}", *(f"{self.network}.{n} n{n}" for n in range(1, self.nodes + 1))]
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        gres = ""
        if self.gpus:
            for number in range(self.gpus):
                os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))  # Slurm wants device nodes
            gres = f" Gres=gpu:{self.gpus}"
            (self.folder / "gres.conf").write_text(f"Name=gpu File={self.folder}/gpu[0-{self.gpus - 1}]\n")
        text = CONF.format(
            host=host, controller=f"{self.network}.254", port=_free_port(), folder=self.folder, nodes=self.nodes,
            network=self.network, node_port=7003, cpus=self.cpus, memory=self.memory, gres=gres,
        )  # fmt: skip
        first = next(iter(self.partitions))
        for name, fields in self.partitions.items():
            text += f"PartitionName={name} {fields} Default={'YES' if name == first else 'NO'} State=UP\n"
        (self.folder / "slurm.conf").write_text(text)


def _free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, env={**os.environ, "PATH": PATH})


def _quietly(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True, env={**os.environ, "PATH": PATH})


@contextlib.contextmanager
def lonely_network() -> Iterator[list[str]]:
    """A network namespace with nothing but loopback: the beginning of a command line that runs in it."""
    name = f"ft{os.getpid():x}l{next(_numbers)}"
    _ip("netns", "add", name)
    try:
        _ip("-n", name, "link", "set", "lo", "up")
        yield ["nsenter", f"--net=/run/netns/{name}"]
    finally:
        _quietly("ip", "netns", "del", name)

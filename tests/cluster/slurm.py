"""A real Slurm of four nodes on this machine, each with two GPUs that are null devices; for tests, and by hand:

    python tests/cluster/slurm.py       prints its FOLDER, then: export SLURM_CONF=FOLDER/slurm.conf; Ctrl-D ends it

Needs root and Debian's slurm-wlm and munge (`SLURM=1 bash run/setup.sh`). A process of its own ends all daemons and jobs when its
input closes, so none outlives who started it, whatever befalls that.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NODES, GPUS, CPUS = ("n1", "n2", "n3", "n4"), 2, 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "srun", "sbatch")
_SBIN = os.pathsep.join(("/usr/sbin", "/sbin"))
_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/%n/spool
SlurmdPidFile={folder}/%n/slurmd.pid
SlurmdLogFile={folder}/%n/slurmd.log
SlurmdParameters=config_overrides
DebugFlags=NO_CONF_HASH
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
SlurmdTimeout=8
KillWait=15
MpiDefault=pmix
TaskProlog={folder}/prolog
GresTypes=gpu
{nodes}
PartitionName=all Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""
_NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN"


def obstacle() -> str:
    """Why this machine can have no such cluster; "" if it can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=_search_path()) is None]
    if absent:
        return f"no Slurm: {', '.join(absent)} absent (SLURM=1 bash run/setup.sh installs it)"
    return "" if os.geteuid() == 0 else "starting a Slurm of its own takes root"


def _search_path() -> str:
    """Where programs are looked for: this environment's first, Slurm's daemons last."""
    return os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"], _SBIN))


def _free_ports(count: int) -> list[int]:
    """Ports that nothing listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _write_configuration(folder: Path) -> None:
    host, ports = socket.gethostname(), _free_ports(1 + len(NODES))
    lines = [_NODE.format(name=n, host=host, port=p, cpus=CPUS, gpus=GPUS) for n, p in zip(NODES, ports[1:], strict=True)]
    text = _CONFIGURATION.format(folder=folder, host=host, ports=ports, nodes="\n".join(lines), names=",".join(NODES))
    (folder / "state").mkdir()
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o600)
    for k in range(GPUS):
        # Slurm takes devices only; these two are as good as GPUs as long as nothing looks into them.
        os.mknod(folder / f"gpu{k}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    gres = f"Name=gpu Flags=nvidia_gpu_env File={folder}/gpu[0-{GPUS - 1}]\n"
    # Ranks of one node meet in shared memory by a name without the node in it: nodes of one host need folders of their own.
    prolog = folder / "prolog"
    prolog.write_text(f"#!/bin/sh\necho export OMPI_MCA_btl_vader_backing_directory={folder}/$SLURMD_NODENAME/memory\n")
    prolog.chmod(0o755)
    # PMIx would have all nodes of this one host meet in one folder: each gets a configuration, and a folder, of its own.
    for name in ("", *NODES):
        place = folder / name
        (place / "spool").mkdir(parents=True)
        (place / "pmix").mkdir()
        (place / "memory").mkdir()
        (place / "slurm.conf").write_text(text)
        (place / "gres.conf").write_text(gres)
        # Slurm's default mixes two kinds of fence, and now and then lets a rank out of MPI_Init early: those that it meets crash.
        (place / "mpi.conf").write_text(f"PMIxCliTmpDirBase={place}/pmix\nPMIxCollFence=tree\n")


def members(place: Path) -> list[int]:
    """Processes whose SLURM_CONF lies below a folder: what Slurm starts on a node has it from the node's slurmd, whatever else it loses."""
    found, wanted = [], re.compile(rb"(?:^|\0)SLURM_CONF=" + re.escape(os.fsencode(place)) + b"/")
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with suppress(OSError):
            if pid != os.getpid() and wanted.search(Path(f"/proc/{pid}/environ").read_bytes()):
                found.append(pid)
    return found


def _end(place: Path) -> None:
    """Kill all these processes, and what they start meanwhile; none lives to report the death of another."""
    while found := members(place):
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in found:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
        time.sleep(0.05)


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The first true value of `condition`. Raises TimeoutError, which says what was waited for."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what} did not come in {seconds:.0f} s")
        time.sleep(0.2)
    return found


@dataclass(frozen=True)
class Cluster:
    """A running cluster. folder: its configuration, logs and state."""

    folder: Path

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What commands of Slurm need to find this cluster."""
        mine = {"SLURM_CONF": f"{self.folder}/slurm.conf", "PATH": _search_path()}
        return {**os.environ, **mine, **(extra or {})}

    def start(self, *words: object, **options: Any) -> subprocess.Popen[str]:
        """Start a program in the cluster's environment."""
        environment = self.environment(options.pop("env", None))
        return subprocess.Popen([*map(str, words)], env=environment, text=True, stdin=subprocess.DEVNULL, **options)

    def daemon(self, *words: object, env: Mapping[str, str] | None = None) -> None:
        """Start a daemon that stays in the foreground; what it says goes to a file of its own name."""
        with (self.folder / f"{Path(str(words[0])).name}.out").open("a") as out:
            self.start(*words, env=env, stdout=out, stderr=out)

    def start_node(self, name: str) -> None:
        """Start a node's slurmd."""
        file = self.folder / name / "slurm.conf"
        self.daemon("slurmd", "-D", "-N", name, "-f", file, env={"SLURM_CONF": str(file)})

    def kill_node(self, name: str) -> None:
        """What a power cut does: the node's slurmd, and all that runs there, are gone at once."""
        _end(self.folder / name)

    def call(self, *words: object, env: Mapping[str, str] | None = None, code: int = 0, seconds: float = 60) -> str:
        """What a program prints that ends with exit code `code` within some seconds. Raises AssertionError with all it said if not."""
        process = self.start(*words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words}: still running after {seconds:.0f} s\n{out}{err}") from None
        assert process.returncode == code, f"{words}: exit {process.returncode}, not {code}\n{out}{err}"
        return out

    def submit(self, *words: object, env: Mapping[str, str] | None = None) -> int:
        """Submit a job with the arguments of sbatch; its number."""
        return int(self.call("sbatch", "--parsable", *words, env=env))

    def nodes(self) -> dict[str, str]:
        """The state of each node, as sinfo names it."""
        return dict(line.split() for line in self.call("sinfo", "-h", "-N", "-o", "%N %T").splitlines())

    def job(self, number: int | str) -> dict[str, str]:
        """What scontrol knows of a job, or of a task ("7_1"): its JobState, ExitCode, Restarts, NodeList and others, all as text."""
        words = self.call("scontrol", "show", "job", number, "--oneliner").split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def idle(self) -> bool:
        """Whether all nodes wait for work."""
        return set(self.nodes().items()) == {(name, "idle") for name in NODES}

    def begin(self) -> None:
        """Start all daemons, and return once all nodes wait for work."""
        _write_configuration(self.folder)
        own = [f"--{name}={self.folder}/munge.{name.split('-')[0]}" for name in ("socket", "key-file", "pid-file", "log-file", "seed-file")]
        self.daemon("munged", "-F", "-f", *own)
        wait_until((self.folder / "munge.socket").exists, 20, "munged's socket")
        self.daemon("slurmctld", "-D", "-f", self.folder / "slurm.conf")
        for name in NODES:
            self.start_node(name)

        def answers() -> bool:
            try:
                return self.idle()
            except AssertionError:
                return False

        wait_until(answers, 60, "a Slurm of four idle nodes")

    def rest(self) -> None:
        """Cancel all jobs, start the nodes that are gone, and return once all wait for work."""
        self.call("scancel", "--user=root")
        for name in NODES:
            if not members(self.folder / name):
                self.start_node(name)
        wait_until(self.idle, 90, f"rest, after which all nodes are idle (now {self.nodes()})")

    def end(self) -> None:
        """End all daemons and jobs, and remove the folder."""
        _end(self.folder)
        with suppress(ChildProcessError):
            while True:
                os.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def keep() -> None:
    """Have a cluster until the standard input ends; prints its folder once it is ready."""
    # Not in a folder of the tests: the path of a socket has at most 107 bytes.
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(1))
    try:
        cluster.begin()
        print(cluster.folder, flush=True)
        sys.stdin.read()
    finally:
        cluster.end()


if __name__ == "__main__":
    keep()

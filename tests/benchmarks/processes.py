"""The processes of a run by role: memory, processor time, and the bytes on the driver's sockets.

For benchmarks. Everything is read from outside: Ray's processes are descendants of the process
that started them, and Ray writes an actor's class into its process's title.
"""

import os
import socket
import stat
import struct
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROLES = {
    "ray::EnvRunnerActor": "env runner",
    "ray::LearnerActor": "learner",
    "ray::ReplayShardActor": "shard",
    "ray::WeightStoreActor": "weight store",
    "ray::IDLE": "idle worker",
    "ray::": "other ray",
    "raylet": "raylet",
    "gcs_server": "gcs",
}
"""By the beginning of a process's title, or the name of its program; the first that fits."""

OTHER = "other ray"

# Of struct tcp_info (linux/tcp.h): 8 bytes, 24 u32, then four u64, the last two of which are these.
_TCP_INFO_BYTES = 136
_ACKED_AND_RECEIVED = struct.Struct("=2Q")
_ACKED_OFFSET = 120


@dataclass(slots=True)
class RoleUsage:
    """What all processes of one role use together."""

    processes: int = 0
    pss_mb: float = 0.0
    """Proportional set size: pages that several processes share are counted in parts."""
    uss_mb: float = 0.0
    """Unique set size: what would come free if they ended."""
    held_mb: float = 0.0
    """Of the proportional set, the pages that no file can bring back: the processes' own and those
    of shared memory. The rest, of programs and libraries, comes and goes with what else runs here.
    """


def family() -> Iterator[tuple[str, psutil.Process]]:
    """Yield (role, process) of this process ("driver") and of all its living descendants."""
    me = psutil.Process()
    yield "driver", me
    for child in me.children(recursive=True):
        with suppress(psutil.Error):
            if child.status() != psutil.STATUS_ZOMBIE:
                yield _role(child), child


def memory_by_role() -> dict[str, RoleUsage]:
    """Return the memory of every role now, in MB of 1,000,000 bytes."""
    usage: defaultdict[str, RoleUsage] = defaultdict(RoleUsage)
    for role, process in family():
        with suppress(psutil.Error):
            info = process.memory_full_info()
            found = usage[role]
            found.processes += 1
            found.pss_mb += info.pss / 1e6
            found.uss_mb += info.uss / 1e6
            found.held_mb += _held_bytes(process.pid) / 1e6
    return dict(usage)


class ProcessorTime:
    """Processor seconds by role since this object was made, of processes that live until asked."""

    def __init__(self) -> None:
        self._then = {process: _seconds(process) for _, process in family()}

    def by_role(self) -> dict[str, float]:
        """Return the seconds since the start."""
        seconds: defaultdict[str, float] = defaultdict(float)
        for role, process in family():
            seconds[role] += _seconds(process) - self._then.get(process, 0.0)
        return dict(seconds)


@dataclass(slots=True)
class OwnTraffic:
    """Bytes through this process's TCP sockets, both ways, as the kernel counts them.

    Ray's processes talk TCP with each other, on one machine too. Call `update` about once a
    second: what a socket carried between the last look at it and its end is not seen.
    """

    _seen: dict[int, int] = field(default_factory=dict)
    total: int = 0
    """Since the first `update`."""

    def update(self) -> None:
        """Look at all sockets."""
        first = not self._seen
        for inode, count in _tcp_counters():
            self.total += 0 if first else count - self._seen.get(inode, 0)
            self._seen[inode] = count


def _role(process: psutil.Process) -> str:
    command = process.cmdline()
    program = os.path.basename(command[0]) if command else ""
    title = command[0] if command and command[0].startswith("ray::") else program
    return next((role for start, role in ROLES.items() if title.startswith(start)), OTHER)


def _held_bytes(pid: int) -> int:
    """Return how many bytes of a process's proportional set are of no file, swapped ones too."""
    kilobytes = 0
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name in ("Pss_Anon", "Pss_Shmem", "SwapPss"):
                kilobytes += int(value.split()[0])
    return 1024 * kilobytes


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _tcp_counters() -> Iterator[tuple[int, int]]:
    """Yield (inode, bytes sent and acknowledged + bytes received) of every TCP socket here."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError, ValueError):
            status = os.stat(f"/proc/self/fd/{name}")
            if not stat.S_ISSOCK(status.st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as copy:
                if copy.family not in (socket.AF_INET, socket.AF_INET6):
                    continue
                info = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
            if len(info) == _TCP_INFO_BYTES:
                yield status.st_ino, sum(_ACKED_AND_RECEIVED.unpack_from(info, _ACKED_OFFSET))

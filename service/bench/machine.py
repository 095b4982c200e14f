"""The machine that a benchmark ran on, and how much of its memory this process holds."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path


def facts(libraries: Iterable[str]) -> dict[str, str]:
    """The processor, its cores and load, and the versions of Python and `libraries`."""
    found = {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "load at the start": f"{os.getloadavg()[0]:.2f}",
        "Python": platform.python_version(),
    }
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def resident_bytes() -> int:
    """Resident memory after giving back what is free: without that, a new index hides in the heap of an old one.

    0 where the system does not say.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def resident_of(pid: int) -> int:
    """Resident memory of another process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def written_bytes() -> int:
    """What this process has had written to disks so far."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes:"):
            return int(line.split()[1])
    raise RuntimeError("what a process has written is read from /proc, which this system does not have")


def peak_bytes() -> int:
    """The most resident memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the most memory a process has had is read from /proc, which this system does not have")


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()

"""How much memory this machine has, and how much of it is free: its own, or that of the control group it gives us."""
import os
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes of memory."""
    total: float                    # that this process can ever have, swap included
    available: float                # of it, what is free now, or could be made free at once


def read(root="/"):
    """Read how much memory there is -> Memory, or None where nothing tells. `root` is the root of the file system.

    Of Linux's control groups, of either version, the smallest limit of the group and those around it counts.
    """
    machine = _read_meminfo(os.path.join(root, "proc/meminfo"))
    if not machine:
        return None
    total = machine["MemTotal"] + machine.get("SwapTotal", 0)
    available = machine.get("MemAvailable", machine["MemTotal"]) + machine.get("SwapFree", 0)
    for limit, used in _read_groups(root):
        total, available = min(total, limit), min(available, max(limit - used, 0))
    return Memory(total, available)


def _read_meminfo(path):
    """Read /proc/meminfo -> {name: bytes}, empty where it can't be read."""
    found = {}
    for line in _read(path).splitlines():
        name, _, value = line.partition(":")
        number = value.split()[:1]
        if number and number[0].isdecimal():
            found[name] = int(number[0]) * 1024
    return found if "MemTotal" in found else {}


def _read_groups(root):
    """Find the limits of our control groups -> a list of (limit, bytes in use that can't be made free)."""
    found = []
    for line in _read(os.path.join(root, "proc/self/cgroup")).splitlines():
        _, controllers, group = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:
            base, names = "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes",
                                                   "total_inactive_file")
        else:
            continue
        group = group.strip("/")
        while True:                 # up to the root, which in a container is all that may be there
            limit, used = (_number(os.path.join(root, base, group, name)) for name in names[:2])
            if limit is not None:
                found.append((limit, max((used or 0) - _cached(os.path.join(root, base, group), names[2]), 0)))
            if not group:
                break
            group = os.path.dirname(group)
    return found


def _cached(folder, name):
    """Read how many bytes of files a group keeps in memory only as long as there is room."""
    for line in _read(os.path.join(folder, "memory.stat")).splitlines():
        if line.startswith(name + " "):
            return int(line.split()[1])
    return 0


def _number(path):
    """Read a file with one number -> int, or None where there is none, such as `max`."""
    word = _read(path).strip()
    return int(word) if word.isdecimal() else None


def _read(path):
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""

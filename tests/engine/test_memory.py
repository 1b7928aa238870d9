"""engine/memory: what the machine has and what a control group leaves of it, of either version."""
import pytest

from engine import memory

MACHINE = "MemTotal:  8 kB\nMemFree: 1 kB\nMemAvailable:  6 kB\nSwapTotal:  2 kB\nSwapFree:  1 kB\nHuge:  0\n"
KIB = 1024
HUGE = 9223372036854771712              # how version 1 says that there is no limit
V1, V2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"


def read(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return memory.read(str(folder))


@pytest.mark.parametrize("files, total, available", [
    ({}, 10, 7),
    ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max\n"}, 10, 7),
    ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "4096\n", f"{V2}/a/b/memory.current": "1024"}, 4, 3),
    ({"proc/self/cgroup": "0::/a/b\n", f"{V2}/a/b/memory.max": "max", f"{V2}/a/memory.max": "4096"}, 4, 4),
    ({"proc/self/cgroup": "0::/a\n", f"{V2}/a/memory.max": "4096", f"{V2}/a/memory.current": "4096",
      f"{V2}/a/memory.stat": "anon 1024\ninactive_file 2048\n"}, 4, 2),
    ({"proc/self/cgroup": "0::/elsewhere\n", f"{V2}/memory.max": "4096\n"}, 4, 4),            # in a container
    ({"proc/self/cgroup": "5:devices:/\n4:memory:/job\n", f"{V1}/job/memory.limit_in_bytes": "5120",
      f"{V1}/job/memory.usage_in_bytes": "4096", f"{V1}/job/memory.stat": "total_inactive_file 1024"}, 5, 2),
    ({"proc/self/cgroup": "4:cpu,memory:/job\n", f"{V1}/job/memory.limit_in_bytes": str(HUGE),
      f"{V1}/memory.limit_in_bytes": "2048"}, 2, 2),
    ({"proc/self/cgroup": "4:memory:/job\n", f"{V1}/job/memory.limit_in_bytes": str(HUGE),
      f"{V1}/job/memory.usage_in_bytes": "4096"}, 10, 7),
    ({"proc/self/cgroup": "nonsense\n\n::::\n"}, 10, 7)])
def test_the_smallest_limit_counts(tmp_path, files, total, available):
    assert read(tmp_path, {"proc/meminfo": MACHINE, **files}) == (total * KIB, available * KIB)


@pytest.mark.parametrize("meminfo", ["", "MemFree: 1 kB\n", "MemTotal: many kB\n", "\0\xff"])
def test_nothing_is_known_of_another_system(tmp_path, meminfo):
    assert memory.read(str(tmp_path)) is None
    assert read(tmp_path, {"proc/meminfo": meminfo}) is None


def test_this_machine_has_memory():
    there = memory.read()
    assert there is None or 0 < there.available <= there.total

"""A command's time, and the memory of its process and of all below it, sampled every two seconds (Linux).

    python benchmarks/watched.py OUT.json partrm data build procedural --limit 1000 --gpus 2 --out data

Writes OUT.json while the command runs: seconds, the most memory of all processes together (resident, so that pages
that several share count in each), the most of one (``VmHWM``), of the command's own process, and the sum over time.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

EVERY_S = 2.0


def main() -> None:
    out, command = Path(sys.argv[1]), sys.argv[2:]
    began, process = time.time(), subprocess.Popen(command)
    most: dict[int, int] = {}
    sums: list[tuple[int, int]] = []
    while True:
        code = process.poll()
        held = 0
        for pid in below(process.pid):
            now_kib, most_kib = memory_kib(pid)
            held, most[pid] = held + now_kib, max(most.get(pid, 0), most_kib)
        if held:
            sums.append((round(time.time() - began), held // 1024))
        told = {
            "command": command,
            "seconds": round(time.time() - began, 1),
            "began": began,
            "exit_code": code,
            "most_together_mib": max((mib for _, mib in sums), default=0),
            "most_of_one_mib": max(most.values(), default=0) // 1024,
            "most_of_the_command_mib": most.get(process.pid, 0) // 1024,
            "processes": len(most),
            "together_mib": sums[::15],
        }
        out.write_text(json.dumps(told, indent=1) + "\n")
        if code is not None:
            sys.exit(code)
        time.sleep(EVERY_S)


def below(root: int) -> list[int]:
    """A process and all that it, and they, have started."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            children[int(fields[1])].append(int(folder.name))
    found, waiting = [], [root]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1]]
    return found


def memory_kib(pid: int) -> tuple[int, int]:
    """What a process holds, and has held at most; nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    rows = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return int(rows.get("VmRSS", 0)), int(rows.get("VmHWM", 0))


if __name__ == "__main__":
    main()

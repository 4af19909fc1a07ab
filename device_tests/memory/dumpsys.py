"""What `dumpsys meminfo -d PID` says: the only source of a phone's GPU memory.

Android changed columns and totals over its versions; all is read by the names in its headers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pocketlm.device_tests.device.shell_numbers import NUMBER
from pocketlm.device_tests.device.target import Target

# What the GPU holds for a process; memory tracked for it ("mtrack") is in no resident size.
GPU_ROWS = ("EGL mtrack", "GL mtrack", "Gfx dev")

_TOTALS = {
    "TOTAL": "Pss",
    "TOTAL PSS": "Pss",
    "TOTAL RSS": "Rss",
    "TOTAL SWAP PSS": "SwapPss",
    "TOTAL SWAP (KB)": "Swap",
}


@dataclass(frozen=True)
class ProcessMemory:
    """One process as Android accounts for it.

    Attributes:
        rows: row name → column name → bytes: "Native Heap" → "Pss Total", "Private Dirty", …
        summary: "Native Heap", "Code", "Graphics", … of the app summary → bytes.
        totals: "Pss", "Rss", "SwapPss" or "Swap", as far as they are said.
    """

    rows: Mapping[str, Mapping[str, int]]
    summary: Mapping[str, int]
    totals: Mapping[str, int]

    @property
    def gpu_bytes(self) -> int:
        return sum(self.rows.get(name, {}).get("Pss Total", 0) for name in GPU_ROWS)


def ask_process_memory(target: Target, pid: int) -> ProcessMemory | None:
    """Ask a phone for a process; None where it is no phone, or no such process lives."""
    done = target.run(f"command -v dumpsys >/dev/null && dumpsys meminfo -d {pid}")
    return read_process_memory(done.output) if done.status == 0 else None


def read_process_memory(text: str) -> ProcessMemory | None:
    """Read the output of `dumpsys meminfo -d PID`; None where it found no process."""
    if "No process found" in text:
        return None
    main, _, rest = text.partition("App Summary")
    rows = _rows(main)
    summary, totals = _summary(re.split(r"^ *Objects", rest, flags=re.MULTILINE)[0])
    if "Pss" not in totals and "Pss Total" in rows.get("TOTAL", {}):
        totals["Pss"] = rows["TOTAL"]["Pss Total"]
    return ProcessMemory(rows, summary, totals) if rows or summary else None


def _summary(text: str) -> tuple[dict[str, int], dict[str, int]]:
    """Read the app summary's own lines, Pss only, and its totals."""
    lines: dict[str, int] = {}
    totals: dict[str, int] = {}
    # A line may have a figure in the second column alone.
    second_column = text.find("Rss(KB)") - (text.rfind("\n", 0, text.find("Rss(KB)")) + 1)
    for line in text.splitlines():
        for found in re.finditer(rf"([A-Za-z][A-Za-z .()]*?):\s+({NUMBER})", line):
            name, size = found[1].strip(), int(found[2]) * 1024
            if name in _TOTALS:
                totals[_TOTALS[name]] = size
            elif "Rss(KB)" not in text or found.start(2) < second_column:
                lines[name] = size
    return lines, totals


def _rows(text: str) -> dict[str, dict[str, int]]:
    """Read the table whose columns have two lines of header, ruled off by dashes."""
    lines = text.splitlines()
    rows = {}
    for i, line in enumerate(lines):
        if i >= 2 and re.fullmatch(r"[\s-]*--[\s-]*", line):
            columns = _columns(lines[i - 2].split(), lines[i - 1].split())
            for row in lines[i + 1 :]:
                found = re.match(
                    rf"^\s*([A-Za-z.][A-Za-z. ]*?)\s+({NUMBER}(?:\s+{NUMBER})*)\s*$", row
                )
                if not found:
                    break
                values = [int(word) * 1024 for word in found[2].split()]
                # Heap columns stand for some rows only, and are the last.
                rows[found[1]] = dict(zip(columns, values, strict=False))
            break
    return rows


def _columns(upper: list[str], lower: list[str]) -> list[str]:
    return [" ".join(words) for words in zip(upper, lower, strict=False)]

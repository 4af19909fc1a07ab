"""Question: on an emulated Arm phone, does each part of memory measure what was predicted?

Method: a whole machine under qemu with a kernel of its own and real adbd; each bundle and backend
is pushed over adb, run with its golden answers, and its ledger read. Times mean nothing there and
are not kept. `python -m tests.doubles.prepare` makes the machine.
Unit: bytes at the end of the run; peak over the whole measured run.
Command: python benchmarks/device_ledger.py BUNDLE... --prompt-tokens 448 --ram-mib 1500
The last line of stdout is the JSON document that is saved below benchmarks/results/.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pocketlm.device_tests.device.targets import open_target
from pocketlm.device_tests.profiling.document import Report
from pocketlm.device_tests.profiling.measured_run import Workload, prompt_of
from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks, profile
from pocketlm.runtime_py.bundle import open_bundle
from tests.doubles.adb_server import AdbServer
from tests.doubles.qemu_system import Disk, SystemMachine, SystemPhone


def profiles(options: argparse.Namespace, folder: Path | None) -> Iterator[Report]:
    """Run every backend of every bundle on one machine."""
    machine = SystemMachine(options.ram_mib, cpu=options.cpu, data=Disk(options.disk_mib))
    with AdbServer() as adb, SystemPhone(machine) as phone:
        # Only where the server is: its private home is not ours.
        os.environ["ANDROID_ADB_SERVER_PORT"] = adb.environment["ANDROID_ADB_SERVER_PORT"]
        adb.connect(phone.serial)
        target = open_target(f"adb:{phone.serial}")
        told = ProgressCallbacks(say, lambda done, total, name: None, lambda line: None)
        for path in options.bundles:
            bundle = open_bundle(path)
            for backend in options.backend or sorted(bundle.manifest.backends):
                load = Workload(
                    backend,
                    prompt_of(bundle, backend, options.prompt_tokens),
                    options.decode_tokens,
                    threads=2,
                    timeout_s=7200,
                )
                report = profile(target, bundle, load, told)
                if folder is not None:
                    name = f"{Path(path).name}-{backend}.json"
                    (folder / name).write_text(report.to_json(), encoding="utf-8")
                yield report
        target.close()


def say(text: str) -> None:
    print(text, file=sys.stderr)


def row(report: Report) -> dict[str, Any]:
    """Return what is kept of one report."""
    ledger, answers = report.ledger, report.answers
    return {
        "bundle": report.bundle.name,
        "backend": report.bundle.backend,
        "kv": report.bundle.kv_dtype,
        "context_length": report.bundle.context_length,
        "verdict": report.verdict,
        "provenance": report.device.provenance,
        "ledger_passed": ledger.passed if ledger else None,
        "unattributed_bytes": ledger.unattributed_bytes if ledger else None,
        "peak_bytes": [ledger.predicted_peak_bytes, ledger.measured_peak_bytes] if ledger else None,
        "parts": {
            line.part: [line.predicted_bytes, line.measured_bytes]
            for line in (ledger.lines if ledger else ())
        },
        "answers_passed": answers.passed if answers else None,
        "answer_steps": answers.steps if answers else None,
        "largest_error": answers.largest_error if answers else None,
        "tolerance": answers.tolerance if answers else None,
        "near_ties": answers.near_ties if answers else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundles", nargs="+")
    parser.add_argument("--backend", action="append")
    parser.add_argument("--prompt-tokens", type=int, default=448)
    parser.add_argument("--decode-tokens", type=int, default=64)
    parser.add_argument("--ram-mib", type=int, default=1500)
    parser.add_argument("--disk-mib", type=int, default=4000)
    parser.add_argument("--cpu", default="cortex-a76")
    parser.add_argument("--reports", type=Path, help="folder for the whole reports")
    options = parser.parse_args()
    if options.reports is not None:
        options.reports.mkdir(parents=True, exist_ok=True)
    rows = []
    for report in profiles(options, options.reports):
        rows.append(row(report))
        say(json.dumps(rows[-1]))
    document = {
        "date": datetime.date.today().isoformat(),
        "machine": {"ram_mib": options.ram_mib, "cpu": options.cpu, "emulator": "qemu-system"},
        "prompt_tokens": options.prompt_tokens,
        "decode_tokens": options.decode_tokens,
        "rows": rows,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()

"""Changed inputs by the thousand.

python -m tests.mutations --count 20000 --seed 1
python -m tests.mutations --seed 1 --only 4711 --keep folder    leaves that input there
"""

import argparse
import os
import resource
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.mutations.harness import Finding, Harness, counted

_MOST_MEMORY_BYTES = 8 << 30


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="Run this number alone.")
    parser.add_argument("--keep", type=Path, help="With --only: write the changed input there.")
    parser.add_argument("--subject", help="Change such inputs alone, e.g. manifest.json.")
    given = parser.parse_args()
    # An input that asks for more fails instead of taking the machine with it.
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        harness = Harness(given.keep or Path(folder))
        if given.only is not None and given.keep:
            random = Random(f"{given.seed}:{given.only}")
            subject = random.choice(harness.subjects)
            harness.change(subject, random)
            sys.stdout.write(f"{harness.world / subject.path}\n")
            return
        if given.subject:
            harness.subjects = tuple(s for s in harness.subjects if s.name == given.subject)
        numbers = range(given.start, given.start + given.count)
        if given.only is not None:
            numbers = range(given.only, given.only + 1)
        start_s = _used_s()

        findings = []
        done = 0

        def tell(number: int, finding: Finding | None) -> None:
            nonlocal done
            done = number - numbers.start + 1
            if finding:
                findings.append(finding)
                sys.stderr.write(f"{finding}\n")
            if done % 500 == 0:
                sys.stderr.write(f"{done} of {len(numbers)}, {_used_s(start_s):.1f} s\n")
                sys.stderr.flush()

        with suppress(KeyboardInterrupt):
            harness.run(given.seed, numbers, tell)
    used_s = _used_s(start_s)
    sys.stdout.writelines(f"{n:6} {name}\n" for name, n in sorted(harness.inputs.items()))
    sys.stdout.write(
        f"seed {given.seed}: {done} inputs, {used_s / max(1, done):.4f} s of processor time each, "
        f"{len(findings)} handled wrongly\n"
    )
    sys.stdout.writelines(f"{line}\n" for line in counted(findings))
    sys.exit(1 if findings else 0)


def _used_s(since_s: float = 0) -> float:
    """Return the processor time of this process and its children."""
    return sum(os.times()[:4]) - since_s


if __name__ == "__main__":
    main()

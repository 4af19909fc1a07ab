"""Where a job on a device stands, and what dead jobs and broken transfers left there."""

from dataclasses import dataclass
from pathlib import PurePosixPath

from pocketlm.device_tests.device.shell import check, quote, read_sections, section
from pocketlm.device_tests.device.shell_numbers import whole_number
from pocketlm.device_tests.device.system_files import disk_command, read_free_bytes
from pocketlm.device_tests.device.target import Target
from pocketlm.device_tests.job.script import (
    DONE,
    OUTPUT,
    PID_FILE,
    is_running_function,
    kill_function,
    remove_command,
)

JOBS = "jobs"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
# Most of a runner's output that one question brings back.
_OUTPUT_BYTES = 256 * 1024
# A transfer that has not grown for so long is not going on; one of another process may be.
STALE_PART_S = 600
# A job that ended is kept for whoever lost the connection to it.
STALE_JOB_S = 24 * 3600


@dataclass(frozen=True)
class JobState:
    """What one question found.

    Attributes:
        there: whether the job's folder exists.
        begun: whether its script came to write down its process.
        running: whether that process lives.
        boot_id: another after every start of the device.
        ended: the nonce, the runner's status, and whether it ran out of time; None before the end.
        output_end: how far the runner's output was read, in bytes.
        output: what is new of it.
        free_bytes: of the disk.
    """

    there: bool
    begun: bool
    running: bool
    boot_id: str
    ended: tuple[str, int, bool] | None
    output_end: int
    output: str
    free_bytes: int


def ask_boot_id(target: Target) -> str:
    """Return what tells one start of a device from the next; empty where it does not say."""
    return target.run(f"cat {_BOOT_ID} 2>/dev/null").output.strip()


def ask_state(
    target: Target, folder: PurePosixPath, output_start: int, *, timeout_s: float
) -> JobState:
    """Ask a device where a job stands."""
    output = quote(folder / OUTPUT)
    command = "\n".join(
        (
            is_running_function(),
            section("there", f"[ -d {quote(folder)} ] && echo yes"),
            # In this order: whoever had begun, does not run and has not ended is dead.
            section("begun", f"cat {quote(folder / PID_FILE)}"),
            section("running", f"is_running {quote(folder / PID_FILE)} && echo yes"),
            section("boot", f"cat {_BOOT_ID}"),
            section("ended", f"cat {quote(folder / DONE)}"),
            section("disk", disk_command(str(folder))),
            f"end=$(stat -c %s {output} 2>/dev/null || echo 0); most={_OUTPUT_BYTES}",
            f"[ $((end - {output_start})) -le $most ] || end=$(({output_start} + most))",
            section("end", "echo $end"),
            section("output", f"tail -c +{output_start + 1} {output} | "
                              f"head -c $((end - {output_start}))"),
        )
    )  # fmt: skip
    answer = target.run(command, timeout_s=timeout_s).output
    # The runner's own words may look like a heading; they come last.
    head, _, new_output = answer.partition("\n@@ output\n")
    found = read_sections(head)
    return JobState(
        there=found.get("there") == "yes",
        begun=bool(found.get("begun")),
        running=found.get("running") == "yes",
        boot_id=found.get("boot", ""),
        ended=_ended(found.get("ended", "").split()),
        output_end=max(output_start, whole_number(found.get("end", "")) or 0),
        output=new_output,
        free_bytes=read_free_bytes(found.get("disk", "")),
    )


def _ended(words: list[str]) -> tuple[str, int, bool] | None:
    # A damaged answer is none; it is asked again.
    status = whole_number(words[1]) if len(words) == 3 else None
    return None if status is None else (words[0], status, words[2] == "1")


def remove_stale(
    target: Target, *, part_age_s: int = STALE_PART_S, job_age_s: int = STALE_JOB_S
) -> tuple[str, ...]:
    """Remove what dead jobs and broken transfers left, and return the nonces of live jobs.

    A job that ended and that nobody collected stays for a while.
    """
    folder = quote(target.folder)
    command = f"""{kill_function()}
now=$(date +%s)
older() {{ changed=$(stat -c %Y "$1" 2>/dev/null) && [ $((now - changed)) -ge "$2" ]; }}
[ -d {folder} ] || exit 0
cd {folder} || exit 1
find . -name '*.part' | while read -r part; do
  if older "$part" {part_age_s}; then rm -f "$part"; fi
done
for job in {JOBS}/*; do
  [ -d "$job" ] || continue
  if is_running "$job/{PID_FILE}"; then echo "live ${{job##*/}}"
  elif [ -f "$job/{DONE}" ]; then if older "$job/{DONE}" {job_age_s}; then rm -rf "$job"; fi
  elif [ -f "$job/{PID_FILE}" ] || older "$job" {part_age_s}; then
    {remove_command('"$job"')}
  fi
done 2>/dev/null"""
    what = f"{target.name}: looking for earlier jobs"
    lines = check(target.run(command), what).splitlines()
    return tuple(line.removeprefix("live ") for line in lines if line.startswith("live "))

"""Shell text of a job: what runs on the device by itself, whether anybody is connected or not.

A job is a folder. Its own files begin with "job."; the last one, `job.done`, appears whole or not
at all, with the nonce: only that says that the job ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from pocketlm.device_tests.device.shell import quote, section
from pocketlm.device_tests.device.system_counters import counters_command
from pocketlm.device_tests.device.thermal import thermal_command

PID = "{pid}"  # stands in a companion's command for the runner's process

SCRIPT, SPEC = "job.sh", "job.json"
PID_FILE, RUNNER_FILE, COMPANION_FILE = "job.pid", "job.runner", "job.companion"
OUTPUT, ERRORS, SAMPLES = "job.out", "job.err", "job.samples"
BEFORE, AFTER, DONE = "job.before", "job.after", "job.done"
_STARTED, _TIMED_OUT, _RESERVE = "job.started", "job.timed_out", "job.reserve"

# Freed at the end, so that a full disk still takes the files that say so.
_RESERVE_BYTES = 65536
# /proc/PID/stat after the command's name: state is the first field, start time the twentieth.
_START_OF = """start_of() {
  line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  set -- ${line##*) }
  [ "$1" != Z ] && echo "${20}"
}"""
# Whoever reads a file sees it whole.
_WRITE = """write() { printf '%s\\n' "$2" > "$1.new" && mv -f "$1.new" "$1"; }"""
# Without setsid, which not every system has, most jobs outlive a connection as well.
_LEADER = "leader=; command -v setsid >/dev/null && leader=setsid"


@dataclass(frozen=True)
class ScriptParts:
    """What a job's script is made of.

    Attributes:
        command: words; the first is a program, found from inside the job's folder.
        companion: words of a program that runs beside it; `PID` stands for the runner's process.
    """

    nonce: str
    folder: PurePosixPath
    command: Sequence[str]
    companion: Sequence[str] = field(default=())
    timeout_s: int = 600


def job_script(parts: ScriptParts) -> str:
    """Return the text of job.sh."""
    companion = " ".join('"$runner"' if word == PID else quote(word) for word in parts.companion)
    # A process writes down who it is before it becomes the runner.
    enter = f'{_START_OF}\n{_WRITE}\nwrite {RUNNER_FILE} "$$ $(start_of $$)"; exec "$@"'
    return f"""{kill_function()}
{_WRITE}
cd {quote(parts.folder)} || exit 1
# Whoever asks twice, because the first answer was lost, starts one job.
mkdir {_STARTED} 2>/dev/null || exit 0
write {PID_FILE} "$$ $(start_of $$)"
head -c {_RESERVE_BYTES} /dev/zero > {_RESERVE}
{{ {_state_command()}; }} > {BEFORE}
# In a session of its own, with whatever it starts: they are killed together.
{_LEADER}
(exec $leader sh -c {quote(enter)} sh {_words(parts.command)}) </dev/null > {OUTPUT} 2> {ERRORS} &
runner=$!
{_companion_lines(companion)}
# The sleep must not outlive the watchdog, nor the watchdog the runner.
(trap 'kill $! 2>/dev/null; exit' TERM
 sleep {parts.timeout_s} & wait $!
 mkdir {_TIMED_OUT}; end {RUNNER_FILE}) </dev/null >/dev/null 2>&1 &
watchdog=$!
wait $runner
status=$?
kill $watchdog
[ -z "$companion" ] || kill -- -$companion || kill $companion
wait $watchdog $companion
late=0; [ -d {_TIMED_OUT} ] && late=1
{{ {_state_command()}; {section("disk", "df -k .")}; }} > {AFTER}
[ $status -lt 128 ] || {{ {_evidence_command()}; }} >> {AFTER}
rm -f {_RESERVE}
write {DONE} "{parts.nonce} $status $late"
"""


def start_command(folder: PurePosixPath) -> str:
    """Return shell text that starts job.sh so that it outlives the connection."""
    script = quote(folder / SCRIPT)
    return f"{_LEADER}; $leader nohup sh {script} </dev/null >/dev/null 2>&1 & :"


def is_running_function() -> str:
    """Return a shell function: is_running FILE → whether the process that a file names lives."""
    return f"""{_START_OF}
is_running() {{
  read -r pid start rest < "$1" && [ "$start" ] && [ "$(start_of "$pid")" = "$start" ]
}} 2>/dev/null"""


def kill_function() -> str:
    """Return shell functions: is_running, and end FILE → kills what a file names, and its group.

    A group may live on without the process that it is named after; but where another process has
    that number now, the group is not ours.
    """
    return f"""{is_running_function()}
end() {{
  read -r pid start rest < "$1" && [ "$start" ] || return 0
  found=$(start_of "$pid"); [ "${{found:-$start}}" = "$start" ] || return 0
  kill -9 "-$pid" || kill -9 "$pid"
}} 2>/dev/null"""


def kill_runner_command(folder: PurePosixPath) -> str:
    """Return shell text that kills a job's runner, if it is still that process."""
    return f"{kill_function()}\nend {quote(folder / RUNNER_FILE)}"


def remove_command(folder: str) -> str:
    """Return shell text that kills what lives of a job and removes its folder.

    It needs `kill_function`.

    Args:
        folder: as the shell reads it.
    """
    # Its shell first: it would write down how the runner ended.
    ends = "; ".join(f"end {folder}/{f}" for f in (PID_FILE, RUNNER_FILE, COMPANION_FILE))
    # Who is killed may still be within a call that makes a file.
    return f"{ends}; rm -rf {folder} || {{ sleep 1; rm -rf {folder}; }}"


def _state_command() -> str:
    return f"{counters_command()}; {thermal_command()}"


def _evidence_command() -> str:
    """Return shell text that asks everybody who may know why a runner was killed."""
    return "; ".join(
        (
            section("kernel_log", 'dmesg | grep -i "killed process $runner " | tail -n 3'),
            section(
                "low_memory_log",
                "command -v logcat >/dev/null && "
                'logcat -d -s lmkd lowmemorykiller | grep "($runner)" | tail -n 3',
            ),
            section("features", "grep -m 1 -E '^(Features|flags)' /proc/cpuinfo"),
        )
    )


def _companion_lines(companion: str) -> str:
    if not companion:
        return "companion="
    return (
        f"(exec $leader {companion}) </dev/null > {SAMPLES} 2>/dev/null &\n"
        f'companion=$!\nwrite {COMPANION_FILE} "$companion $(start_of $companion)"'
    )


def _words(words: Sequence[str]) -> str:
    return " ".join(quote(word) for word in words)

"""Every way for a job to end, as a verdict with a reason."""

from dataclasses import replace

import pytest

from pocketlm.device_tests.job.outcome import Ending, outcome_of
from pocketlm.device_tests.job.verdict import Verdict

BEFORE = """
@@ vmstat
pswpout 0
workingset_refault_file 0
oom_kill 4

@@ pressure
full avg10=0.00 avg60=0.00 avg300=0.00 total=0

@@ page
4096
"""
PEAK = (
    '{"event":"phase","phase":"loaded","clock_s":1.5,"peak_bytes":104857600,'
    '"peak_is_of_phase":true,"regions_are_counted":true,"regions":[],"mappings":[]}\n'
)
DONE = Ending(0, False, 60, PEAK, "", BEFORE, BEFORE, free_bytes=10**9)
DISK = "\n@@ disk\nFilesystem 1K-blocks Used Available Use% Mounted on\n/dev/x 9 9 {} 99% /data\n"


def verdict_of(ending: Ending) -> tuple[Verdict, str]:
    outcome = outcome_of(ending)
    return outcome.verdict, outcome.reason


def test_zero_is_ok() -> None:
    assert verdict_of(DONE) == ("ok", "the runner came to its end")


def test_the_runners_own_words_are_its_reason() -> None:
    said = PEAK + '{"event":"error","reason":"manifest.json: no such file"}\n'
    verdict, reason = verdict_of(replace(DONE, status=3, output=said))
    assert (verdict, reason) == ("runner_error", "the runner says: manifest.json: no such file")


def test_other_statuses_carry_the_last_line() -> None:
    verdict, reason = verdict_of(replace(DONE, status=1, errors="warning\nterminate called\n"))
    assert verdict == "runner_error"
    assert reason == "the runner ended with status 1 after phase 'loaded': terminate called"


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        (126, "permission", "may not be executed: denied; its disk may forbid programs"),
        (127, "runner_error", "its loader or a library is missing: denied; send the runner's"),
        (132, "illegal_instruction", "an instruction that this processor lacks after phase 'load"),
        (134, "crashed", "gave up (SIGABRT)"),
        (135, "crashed", "SIGBUS"),
        (136, "crashed", "SIGFPE"),
        (139, "crashed", "SIGSEGV"),
        (159, "crashed", "SIGSYS"),
        (143, "killed_unknown", "signal 15 ended the runner"),
        (137, "killed_unknown", "neither kernel nor system log says why"),
        (None, "killed_unknown", "the job's own shell were killed"),
    ],
)
def test_statuses_have_verdicts(status: int | None, verdict: Verdict, words: str) -> None:
    found, reason = verdict_of(replace(DONE, status=status, errors="denied\n"))
    assert found == verdict
    assert words in reason


def test_missing_instructions_are_named() -> None:
    after = BEFORE + "\n@@ features\nFeatures\t: fp asimd asimddp cpuid\n"
    _, reason = verdict_of(replace(DONE, status=132, after=after))
    assert reason.endswith("compile it for a processor with no more than asimd asimddp")


LMKD = (
    "lmkd: Kill 'runner' (77), uid 2000, oom_score_adj 0 to free 3200000kB rss, 900kB swap; "
    "reason: min watermark is breached"
)


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ("\n@@ kernel_log\n[9.1] Out of memory: Killed process 77 (runner)\n", "Killed process 77"),
        (f"\n@@ low_memory_log\n{LMKD}\n", "min watermark is breached"),
        ("", "the kernel counts 1 more kills"),
    ],
)
@pytest.mark.parametrize("status", [137, None])
def test_a_kill_for_memory_needs_evidence(evidence: str, words: str, status: int | None) -> None:
    after = BEFORE + evidence if evidence else BEFORE.replace("oom_kill 4", "oom_kill 5")
    verdict, reason = verdict_of(replace(DONE, status=status, after=after))
    assert verdict == "oom_killed"
    assert words in reason
    assert "(out of memory) after phase 'loaded': " in reason
    assert "choose a smaller bundle" in reason


@pytest.mark.parametrize(
    "ending",
    [
        replace(DONE, errors="fwrite: No space left on device\n", status=1),
        replace(DONE, output='{"event":"error","reason":"x: No space left on device"}', status=3),
        # A runner that does not look at what its writing says.
        replace(DONE, after=BEFORE + DISK.format(60)),
        replace(DONE, status=None, free_bytes=0),
    ],
)
def test_a_full_disk_is_no_space(ending: Ending) -> None:
    assert verdict_of(ending) == (
        "no_space",
        "the device's disk was full during the run; free some space on it",
    )
    assert verdict_of(replace(DONE, after=BEFORE + DISK.format(65)))[0] == "ok"


def test_late_is_a_timeout_whatever_the_signal() -> None:
    verdict, reason = verdict_of(replace(DONE, status=137, late=True))
    assert verdict == "timeout"
    assert "not done within 60 s and was stopped after phase 'loaded'; allow more time" in reason


def test_a_whole_run_under_pressure_says_so() -> None:
    after = BEFORE.replace("pswpout 0", "pswpout 9413")
    verdict, reason = verdict_of(replace(DONE, after=after))
    assert verdict == "under_pressure"
    assert "36.8 MiB swapped out; sizes are too small" in reason


def test_pressure_of_others_beside_free_memory_is_ok() -> None:
    after = BEFORE.replace("refault_file 0", "refault_file 9413")
    line = '{{"clock_s":2.0,"resident_bytes":104857600,"machine_available_bytes":{}}}\n'
    roomy = replace(DONE, after=after, samples=line.format(22 * 2**30))
    assert verdict_of(roomy)[0] == "ok"
    short = replace(roomy, samples=roomy.samples + line.format(50 * 2**20))
    assert verdict_of(short)[0] == "under_pressure"
    swapped = roomy.samples.replace("}", ',"swap_bytes":9000000}')
    assert verdict_of(replace(roomy, samples=swapped))[0] == "under_pressure"


def test_decoding_that_others_slow_down_is_not_throttled() -> None:
    line = '{{"event":"run","clock_s":1.5,"wall_s":{},"tokens":1,"position":9,"greedy_id":1}}\n'
    calls = "".join(line.format(wall_s) for wall_s in (0.1,) * 60 + (0.2,) * 30)
    busy = "\n@@ uptime\n{} 1\n\n@@ waiting\nsome avg10=0.00 total={}\n"
    before, after = BEFORE + busy.format(10, 0), BEFORE + busy.format(22, 9_000_000)
    ending = replace(DONE, output=PEAK + calls, before=before, after=after)
    assert verdict_of(ending)[0] == "ok"


def test_a_whole_run_on_a_hot_device_says_so() -> None:
    after = BEFORE + "\n@@ thermal_status\nThermal Status: 3\n"
    verdict, reason = verdict_of(replace(DONE, after=after))
    assert verdict == "throttled"
    assert "the thermal status is 3 of 6; times are too long" in reason


def test_decoding_that_slows_down_says_so() -> None:
    line = '{{"event":"run","clock_s":1.5,"wall_s":{},"tokens":1,"position":9,"greedy_id":1}}\n'
    calls = "".join(line.format(wall_s) for wall_s in (0.1,) * 60 + (0.2,) * 30)
    verdict, reason = verdict_of(replace(DONE, output=PEAK + calls))
    assert verdict == "throttled"
    assert "decoding was 50% slower at its end" in reason


def test_golden_answers_say_nothing_of_speed() -> None:
    line = '{{"event":"run","clock_s":1.5,"wall_s":{},"tokens":1,"position":9,"greedy_id":1{}}}\n'
    calls = "".join(line.format(0.2, "") for _ in range(60))
    kept = line.format(0.2, ',"finite":true,"mean":0.0,"std":1.0')
    slow = "".join(line.format(0.4, "") for _ in range(120))
    assert verdict_of(replace(DONE, output=PEAK + calls + slow))[0] == "throttled"
    assert verdict_of(replace(DONE, output=PEAK + calls + kept + slow))[0] == "ok"


def test_counters_come_along() -> None:
    outcome = outcome_of(DONE)
    assert outcome.counters_before.oom_kills == 4
    assert outcome.thermal_after.status is None

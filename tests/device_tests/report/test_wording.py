"""Sentences about a verdict and about where a report comes from."""

from typing import get_args

from pocketlm.device_tests.device.facts import EMULATED, Provenance
from pocketlm.device_tests.job.verdict import MEASURED, Verdict
from pocketlm.device_tests.report.wording import meaning, provenance_stamp, provenance_text, tone


def test_every_verdict_and_provenance_has_words() -> None:
    verdicts: tuple[Verdict, ...] = get_args(Verdict)
    assert all(meaning(verdict) for verdict in verdicts)
    assert {verdict for verdict in verdicts if tone(verdict) != "bad"} < set(MEASURED)
    assert all(provenance_text(provenance) for provenance in get_args(Provenance))
    stamped = {p for p in get_args(Provenance) if provenance_stamp(p)}
    assert stamped == set(EMULATED)

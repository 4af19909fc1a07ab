"""An advice in words, for the terminal and the page."""

from collections.abc import Iterator
from pathlib import Path

from pocketlm.advisor.advice import Advice, Compared
from pocketlm.runtime_py.sizes import size_text

COLUMNS = ("candidate", "memory", "file", "KL, nats", "same top", "prefill", "decode", "")


def row(one: Compared) -> tuple[str, ...]:
    """Return the cells of a candidate that was measured."""
    record, memory = one.record, one.memory
    assert record is not None and memory is not None, "a row for each that was measured"
    return (
        one.name,
        size_text(memory.peak_bytes),
        size_text(record.evaluation.artifact_bytes),
        f"{record.kl_nats:.4f}",
        f"{100 * record.agreement:.1f} %",
        f"{record.speed.prefill_tokens_per_s:.0f}",
        f"{record.speed.decode_tokens_per_s:.1f}",
        "chosen" if one.status == "chosen" else "dominated" if one.is_dominated else "",
    )


def legend(advice: Advice) -> str:
    """Return what the columns are, and where speed was measured."""
    speeds = [one.record.machine for one in advice.measured if one.record is not None]
    machines = dict.fromkeys(f"{m.processor}, {m.threads} threads" for m in speeds)
    hosts = {machine.host for machine in speeds}
    where = "; ".join(machines)
    if len(hosts) > 1:
        where = f"{len(hosts)} machines, so do not compare speeds: {where}"
    return (
        "memory: predicted peak on the device with a full context; KL: mean, to the checkpoint in "
        "float32; same top: share of tokens with the same top token; prefill, decode: tokens/s "
        f"here, on {where}"
    )


def headline(advice: Advice) -> str:
    """Return what is measured, on what."""
    return f"{advice.checkpoint}: {advice.tokens:,} tokens of {advice.text}"


def verdict(advice: Advice) -> str:
    """Return what to take, or what to change."""
    if advice.chosen is None:
        assert advice.remedy is not None
        return advice.remedy
    return f"take {advice.chosen.name}"


def losses(advice: Advice) -> Iterator[str]:
    """Yield a line for each candidate that is not taken: why."""
    for one in advice.candidates:
        if one.status == "chosen":
            continue
        kind = {"does not fit": "does not fit: ", "cannot be built": "cannot be built: "}
        yield f"{one.name}: {kind.get(one.status, '')}{one.reason}"


def where_it_lies(advice: Advice) -> str | None:
    """Return where the chosen bundle is; None where none was chosen."""
    chosen = advice.chosen
    if chosen is None or chosen.record is None:
        return None
    bundle, host = chosen.record.bundle, chosen.record.machine.host
    where = "" if Path(bundle).is_dir() else f" on {host}"
    return f"built already: {bundle}{where}"

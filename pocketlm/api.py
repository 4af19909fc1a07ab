"""What `import pocketlm` offers: text in, text out, frozen values. Prints nothing.

The arguments are the commands' options, with the same defaults; each function imports what it
needs when it is called.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pocketlm.runtime_py.bundle import Bundle
from pocketlm.runtime_py.environment import environment_kept

if TYPE_CHECKING:
    from pocketlm.advisor.advice import Advice
    from pocketlm.device_tests.fit.fitting import Fit
    from pocketlm.device_tests.profiling.document import Report
    from pocketlm.edge_build.progress import Event
    from pocketlm.runtime_py.chat_template import Variables
    from pocketlm.runtime_py.generation import GenerationResult
    from pocketlm.runtime_py.sampling import SamplingOptions
    from pocketlm.runtime_py.text import Chat
    from pocketlm.runtime_py.verification_result import VerificationResult

_LOG = logging.getLogger("pocketlm.api")


def build(
    checkpoint: Path | str,
    out: Path | str,
    *,
    revision: str | None = None,
    backends: Sequence[str] = (),
    recipe: str | None = None,
    bits_per_weight: float | None = None,
    method: str | None = None,
    calibration_text: Path | str | None = None,
    calibration_tokens: int | None = None,
    context_length: int | None = None,
    chunk: int | None = None,
    kv: Literal["float32", "int8", "int8-local", "int8-global", "auto"] = "float32",
    golden_tokens: int | None = None,
    backend_options: Mapping[str, Mapping[str, str]] | None = None,
    max_ram_bytes: int | None = None,
    tokenizer: Path | str | None = None,
    name: str | None = None,
    replace: bool = False,
    notify: "Callable[[Event], None] | None" = None,
) -> Bundle:
    """Build a device bundle; at the end there is a whole one or none.

    Args:
        checkpoint: a folder in Hugging Face format, a GGUF file, a hub id, or "pico", the embedded
            model.
        out: folder to make.
        revision: branch, tag or commit of a hub id; None is its main branch.
        backends: "executorch", "onnx"; empty is every backend.
        recipe: a name of `pocketlm list recipes`, or the path of a .toml file; None keeps the grid
            that the checkpoint is on, and takes int8-head4 where it is on none.
        bits_per_weight: in place of a recipe: one of so many bits at most is planned, and stands in
            the bundle as recipe.toml.
        method: how codes and scales are chosen, a name of `pocketlm list methods`; None is the
            recipe's own.
        calibration_text: file of text for methods that need data; None is the model's own text.
        calibration_tokens: of that file, that are read at most; None is 16,384.
        context_length: in tokens; None is the model's own, at most 4096.
        chunk: most tokens of one prefill call; None is 128.
        kv: precision of the KV cache; "int8-local" and "int8-global" are int8 in layers with a
            window and in all others only, "auto" is int8 where the build measures no loss by it.
        golden_tokens: greedy tokens recorded for `verify`; None is 64.
        backend_options: backend name → option → value.
        max_ram_bytes: refuse a build that would hold more; None warns in the log.
        tokenizer: folder whose tokenizer is taken in place of the checkpoint's.
        name: what the bundle calls itself; None is the checkpoint's name.
        replace: take the place of a bundle that is at `out` already.
        notify: called with each event; None logs notices and finished stages.

    Raises:
        ModelError, BuildError: the checkpoint, the options, memory or disk do not allow it.
    """
    from pocketlm.edge_build.installation import require_build_tools

    require_build_tools(backends)
    from pocketlm.edge_build.build import build as run_build
    from pocketlm.edge_build.spec import BuildSpec
    from pocketlm.models.hub import resolve

    spec = BuildSpec(
        checkpoint=resolve(str(checkpoint), revision),
        out=Path(out),
        backends=tuple(backends),
        recipe=recipe,
        bits_per_weight=bits_per_weight,
        method=method,
        calibration_text=None if calibration_text is None else Path(calibration_text),
        calibration_tokens=calibration_tokens,
        context_length=context_length,
        chunk=chunk,
        kv=kv,
        golden_tokens=golden_tokens,
        backend_options=backend_options or {},
        max_ram_bytes=max_ram_bytes,
        tokenizer=None if tokenizer is None else Path(tokenizer),
        name=name,
        replace=replace,
    )
    with environment_kept():
        return Bundle(spec.out, run_build(spec, notify or _log_event))


def open_chat(
    bundle: Bundle | Path | str,
    *,
    system: str | None = None,
    max_new_tokens: int | None = None,
    sampling: "SamplingOptions | None" = None,
    variables: "Variables | None" = None,
    backend: str | None = None,
    threads: int | None = None,
    tune_process: bool = False,
) -> "Chat":
    """Load a bundle and begin a conversation; close it, or use it in `with`.

    Args:
        bundle, backend, threads, tune_process: as in `open_session`.
        system: message that stands before all others.
        max_new_tokens: in one answer; None is as many as the context has room for.
        sampling: None is the checkpoint's own; SamplingOptions() is greedy.
        variables: what the chat template reads besides, such as {"enable_thinking": False}.

    Raises:
        RunError: as `open_session`, or the checkpoint has no chat template.
    """
    from pocketlm.runtime_py.text import open_model

    model = open_model(bundle, backend, threads, tune_process=tune_process)
    try:
        return model.chat(system, max_new_tokens, sampling, variables)
    except BaseException:
        model.close()
        raise


def generate(
    bundle: Bundle | Path | str,
    prompt: str,
    *,
    max_new_tokens: int | None = None,
    sampling: "SamplingOptions | None" = None,
    backend: str | None = None,
    threads: int | None = None,
    tune_process: bool = False,
) -> "GenerationResult":
    """Load a bundle, continue a text as it stands, without a chat template, and close it.

    To continue several texts, load the bundle once with `open_model`.

    Args:
        bundle, backend, threads, tune_process: as in `open_session`.
        max_new_tokens, sampling: as in `open_chat`.

    Returns:
        The new text, its token ids, what ended it, and times.

    Raises:
        RunError: as `open_session`, or the prompt is empty or does not fit into the context.
    """
    from pocketlm.runtime_py.text import open_model

    with open_model(bundle, backend, threads, tune_process=tune_process) as model:
        answer = model.generate(prompt, max_new_tokens, sampling)
        for _ in answer:
            pass
        return answer.result


def verify(
    bundle: Bundle | Path | str,
    *,
    backends: Sequence[str] = (),
    threads: int | None = None,
    strict: bool | None = None,
) -> "tuple[VerificationResult, ...]":
    """Replay a bundle's golden answers on its artifacts; `passed` of each says whether it is right.

    Args:
        bundle: as in `open_session`.
        backends: empty is every one that the bundle has.
        threads: as in `open_session`.
        strict: run each artifact also without rounded activations; None where that takes at most
            2 GiB more memory.

    Raises:
        RunError: the bundle cannot be read, or a runtime is not installed.
    """
    from pocketlm.runtime_py import verification
    from pocketlm.runtime_py.bundle import open_bundle

    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    names = backends or sorted(opened.manifest.backends)
    return tuple(verification.verify(opened, name, threads, strict=strict) for name in names)


def fit(
    what: Bundle | Path | str,
    *,
    devices: Sequence[str] = (),
    backend: str | None = None,
    context_length: int | None = None,
    recipe: str | None = None,
    chunk: int | None = None,
    kv: 'Literal["float32", "int8", "int8-local", "int8-global"] | None' = None,
    packed_cache: bool = False,
    revision: str | None = None,
) -> "tuple[Fit, ...]":
    """Predict the memory of a bundle, or of one that could be built; runs and downloads no model.

    Args:
        what: a bundle, a published shape, a checkpoint's folder or a hub id, of which only
            config.json is read.
        devices: "phone-4gb" to "phone-16gb", or "adb", "ssh:HOST", "host" as it is now; empty is
            every profile.
        backend: None is every backend.
        context_length: in tokens; of a bundle, how much of its context is used.
        recipe, chunk, kv: of what is not built yet, as in `build`.
        packed_cache: packed weights are mapped from a file, as ExecuTorch can.
        revision: of a hub id.

    Returns:
        For each backend on each device whether it fits, why, and what would make it fit.

    Raises:
        DeviceError, BuildError, ModelError, RunError: what was asked cannot be answered.
    """
    from pocketlm.device_tests.fit.request import FitRequest, predict_fits

    asked = str(what.folder if isinstance(what, Bundle) else what)
    _, found = predict_fits(
        FitRequest(
            asked,
            tuple(devices),
            backend,
            context_length,
            recipe,
            chunk,
            kv,
            packed_cache,
            revision,
        )
    )
    return found


def advise(
    checkpoint: Path | str,
    text: Path | str,
    *,
    calibration_text: Path | str | None = None,
    ram_bytes: int | None = None,
    device: str | None = None,
    least_agreement: float | None = None,
    backends: Sequence[str] = (),
    context_length: int | None = None,
    candidates: Sequence[str] = (),
    tokens: int | None = None,
    threads: int | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    ray: str | None = None,
) -> "Advice":
    """Build and measure quantizations of a checkpoint, and name one to take (docs/advise.md).

    What is built and measured is kept: the same call goes on where it was interrupted.

    Args:
        checkpoint: as in `build`.
        text: file to measure on.
        calibration_text: file for methods that need data; None is the model's own text.
        ram_bytes: that the model may take on the device.
        device: whose memory is the limit, as in `fit`.
        least_agreement: least share of tokens with the checkpoint's top token, 0 to 1.
        backends: as in `build`.
        context_length: as in `build`.
        candidates: "RECIPE" or "RECIPE+METHOD"; empty is the default ones.
        tokens: of the text, at most; None is 2048.
        threads: as in `open_session`.
        out: folder for bundles and what is measured; None is the user's cache.
        fresh: build and measure again.
        ray: address of a Ray cluster to spread over; None measures here.

    Returns:
        Every candidate with its figures, and the one to take, if any qualifies.

    Raises:
        ModelError, BuildError, RunError, DeviceError: the question cannot be answered.
    """
    from pocketlm.edge_build.installation import require_build_tools

    require_build_tools(backends)
    from pocketlm.advisor.advising import advise as run_advise
    from pocketlm.advisor.question import DEFAULT_TOKENS, Question
    from pocketlm.advisor.watch import LogWatch

    question = Question(
        str(checkpoint),
        Path(text),
        None if calibration_text is None else Path(calibration_text),
        ram_bytes,
        device,
        least_agreement,
        tuple(backends),
        context_length,
        tuple(candidates),
        DEFAULT_TOKENS if tokens is None else tokens,
        threads,
        None if out is None else Path(out),
        fresh,
        ray,
    )
    with environment_kept():
        return run_advise(question, LogWatch())


def profile(
    bundle: Bundle | Path | str,
    on: str,
    *,
    backend: str | None = None,
    prompt_tokens: int | None = None,
    decode_tokens: int = 64,
    threads: int | None = None,
    packed_cache: bool = False,
    answers: bool = True,
    timeout_s: int = 1800,
) -> "Report":
    """Run a bundle on a device, check its golden answers there, and account for its memory.

    Whatever happens on the device is a verdict in the report.

    Args:
        bundle: as in `open_session`.
        on: "adb" (the only device), "adb:SERIAL", "ssh:HOST" or "host".
        backend: None is the bundle's first by name.
        prompt_tokens: to prefill; None is 512, or what the context has room for.
        decode_tokens: to decode after them.
        threads: None is the device's cores, at most 4.
        packed_cache: map packed weights from a file, where the backend can.
        answers: whether the golden answers are replayed.
        timeout_s: until the run is ended.

    Raises:
        DeviceError, RunError: what was asked cannot be run, or no device answers.
    """
    from pocketlm.device_tests.profiling.pipeline import ProgressCallbacks
    from pocketlm.device_tests.profiling.request import ProfileRequest, run_profile

    request = ProfileRequest(
        bundle, on, backend, prompt_tokens, decode_tokens, threads, packed_cache, answers, timeout_s
    )

    def step(what: str) -> None:
        _LOG.info("%s", what)

    def silent(*said: object) -> None:
        pass

    return run_profile(request, ProgressCallbacks(step=step, sending=silent, line=silent))


def _log_event(event: "Event") -> None:
    from pocketlm.edge_build.progress import Notice, StageFinished

    match event:
        case Notice(text):
            is_warning = text.startswith("warning: ")
            level = logging.WARNING if is_warning else logging.INFO
            _LOG.log(level, "%s", text.removeprefix("warning: "))
        case StageFinished(report):
            _LOG.info("%s: done in %.1f s", report.name, report.wall_s)

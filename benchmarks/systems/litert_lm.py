"""LiteRT-LM: int4 in blocks of 32, and per output channel."""

from benchmarks.systems.system import ROOT, System, Target

PYTHON = ROOT / "build" / "peers" / "litert" / "bin" / "python"
_CONVERSION = ROOT / "benchmarks" / "conversion"
_TITLES = {"g32": "int4 in blocks of 32", "channel": "int4 per channel"}


def systems(target: Target) -> list[System]:
    """Return one system a granularity."""
    return [_system(target, recipe, title) for recipe, title in _TITLES.items()]


def _system(target: Target, recipe: str, title: str) -> System:
    name = f"litert-{recipe}"
    artifact = target.artifact(f"{name}.{target.context_length}.litertlm")
    cache = target.artifact(f"{name}.{target.context_length}.cache")
    context = ("--context", str(target.context_length))
    convert = _module(
        "litert_lm_file", str(target.checkpoint), str(artifact), "--recipe", recipe, *context
    )
    return System(
        name=name,
        title=f"LiteRT-LM {title}",
        contains="its tokenizer, sampling and streamed text; packed weights mapped from a cache "
        "file as large as the model, which the last command of the build writes",
        python=PYTHON,
        worker="benchmarks.workers.litert_lm",
        artifact=artifact,
        build=(convert, _module("litert_lm_cache", str(artifact), str(cache), *context)),
        sources=(_CONVERSION / "litert_lm_file.py",),
        settings={"cache": str(cache)},
    )


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(PYTHON), "-m", f"benchmarks.conversion.{name}", *arguments)

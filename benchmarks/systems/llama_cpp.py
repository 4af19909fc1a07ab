"""llama.cpp: Q4_0 as its own quantizer writes it, with the head in Q4_0 too, and without AMX."""

from dataclasses import dataclass

from benchmarks.systems.system import ROOT, System, Target

PEERS = ROOT / "build" / "peers"
PYTHON = PEERS / "llama.cpp" / "bin" / "python"
_CONVERSION = ROOT / "benchmarks" / "conversion"


@dataclass(frozen=True)
class Flavour:
    """One way to run llama.cpp.

    Attributes:
        head: type of the tied table; None is the quantizer's choice.
        cache: type of keys and values.
        environment: folder below build/peers; phones have no AMX, so a build without it tells more
            of them.
    """

    name: str
    title: str
    head: str | None = None
    cache: str = "f16"
    environment: str = "llama.cpp"


_FLAVOURS = (
    Flavour("llama-q4_0", "Q4_0, head as llama-quantize chooses"),
    Flavour("llama-q4_0-no-amx", "Q4_0, compiled without AMX", environment="llama.cpp-no-amx"),
    Flavour("llama-q4_0-head-q4_0", "Q4_0, head Q4_0", head="q4_0"),
    Flavour("llama-q4_0-kv8", "Q4_0, cache Q8_0", cache="q8_0"),
    Flavour(
        "llama-q4_0-kv8-no-amx",
        "Q4_0, cache Q8_0, compiled without AMX",
        cache="q8_0",
        environment="llama.cpp-no-amx",
    ),
)


def systems(target: Target) -> list[System]:
    """Return one system a flavour; flavours of one file share it."""
    return [_system(target, flavour) for flavour in _FLAVOURS]


def _system(target: Target, flavour: Flavour) -> System:
    suffix = f"-head-{flavour.head}" if flavour.head else ""
    artifact = target.artifact(f"q4_0{suffix}.gguf")
    plain = target.artifact("bf16.gguf")
    write = _module("gguf_file", str(target.checkpoint), str(plain))
    quantize = _module("quantized_gguf", str(plain), str(artifact))
    return System(
        name=flavour.name,
        title=f"llama.cpp {flavour.title}",
        contains="no tokenizer (the file has none); 16-bit caches unless said, two windows a local "
        "layer; logits planned for one row; greedy id by NumPy",
        python=PEERS / flavour.environment / "bin" / "python",
        worker="benchmarks.workers.llama_cpp",
        artifact=artifact,
        build=(write, (*quantize, *(("--head", flavour.head) if flavour.head else ()))),
        sources=(_CONVERSION / "gguf_file.py", _CONVERSION / "quantized_gguf.py"),
        leftovers=(plain,),
        settings={"cache_type": flavour.cache},
        # The state after a prompt is the same however it was computed.
        depth_settings={"states": str(target.artifact(f"llama-{flavour.cache}.states"))},
    )


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (str(PYTHON), "-m", f"benchmarks.conversion.{name}", *arguments)

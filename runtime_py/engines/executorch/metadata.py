"""The constant methods of a .pte that stock LLM runners read. The reader owns the format."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pocketlm.runtime_py.manifest import Manifest

Constant = int | bool | list[int]


def constant_methods(
    model: Mapping[str, Any],
    context_length: int,
    chunk: int,
    stop_ids: Sequence[int],
    bos_id: int | None,
) -> dict[str, Constant]:
    """Return each method's constant.

    `get_max_seq_len` is the chunk: stock runners cut prompts to it. `get_eos_ids` has to list every
    stop id; runners know one from the tokenizer alone.

    Args:
        model: the fields of a ModelConfig.
    """
    methods: dict[str, Constant] = {
        "get_max_seq_len": chunk,
        "get_max_context_len": context_length,
        "enable_dynamic_shape": chunk > 1,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": model["attention_softcap"] is None,
        "get_vocab_size": model["vocab_size"],
        "get_n_layers": len(model["layers"]),
        "get_eos_ids": list(stop_ids),
    }
    if bos_id is not None:
        methods["get_bos_id"] = bos_id
    return methods


def differences(program: Any, manifest: Manifest) -> Iterator[tuple[str, str, str]]:
    """Yield (method, expected, found) of each constant that is not what the manifest says.

    Args:
        program: of ExecuTorch's bindings.
    """
    expected = constant_methods(
        manifest.model,
        manifest.context_length,
        manifest.prefill_chunk,
        manifest.stop_ids,
        manifest.bos_id,
    )
    present = set(program.method_names())
    for name in sorted({*expected, *(present & {"get_bos_id"})}):
        wanted = _listed(expected[name]) if name in expected else None
        found = list(program.run_method(name, ())) if name in present else None
        if found != wanted:
            yield name, _shown(wanted), _shown(found)


def _listed(constant: Constant) -> list[int]:
    """Return what a method answers: its values, one after the other."""
    return constant if isinstance(constant, list) else [constant]


def _shown(values: Sequence[object] | None) -> str:
    return "nothing" if values is None else ", ".join(map(str, values))

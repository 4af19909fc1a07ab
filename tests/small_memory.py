"""Numbers of a bundle small enough to check every figure of a prediction by hand."""

from collections.abc import Sequence

from pocketlm.runtime_py.manifest import CacheEntry, TensorEntry
from pocketlm.runtime_py.memory_inputs import MemoryInputs
from pocketlm.runtime_py.memory_model import RunChoices

# 1000 rows of 64 columns: half a byte a code, and a scale of 2 bytes for each 32 of them.
TABLE = TensorEntry("embed_tokens", (1000, 64), 4, 32, 32_000 + 4_000, None, "")
QUERY = TensorEntry("layers.0.attention.q_proj", (64, 64), 4, 32, 2_048 + 256, None, "")
FLOATS = TensorEntry("layers.0.mlp.up_proj", (128, 64), 32, None, 32_768, None, "")
NORM = TensorEntry("layers.0.attention_norm", (64,), 32, None, 256, None, "")
TENSORS = (TABLE, NORM, QUERY, FLOATS)

# A position of either takes 2 x 2 heads x 32 x 4 = 512 bytes.
GLOBAL = CacheEntry("linear", 1000, None, 2, 32)
RING = CacheEntry("ring", 50, 31, 2, 32)
WINDOWED = CacheEntry("windowed", 50, 31, 2, 32)


def small_memory(
    tensors: Sequence[TensorEntry] = TENSORS,
    context_length: int = 1000,
    prefill_chunk: int = 20,
    attention: str = "fused",
    attention_softcap: float | None = None,
) -> MemoryInputs:
    """Return two layers, one of which sees all."""
    return MemoryInputs(
        name="small",
        model={
            "layers": [
                {
                    "num_attention_heads": 4,
                    "num_key_value_heads": 2,
                    "head_dim": 32,
                    "intermediate_size": 128,
                    "window": window,
                    "rope_theta": 10_000.0,
                    "rope_factor": 1.0,
                }
                for window in (31, None)
            ],
            "attention_softcap": attention_softcap,
            "hidden_size": 64,
            "vocab_size": 1000,
            "model_type": "gemma3_text",
        },
        context_length=context_length,
        prefill_chunk=prefill_chunk,
        recipe="int4-g32",
        recipe_rules=(),
        tensors=tuple(tensors),
        backends={
            "executorch": RunChoices((RING, GLOBAL), {}, 1024),
            "onnx": RunChoices((WINDOWED, GLOBAL), {"attention": attention}, 1024),
        },
    )

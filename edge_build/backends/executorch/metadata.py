"""The constant methods that stock LLM runners ask a .pte for."""

from edge_build.backend import LoweringInput

Constant = int | bool | list[int]


def constant_methods(source: LoweringInput) -> dict[str, Constant]:
    """Return each method's constant.

    `get_max_seq_len` is the chunk: stock runners cut prompts to it. `get_eos_ids` has to list every
    stop id; runners know one from the tokenizer alone.
    """
    methods: dict[str, Constant] = {
        "get_max_seq_len": source.caches.chunk,
        "get_max_context_len": source.caches.context_length,
        "enable_dynamic_shape": source.caches.chunk > 1,
        "use_kv_cache": True,
        "use_sdpa_with_kv_cache": source.config.attention_softcap is None,
        "get_vocab_size": source.config.vocab_size,
        "get_n_layers": source.config.num_layers,
        "get_eos_ids": list(source.stop_ids),
    }
    if source.bos_id is not None:
        methods["get_bos_id"] = source.bos_id
    return methods

"""generation_config.json as `run` will read it; what it asks for in vain is noted."""

from collections.abc import Mapping
from typing import Any

from pocketlm.edge_build.errors import BuildError
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.sampling import SamplingOptions, published_options

# Settings that change what transformers generates, with the values that change nothing.
_UNUSED: Mapping[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "penalty_alpha": (0, 0.0),
    "typical_p": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "sequence_bias": ([], {}),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1, 1.0),
    "min_length": (0,),
    "min_new_tokens": (0,),
}


def read_sampling(generation: Mapping[str, Any]) -> tuple[SamplingOptions, tuple[str, ...]]:
    """Return the published sampling defaults and notes.

    Raises:
        BuildError: a value is of the wrong type or out of range; names file and key.
    """
    try:
        options = published_options(generation)
    except RunError as error:
        raise BuildError(str(error)) from error
    unused = [
        name
        for name, neutral in _UNUSED.items()
        if generation.get(name) is not None and generation[name] not in neutral
    ]
    if not unused:
        return options, ()
    return options, (f"generation_config.json: {', '.join(unused)} without effect here",)

"""What a GGUF file says of its model, as a config.json."""

import json

from pocketlm.models.errors import ModelError
from pocketlm.models.gguf import architectures
from pocketlm.models.gguf.reading import GgufFile

_TABLE, _HEAD = "token_embd.weight", "output.weight"


def read_config_json(file: GgufFile) -> bytes:
    """Return the text of a config.json.

    Raises:
        ModelError: the architecture is not supported, or something is missing.
    """
    metadata, tensors = file.metadata, file.tensors
    architecture = architectures.load(metadata)
    if _TABLE not in tensors or len(tensors[_TABLE].shape) != 2:
        raise ModelError(
            f"{metadata.path}: {_TABLE} is missing, the embedding of a language model; download "
            "the file again"
        )
    config = {
        "model_type": architecture.model_type,
        **architectures.common_config(
            metadata, tensors[_TABLE].shape[0], is_tied=_HEAD not in tensors
        ),
        **architecture.read_config(metadata),
    }
    return (json.dumps(config, indent=2) + "\n").encode()

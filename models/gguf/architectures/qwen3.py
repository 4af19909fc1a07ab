"""Qwen3, the dense sizes."""

from typing import Any

from pocketlm.models.gguf.architectures import Architecture
from pocketlm.models.gguf.metadata import Metadata


def _read_config(metadata: Metadata) -> dict[str, Any]:
    return {}


ARCHITECTURE = Architecture("qwen3", _read_config)

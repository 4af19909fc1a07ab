"""A model's config as manifests hold it."""

import json
from dataclasses import asdict
from typing import Any

from pocketlm.models.config import ModelConfig


def model_document(config: ModelConfig) -> dict[str, Any]:
    """Return the config in plain JSON."""
    document: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return document

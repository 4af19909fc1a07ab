"""Gemma 3 with vision (gemma-3-4b and larger), built as a text model.

Defaults: class Gemma3Config of transformers 5.23.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pocketlm.models.config import ModelConfig
from pocketlm.models.families import gemma3_text
from pocketlm.models.family import Family, published_tensor_names
from pocketlm.models.published_config import PublishedConfig


def read_config(published: Mapping[str, Any]) -> ModelConfig:
    """Read the text part of config.json."""
    config = PublishedConfig("gemma3", published)
    text = PublishedConfig("gemma3: text_config", config.mapping("text_config"))
    text.require("model_type", "gemma3_text", "another text model")
    # The head of the published class for text and images does not cap its logits.
    text.require("final_logit_softcapping", None, "Gemma 3 with vision has no cap on logits")
    return replace(
        gemma3_text.read_config(text.values),
        model_type="gemma3",
        # The head belongs to the outer model, and so does the word on tying it.
        tie_word_embeddings=config.get_bool("tie_word_embeddings", True),
    )


FAMILY = Family(
    model_type="gemma3",
    read_config=read_config,
    tensor_names=published_tensor_names(
        sandwich_norms=True,
        query_key_norm=True,
        prefix="language_model.model.",
        head="language_model.lm_head.weight",
    ),
    other_tensor_names=(
        published_tensor_names(
            sandwich_norms=True, query_key_norm=True, prefix="model.language_model."
        ),
    ),
    ignored_tensors=(
        "vision_tower.*",
        "model.vision_tower.*",
        "multi_modal_projector.*",
        "model.multi_modal_projector.*",
    ),
    notes=("The vision tower is left out: the bundle takes text only.",),
)

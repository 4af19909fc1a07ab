"""The constant methods that stock LLM runners ask a .pte for."""

from dataclasses import asdict

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.runtime_py.engines.executorch import metadata
from pocketlm.runtime_py.engines.executorch.metadata import Constant


def constant_methods(source: LoweringInput) -> dict[str, Constant]:
    """Return each method's constant."""
    caches = source.caches
    return metadata.constant_methods(
        asdict(source.config), caches.context_length, caches.chunk, source.stop_ids, source.bos_id
    )

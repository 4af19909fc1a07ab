"""The key of what was lowered: a digest of all that determines it."""

import hashlib
import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict

import torch

from pocketlm.edge_build.backend import LoweringInput
from pocketlm.edge_build.installation import tool_versions
from pocketlm.edge_build.kv_cache import CachePlan
from pocketlm.edge_build.program_digest import program_digest


def lowering_key(source: LoweringInput, caches: CachePlan, module: str, **further: object) -> str:
    """Return a digest of config, schemes, caches, tools and this program.

    Args:
        caches: as this build keeps them.
        module: the one of ours that lowers; it and all that it imports are part of the digest.
        further: what else determines what is kept; anything that JSON takes.
    """
    schemes = {
        name: scheme and (scheme.bits, scheme.group_size, scheme.zero_points)
        for name, scheme in source.weights.schemes.items()
    }
    # Kinds of caches are found by name, so that nothing imports them.
    kinds = sorted({type(cache.layout).__module__ for cache in caches.layers})
    determining = {
        **further,
        "config": asdict(source.config),
        "schemes": schemes,
        "caches": asdict(caches),
    }
    return key_with_tools(determining, module, *kinds)


def key_with_tools(determining: Mapping[str, object], *modules: str) -> str:
    """Return a digest of what JSON takes, of tools, and of some modules of ours or of all."""
    whole = {
        **determining,
        "tools": tool_versions(),
        "python": sys.version_info[:2],
        "machine": platform.machine(),
        # Powers of a rotary base, which a program holds, differ by a bit between these.
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "program": program_digest(*modules),
    }
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

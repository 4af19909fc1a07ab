"""pocketlm inspect."""

import json
from typing import Any

from tests.runtime_py.commands.program import Invoke


def test_inspect_shows_what_is_in_a_bundle(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("inspect")
    assert result.exit_code == 0
    for expected in (
        "tiny: tiny, gemma3_text, 3 layers",
        "recipe int4-g32; context 64, chunk 4",
        "text files",
        "norms stay exact",
        "note: vision tower left out",
        "recipe, first match decides",
        "rule 2",
        "weights, packed",
        "20.2",
    ):
        assert expected in result.stdout
    assert fake_bundle.loads == []


def test_inspect_json_holds_the_manifest_and_the_sums(invoke: Invoke, fake_bundle: Any) -> None:
    document = json.loads(invoke("inspect", "--json").stdout)
    assert document["manifest"] == json.loads(fake_bundle.manifest().to_json())
    assert {"bundle", "file_parts", "weight_parts", "cache_parts", "unquantized"} < set(document)
    assert document["cache_parts"][0]["size_bytes"] == 2 * 2 * 4 * 4 * 11
    assert document["unquantized"][0]["name"] == "layers.0.attention_norm"


def test_inspect_needs_no_runtime(invoke: Invoke, installed: dict[str, str]) -> None:
    installed.clear()
    assert invoke("inspect").exit_code == 0
    assert invoke("run", "--prompt", "x").exit_code == 2

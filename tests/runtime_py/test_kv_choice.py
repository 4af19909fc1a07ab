"""What keys and values are kept in has a name, and is found again in caches."""

from dataclasses import replace

import pytest

from pocketlm.runtime_py.kv_choice import (
    CHOICES,
    FLOAT32,
    INT8,
    KV_NAMES,
    KvChoice,
    KvName,
    kv_choice_of,
)
from pocketlm.runtime_py.manifest import CacheEntry

LOCAL = CacheEntry("ring", 12, 8, 1, 16)
GLOBAL = CacheEntry("linear", 40, None, 1, 16)


@pytest.mark.parametrize("name", KV_NAMES)
def test_every_name_is_that_of_its_choice(name: KvName) -> None:
    assert KvChoice.named(name).name == name


def test_every_choice_has_a_name_of_its_own() -> None:
    assert {choice.name for choice in CHOICES} == set(KV_NAMES)
    assert [choice.is_mixed for choice in CHOICES] == [False, True, True, False]


def coded(cache: CacheEntry) -> CacheEntry:
    return replace(cache, dtype="int8", quantization="per_token")


def test_a_choice_is_found_in_caches_of_both_kinds() -> None:
    assert kv_choice_of((LOCAL, GLOBAL)) == FLOAT32
    assert kv_choice_of((coded(LOCAL), GLOBAL)).name == "int8-local"
    assert kv_choice_of((GLOBAL, coded(LOCAL), GLOBAL)).name == "int8-local"
    assert kv_choice_of((LOCAL, coded(GLOBAL))).name == "int8-global"
    assert kv_choice_of((coded(LOCAL), coded(GLOBAL))) == INT8


@pytest.mark.parametrize("cache", [LOCAL, GLOBAL])
def test_one_kind_of_layer_is_never_mixed(cache: CacheEntry) -> None:
    assert kv_choice_of((cache, cache)) == FLOAT32
    assert kv_choice_of((coded(cache),)) == INT8

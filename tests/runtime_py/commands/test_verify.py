"""pocketlm verify."""

import json
from typing import Any

from tests.runtime_py.commands.program import Invoke


def test_verify_passes_every_backend(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.model.answers = {}
    result = invoke("verify")
    assert result.exit_code == 0
    assert fake_bundle.loads == ["executorch/model.bin", "onnx/model.bin"]
    assert "tiny on executorch: verified; 1 texts, 1 chats" in result.stdout
    assert "tiny on onnx: verified" in result.stdout
    assert "token by token" in result.stdout


def test_verify_names_what_differs_and_exits_with_1(invoke: Invoke) -> None:
    # The scripted answers are not what was recorded.
    result = invoke("verify", "--backend", "onnx")
    assert result.exit_code == 1
    assert "tiny on onnx: DIFFERS from its golden answers" in result.stdout
    assert "greedy id: short (in chunks), step 0, position 1: expected" in result.stdout
    assert "std ahead, found" in result.stdout


def test_verify_checks_what_it_can_and_names_what_it_cannot(
    invoke: Invoke, fake_bundle: Any, installed: dict[str, str]
) -> None:
    fake_bundle.model.answers = {}
    del installed["fake-executorch"]
    result = invoke("verify")
    assert result.exit_code == 0
    assert f"{fake_bundle.folder} on onnx: verified" in result.stdout
    assert "tiny on executorch: NOT CHECKED: backend executorch: the bundle needs" in result.stdout
    assert fake_bundle.loads == ["onnx/model.bin"]
    document = json.loads(invoke("verify", "--json").stdout)
    assert list(document["backends"]) == ["onnx"]
    assert list(document["not_checked"]) == ["executorch"]
    # Who names it wants it checked.
    assert invoke("verify", "--backend", "executorch").exit_code == 2


def test_verify_fails_where_it_can_check_nothing(invoke: Invoke, installed: dict[str, str]) -> None:
    installed.clear()
    result = invoke("verify")
    assert result.exit_code == 2
    assert "pip install 'fake-executorch>=1.2'" in result.stderr
    assert "pip install 'fake-onnxruntime>=1.2'" in result.stderr


def test_verify_json_is_one_document(invoke: Invoke, fake_bundle: Any) -> None:
    result = invoke("verify", "--json", "--backend", "onnx")
    document = json.loads(result.stdout)
    assert result.exit_code == 1
    assert document["passed"] is False
    assert document["backends"]["onnx"]["mismatches"][0]["check"] == "greedy id"
    fake_bundle.model.answers = {}
    document = json.loads(invoke("verify", "--json").stdout)
    assert document["passed"] is True
    assert set(document["backends"]) == {"onnx", "executorch"}
    assert document["backends"]["onnx"]["near_ties"] == 0
    assert document["backends"]["onnx"]["max_logit_error_std"] < 1e-7


def test_verify_shows_the_first_of_many_differences(invoke: Invoke, fake_bundle: Any) -> None:
    fake_bundle.model.disturb = lambda model, logits: logits[::-1].copy()
    assert "more; --json has all" in invoke("verify", "--backend", "onnx").stdout

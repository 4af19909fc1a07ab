import pytest

from pocketlm.runtime_py.engine import Engine
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.runtime_versions import check_versions, is_installed

ENGINE = Engine("onnx", ("fake-onnxruntime",), lambda *_: None)  # type: ignore[arg-type]


def error_of(floors: dict[str, str]) -> str:
    with pytest.raises(RunError) as caught:
        check_versions(ENGINE, floors)
    return str(caught.value)


@pytest.mark.parametrize(
    ("found", "floor"),
    [("1.3", "1.3"), ("1.31.1", "1.4"), ("2.13.0+cpu", "2.13.0"), ("1.3.0", "1.3rc1")],
)
def test_a_version_at_or_above_the_floor_is_fine(
    installed: dict[str, str], found: str, floor: str
) -> None:
    installed["fake-onnxruntime"] = found
    check_versions(ENGINE, {"fake-onnxruntime": floor})


@pytest.mark.parametrize(("found", "floor"), [("1.4", "1.31"), ("1.31.0.dev3", "1.31")])
def test_an_older_version_says_what_to_install(
    installed: dict[str, str], found: str, floor: str
) -> None:
    installed["fake-onnxruntime"] = found
    message = error_of({"fake-onnxruntime": floor})
    assert "backend onnx" in message
    assert f"needs fake-onnxruntime>={floor}" in message
    assert f"found fake-onnxruntime {found}" in message
    assert f"pip install 'fake-onnxruntime>={floor}'" in message


def test_a_missing_distribution_says_what_to_install(installed: dict[str, str]) -> None:
    del installed["fake-onnxruntime"]
    assert not is_installed(ENGINE)
    message = error_of({"fake-onnxruntime": "1.2"})
    assert "fake-onnxruntime is not installed; pip install 'fake-onnxruntime>=1.2'" in message


def test_a_floor_of_another_distribution_counts_too(installed: dict[str, str]) -> None:
    assert "needs other>=3, other is not installed" in error_of({"other": "3"})


def test_an_installed_distribution_without_a_floor_is_fine(installed: dict[str, str]) -> None:
    assert is_installed(ENGINE)
    check_versions(ENGINE, {})


def test_a_floor_that_is_no_version_is_named(installed: dict[str, str]) -> None:
    assert "fake-onnxruntime: 'newest' is not a version" in error_of({"fake-onnxruntime": "newest"})

"""The code of docs/in-an-app.md runs as it stands there, and answers as our sessions answer."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pocketlm import main
from pocketlm.device_tests.errors import DeviceError
from pocketlm.device_tests.runners import executorch
from pocketlm.device_tests.runners.compilation import SOURCES, toolchain
from pocketlm.device_tests.runners.packages import installed
from pocketlm.runtime_py import SamplingOptions, open_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "in-an-app.md").read_text()
BLOCKS = {
    (language, name): code
    for language, name, code in re.findall(r"```(\w+) (\w+)\n(.*?)```", PAGE, re.DOTALL)
}
QUESTION = "Which module has Counter?"
NEW_TOKENS = 24


@pytest.fixture(scope="module")
def folder(pico_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page's commands make."""
    made = tmp_path_factory.mktemp("app")
    (made / "pico").symlink_to(pico_bundle)
    for runtime in ("executorch", "genai"):
        out = made / f"app-{runtime}"
        arguments = ("export", str(pico_bundle), "--for", runtime, "--out", str(out))
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0, result.output
    return made


def printed(folder: Path, code: str) -> str:
    """Return what a block of Python prints in the folder of the app."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def greedy_answer(folder: Path, backend: str) -> str:
    with open_model(folder / "pico", backend=backend) as model:
        return (
            model.chat(max_new_tokens=NEW_TOKENS, sampling=SamplingOptions()).stream(QUESTION).text
        )


def test_executorch_answers_as_we_do(folder: Path) -> None:
    shown = printed(folder, BLOCKS["python", "executorch"])
    _, _, answer = shown.partition("answer: ")
    assert answer == greedy_answer(folder, "executorch") + "\n"


def test_onnxruntime_genai_answers_as_we_do(folder: Path) -> None:
    shown = printed(folder, BLOCKS["python", "genai"])
    assert shown == greedy_answer(folder, "onnx") + "\n"


def test_our_own_runtime_answers_in_a_chat(folder: Path) -> None:
    shown = printed(folder, BLOCKS["python", "pocketlm"])
    assert f"{greedy_answer(folder, 'onnx')}\n2 messages; " in shown


def test_the_core_library_in_cpp_chooses_our_ids(folder: Path, tmp_path: Path) -> None:
    try:
        tools, runtime = toolchain(), installed("executorch")
    except DeviceError as error:
        pytest.skip(str(error))
    source = tmp_path / "app.cpp"
    source.write_text(BLOCKS["cpp", "module"])
    include, libraries = runtime.package / "include", runtime.package / "lib"
    operators = [SOURCES / "executorch" / name for name in ("llama_operators.cpp", "rows.cpp")]
    command = [tools.cpp, "-std=c++17", "-O1", "-DC10_USING_CUSTOM_GENERATED_MACROS", "-w"]
    command += ["-isystem", include, "-DET_USE_THREADPOOL"]
    command += ["-isystem", include / "executorch/runtime/core/portable_type/c10"]
    command += [source, *operators, "-o", tmp_path / "app", f"-L{libraries}"]
    command += ["-Wl,--no-as-needed", *(f"-l{name}" for name in executorch.LIBRARIES)]
    subprocess.run([*map(str, command), f"-Wl,-rpath,{libraries}"], check=True)

    with open_model(folder / "pico", backend="executorch") as model:
        assert model.template is not None
        text = model.template.render([{"role": "user", "content": QUESTION}])
        prompt = model.tokenizer.encode(text)
        answer = model.chat(sampling=SamplingOptions()).stream(QUESTION)
        expected = answer.text and answer.result.tokens
        size = model.session.vocab_size
    arguments = ["app-executorch/model.pte", size, len(expected), *prompt]
    done = subprocess.run(
        [tmp_path / "app", *map(str, arguments)], cwd=folder, capture_output=True, check=True
    )
    assert tuple(map(int, done.stdout.split())) == expected


def test_the_page_says_of_pico_what_export_prints(pico_bundle: Path, tmp_path: Path) -> None:
    arguments = ("export", str(pico_bundle), "--for", "executorch", "--out", str(tmp_path / "app"))
    shown = CliRunner().invoke(main, arguments).stdout.splitlines()
    for line in shown:
        # The page's bundle has a longer context than the tests'.
        if line.split()[0] in ("needs", "BOS", "stop", "chat", "next"):
            assert line in PAGE.splitlines()
    (prompt,) = (line for line in shown if line.startswith("chat prompt"))
    begin = prompt.split("'")[1].partition("{")[0]
    for place in ("python executorch", "python genai", "kotlin executorch", "kotlin genai"):
        assert begin in BLOCKS[tuple(place.split())]  # type: ignore[index]

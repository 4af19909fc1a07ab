import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.session import open_session
from pocketlm.runtime_py.speculation.draft_model import DraftModel
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.speculation.opening import open_drafter
from pocketlm.runtime_py.speculation.prompt_lookup import PromptLookup


def opened(fake_bundle: Any, name: str) -> Drafter | None:
    bundle = fake_bundle.open()
    return open_drafter(name, bundle, open_session(bundle, "onnx"), fake_bundle.tokenizer)


def error_of(fake_bundle: Any, name: str) -> str:
    with pytest.raises(RunError) as caught:
        opened(fake_bundle, name)
    return str(caught.value)


def test_each_name_opens_its_drafter(fake_bundle: Any) -> None:
    assert opened(fake_bundle, "off") is None
    assert isinstance(opened(fake_bundle, "prompt"), PromptLookup)
    drafter = opened(fake_bundle, str(fake_bundle.folder))
    assert isinstance(drafter, DraftModel)
    # It reads as many bytes as the model that it is.
    assert drafter.price == 1.0


def test_an_artifact_with_one_row_checks_no_draft(fake_bundle: Any) -> None:
    backends = {
        name: replace(entry, logits_rows=1)
        for name, entry in fake_bundle.manifest().backends.items()
    }
    fake_bundle.write_manifest(backends=backends)
    assert error_of(fake_bundle, "prompt") == (
        "--draft prompt: the artifact gives logits after the last token of a call only, so it "
        "cannot check a draft; build it again with --logits-rows 8, or use --draft off"
    )
    assert opened(fake_bundle, "off") is None


def test_a_draft_with_another_tokenizer_is_refused(fake_bundle: Any, tmp_path: Path) -> None:
    bundle = fake_bundle.open()
    session = open_session(bundle, "onnx")
    other = tmp_path / "other"
    shutil.copytree(fake_bundle.folder, other)
    fake_bundle.folder = other
    document = json.loads((other / "tokenizer.json").read_text())
    document["model"]["vocab"]["ab"] = 340
    fake_bundle.write("tokenizer.json", json.dumps(document))
    with pytest.raises(RunError) as caught:
        open_drafter(str(other), bundle, session, fake_bundle.tokenizer)
    assert str(caught.value) == (
        f"--draft {other}: its tokenizer.json is another than that of {bundle.folder}, so its "
        "tokens are other text; give a bundle of the same family, built with --tokenizer FOLDER "
        "where the files differ"
    )


def test_a_draft_that_is_no_bundle_is_refused(fake_bundle: Any, tmp_path: Path) -> None:
    assert str(tmp_path / "nothing") in error_of(fake_bundle, str(tmp_path / "nothing"))

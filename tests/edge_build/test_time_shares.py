"""What share of the bar a stage gets."""

from pathlib import Path

from pocketlm.edge_build.preparation import prepare
from pocketlm.edge_build.spec import BuildSpec
from pocketlm.edge_build.time_shares import expected_s
from tests.conftest import PICO


def test_every_stage_has_a_share_in_the_order_of_the_build() -> None:
    prepared = prepare(BuildSpec(checkpoint=PICO, out=Path("nowhere") / "pico"))
    shares = expected_s(prepared)
    assert list(shares) == ["checkpoint", *prepared.stage_names, "text"]
    assert all(share > 0 for share in shares.values())


def test_golden_answers_take_longer_for_more_tokens_and_backends() -> None:
    def golden_s(tokens: int, *backends: str) -> float:
        out = Path("nowhere") / "pico"
        spec = BuildSpec(checkpoint=PICO, out=out, backends=backends, golden_tokens=tokens)
        return expected_s(prepare(spec))["golden"]

    assert golden_s(8, "onnx") < golden_s(16, "onnx") < golden_s(16, "onnx", "executorch")

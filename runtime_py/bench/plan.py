"""Which tests are run: prompts and answers of some lengths, behind some depths."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pocketlm.runtime_py.errors import RunError

# Names of llama-bench: prompt processing, text generation.
TestKind = Literal["pp", "tg"]


@dataclass(frozen=True)
class BenchTest:
    """One test.

    Attributes:
        kind: "pp" is a prompt that is processed at once, "tg" an answer, a token a step.
        tokens: that are timed.
        depth: tokens that are in the caches before.
    """

    kind: TestKind
    tokens: int
    depth: int

    @property
    def name(self) -> str:
        """What llama-bench calls it: "pp512 @ d1024"."""
        return f"{self.kind}{self.tokens}" + (f" @ d{self.depth}" if self.depth else "")


def plan_tests(
    prompts: Sequence[int], answers: Sequence[int], depths: Sequence[int], context_length: int
) -> tuple[BenchTest, ...]:
    """Return every prompt and every answer at every depth; a length of 0 is no test.

    Raises:
        RunError: there is none, or one does not fit into the context.
    """
    lengths: list[tuple[TestKind, int]] = [
        *(("pp", tokens) for tokens in prompts if tokens),
        *(("tg", tokens) for tokens in answers if tokens),
    ]
    tests = tuple(BenchTest(kind, tokens, depth) for depth in depths for kind, tokens in lengths)
    if not tests:
        raise RunError("nothing to measure: -p and -n are 0; give -p 512, or leave them out")
    for test in tests:
        # An answer begins after one token at least.
        needed = max(test.depth, 1 if test.kind == "tg" else 0) + test.tokens
        if needed > context_length:
            raise RunError(
                f"{test.name}: needs {needed} positions, the context has {context_length}; give a "
                "smaller -p, -n or -d, or build with a larger --context"
            )
    return tests

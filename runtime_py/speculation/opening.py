"""--draft NAME → what guesses tokens."""

from pocketlm.runtime_py.bundle import Bundle, read_bundle
from pocketlm.runtime_py.errors import RunError
from pocketlm.runtime_py.session import Session, open_session
from pocketlm.runtime_py.speculation.draft_model import DraftModel
from pocketlm.runtime_py.speculation.drafter import Drafter
from pocketlm.runtime_py.speculation.prompt_lookup import PromptLookup
from pocketlm.runtime_py.tokenizer import TOKENIZER_FILE, Tokenizer

PROMPT, OFF = "prompt", "off"


def open_drafter(
    name: str, bundle: Bundle, session: Session, tokenizer: Tokenizer, threads: int | None = None
) -> Drafter | None:
    """Return what guesses the tokens of a session.

    Args:
        name: "prompt" for prompt lookup, "off" for nothing, else the folder of a draft bundle.
        bundle, session, tokenizer: of the model that checks.

    Raises:
        RunError: the artifact gives too few rows of logits, or the draft bundle cannot be opened
            or has another tokenizer.
    """
    if name == OFF:
        return None
    if session.logits_rows == 1:
        raise RunError(
            f"--draft {name}: the artifact gives logits after the last token of a call only, so it "
            "cannot check a draft; build it again with --logits-rows 8, or use --draft off"
        )
    if name == PROMPT:
        return PromptLookup()
    draft = read_bundle(name)
    _check_tokenizer(draft, bundle)
    backend = session.backend if session.backend in draft.manifest.backends else None
    draft.check(backend)
    opened = open_session(draft, backend, threads)
    return DraftModel(opened, price(draft, bundle), min(tokenizer.size, opened.vocab_size))


def price(draft: Bundle, bundle: Bundle) -> float:
    """Return what a decode step of one model costs in those of another: both read all weights."""
    drafting, checking = (
        sum(tensor.size_bytes for tensor in opened.manifest.tensors) for opened in (draft, bundle)
    )
    return drafting / checking


def _check_tokenizer(draft: Bundle, bundle: Bundle) -> None:
    """Refuse a draft whose ids may mean other text."""
    digests = {
        file.sha256
        for opened in (draft, bundle)
        for file in opened.manifest.files
        if file.path == TOKENIZER_FILE
    }
    if len(digests) != 1:
        raise RunError(
            f"--draft {draft.folder}: its {TOKENIZER_FILE} is another than that of "
            f"{bundle.folder}, so its tokens are other text; give a bundle of the same family, "
            "built with --tokenizer FOLDER where the files differ"
        )

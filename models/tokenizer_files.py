"""The files beside the weights that say how text becomes ids."""

from dataclasses import dataclass
from pathlib import Path

from pocketlm.models.errors import ModelError


@dataclass(frozen=True)
class TokenizerFiles:
    """Paths of a checkpoint's tokenizer; None where the checkpoint has no such file.

    Attributes:
        tokenizer_json: the tokenizers library's format.
        tokenizer_model: SentencePiece's format; at least one of the two is there.
    """

    tokenizer_json: Path | None
    tokenizer_model: Path | None
    tokenizer_config: Path | None
    chat_template: Path | None
    generation_config: Path | None


def find_tokenizer(folder: Path) -> TokenizerFiles:
    """Find the tokenizer of a checkpoint folder.

    Raises:
        ModelError: neither tokenizer.json nor tokenizer.model is there.
    """

    def existing(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() else None

    files = TokenizerFiles(
        tokenizer_json=existing("tokenizer.json"),
        tokenizer_model=existing("tokenizer.model"),
        tokenizer_config=existing("tokenizer_config.json"),
        chat_template=existing("chat_template.jinja"),
        generation_config=existing("generation_config.json"),
    )
    if files.tokenizer_json is None and files.tokenizer_model is None:
        if existing("vocab.json"):
            raise ModelError(
                f"{folder}: has vocab.json but no tokenizer.json; convert it with transformers: "
                f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})"
            )
        raise ModelError(
            f"{folder}: no tokenizer.json and no tokenizer.model in it; "
            "copy the tokenizer files from where the checkpoint was published"
        )
    return files

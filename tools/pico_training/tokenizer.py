"""Trains the SentencePiece tokenizer and writes the same one as `tokenizer.json`.

Words are learned; runs of spaces and of newlines are added afterwards. They are ordinary pieces
that merge before anything else, so a run never sticks to a word, and plain BPE merges alone give
the same ids in every implementation.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, decoders, normalizers, processors

# Its classes only exist at run time.
proto: Any = sentencepiece_model_pb2

VOCAB_SIZE = 4096
PAD, EOS, BOS, UNK = "<pad>", "<eos>", "<bos>", "<unk>"
TURN_START, TURN_END = "<start_of_turn>", "<end_of_turn>"
SPECIAL = (PAD, EOS, BOS, UNK, TURN_START, TURN_END)
SPACE = "\u2581"

# Lengths in merge order, each with the two lengths it is merged from: powers of two first, so
# that a run of n has one spelling, its binary digits, which then join.
SPACE_RUNS = (
    (2, 1, 1), (4, 2, 2), (8, 4, 4), (16, 8, 8), (3, 2, 1), (5, 4, 1), (6, 4, 2), (7, 4, 3),
    (9, 8, 1), (10, 8, 2), (11, 8, 3), (12, 8, 4), (13, 8, 5), (14, 8, 6), (15, 8, 7),
)  # fmt: skip
NEWLINE_RUNS = ((2, 1, 1), (4, 2, 2), (3, 2, 1))


def train_sentencepiece(texts: Iterable[str]) -> bytes:
    """Train the tokenizer and return its `tokenizer.model`."""
    runs = len(SPACE_RUNS) + len(NEWLINE_RUNS) + 1  # one more for the single newline
    lines = (re.sub(r"[ \t]+", " ", line) for text in texts for line in text.splitlines())
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line.strip() for line in lines if line.strip()),
        model_writer=written,
        model_type="bpe",
        vocab_size=VOCAB_SIZE - runs,
        byte_fallback=True,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        allow_whitespace_only_pieces=True,
        character_coverage=0.9995,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3,
        pad_piece=PAD, eos_piece=EOS, bos_piece=BOS, unk_piece=UNK,
        user_defined_symbols=[TURN_START, TURN_END],
        num_threads=2,
        minloglevel=2,
    )  # fmt: skip
    return _with_runs(written.getvalue())


def _with_runs(model: bytes) -> bytes:
    """Put the runs between the bytes and the learned pieces, and renumber the scores."""
    parsed = proto.ModelProto.FromString(model)
    piece_type = proto.ModelProto.SentencePiece
    fixed = [piece for piece in parsed.pieces if piece.type != piece_type.NORMAL]
    learned = [piece.piece for piece in parsed.pieces if piece.type == piece_type.NORMAL]
    runs = ["\n"]
    runs += [SPACE * length for length, _, _ in SPACE_RUNS]
    runs += ["\n" * length for length, _, _ in NEWLINE_RUNS]
    del parsed.pieces[:]
    parsed.pieces.extend(fixed)
    for index, text in enumerate(runs + [piece for piece in learned if piece not in runs]):
        parsed.pieces.append(piece_type(piece=text, score=-float(index), type=piece_type.NORMAL))
    # Deterministic, and free of the options of the training run.
    parsed.trainer_spec.vocab_size = len(parsed.pieces)
    assert len(parsed.pieces) <= VOCAB_SIZE, len(parsed.pieces)
    return parsed.SerializeToString(deterministic=True)


def to_tokenizer_json(model: bytes) -> str:
    """Write a SentencePiece BPE model as the `tokenizers` library's file."""
    pieces = proto.ModelProto.FromString(model).pieces
    vocabulary = {piece.piece: index for index, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE(
            vocab=vocabulary,
            merges=_merges(model),
            unk_token=UNK,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in SPECIAL])
    tokenizer.normalizer = normalizers.Replace(" ", SPACE)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A",
        pair=f"{BOS} $A {BOS}:1 $B:1",
        special_tokens=[(BOS, vocabulary[BOS])],
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer.to_str(pretty=True) + "\n"


def _merges(model: bytes) -> list[tuple[str, str]]:
    """List every pair that makes a piece, in the order of the pieces' scores.

    SentencePiece joins any two neighbours that spell a piece; merges have to name each pair.
    """
    pieces = proto.ModelProto.FromString(model).pieces
    normal = {
        p.piece: index
        for index, p in enumerate(pieces)
        if p.type == proto.ModelProto.SentencePiece.NORMAL
    }
    merges: list[tuple[str, str]] = []
    for text in normal:
        cuts = [(text[:cut], text[cut:]) for cut in range(1, len(text))]
        pairs = [(a, b) for a, b in cuts if a in normal and b in normal]
        pairs.sort(key=lambda pair: (normal[pair[0]], normal[pair[1]]))
        merges.extend(pairs)
    return merges


def write_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """Train on `texts` and write every tokenizer file into `folder`."""
    model = train_sentencepiece(texts)
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer.json").write_text(to_tokenizer_json(model), encoding="utf-8")
    names = {"pad_token": PAD, "eos_token": EOS, "bos_token": BOS, "unk_token": UNK}
    _write_json(folder / "special_tokens_map.json", names)
    configuration = {
        "tokenizer_class": "GemmaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "padding_side": "left",
        **names,
        "additional_special_tokens": [TURN_START, TURN_END],
    }
    _write_json(folder / "tokenizer_config.json", configuration)


def _write_json(path: Path, value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")

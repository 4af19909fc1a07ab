"""Cuts documents into windows of tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from tools.pico_training.corpus import Corpus
from tools.pico_training.dialogues import Message, dialogues, load_template

PAD, EOS, BOS = 0, 1, 2
# The language reference is the best prose there is, and small: it is read more often.
TOPIC_REPEATS = 3
WINDOW_TOKENS = 1024


class TokenSource:
    """Endless windows of training tokens, in an order that only the seed decides."""

    def __init__(self, corpus: Corpus, folder: Path, seed: int) -> None:
        self._tokenizer = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
        self._corpus = corpus
        self._seed = seed
        topics = set(corpus.topics.values())
        self._documents: list[list[int]] = []
        for document in corpus.documents:
            copies = TOPIC_REPEATS if document.strip() in topics else 1
            self._documents += [self.encode(document)] * copies

    def encode(self, text: str) -> list[int]:
        return [BOS, *self._tokenizer.encode(text), EOS]

    def encode_dialogues(self, talks: list[list[Message]]) -> list[list[int]]:
        """Render conversations with the project's chat template; it writes no token for <bos>."""
        template = load_template()
        return [self.encode(template.render(messages=talk, bos_token="")) for talk in talks]

    def epoch(self, number: int) -> Tensor:
        """Join all documents and new conversations, shuffled, into one row of tokens."""
        shuffle = random.Random(self._seed * 1000 + number)
        talks = dialogues(self._corpus, rounds=1, seed=self._seed * 1000 + number)
        documents = self._documents + self.encode_dialogues(talks)
        shuffle.shuffle(documents)
        return torch.tensor([token for document in documents for token in document])

    def windows(self, length: int) -> Iterator[Tensor]:
        """Yield [length + 1] windows for ever; each begins with <bos>, as every prompt does."""
        number = 0
        while True:
            stream = self.epoch(number)
            offset = random.Random(self._seed * 1000 + number).randrange(length)
            rows = stream[offset:].unfold(0, length, length)  # [rows, length]
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(number))
            for row in order.tolist():
                yield torch.cat((torch.tensor([BOS]), rows[row]))
            number += 1


def batches(source: Iterator[Tensor], rows: int) -> Iterator[Tensor]:
    while True:
        yield torch.stack([next(source) for _ in range(rows)])


def fixed_windows(documents: list[list[int]], length: int) -> Tensor:
    """Cut documents into [rows, length + 1] windows for evaluation; each begins with <bos>."""
    stream = torch.tensor([token for document in documents for token in document])
    rows = stream[: len(stream) // length * length].view(-1, length)
    return torch.cat((torch.full((len(rows), 1), BOS), rows), dim=1)

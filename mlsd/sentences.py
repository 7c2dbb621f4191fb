"""A pretrained sentence encoder without the framework that trained it: text in, a vector of length one out.

all-MiniLM-L6-v2: six layers, trained on a billion pairs of sentences, nearly all English. Its weights here are 8-bit whole numbers.
Source: Reimers and Gurevych (2019), "Sentence-BERT"; Wang and others (2020), "MiniLM".
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from mlsd.files import verified

MODEL, TOKENIZER = "external/minilm/model.onnx", "external/minilm_tokenizer/tokenizer.json"
DIMENSION = 384
LONGEST = 128  # tokens: what stands behind them is not read; the model was trained with no more
LONGEST_TEXT = 4000  # characters that are given to the tokenizer: 128 tokens end long before


class TextError(ValueError):
    """A text that cannot be encoded; the message may be shown to the caller."""


@dataclass(frozen=True)
class Encoder:
    """The model and its tokenizer. One thread: a service runs one process a core."""

    session: onnxruntime.InferenceSession
    tokenizer: Tokenizer

    def tokens(self, text: str) -> list[str]:
        """The pieces into which the encoder cuts a text, without its two marks; at most LONGEST - 2."""
        return self.tokenizer.encode(_checked(text, 0)[:LONGEST_TEXT]).tokens[1:-1]

    def encode(self, texts: Sequence[str], batch: int = 16) -> np.ndarray:
        """One vector of length 1 a text, float32 (n, DIMENSION); the dot product of two is their cosine.

        The mean of the last layer over the tokens of the text. A text without a word (empty, or nothing but spaces) has the
        vector of zeros: its cosine with everything is 0, and the caller sees it by its length. Of a long text the first LONGEST
        tokens count. A text has the same vector whatever else is in the batch. Raises TextError for what is no text.
        """
        if isinstance(texts, str):
            raise TextError(f"texts: expected a sequence of texts, found one text; pass [{texts[:20]!r}]")
        if batch < 1:
            raise ValueError(f"batch: expected at least 1, found {batch}")
        texts = [_checked(text, i)[:LONGEST_TEXT] for i, text in enumerate(texts)]
        pieces = self.tokenizer.encode_batch(texts)
        n_tokens = np.array([len(piece.ids) for piece in pieces], int)
        found = np.zeros((len(texts), DIMENSION), np.float32)
        # Texts of like length together, so that little is padded; without a word there is nothing to encode.
        order = [i for i in np.argsort(n_tokens, kind="stable") if n_tokens[i] > 2]
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            ids = np.zeros((len(rows), n_tokens[rows].max()), np.int64)
            for row, i in zip(ids, rows, strict=True):
                row[: n_tokens[i]] = pieces[i].ids
            found[rows] = self._pooled(ids, (np.arange(ids.shape[1]) < n_tokens[rows, None]).astype(np.int64))
        return found

    def _pooled(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        fed = dict(input_ids=ids, attention_mask=mask, token_type_ids=np.zeros_like(ids))
        hidden = self.session.run(None, fed)[0].astype(np.float64)
        means = np.stack([h[: m.sum()].mean(axis=0) for h, m in zip(hidden, mask, strict=True)])
        return means / np.linalg.norm(means, axis=1, keepdims=True)


def _checked(text: object, i: int) -> str:
    if not isinstance(text, str):
        raise TextError(f"texts[{i}]: expected a text, found {type(text).__name__}; fill missing texts with ''")
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair, say, becomes a question mark


@functools.cache
def load_encoder() -> Encoder:
    """The encoder, read from the files that `make data` fetched. Raises DatasetError if they are missing or altered."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False  # it would keep the memory of the largest batch
    tokenizer = Tokenizer.from_file(str(verified(TOKENIZER)))
    tokenizer.no_padding()  # it would fill up every text to 128 tokens
    tokenizer.enable_truncation(LONGEST)
    session = onnxruntime.InferenceSession(str(verified(MODEL)), options, providers=["CPUExecutionProvider"])
    return Encoder(session, tokenizer)

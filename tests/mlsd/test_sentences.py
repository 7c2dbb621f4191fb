"""The sentence encoder: meanings near, batches that change nothing, texts that are none."""

import numpy as np
import pytest

from mlsd.sentences import DIMENSION, LONGEST, TextError, load_encoder


@pytest.fixture(scope="module")
def encoder():
    return load_encoder()


def test_vectors_have_length_one_and_meanings_are_near(encoder):
    one, like, other = encoder.encode(["fix a leaking tap", "repair a dripping faucet", "train a puppy"])
    assert one.shape == (DIMENSION,) and one.dtype == np.float32
    np.testing.assert_allclose([one @ one, like @ like], 1, atol=1e-5)
    assert one @ like > 0.6 > 0.3 > one @ other


def test_a_text_has_one_vector_whatever_is_beside_it(encoder):
    texts = ["tap", "how to fix a tap in the kitchen of an old house", "wasserhahn", "", "sofa 450", "tap"]
    together = encoder.encode(texts)
    for batch in (1, 2, 5):
        np.testing.assert_allclose(encoder.encode(texts, batch=batch), together, atol=1e-5)
    np.testing.assert_allclose(np.stack([encoder.encode([text])[0] for text in texts]), together, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(texts[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_array_equal(together[0], together[-1])


@pytest.mark.parametrize("empty", ["", "   ", "\n\t", "\x00"])
def test_a_text_without_a_word_has_no_direction(encoder, empty):
    assert not encoder.encode([empty]).any()


def test_no_texts_have_no_rows(encoder):
    assert encoder.encode([]).shape == (0, DIMENSION)


def test_of_a_long_text_the_beginning_counts(encoder):
    words = "garden " * 10_000
    assert len(encoder.tokens(words)) == LONGEST - 2
    long, longer = encoder.encode([words, words + "engine " * 100])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_what_is_no_text_is_refused(encoder):
    with pytest.raises(TextError, match=r"texts\[1\]: expected a text, found float"):
        encoder.encode(["tap", np.nan])
    with pytest.raises(TextError, match="found one text"):
        encoder.encode("tap")
    with pytest.raises(ValueError, match="batch: expected at least 1"):
        encoder.encode(["tap"], batch=0)
    assert np.isfinite(encoder.encode(["\ud800 tap", "🦄🦄", "x" * 10_000])).all()

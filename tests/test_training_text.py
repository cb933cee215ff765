"""Text in tokens: the split, batches that follow from seed and step, what counting does."""

import math

import numpy as np
import pytest

from shared.errors import FileAccessError, InputError
from shared.training.ngrams import ngram_loss
from shared.training.text import batch, read_text, tokens_of, topics, windows


def test_the_text_of_python_is_english_and_long_enough():
    text = tokens_of(topics(), length=128)
    assert len(text.train) + len(text.validation) > 400_000
    assert len(text.characters) < 128
    assert " the " in topics()


def test_tokens_are_places_in_the_sorted_characters():
    text = tokens_of("banana" * 10, length=4)
    assert text.characters == "abn"
    assert "".join(text.characters[i] for i in text.train[:6]) == "banana"
    assert len(text.validation) == 6
    assert text.train.dtype == np.int32


def test_a_batch_follows_from_seed_and_step():
    tokens = np.arange(1000, dtype=np.int32)
    one = batch(tokens, seed=0, step=3, batch_size=16, length=8)
    assert one.shape == (16, 9)
    np.testing.assert_array_equal(one, batch(tokens, seed=0, step=3, batch_size=16, length=8))
    np.testing.assert_array_equal(np.diff(one), 1)
    for other in ({"seed": 1}, {"step": 4}):
        words = {"seed": 0, "step": 3, **other}
        assert (one != batch(tokens, **words, batch_size=16, length=8)).any()


def test_a_batch_reaches_both_ends():
    tokens = np.arange(12, dtype=np.int32)
    drawn = batch(tokens, seed=0, step=0, batch_size=200, length=8)
    assert set(drawn[:, 0]) == {0, 1, 2, 3}
    assert drawn.max() == 11


def test_windows_have_each_token_once_as_the_next():
    tokens = np.arange(53, dtype=np.int32)
    found = windows(tokens, batch_size=3, length=4)
    assert found.shape == (4, 3, 5)
    np.testing.assert_array_equal(found[..., 1:].reshape(-1), np.arange(1, 49))


def test_losses_of_counts_are_those_by_hand():
    train, validation = np.array([0, 1, 0, 1, 1]), np.array([0, 1, 1, 0])
    # After 0: 1 twice. After 1: 0 once, 1 once; the last 1 has none after it.
    expected = -(math.log(3 / 4) + math.log(2 / 4) + math.log(2 / 4)) / 3
    assert math.isclose(ngram_loss(train, validation, num_tokens=2, n=2), expected)
    # After 01: 0 once, 1 once. After 11: none yet.
    expected = -(math.log(2 / 4) + math.log(1 / 2)) / 2
    assert math.isclose(ngram_loss(train, validation, num_tokens=2, n=3), expected)


def test_more_context_predicts_more():
    text = tokens_of(topics(), length=128)
    size = len(text.characters)
    losses = [ngram_loss(text.train, text.validation, size, n) for n in (1, 2, 3)]
    assert losses == sorted(losses, reverse=True)
    with pytest.raises(ValueError, match="have no room in 64 bits"):
        ngram_loss(text.train, text.validation, num_tokens=2**22, n=3)


def test_a_file_that_is_no_text_is_told_with_its_byte(tmp_path):
    path = tmp_path / "text"
    path.write_bytes("schön".encode("latin-1"))
    with pytest.raises(InputError, match=r"byte 3 \(0xf6\) is not UTF-8"):
        read_text(str(path))
    with pytest.raises(FileAccessError, match="No such file"):
        read_text(str(tmp_path / "none"))
    with pytest.raises(FileAccessError, match="Is a directory"):
        read_text(str(tmp_path))


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "text"
    with path.open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(InputError, match="at most 1,073,741,824 are read"):
        read_text(str(path))


@pytest.mark.parametrize("text", ["", "short"])
def test_a_text_that_is_too_short_is_told(text):
    with pytest.raises(InputError, match=f"has {len(text)} characters, .* at least 50"):
        tokens_of(text, length=4)

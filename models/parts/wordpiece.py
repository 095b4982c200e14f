"""Texts as numbers of word pieces, as BERT's uncased vocabulary means them (Devlin et al., NAACL 2019).

A text is lowered, stripped of accents and control characters, and cut at spaces, punctuation and Chinese characters;
each word is then the longest piece that the vocabulary has, the longest that follows it, and so on. A text that spells
a marker of the vocabulary, such as "[SEP]", is read as the characters it is.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache

_LONGEST_WORD = 100
"""Characters; a longer word is unknown, as it was when the vocabulary was made."""
_KNOWN_WORDS = 1 << 15
_ASCII_MARKS = frozenset(string.punctuation)
_ASCII = re.compile(r"[^ !-/:-@\[-`{-~]+|[!-/:-@\[-`{-~]")
_SPACES = dict.fromkeys(map(ord, "\t\n\r"), " ")
_CLEAN = dict.fromkeys((*range(32), 127)) | _SPACES
_CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


class WordPiece:
    """A vocabulary, and how texts are read with it. Safe to use from many threads."""

    def __init__(self, vocabulary: Sequence[str], window: int) -> None:
        """vocabulary: pieces by their numbers. window: most numbers of a text. Raises `KeyError` without markers."""
        self._numbers = {piece: number for number, piece in enumerate(vocabulary)}
        self._unknown, self._first, self._last = (self._numbers[marker] for marker in ("[UNK]", "[CLS]", "[SEP]"))
        self._window = window
        self._pieces = lru_cache(_KNOWN_WORDS)(self._cut)

    def numbers(self, text: str) -> list[int]:
        """The numbers of the pieces of `text`, at most `window`, between those of the markers of its ends."""
        found = [self._first]
        for word in _words(text):
            found += self._pieces(word)
            if len(found) >= self._window:
                break
        return [*found[: self._window - 1], self._last]

    def _cut(self, word: str) -> Sequence[int]:
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        pieces, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                number = self._numbers.get(("##" if start else "") + word[start:end])
                if number is not None:
                    break
            else:
                return [self._unknown]
            pieces.append(number)
            start = end
        return pieces


def _words(text: str) -> Iterator[str]:
    """The words and punctuation marks of `text`, lowered and without accents."""
    if text.isascii():
        yield from _ASCII.findall(text.translate(_CLEAN).lower())
        return
    plain = unicodedata.normalize("NFD", "".join(map(_cleaned, text)))
    plain = "".join(character.lower() for character in plain if unicodedata.category(character) != "Mn")
    yield from "".join(f" {mark} " if _is_mark(mark) else mark for mark in plain).split()


def _cleaned(character: str) -> str:
    """`character` without what is not to be seen, and with spaces around it where it is a word by itself."""
    if character not in "\t\n\r" and (unicodedata.category(character)[0] == "C" or character == "\ufffd"):
        return ""
    if character.isspace():
        return " "
    code = ord(character)
    return f" {character} " if any(first <= code <= last for first, last in _CHINESE) else character


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "P" or (character.isascii() and character in _ASCII_MARKS)

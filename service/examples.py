"""Examples for the documents of the API; they work as they stand once `hammingbird demo` has run."""

from __future__ import annotations

DIGIT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAARElEQVR4nCXGQRGAIBAAwHWGABdBGxiBBtIEbWAD"
    "K9jAKESBBvrwtTuxx7aOJWEcNQY4W0hyVpWb+ek9A2/5vXr8aQU+TyoPEc3E9BYAAAAASUVORK5CYII="
)
"""A handwritten seven, 8 x 8 pixels, as a PNG file in base64: item `digit-0007` of the built-in digits."""

QUESTION = "open a file and read lines"

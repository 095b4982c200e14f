"""Binary-code autoencoder: semantic hashing (Salakhutdinov and Hinton, IJAR 2009) that learns from neighbours.

The code layer is batch-normalised without scale or shift, which keeps every bit balanced. In training each bit is a
Bernoulli draw with a straight-through gradient; the draw's probability is sharp, so that training sees nearly the bits
that search will see. What makes the codes retrieve better than the input they are learned from is in `objectives`:

- items are decoded towards one of their nearest neighbours instead of themselves (`objectives.neighbourhood`);
- the code of an item is pulled towards that of a neighbour, or of an augmented view of itself, and away from the rest
  of the batch (`objectives.contrast`; with neighbours in place of views as NNCLR: Dwibedi et al., ICCV 2021).

Of a text only half of the words are seen in training: all of them are decoded from that half's code, which must also
tell the other half, or a half of a neighbour, from other texts. What halves share is their topic, not their wording. A
wide code is learned beside from the same hidden layer and let go after training (`parts.beside`).

Vectors are mostly embeddings, which say what they mean by how far they are from each other: their codes are to rank as
their distances do (`objectives.ranking`), from the start of the best linear hash (`parts.started`), and real logits
keep their size, which tells a soft rerank what each bit is worth. Recall@10 at 4x oversampling, by Hamming distance and
after a soft rerank, of ITQ and of this: SIFT at 128 bits .631/.728 and .821/.926 (the mean of three seeds); pixels of
Fashion-MNIST at 64 bits .382/.473 and .606/.732, in 73 s on a core; sentence embeddings of AG News at 64 bits .616/.762
and .691/.808; 900 word vectors at 64 bits .800/.888 and .814/.913.

Neighbours are those in input space; no label is used. At test a bit is 1 where its logit is > 0.

Pictures with room for it go through convolutions, colour ones through a dictionary of their patches, and are only seen
changed: a view of a picture must tell a view of the same picture, or of a neighbour, from the rest of the batch
(`parts.pictures`). The decoder gives back what the second view was made of, of colour pictures the picture itself.
The last epoch is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from ..base import Batch, Model, Terms
from ..errors import InvalidParams
from ..inputs import InputSpec, Rows, TextInput
from ..objectives import recipes
from ..objectives.hashing import Hashing, HashingParams, WeighedTerms, weighed
from ..objectives.neighbourhood import paired
from ..objectives.ranking import Ranking
from ..parts.beside import WideCode
from ..parts.components import Components
from ..parts.convolution import is_picture
from ..parts.dictionary import PICTURES as DICTIONARY_PICTURES
from ..parts.dictionary import DictionaryEncoder, PatchDictionary
from ..parts.layers import dense, item_losses
from ..parts.pictures import SMALLEST_SIDE, PictureViews, StridedEncoder
from ..parts.started import Started
from ..parts.words import WordLinear

_HIDDEN, _WORDS_HIDDEN = 384, 512
_POOL = 2048
"""Items that each is ranked against, half of them near some of the batch: enough for a thousand to be hard to tell."""
_RANKING_STEPS, _RANKING_EPOCHS, _RANKING_RATE = 600, 5, 3e-3
"""At 1e-3 LSA vectors of texts come to a recall of .703 in 400 steps, at 3e-3 to .750, and word vectors to the same."""
_BESIDE_LABELS = 0.1
_WIDE = 256


class BinaryAutoencoderParams(HashingParams):
    hidden: int | None = Field(
        None,
        ge=8,
        le=8192,
        description="width of the hidden layer on either side, where there is one",
    )
    encoder: Literal["dense", "convolution"] | None = Field(
        None,
        description="layers of the encoder; left out, convolutions for pictures with room for them, for vectors what "
        "begins as the best linear hash and ranks as distances do, else dense",
    )
    ranking: float | None = Field(
        None, ge=0, le=100, description="weight of ranking other items as distances do; 1 for what begins so, else 0"
    )
    wide: int = Field(
        _WIDE, ge=0, le=4096, description="of texts, bits of a second code that is learned beside in training; 0: none"
    )


class BinaryAutoencoder(Model):
    """Bits learned end to end from items and their neighbours; codes decode back into items."""

    family = "binary-autoencoder"
    Params = BinaryAutoencoderParams
    supervised = True
    params: BinaryAutoencoderParams
    steps = 900
    encodes_at_once = True
    variance: Tensor
    _views: PictureViews | None

    def __init__(self, input: InputSpec, bits: int, params: BinaryAutoencoderParams) -> None:
        super().__init__(input, bits, params)
        self._words = input.likelihood == "multinomial"
        if params.encoder == "convolution" and not _has_room(input):
            raise InvalidParams(
                f"convolutions want pictures of {SMALLEST_SIDE} x {SMALLEST_SIDE} or more; the input is of kind "
                f"{input.kind!r} and shape {tuple(input.shape)}. Leave encoder out"
            )
        self._components = Components()
        self._views = PictureViews() if _has_room(input) and params.encoder != "dense" else None
        # Texts by their embeddings are looked for by what they are about: AG News, 32 bits, P@100 .804, ranked .727.
        started = input.kind == input.form == "vector" and params.encoder is None
        hidden = params.hidden or (_WORDS_HIDDEN if self._words else _HIDDEN)
        self._ranking = float(started) if params.ranking is None else params.ranking
        if started:
            self.encoder: nn.Module = Started(input.size, bits, params.hidden)
            self.steps, self.fewest_epochs = _RANKING_STEPS, _RANKING_EPOCHS
        elif self._views is None:
            self.encoder = dense([input.size, hidden, bits])
            if self._words:
                self.encoder[0] = WordLinear(input.size, hidden)
        else:
            encoder = DictionaryEncoder if input.shape[0] == 3 else StridedEncoder
            self.encoder = encoder(input.shape, bits, hidden)
            # Four to seven minutes of one core for 60,000 of 28 x 28. What is read through a dictionary is learned
            # sooner: CIFAR, mAP@1000 .280 after 300 steps, .286 after 600, .290 after 1,500.
            self.steps, self.batch_size = 800 if input.shape[0] == 3 else 2000, 256
            self.encodes_at_once = False
        # What begins as a linear hash begins balanced, and the size of its logits says what a bit is worth.
        self.balance = nn.Identity() if started else nn.BatchNorm1d(bits, affine=False)
        # Words are decoded by one linear layer, which gives every bit its words (NASH: Shen et al., ACL 2018).
        self.decoder = dense([bits, input.size] if self._words or started else [bits, hidden, input.size])
        self.register_buffer("variance", torch.ones(()))
        recipe = recipes.RANKED if started else recipes.TEXT if self._words else recipes.NEIGHBOURS
        if self._views is not None:
            recipe = recipes.PICTURES if self._dictionary is None else recipes.PHOTOGRAPHS
        self.hashing = Hashing(params.over(recipe))
        if isinstance(input, TextInput):
            input.spans = self.hashing.recipe.spans
        if self._words:
            self.steps = 1100
        # Neighbours in input space are no judge of what was learned beyond them. To the last epoch precision by topic
        # never fell by more than .002 (20 Newsgroups, AG News, Python's docs), and digits gain (64 bits: .969 to .977).
        self.chosen_by = "retrieval" if started else "last"
        self.ranking = Ranking(bits) if self._ranking else None
        self.wide: WideCode | None = None

    @classmethod
    def as_saved(cls, params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"encoder": "dense", **params}  # all there was while it went without saying

    @property
    def neighbours(self) -> int:
        if self.ranking is not None:
            return self.hashing.recipe.neighbours
        # By pixels only where pictures have what they show in its place.
        known = self._views is None or self._views.in_place or self._dictionary is not None
        return self.hashing.neighbours if known else 0

    @property
    def _dictionary(self) -> PatchDictionary | None:
        return self.encoder.dictionary if isinstance(self.encoder, DictionaryEncoder) else None

    @property
    def agreeing(self) -> bool:
        return self._words or self._views is not None

    @torch.no_grad()
    def likeness(self, x: Tensor) -> Tensor | None:
        if self._views is None:
            return None
        features = self._components(x) if self._dictionary is None else self._dictionary(x)
        return functional.normalize(features, dim=1)

    @property
    def pool(self) -> int:
        return _POOL if self.ranking is not None else 0

    @property
    def views(self) -> bool:
        return self.hashing.views

    @property
    def kindred(self) -> float:
        return self.hashing.kindred

    def batch_for(self, items: int) -> int:
        """A contrast wants many others; a step over texts costs little more for many. Few texts still make 16 steps."""
        if isinstance(self.encoder, Started):
            return max(16, min(256, items // 8))
        return max(32, min(512, items // 16)) if self._words else super().batch_for(items)

    @property
    def learning_rate(self) -> float:
        if isinstance(self.encoder, Started):
            return _RANKING_RATE
        return 1e-3 if self._views is None and not self._words else 3e-3

    def prepare(self, rows: Rows) -> None:
        if self.taught:
            self.chosen_by = "retrieval"  # of what is known to belong together
        x = rows.sample(2000).flatten(1)
        if not self._words:
            self.variance.fill_(float(x.var(0).mean().clamp_min(1e-6)))
            if self._views is not None:
                self._views.fit(rows)
            if self._dictionary is not None:
                self._dictionary.fit(rows.sample(DICTIONARY_PICTURES))
            elif self._views is not None:
                self._components.fit(rows)
            if isinstance(self.encoder, Started):
                self._begin(self.encoder, rows)
            return
        with torch.no_grad():  # the decoder starts from how often each word is used
            assert isinstance(self.encoder, nn.Sequential)
            first, last = self.encoder[0], self.decoder[-1]
            assert isinstance(first, nn.Linear)
            assert isinstance(last, nn.Linear)
            last.bias.copy_((x.sum(0) / x.sum() + 1e-6).log())
            last.weight.mul_(0.3)
            first.weight.normal_(0, 10**-0.5)  # rows of unit length with few words need a larger start
        if self.params.wide:
            self.wide = WideCode(first.out_features, self.params.wide, self.input.size).to(self.device)
            self.wide.prepare(x)

    def finish(self) -> None:
        self.wide = None

    def _begin(self, encoder: Started, rows: Rows) -> None:
        self.begins_fitted = not self.taught
        if self.taught:
            encoder.begin_anew()
            return
        (decoder,) = self.decoder
        assert isinstance(decoder, nn.Linear)
        encoder.begin(rows, decoder)

    def encode(self, x: Tensor) -> Tensor:
        return self.balance(self.encoder(x.flatten(1) if self._views is None else x))

    def loss(self, batch: Batch, role: str) -> tuple[Tensor, Terms]:
        if self.wide is not None:
            return self._loss_of_both(self.wide, batch)
        more = self._ranks(batch)
        if self._views is not None:
            target = self._target(batch)
            changed, partner = self._views(batch.x), self._views(target)
            target = target if self._dictionary is None else batch.x  # photographs alike have few pixels in common
            batch = replace(batch, x=changed, neighbour=partner)
        seen = self.hashing.seen(batch)
        logits = self.encode(seen)
        bits = self.hashing.bits(logits)
        if self._views is None:
            target = self._target(batch)
        reconstruction = self._reconstruction(bits, target)
        if isinstance(self.encoder, Started) and not self.taught:
            more["moved"] = self.encoder.hold, self.encoder.moved(seen, logits)
        return weighed(
            {"reconstruction": (1.0, reconstruction), **self.hashing.terms(logits, bits, batch, self.encode), **more}
        )

    def _loss_of_both(self, wide: WideCode, batch: Batch) -> tuple[Tensor, Terms]:
        """Of the code and of a wide one that is read from the same hidden layer."""
        assert isinstance(self.encoder, nn.Sequential)
        hidden, last = cache(self.encoder[:-1]), self.encoder[-1]  # each view goes through it once

        def terms(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> WeighedTerms:
            logits = encode(self.hashing.seen(batch))
            bits = self.hashing.bits(logits)
            lost = _lost_words(decode(2 * bits - 1), self._target(batch))
            return {"reconstruction": (1.0, lost), **self.hashing.terms(logits, bits, batch, encode)}

        narrow = terms(lambda x: self.balance(last(hidden(x))), self.decoder)
        beside = terms(lambda x: wide(hidden(x)), wide.decode)
        return weighed({**narrow, **{f"wide {name}": term for name, term in beside.items()}, **self._ranks(batch)})

    def _ranks(self, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        if self.ranking is None:
            return {}
        # Where labels or pairs say what belongs together, what is near only says it of the others, and softly.
        other = 1.0 if batch.labels is None else _BESIDE_LABELS * float((batch.labels < 0).float().mean())
        return {"ranking": (other * self._ranking, self.ranking(batch, self.encode, self.hashing.bits))}

    def _target(self, batch: Batch) -> Tensor:
        """What the codes of a batch are decoded towards."""
        if batch.neighbour is None:
            return batch.x
        return paired(batch.x, batch.neighbour, self.hashing.recipe.pairing)

    def _reconstruction(self, bits: Tensor, x: Tensor) -> Tensor:
        out = self.decoder(2 * bits - 1)
        if self._words:
            return _lost_words(out, x)
        return functional.mse_loss(out, x.flatten(1)) / self.variance

    def decode(self, bits: Tensor) -> Tensor:
        out = self.decoder(2 * bits - 1)
        if self._words:
            return functional.normalize(out.softmax(1), dim=1)
        out = out.unflatten(1, self.input.shape)
        return out.clamp(0, 1) if self.input.likelihood == "bernoulli" else out


def _lost_words(out: Tensor, x: Tensor) -> Tensor:
    """The reconstruction loss of texts, each by the sum of its weights: one of few words says less of the others.

    20 Newsgroups bydate, 32 bits, P@100 after 30 passes: .565, .554 where all count alike.
    """
    told = x.sum(1)
    return (told * item_losses("multinomial", out, x)).mean() / told.mean().clamp_min(1e-9)


def _has_room(input: InputSpec) -> bool:
    return input.kind == "image" and is_picture(input) and min(input.shape[1:]) >= SMALLEST_SIDE

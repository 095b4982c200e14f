"""How good pictures and latents are, for proofs: a small classifier's view of pictures, sharpness, k-NN.

The Frechet distance is between Gaussians fitted to features (Heusel et al., "GANs Trained by a Two Time-Scale Update
Rule", NIPS 2017). Ours are the 64 features of a small classifier trained on the data at hand ("cFID"): the numbers
compare models on one data set and nothing else; they are not Inception FIDs.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data import Dataset

FEATURES = 64
_EPOCHS = 6
_BATCH = 64


def pictures(data: Dataset) -> Tensor:
    """All the images of `data` as `(n, channels, height, width)` in [0, 1]."""
    items = np.stack([np.asarray(item) for item in data.items])
    return torch.from_numpy(np.ascontiguousarray(items.transpose(0, 3, 1, 2))).float() / 255


def class_numbers(data: Dataset) -> Tensor:
    """The labels of `data` as places in the sorted list of them, `(n,)`."""
    assert data.labels is not None
    return torch.from_numpy(np.unique(np.array(data.labels), return_inverse=True)[1])


class Classifier(nn.Module):
    """A small convolutional network on pictures of one size: two convolutions, 64 features, classes."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        flat = 32 * -(-height // 4) * -(-width // 4)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Flatten(),
            nn.Linear(flat, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.classes = classes

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))

    @classmethod
    def fit(cls, train: Dataset, seed: int) -> Self:
        """A classifier trained on the images of `train`; leaves torch's generator as it was."""
        x, y = pictures(train), class_numbers(train)
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)
            channels, height, width = x.shape[1:]
            model = cls(channels, height, width, int(y.max()) + 1)
            steps = _EPOCHS * -(-len(x) // _BATCH)
            optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
            for _ in range(_EPOCHS):
                for places in torch.randperm(len(x)).split(_BATCH):
                    optimiser.zero_grad()
                    functional.cross_entropy(model(x[places]), y[places]).backward()
                    optimiser.step()
                    schedule.step()
        return model.eval().requires_grad_(False)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """The last hidden layer `(n, 64)` of pictures `(n, channels, height, width)`."""
        return torch.cat([self.body(part) for part in x.split(1024)])

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """The likeliest class `(n,)` of pictures `(n, channels, height, width)`, numbered as by `class_numbers`."""
        return self.head(self.features(x)).argmax(1)


def frechet(a: Tensor, b: Tensor) -> float:
    """|mean(a) - mean(b)|^2 + Tr(A + B - 2 (A B)^(1/2)), A and B the covariances of `a`, `b` `(n, d)`."""
    a, b = a.double(), b.double()
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ second @ root).clamp_min(0).sqrt().sum()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    return float(apart + first.trace() + second.trace() - 2 * cross)


def class_distance(a: Tensor, b: Tensor, classes: int) -> float:
    """The total variation between the class histograms of labels `a` and `b`."""
    shares = [torch.bincount(labels, minlength=classes) / len(labels) for labels in (a, b)]
    return float(0.5 * (shares[0] - shares[1]).abs().sum())


def sharpness(x: Tensor) -> float:
    """Mean size of the Laplacian (four neighbours less four times the pixel) inside pictures `(n, c, h, w)`."""
    inside = x[..., 1:-1, 1:-1]
    around = x[..., :-2, 1:-1] + x[..., 2:, 1:-1] + x[..., 1:-1, :-2] + x[..., 1:-1, 2:]
    return float((around - 4 * inside).abs().mean())


def knn_accuracy(train_z: Tensor, train_y: Tensor, test_z: Tensor, test_y: Tensor, k: int) -> float:
    """The share of `test_z` `(m, d)` whose `k` nearest in `train_z` `(n, d)` vote for their own class."""
    right = 0
    for z, y in zip(test_z.split(512), test_y.split(512), strict=True):
        near = torch.cdist(z, train_z).topk(min(k, len(train_z)), largest=False).indices
        right += int((train_y[near].mode(1).values == y).sum())
    return right / len(test_y)

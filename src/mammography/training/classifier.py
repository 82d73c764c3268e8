"""A classifier on an encoder: pooled features, dropout, one linear layer, embeddings if wanted."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mammography.encoders.encoder import Architecture
from mammography.errors import UsageError


class Classifier(nn.Module):
    """Image (and embedding) to class logits.

    The linear layer sees the encoder's features after dropout, followed by the standardised
    embedding where there is one.

    Args:
        encoder: Returns features (batch, width).
        width: Of the features.
        outputs: Of the linear layer.
        dropout: Share of the features that training sets to 0.
        embedding_width: Of the embeddings; 0 for none.

    Attributes:
        encoder: As given.
        embedding_mean: (embedding_width,), subtracted from embeddings; from the training split.
        embedding_std: Their divisor.
    """

    embedding_mean: Tensor
    embedding_std: Tensor

    def __init__(
        self, encoder: nn.Module, width: int, outputs: int, dropout: float, embedding_width: int = 0
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width + embedding_width, outputs)
        self.register_buffer("embedding_mean", torch.zeros(embedding_width))
        self.register_buffer("embedding_std", torch.ones(embedding_width))
        self._trained: tuple[str, ...] = ("",)

    @property
    def embedding_width(self) -> int:
        """Width of the embeddings that it takes; 0 for none."""
        return self.embedding_mean.numel()

    def forward(self, images: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Logits (batch, outputs) of images (batch, 3, rows, columns)."""
        return self.head(self.encoder(images), embeddings)

    def head(self, features: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Logits of pooled features (batch, width) and embeddings (batch, embedding_width)."""
        features = self.dropout(features)
        if self.embedding_width:
            if embeddings is None:
                raise ValueError("this classifier needs embeddings")
            standardised = (embeddings - self.embedding_mean) / self.embedding_std
            features = torch.cat([features, standardised.to(features.dtype)], 1)
        return self.linear(features)

    def freeze_all_but(self, modules: Iterable[str]) -> None:
        """Train only these modules of the encoder, and the linear layer.

        What is frozen also stays in evaluation mode: otherwise its batch-norm statistics would
        move, and dropout within it would act.

        Args:
            modules: Names within the encoder; "" is all of it.
        """
        self._trained = tuple(modules)
        self.encoder.requires_grad_(False)
        for name in self._trained:
            self.encoder.get_submodule(name).requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> Classifier:
        """Training mode for what is trained, evaluation mode for what is frozen."""
        super().train(mode)
        if mode:
            self.encoder.eval()
            for name in self._trained:
                self.encoder.get_submodule(name).train()
        return self


def trained_modules(
    architecture: Architecture, encoder: nn.Module, *, train_backbone: bool, last_block: bool
) -> tuple[str, ...]:
    """The encoder's modules that the two freezing options leave trainable.

    Args:
        architecture: Of the encoder.
        encoder: The network.
        train_backbone: Whether the encoder may be trained as a whole.
        last_block: Train its last block only; with or without `train_backbone`.

    Raises:
        UsageError: The encoder does not say what its last block is.
    """
    if last_block:
        if architecture.last_block is None:
            raise UsageError(
                f"The encoder {architecture.name} does not say what its last block is: train all "
                "of it, or the head alone (--no-train-backbone)."
            )
        return architecture.last_block(encoder)
    return ("",) if train_backbone else ()

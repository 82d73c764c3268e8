"""What a trained classifier says of images: pooled features and logits, in float32."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mammography.training.data import ImageBatches, Images
from mammography.training.density import DensityTask


def features_and_logits(
    task: DensityTask, images: Images, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The encoder's features (rows, width) and the logits (rows, outputs) of some images."""
    task.eval()
    device = torch.device(task.settings.device)
    task.to(device)
    batches = ImageBatches(images)
    features, logits = [], []
    with torch.inference_mode():
        for start in range(0, len(rows), task.settings.batch_size):
            batch = batches[rows[start : start + task.settings.batch_size].tolist()].to(device)
            of_images = task.classifier.encoder(task.images(batch.grays.to(torch.float32) / 65535))
            features.append(of_images.float().cpu().numpy())
            logits.append(task.classifier.head(of_images, batch.embeddings).double().cpu().numpy())
    task.to("cpu")
    return np.concatenate(features), np.concatenate(logits)

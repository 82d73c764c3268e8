"""From an archive to answers, as one would do it in a notebook.

    python examples/embed_archive.py [FOLDER] [WEIGHTS]

Makes a small synthetic archive in FOLDER, looks at it, embeds it, and asks two things of the
embeddings: which images look alike, and how well they tell the breast density. With WEIGHTS
"random" no download is needed, and the answers mean little.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mammography import EmbeddingSet, embed, phantom, scan


def main(folder: Path, weights: str = "imagenet", exams: int = 40) -> float:
    """Run all steps; the balanced accuracy of the density classifier."""
    made = phantom(outdir=folder / "phantom", exams=exams, rows=416, columns=320, balanced=True)

    # What is in the archive, and is enough of it readable?
    audit = scan(csv=made.csv, dicom_root=made.archive).audit
    print(f"{audit['images']} images of {audit['patients']} patients, classes {audit['classes']}")

    # Every image becomes a vector. Run again, this continues or reuses what is there.
    result = embed(
        csv=made.csv,
        dicom_root=made.archive,
        outdir=folder / "embeddings",
        weights=weights,
        pca=True,
    )
    embeddings = result.embeddings
    print(f"{embeddings.features.shape} features in {embeddings.folder}")

    print(neighbours(embeddings, embeddings.index["image_id"][0]))
    accuracy = density_from_embeddings(embeddings)
    print(f"density, balanced accuracy by cross-validation over patients: {accuracy:.2f}")
    return accuracy


def neighbours(embeddings: EmbeddingSet, image_id: str, count: int = 5) -> pl.DataFrame:
    """The images most like one image, by the cosine between their features."""
    unit = embeddings.features / np.linalg.norm(embeddings.features, axis=1, keepdims=True)
    row = embeddings.index["image_id"].to_list().index(image_id)
    similarity = pl.Series("similarity", unit @ unit[row])
    columns = embeddings.index.select("image_id", "view", "density").with_columns(similarity)
    return columns.sort("similarity", descending=True).head(count + 1)


def density_from_embeddings(embeddings: EmbeddingSet) -> float:
    """Balanced accuracy of a logistic regression; no patient is in training and test at once."""
    labels = embeddings.index["density"].to_numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedGroupKFold(n_splits=4, shuffle=True, random_state=42)
    predicted = cross_val_predict(
        classifier,
        embeddings.features,
        labels,
        groups=embeddings.index["patient"].to_numpy(),
        cv=folds,
    )
    return float(balanced_accuracy_score(labels, predicted))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example"), *sys.argv[2:3])

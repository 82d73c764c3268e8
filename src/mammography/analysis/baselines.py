"""Three plain classifiers, cross-validated: what any trained network has to beat.

Scaling, principal components and the classifier are fitted on the training images of each fold
alone, in one pipeline, so that nothing of a validation image is known before it is predicted.
Everything runs on one thread of linear algebra and with fixed seeds: equal input gives equal bytes
on one machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from threadpoolctl import threadpool_limits

from mammography.errors import UsageError

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

#: Largest number of steps of the logistic regression.
MAX_ITERATIONS = 1000

#: The classifiers by name; each takes a seed.
CLASSIFIERS: dict[str, Callable[[int], ClassifierMixin]] = {
    "logistic_regression": lambda seed: LogisticRegression(
        class_weight="balanced", max_iter=MAX_ITERATIONS, solver="lbfgs"
    ),
    "svm_rbf": lambda seed: SVC(
        C=1.0, kernel="rbf", gamma="scale", class_weight="balanced", break_ties=True
    ),
    "random_forest": lambda seed: RandomForestClassifier(
        n_estimators=100,
        max_depth=10,
        min_samples_split=10,
        class_weight="balanced",
        random_state=seed,
    ),
}


@dataclass(frozen=True, eq=False)
class Fold:
    """Rows of one fold.

    Attributes:
        train: Positions of the training images.
        validation: Positions of the images to predict.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """A classifier's predictions of images that it was not fitted on.

    Attributes:
        probabilities: (N, K); of `svm_rbf` the softmax of its decision values, which order the
            classes and are no probabilities.
        components: Principal components of each fold; empty without PCA.
        unconverged: Numbers, from 1, of the folds in which the logistic regression stopped early.
    """

    probabilities: Floats
    components: tuple[int, ...]
    unconverged: tuple[int, ...]


def fitted(
    classifier: str, features: Floats, codes: Codes, n_components: int | None, seed: int
) -> Pipeline:
    """Standardise, reduce to principal components where asked to, and fit a classifier.

    Args:
        classifier: A key of `CLASSIFIERS`.
        features: (n, D) of the training images.
        codes: (n,) their classes, at least two.
        n_components: Principal components at most; None for all features as they are.
        seed: Of the random forest.
    """
    steps: list[tuple[str, object]] = [("scale", StandardScaler())]
    if n_components is not None:
        kept = min(n_components, len(features) - 1, features.shape[1])
        steps.append(("components", PCA(kept, svd_solver="full")))
    steps.append(("classify", CLASSIFIERS[classifier](seed)))
    return Pipeline(steps).fit(features, codes)


def probabilities_of(model: Pipeline, features: Floats, n_classes: int) -> Floats:
    """What a model says of images, a column per class; 0 for classes it was not trained on.

    Of the SVM the softmax of its one-against-rest decision values: the largest is the predicted
    class.

    Returns:
        (n, n_classes) with rows that sum to 1.
    """
    if hasattr(model, "predict_proba"):
        known = model.predict_proba(features)
    else:
        decisions = model.decision_function(features)
        if decisions.ndim == 1:  # two classes share one value
            decisions = np.stack([-decisions, decisions], axis=1) / 2
        known = softmax(decisions, axis=1)
    probabilities = np.zeros((len(features), n_classes))
    probabilities[:, model.classes_] = known
    return probabilities


def cross_validate(
    features: NDArray[np.float32],
    codes: Codes,
    n_classes: int,
    folds: Sequence[Fold],
    *,
    n_components: int | None,
    seed: int,
    workers: int,
) -> dict[str, OutOfFold]:
    """Predict every image by each classifier, fitted on the training images of its fold.

    Args:
        features: (N, D), finite.
        codes: (N,) classes from 0 to n_classes - 1.
        n_classes: K, also where some class has no image.
        folds: Every image validates in one of them.
        n_components: Principal components at most; None for none.
        seed: Of the random forests.
        workers: Threads; the result does not depend on them.

    Returns:
        By the names of `CLASSIFIERS`, in their order.

    Raises:
        UsageError: A fold's training images are all of one class.
    """
    for number, fold in enumerate(folds, 1):
        if len(np.unique(codes[fold.train])) < 2:
            raise UsageError(
                f"All training images of fold {number} are of one class, so nothing can be "
                "learned: take fewer folds (--cv-folds), or more images."
            )
    points = features.astype(np.float64)
    jobs = [(name, fold) for name in CLASSIFIERS for fold in folds]

    def work(job: tuple[str, Fold]) -> tuple[Floats, int, bool]:
        name, fold = job
        model = fitted(name, points[fold.train], codes[fold.train], n_components, seed)
        components = len(model["components"].components_) if n_components is not None else 0
        predicted = probabilities_of(model, points[fold.validation], n_classes)
        return predicted, components, _converged(model)

    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # told as `unconverged`
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(work, jobs))
    outcomes = {}
    for position, name in enumerate(CLASSIFIERS):
        of_folds = results[position * len(folds) : (position + 1) * len(folds)]
        probabilities = np.zeros((len(codes), n_classes))
        for fold, (predicted, _, _) in zip(folds, of_folds, strict=True):
            probabilities[fold.validation] = predicted
        outcomes[name] = OutOfFold(
            probabilities,
            tuple(components for _, components, _ in of_folds if components),
            tuple(number for number, (*_, sound) in enumerate(of_folds, 1) if not sound),
        )
    return outcomes


def _converged(model: Pipeline) -> bool:
    """False where a logistic regression ran out of steps."""
    classifier = model["classify"]
    is_logistic = isinstance(classifier, LogisticRegression)
    return not is_logistic or bool(classifier.n_iter_.max() < MAX_ITERATIONS)

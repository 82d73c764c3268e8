"""Cross-validated classifiers: nothing of a validation image is known before it is predicted."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mammography.analysis.baselines import (
    CLASSIFIERS,
    Fold,
    OutOfFold,
    cross_validate,
    fitted,
    probabilities_of,
)
from mammography.errors import UsageError

N, D, K = 60, 12, 3


def example(seed: int = 0, spread: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    """Three overlapping classes of 30, 20 and 10; every feature on a scale of its own."""
    rng = np.random.default_rng(seed)
    codes = np.array([0, 1, 0, 2, 1, 0] * (N // 6))
    features = rng.normal(size=(N, D)) + spread * rng.normal(size=(K, D))[codes]
    return (features * np.geomspace(0.01, 1000, D)).astype(np.float32), codes.astype(np.int64)


def folds(k: int = 4, seed: int = 1) -> list[Fold]:
    parts = np.array_split(np.random.default_rng(seed).permutation(N), k)
    return [Fold(np.setdiff1d(np.arange(N), part), np.sort(part)) for part in parts]


def run(
    features: np.ndarray, codes: np.ndarray, n_components: int | None = None, **options: int
) -> dict[str, OutOfFold]:
    settings = {"seed": 42, "workers": 1, "n_classes": K} | options
    return cross_validate(
        features, codes, settings.pop("n_classes"), folds(), n_components=n_components, **settings
    )


@pytest.mark.parametrize("n_components", [None, 4])
def test_predictions_are_those_of_scikit_learn_fitted_on_the_training_images(
    n_components: int | None,
) -> None:
    """The steps written out by hand, as the facts about the field's pipeline name them."""
    features, codes = example()
    found = run(features, codes, n_components)
    by_hand = {
        "logistic_regression": LogisticRegression(max_iter=1000, class_weight="balanced"),
        "svm_rbf": SVC(C=1.0, gamma="scale", class_weight="balanced"),
        "random_forest": RandomForestClassifier(
            100, max_depth=10, min_samples_split=10, class_weight="balanced", random_state=42
        ),
    }
    for fold in folds():
        scaler = StandardScaler().fit(features[fold.train].astype(np.float64))
        train, validation = (
            scaler.transform(features[rows].astype(np.float64))
            for rows in (fold.train, fold.validation)
        )
        if n_components:
            pca = PCA(n_components, svd_solver="full").fit(train)
            train, validation = pca.transform(train), pca.transform(validation)
        for name, model in by_hand.items():
            predicted = model.fit(train, codes[fold.train]).predict(validation)
            np.testing.assert_array_equal(
                found[name].probabilities[fold.validation].argmax(axis=1), predicted
            )
            if name != "svm_rbf":
                np.testing.assert_allclose(
                    found[name].probabilities[fold.validation], model.predict_proba(validation)
                )


@pytest.mark.parametrize("n_components", [None, 4])
def test_a_validation_image_changes_nothing_for_others_of_its_fold(
    n_components: int | None,
) -> None:
    """Known trap: scaler and PCA fitted on all folds. An outlier in validation shows it."""
    features, codes = example()
    before = run(features, codes, n_components)
    fold = folds()[0]
    changed, others = fold.validation[0], fold.validation[1:]
    features[changed] *= 1e6
    after = run(features, codes, n_components)
    for name in CLASSIFIERS:
        np.testing.assert_array_equal(
            before[name].probabilities[others], after[name].probabilities[others]
        )


def test_labels_of_validation_images_change_nothing_in_their_fold() -> None:
    features, codes = example()
    before = run(features, codes, 4)
    fold = folds()[0]
    codes[fold.validation] = (codes[fold.validation] + 1) % K
    after = run(features, codes, 4)
    for name in CLASSIFIERS:
        np.testing.assert_array_equal(
            before[name].probabilities[fold.validation], after[name].probabilities[fold.validation]
        )


def test_identity_without_meaning_predicts_nothing() -> None:
    """Features that name the patient, labels at random: in grouped folds only chance is left."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(30), 4)
    labels = rng.integers(0, 2, 30)[patients]
    features = np.eye(30, dtype=np.float32)[patients] * 10
    grouped = [
        Fold(np.flatnonzero(patients % 5 != part), np.flatnonzero(patients % 5 == part))
        for part in range(5)
    ]
    torn = [
        Fold(np.flatnonzero(np.arange(120) % 4 != part), np.flatnonzero(np.arange(120) % 4 == part))
        for part in range(4)
    ]
    for splits, low, high in ((grouped, 0.0, 0.75), (torn, 0.99, 1.0)):
        outcomes = cross_validate(features, labels, 2, splits, n_components=None, seed=0, workers=1)
        for outcome in outcomes.values():
            accuracy = (outcome.probabilities.argmax(axis=1) == labels).mean()
            assert low <= accuracy <= high


def test_classes_keep_their_places_where_some_have_no_image() -> None:
    """Known trap: labels shifted. Codes 1 and 3 of 4, well apart."""
    codes = np.array([1, 3] * 20, np.int64)
    features = np.where(codes[:, None] == 1, -5, 5) + np.random.default_rng(0).normal(size=(40, 3))
    splits = [
        Fold(
            np.flatnonzero(np.arange(40) // 10 != part), np.flatnonzero(np.arange(40) // 10 == part)
        )
        for part in range(4)
    ]
    outcomes = cross_validate(
        features.astype(np.float32), codes, 4, splits, n_components=2, seed=0, workers=1
    )
    for outcome in outcomes.values():
        assert outcome.probabilities.shape == (40, 4)
        assert not outcome.probabilities[:, [0, 2]].any()
        np.testing.assert_array_equal(outcome.probabilities.argmax(axis=1), codes)
        np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_largest_of_an_svms_scores_is_the_class_it_predicts(n_classes: int) -> None:
    rng = np.random.default_rng(n_classes)
    features = rng.normal(size=(90, 4))
    codes = rng.integers(0, n_classes, 90)
    model = fitted("svm_rbf", features, codes, None, 0)
    scores = probabilities_of(model, features, n_classes)
    np.testing.assert_array_equal(scores.argmax(axis=1), model.predict(features))
    np.testing.assert_allclose(scores.sum(axis=1), 1)


def test_components_are_no_more_than_images_and_features_allow() -> None:
    features, codes = example()
    assert run(features, codes, 50)["svm_rbf"].components == (D,) * 4
    wide = np.random.default_rng(0).normal(size=(N, 200)).astype(np.float32)
    assert run(wide, codes, 50)["svm_rbf"].components == (44,) * 4  # of 45 training images
    assert run(wide, codes, 7)["svm_rbf"].components == (7,) * 4
    assert run(features, codes)["svm_rbf"].components == ()


def test_constant_features_do_no_harm() -> None:
    features, codes = example()
    features[:, 3] = 7
    for outcome in run(features, codes, 50).values():
        assert np.isfinite(outcome.probabilities).all()


def test_threads_change_nothing() -> None:
    features, codes = example()
    one, three = run(features, codes, 4), run(features, codes, 4, workers=3)
    for name in CLASSIFIERS:
        np.testing.assert_array_equal(one[name].probabilities, three[name].probabilities)


def test_a_logistic_regression_that_stops_early_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        CLASSIFIERS, "logistic_regression", lambda seed: LogisticRegression(max_iter=2)
    )
    monkeypatch.setattr("mammography.analysis.baselines.MAX_ITERATIONS", 2)
    features, codes = example()
    outcomes = run(features, codes)
    assert outcomes["logistic_regression"].unconverged == (1, 2, 3, 4)
    assert outcomes["svm_rbf"].unconverged == outcomes["random_forest"].unconverged == ()


def test_a_fold_of_one_class_is_refused() -> None:
    codes = np.array([0] * 5 + [1] * 5, np.int64)
    split = [Fold(np.arange(5), np.arange(5, 10))]
    with pytest.raises(UsageError, match="training images of fold 1 are of one class"):
        cross_validate(
            np.zeros((10, 2), np.float32), codes, 2, split, n_components=None, seed=0, workers=1
        )

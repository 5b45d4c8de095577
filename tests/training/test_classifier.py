"""The estimator of scikit-learn."""

import pickle

import numpy as np
import pytest

import fastuq
from fastuq.errors import InputError, MissingExtraError
from fastuq.scoring.decisions import Reason

pytest.importorskip("sklearn", reason="needs scikit-learn: pip install 'fastuq[sklearn]'")

from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

QUICK = {"epochs": 3, "learning_rate": 0.02}


@parametrize_with_checks([fastuq.DropoutClassifier(**QUICK)])
def test_it_keeps_to_what_scikit_learn_asks_of_estimators(estimator, check):
    """One check does not apply: array_api_input, which needs SciPy's array API switched on for the whole process."""
    check(estimator)


def clusters(count, seed, spread=2.0):
    """Four classes about four points, in dimensions of very different sizes and places, under names."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(4, size=count)
    centres = np.random.default_rng(99).standard_normal((4, 16))
    x = centres[labels] + spread * rng.standard_normal((count, 16))
    return (x * np.geomspace(0.01, 100, 16) + 50).astype(np.float32), np.array(["yak", "ape", "cat", "emu"])[labels]


@pytest.fixture(scope="module")
def fitted():
    return fastuq.DropoutClassifier(**QUICK).fit(*clusters(400, 0))


def test_kept_predictions_are_right_more_often(fitted):
    x, y = clusters(500, 1)
    keep, right = fitted.keep(x), fitted.predict(x) == y
    assert keep.dtype == bool
    assert 50 < (~keep).sum() < 450
    assert right[keep].mean() > right.mean() + 0.03 > right[~keep].mean() + 0.1
    assert fitted.score(x, y) == right.mean()
    assert list(fitted.classes_) == ["ape", "cat", "emu", "yak"]


def test_results_are_those_of_scoring(fitted):
    x, y = clusters(60, 2)
    result = fitted.result(x, y)
    again = fastuq.score(fitted.model_, fastuq.Features.from_arrays(x, model=fitted.model_).read(0, 60))
    np.testing.assert_array_equal(result.mean, again.mean)
    np.testing.assert_array_equal(fitted.predict_proba(x), result.mean)
    np.testing.assert_array_equal(fitted.keep(x), result.keep)
    assert result.std.max() > 0.01
    assert result.summary()["accuracy_plain"] > 0.5
    assert {Reason(code).text for code in result.reason} >= {"certain"}
    assert set(result.class_names) == set(fitted.classes_)
    with pytest.raises(InputError, match="labels"):
        fitted.result(x, np.full(60, "gnu"))


def test_training_is_under_masks_of_the_rate_that_the_head_predicts_with(fitted, monkeypatch):
    seen, train = [], MLPClassifier.partial_fit
    monkeypatch.setattr(
        MLPClassifier, "partial_fit", lambda *given, **named: seen.append(given[1]) or train(*given, **named)
    )
    x, y = clusters(400, 0)
    codes = fastuq.Features.from_arrays(x).read(0, 400)
    assert (codes == 0).mean() < 0.02
    fastuq.DropoutClassifier(0.3, **QUICK).fit(x, y)
    assert [(one == 0).mean().round(2) for one in seen] == pytest.approx([0.3] * QUICK["epochs"], abs=0.02)
    assert ((seen[0] == 0) != (seen[1] == 0)).mean() > 0.3
    # kept features are larger by 1 / (1 - rate), as they are when the head predicts
    assert {float(value) for value in np.unique(seen[0] * 64 * 0.7).round(4)} <= set(range(-127, 128))
    assert fitted.model_.head.rates == (0.2,)
    deep = fastuq.DropoutClassifier(0.3, hidden_layer_sizes=(8,), **QUICK).fit(*clusters(400, 0))
    assert (deep.model_.head.rates, deep.model_.head.widths) == ((0.3, 0.0), (16, 8))
    x, y = clusters(300, 3)
    assert deep.score(x, y) > 0.6
    pair = y[:100] < "d"
    two = fastuq.DropoutClassifier(**QUICK).fit(x[:100], pair)
    assert two.score(x[100:], y[100:] < "d") > 0.6
    np.testing.assert_allclose(two.predict_proba(x).sum(axis=1), 1, atol=1e-6)


def test_the_same_seed_gives_the_same_and_another_does_not(fitted):
    x = clusters(50, 4)[0]
    same = clone(fitted).fit(*clusters(400, 0))
    np.testing.assert_array_equal(same.predict_proba(x), fitted.predict_proba(x))
    other = clone(fitted).set_params(random_state=1).fit(*clusters(400, 0))
    assert (other.predict_proba(x) != fitted.predict_proba(x)).any()
    kept = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(kept.predict_proba(x), fitted.predict_proba(x))
    float32 = clone(fitted).set_params(precision="float32").fit(*clusters(400, 0))
    np.testing.assert_allclose(float32.predict_proba(x), fitted.predict_proba(x), atol=0.05)


def test_generators_give_seeds(fitted):
    x, y = clusters(60, 4)
    made = [fastuq.DropoutClassifier(**QUICK, random_state=np.random.RandomState(n)).fit(x, y) for n in (7, 7, 8)]
    assert made[0].seed_ == made[1].seed_ != made[2].seed_
    np.testing.assert_array_equal(made[0].predict_proba(x), made[1].predict_proba(x))
    assert fastuq.DropoutClassifier(**QUICK, random_state=None).fit(x, y).predict(x).shape == (60,)
    assert fitted.seed_ == 0


def test_it_goes_where_estimators_go():
    x, y = clusters(240, 5)
    assert cross_val_score(make_pipeline(StandardScaler(), fastuq.DropoutClassifier(**QUICK)), x, y, cv=2).mean() > 0.5
    search = GridSearchCV(fastuq.DropoutClassifier(**QUICK), {"dropout": [0.1, 0.5]}, cv=2).fit(x, y)
    assert search.best_params_["dropout"] in (0.1, 0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"dropout": 0}, "dropout: expected a number from 0.001 to 0.9"),
        ({"epochs": 0}, "epochs: expected"),
        ({"learning_rate": -1}, "learning rate: expected"),
        ({"hidden_layer_sizes": 8}, "hidden layer sizes: expected"),
        ({"hidden_layer_sizes": (0,)}, "hidden layer sizes: expected"),
        ({"num_iter": 1}, "num_iter: expected"),
        ({"masks": "some"}, "masks: expected"),
        ({"random_state": "0"}, "seed: expected"),
    ],
)
def test_parameters_out_of_range_are_refused_before_the_work(wrong, words, monkeypatch):
    monkeypatch.setattr("sklearn.neural_network.MLPClassifier.partial_fit", lambda *_, **__: pytest.fail("it trains"))
    with pytest.raises(InputError, match=words):
        fastuq.DropoutClassifier(**wrong).fit(*clusters(20, 0))


def test_without_scikit_learn_the_way_out_is_said(monkeypatch):
    from fastuq.training import classifier

    monkeypatch.setattr(classifier, "BaseEstimator", object)
    with pytest.raises(MissingExtraError, match=r"pip install 'fastuq\[sklearn\]'"):
        classifier.DropoutClassifier().fit(*clusters(20, 0))

"""DropoutClassifier: Monte-Carlo dropout on features as an estimator of scikit-learn."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from fastuq.cache.features import Features
from fastuq.errors import InputError, MissingExtraError
from fastuq.model.coding import CODES_TO_ONE
from fastuq.model.head import Block, Head
from fastuq.model.head_file import npz_of
from fastuq.model.model import Model
from fastuq.scoring.options import THRESHOLD, Options
from fastuq.scoring.result import Result
from fastuq.scoring.scoring import score
from fastuq.training.head_rounding import CALIBRATION_SAMPLES, quantize_head
from fastuq.util.checks import checked_seed, finite_number, shown, whole_number

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
except ImportError:  # the name stays importable without the extra; `fit` says what is missing
    BaseEstimator = ClassifierMixin = object

MOST_SEED = 2**32 - 1
LEAST_RATE = 0.001
"""Without dropout all iterations would be alike."""
PASS_ROWS = 10_000
"""Least rows of one pass over the samples, which few samples are repeated to, and most that are masked at once."""


class DropoutClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of features that says which of its predictions to keep, in the manner of scikit-learn.

    `fit` codes the features as int8, as scoring will, and trains the head on the codes with scikit-learn's
    `MLPClassifier` (Adam), each pass under fresh dropout masks on the features. The default head is linear: dropout,
    dense layer, softmax. Prediction runs the head under `num_iter` masks in fastuq's kernels. With
    ``masks="per_sample"`` they go by a sample's place in the batch: in another batch the same sample gets other ones.

    Parameters
    ----------
    dropout : float
        Rate at which features are dropped, in training and in prediction; from 0.001 to 0.9.
    hidden_layer_sizes : sequence of int
        Relu layers between the features and the classes, which get no dropout of their own.
    epochs : int
        Passes over the samples; where there are fewer than 10,000, one pass repeats them up to that.
    learning_rate : float
        Of Adam.
    num_iter, conf_factor, threshold, interval, mixed, masks, precision
        As in `fastuq.Options`; with ``num_iter="auto"``, `settle_error` and `max_iter` are those of its defaults.
    random_state : int, RandomState or None
        Seed of training and of the masks; the same one gives the same results. Of a RandomState, or of NumPy's own for
        None, `fit` draws one.

    Attributes
    ----------
    seed_ : int
        The seed that `fit` trained with; its masks are those of prediction.
    classes_ : ndarray, (C,)
    n_features_in_ : int
    model_ : Model
        What `fastuq.score` takes, with no files behind it.

    Raises
    ------
    MissingExtraError
        By `fit`: scikit-learn is not installed.
    InputError
        By `fit`: a parameter is out of range.

    Examples
    --------
    >>> import fastuq, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(3, size=400)
    >>> x = np.eye(3)[y] @ rng.standard_normal((3, 32)) + rng.standard_normal((400, 32))
    >>> classifier = fastuq.DropoutClassifier().fit(x[:300], y[:300])
    >>> classifier.predict_proba(x[300:]).shape, bool(classifier.score(x[300:], y[300:]) > 0.9)
    ((100, 3), True)
    >>> keep = classifier.keep(x[300:])
    >>> bool(classifier.score(x[300:][keep], y[300:][keep]) >= classifier.score(x[300:], y[300:]))
    True
    """

    def __init__(
        self,
        dropout: float = 0.2,
        *,
        hidden_layer_sizes: Any = (),
        epochs: int = 15,
        learning_rate: float = 0.002,
        num_iter: int | str = Options.num_iter,
        conf_factor: float = Options.conf_factor,
        threshold: float = THRESHOLD,
        interval: str = Options.interval,
        mixed: str = Options.mixed,
        masks: str = Options.masks,
        precision: str = Options.precision,
        random_state: Any = 0,
    ) -> None:
        self.dropout = dropout
        self.hidden_layer_sizes = hidden_layer_sizes
        self.epochs = epochs
        self.learning_rate = learning_rate
        self.num_iter = num_iter
        self.conf_factor = conf_factor
        self.threshold = threshold
        self.interval = interval
        self.mixed = mixed
        self.masks = masks
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "DropoutClassifier":
        """Train the head on features X (N, D) and their classes y (N,), numbers or names; return the estimator."""
        if BaseEstimator is object:
            raise MissingExtraError("DropoutClassifier needs scikit-learn: pip install 'fastuq[sklearn]'")
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import validate_data

        seed = _seed_of(self.random_state)
        self._options(seed)  # what is out of range is said before the work
        rate, epochs, network = self._untrained(seed)
        X, y = validate_data(self, X, y, dtype=[np.float64, np.float32])
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("DropoutClassifier: expected two classes or more, found one class; add samples of another")
        features = Features.from_arrays(X, name="features")
        _train(network, features.read(0, len(X)), labels, rate, epochs, seed)
        self.seed_ = seed
        self.model_ = _model(features, _head(network, rate), tuple(map(str, self.classes_)))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the class with the largest mean output of each row of X (N, D)."""
        found = self.result(X).top
        return self.classes_[found]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the mean output over the iterations, (N, C) float32, in the order of `classes_`."""
        return self.result(X).mean

    def keep(self, X: Any) -> np.ndarray:
        """Return which predictions to keep, (N,) bool."""
        return self.result(X).keep

    def result(self, X: Any, y: Any = None) -> Result:
        """Return all that scoring says of X (N, D), and with true classes y (N,) the figures of `Result.summary`."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        X = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        labels = None if y is None else self._numbers(y)
        features = Features.from_arrays(X, model=self.model_, name="features")
        return score(self.model_, features.read(0, len(X)), self._options(self.seed_), labels=labels)

    def _numbers(self, y: Any) -> np.ndarray:
        """Return true classes as labels; raises InputError where one was not fitted."""
        strange = ~np.isin(y, self.classes_)
        if strange.any():
            raise InputError(f"labels: expected classes that were fitted, found {shown(np.asarray(y)[strange][0])}")
        return np.searchsorted(self.classes_, y)

    def _options(self, seed: int) -> Options:
        names = ("num_iter", "conf_factor", "threshold", "interval", "mixed", "masks", "precision")
        return Options(**{name: getattr(self, name) for name in names}, seed=seed)

    def _untrained(self, seed: int) -> tuple[float, int, Any]:
        """Return dropout rate, epochs and the network to train; raises InputError where one is out of range."""
        from sklearn.neural_network import MLPClassifier

        try:
            sizes = [whole_number("hidden layer sizes", size, 1, 65536) for size in self.hidden_layer_sizes]
        except TypeError:
            raise InputError(
                f"hidden layer sizes: expected a sequence such as (100,), found {shown(self.hidden_layer_sizes)}"
            ) from None
        speed = finite_number("learning rate", self.learning_rate, 1e-9, 1000)
        rate = finite_number("dropout", self.dropout, LEAST_RATE, 0.9)
        network = MLPClassifier(tuple(sizes), learning_rate_init=speed, random_state=checked_seed(seed, MOST_SEED))
        return rate, whole_number("epochs", self.epochs, 1, 1_000_000), network


def _train(network: Any, codes: np.ndarray, labels: np.ndarray, rate: float, epochs: int, seed: int) -> None:
    """Train a network on the codes, each pass and piece of them under masks of its own."""
    rng, classes = np.random.default_rng(seed), np.unique(labels)
    for _ in range(epochs):
        order = rng.permutation(max(len(codes), PASS_ROWS)) % len(codes)
        for start in range(0, len(order), PASS_ROWS):
            rows = order[start : start + PASS_ROWS]
            x = codes[rows] * np.float32(1 / (CODES_TO_ONE * (1 - rate)))
            x *= rng.random(x.shape, np.float32) >= rate
            network.partial_fit(x, labels[rows], classes=classes)


def _seed_of(random_state: Any) -> Any:
    """Return a seed that is given as it is; of a generator of NumPy, or of its own for None, one that is drawn."""
    from sklearn.utils import check_random_state

    if random_state is None or isinstance(random_state, np.random.RandomState):
        return int(check_random_state(random_state).randint(MOST_SEED, dtype=np.int64))
    return random_state


def _head(network: Any, rate: float) -> Head:
    """Return the layers of a fitted MLPClassifier as a head on codes, with dropout before the first."""
    weights, biases = list(network.coefs_), list(network.intercepts_)
    if network.out_activation_ == "logistic":  # two classes from one unit, whose sigmoid is the softmax of it and 0
        weights[-1] = np.hstack([np.zeros_like(weights[-1]), weights[-1]])
        biases[-1] = np.hstack([np.zeros_like(biases[-1]), biases[-1]])
    last = len(weights) - 1
    blocks = tuple(
        Block(0.0 if n else rate, w.astype(np.float32), b.astype(np.float32), "softmax" if n == last else "relu")
        for n, (w, b) in enumerate(zip(weights, biases, strict=True))
    )
    width = len(weights[0])
    return Head(blocks, np.full(width, 1 / CODES_TO_ONE, np.float32), np.zeros(width, np.float32))


def _model(features: Features, head: Head, names: tuple[str, ...]) -> Model:
    """Return a model of embeddings that lies in no folder; up to 4,096 of the features round its head to int8."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(features))[:CALIBRATION_SAMPLES])
    return Model(
        path=Path("memory"),
        network="embeddings",
        class_names=names,
        input_shape=None,
        feature_scale=1.0,
        feature_zero_point=0,
        head=head,
        head_int8=quantize_head(head, features.rows(drawn), 1.0, 0),
        sha256=hashlib.sha256(npz_of({**head.to_arrays(), "coding": features.coding.scale})).hexdigest(),
        info={},
        coding=features.coding,
    )

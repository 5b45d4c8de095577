"""`fastuq train --features`: a head fitted on embeddings from anywhere."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from fastuq.cache.features import Features
from fastuq.errors import InputError
from fastuq.model.coding import CODES_TO_ONE
from fastuq.model.folder import MAX_HEADS, check_replaceable
from fastuq.model.head import Head
from fastuq.model.model import Model
from fastuq.training.embedding_model import check_class_names, model_on_codes
from fastuq.training.fitting import Recipe, Samples, fit_heads
from fastuq.training.keras_heads import head_from_model
from fastuq.training.train import DEFAULT, trainable_layout
from fastuq.training.work_folder import open_work
from fastuq.util.checks import checked_path, checked_seed, whole_number
from fastuq.util.defaults import PAPER_HEAD


def train_features(
    features: Features,
    output: str | Path,
    *,
    work: str | Path,
    head: str = PAPER_HEAD,
    recipe: Recipe = DEFAULT,
    class_names: Sequence[str] | None = None,
    holdout: int = 0,
    seed: int = 0,
    heads: int = 1,
) -> Model:
    """Fit a head, or several, on labelled embeddings and write the model folder.

    Heads see the int8 codes, as they will when they score.

    Parameters
    ----------
    features : Features
        With labels.
    output : str or Path
        The model folder.
    work : str or Path
        Folder of checkpoints; a run that was cut off goes on from there.
    head : str
        Layout of the head, such as ``bn,0.2:300:relu,0.4:sigmoid``.
    recipe : Recipe
    class_names : sequence of str, optional
        Default: ``class_0`` and so on, up to the largest label.
    holdout : int
        Samples at the end that are not fitted on; the accuracy on them is reported.
    seed : int
    heads : int
        How many heads are fitted, each from a seed of its own, and scored as one model.

    Raises
    ------
    InputError
        There are no labels, or an argument does not fit them.
    MissingExtraError
        TensorFlow is not installed.
    """
    check_replaceable(checked_path(output))
    if features.labels is None:
        raise InputError(f"{features.name}: training needs labels; give --labels FILE.npy")
    fitted = len(features) - holdout
    if not 0 < fitted <= len(features):
        raise InputError(f"--holdout: expected 0 to {len(features) - 1} samples, found {holdout}")
    count = features.one_hot or int(features.labels.max()) + 1
    names = check_class_names(class_names, count, at_least=features.one_hot is None)
    layout, heads = trainable_layout(head, len(names)), whole_number("heads", heads, 1, MAX_HEADS)
    plan = {"head": head, "recipe": asdict(recipe), "seed": checked_seed(seed, 2**32 - 1), "holdout": holdout}
    folder = open_work(checked_path(work), {"plan": plan, "features": features.fingerprint()})
    samples = Samples([_Codes(features)], features.labels[:fitted], len(names), 1 / CODES_TO_ONE, 0)
    tops = fit_heads(layout, samples, recipe, seed=seed, count=heads, folder=folder)
    made = [head_from_model(top) for top in tops]
    on_codes = [replace(each, scale=each.scale / np.float32(CODES_TO_ONE)) for each in made]
    report = {"report": _accuracy(features, on_codes, fitted)} if holdout else {}
    return model_on_codes(output, on_codes, features, names, "embeddings", {**plan, "heads": heads, **report})


class _Codes:
    """The codes of features as the array that `fit` takes rows of."""

    def __init__(self, features: Features) -> None:
        self._features = features
        self.shape = (len(features), features.num_features)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self._features.rows(rows)


def _accuracy(features: Features, heads: Sequence[Head], start: int) -> dict[str, float]:
    right, labels = 0, features.labels
    assert labels is not None
    for begin in range(start, len(features), 8192):
        stop = min(begin + 8192, len(features))
        codes = features.read(begin, stop).astype(np.float32)
        outputs = np.mean([head.forward(codes) for head in heads], axis=0)
        right += int((outputs.argmax(axis=1) == labels[begin:stop]).sum())
    return {"accuracy_holdout": right / (len(features) - start)}

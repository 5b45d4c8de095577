"""A near set without a download: a head that knows 80 of the 100 classes, and test images of the other 20.

    python benchmarks/near_set.py TRAIN.h5 TEST.h5 FOLDER [NAME=FILE ...]

TRAIN and TEST are feature caches of the CIFAR-100 images, the named ones of foreign images, all of one model. A head is
trained on the cached features of the classes that are left (every fifth is taken out). FOLDER gets the model of these
features, and its caches: train.h5 and test.h5 of the 80 classes, near.h5 of the 20, and one of each foreign set. The
backbone has seen all 100 classes; only head, reference and bank have not.
"""

import sys
from pathlib import Path

import numpy as np

import fastuq
from fastuq.cache import FeatureCache
from fastuq.training.train_features import train_features

EVERY = 5


def read(path):
    with FeatureCache.open(path) as cache:
        return cache.read(0, len(cache)), cache.labels, cache.class_names


def main():
    train, test, folder, *foreign = sys.argv[1:]
    folder = Path(folder)
    rows, labels, names = read(train)
    known = [name for number, name in enumerate(names) if number % EVERY < EVERY - 1]
    is_known = labels % EVERY < EVERY - 1
    features = {"train": (rows[is_known], labels[is_known])}
    rows, labels, _ = read(test)
    is_known = labels % EVERY < EVERY - 1
    features |= {"test": (rows[is_known], labels[is_known]), "near": (rows[~is_known], None)}
    features |= {name: (read(path)[0], None) for name, _, path in (given.partition("=") for given in foreign)}
    made = {
        name: fastuq.Features.from_arrays(codes, of if of is None else of - of // EVERY, name=f"cifar100-80/{name}")
        for name, (codes, of) in features.items()
    }
    model = train_features(made["train"], folder / "model", work=folder / "work", class_names=known)
    for name, each in made.items():
        fastuq.cache_embeddings(each, model, folder / f"{name}.h5").close()
        print(f"{name}: {len(each):,}")
    codes, truth = features["test"][0], made["test"].labels
    right = np.concatenate(
        [model.head.forward(codes[n : n + 1000].astype(np.float32)).argmax(axis=1) for n in range(0, len(codes), 1000)]
    )
    print(f"{(right == truth).mean():.2%} of the test images right")


if __name__ == "__main__":
    main()

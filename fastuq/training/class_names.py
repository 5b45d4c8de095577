"""The classes of a network that names none itself, and the labels that count them."""

from collections.abc import Sequence
from dataclasses import replace

from fastuq.datasets import ImageSet
from fastuq.errors import InputError
from fastuq.util.labels import places_of


def names_of(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return names of `count` classes, made up where none are given; raises InputError where they are not as many."""
    names = tuple(given) if given is not None else tuple(f"class_{number}" for number in range(count))
    if len(names) != count:
        raise InputError(f"class names: expected {count}, one for each output of the head, found {len(names)}")
    return names


def classes_of(images: ImageSet, given: Sequence[str] | None, count: int) -> tuple[tuple[str, ...], ImageSet]:
    """Return the names of the `count` classes of a network, and the images with labels that count them.

    The names are those that are given; else those of the images where they are as many and no class numbers; else
    ``class_0`` and so on. The classes of images are matched with them as `ImageSet.matched_to` does.

    Raises
    ------
    InputError
        The names given are not as many, a label is none of the classes, or the network knows some and not others.
    """
    names = names_of(given, count)
    own = images.class_names
    if given is None and own is not None and len(own) == count and not places_of(own, names)[0]:
        return own, images
    matched = images.matched_to(names)
    if matched.labels is None and images.labels is not None and given is None:
        note = f"{matched.notes[-1]}; --classes FILE names those of the network"
        matched = replace(matched, notes=(*matched.notes[:-1], note))
    if matched.labels is not None and matched.labels.max() >= count:
        raise InputError(
            f"{images.name}: the network has {count} classes, a label is {matched.labels.max()}; give labels counted "
            "from 0, or images without labels"
        )
    return names, matched


def matched_test(test: ImageSet, images: ImageSet, given: Sequence[str] | None, names: tuple[str, ...]) -> ImageSet:
    """Return test images with labels that count `names`, the classes of a network that was shown `images`.

    Raises
    ------
    InputError
        They are of other classes.
    """
    matched = classes_of(test, names if given or images.class_names else None, len(names))[1]
    if matched.labels is None and test.labels is not None:
        raise InputError(f"test images {test.name}: found {matched.notes[-1]}; give test images of the same classes")
    return matched


def said_of(matched: ImageSet, images: ImageSet) -> dict[str, str]:
    """Return what is said of how the classes were matched, as an entry of how a model was made."""
    notes = matched.notes[len(images.notes) :]
    return {"labels": notes[-1]} if notes else {}

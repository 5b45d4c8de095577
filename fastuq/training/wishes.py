"""What a user may choose for an import."""

from dataclasses import dataclass, field

from fastuq.training.front import Front


@dataclass(frozen=True)
class Wishes:
    """What a user may choose.

    Attributes
    ----------
    cut : str or None
        Layer to cut after; None: before the first dropout that a head can have.
    dropout : tuple of float or None
        Rates before the last dense layers, in place of the network's own dropouts.
    front : Front
        What is done to pixels before the network.
    activation : str or None
        ``softmax`` or ``sigmoid``, for a network that ends in logits.
    """

    cut: str | None = None
    dropout: tuple[float, ...] | None = None
    front: Front = field(default_factory=Front)
    activation: str | None = None

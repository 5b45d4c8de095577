"""Scores of a bank of training features: logits and likeness to the training rows of each class, fused."""

import numpy as np
from scipy.special import softmax

from fastuq.scoring.scores.chunk import Chunk


def bank(chunk: Chunk, _: None) -> np.ndarray:
    """max_c softmax(q)_c, q = a z + b s."""
    return softmax(chunk.fused.astype(np.float64), axis=1).max(axis=1)


def bank_logit(chunk: Chunk, _: None) -> np.ndarray:
    """max_c q_c."""
    return chunk.fused.max(axis=1)


def bank_similarity(chunk: Chunk, _: None) -> np.ndarray:
    """max_c s_c, the largest cosine to any training row."""
    return chunk.similarities.max(axis=1)

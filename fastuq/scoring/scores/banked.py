"""Scores of a bank of training features: logits and likeness to the training rows of each class, fused."""

import numpy as np

from fastuq.scoring.scores.chunk import Chunk


def bank(chunk: Chunk, _: None) -> np.ndarray:
    """max_c softmax(q)_c, q = a z + b s."""
    return chunk.fused_probabilities.max(axis=1)


def bank_logit(chunk: Chunk, _: None) -> np.ndarray:
    """max_c q_c."""
    return chunk.fused.max(axis=1)


def bank_similarity(chunk: Chunk, _: None) -> np.ndarray:
    """max_c s_c, the largest cosine to any training row."""
    return chunk.similarities.max(axis=1)

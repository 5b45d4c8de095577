"""Every score by its formula, one sample at a time in float64, sharing no code with the package."""

import math

import numpy as np


class World:
    """What the formulas speak of: training and test samples, their hidden units, logits and outputs."""

    def __init__(self, head, train, train_labels, test, rows, zero_point, feature_scale):
        self.f, self.train_f = (feature_scale * (q.astype(float) - zero_point) for q in (test, train))
        self.w, self.b = head.blocks[-1].weights.astype(float), head.blocks[-1].bias.astype(float)
        self.activation = head.blocks[-1].activation
        self.h, self.train_h = self._hidden(head, self.f), self._hidden(head, self.train_f)
        self.z, self.train_z = self.h @ self.w + self.b, self.train_h @ self.w + self.b
        self.p = 1 / (1 + np.exp(-self.z)) if self.activation == "sigmoid" else _softmax(self.z)
        self.train_p = 1 / (1 + np.exp(-self.train_z)) if self.activation == "sigmoid" else _softmax(self.train_z)
        self.labels, self.rows = train_labels, rows

    @staticmethod
    def _hidden(head, f):
        x = f * head.scale + head.shift
        for block in head.blocks[:-1]:
            x = np.maximum(x @ block.weights.astype(float) + block.bias, 0)
        return x


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _lse(z):
    return math.log(sum(math.exp(v) for v in z))


def _unit(x):
    return x / np.linalg.norm(x)


def _top(x, k):
    return sorted(x, reverse=True)[:k]


def _cov_within(x, y):
    return sum(np.outer(v - x[y == c].mean(0), v - x[y == c].mean(0)) for v, c in zip(x, y, strict=True)) / len(x)


def _residual(x, origin, train, dim):
    values, vectors = np.linalg.eigh((train - origin).T @ (train - origin) / len(train))
    rest = vectors[:, np.argsort(-values)][:, dim:]
    return np.linalg.norm((x - origin) @ rest)


def _mahalanobis(x, train, y):
    inverse = np.linalg.pinv(_cov_within(train, y), rcond=1e-7, hermitian=True)
    means = [train[y == c].mean(0) for c in range(y.max() + 1)]
    return max(-(x - m) @ inverse @ (x - m) for m in means)


def _distance_to_all(x, train):
    inverse = np.linalg.pinv(np.cov(train.T, bias=True), rcond=1e-7, hermitian=True)
    return (x - train.mean(0)) @ inverse @ (x - train.mean(0))


def _knn(x, bank, k):
    return -sorted(((_unit(x) - _unit(row)) ** 2).sum() for row in bank)[k - 1]


def _sirc(p, s, train_s):
    a, b = np.mean(train_s) - 3 * np.std(train_s), 1 / np.std(train_s)
    return -(1 - max(p)) * (1 + math.exp(-b * (s - a)))


def _shaped(h, percentile, how):
    h = np.array(h)
    k = len(h) - round(len(h) * percentile / 100)
    kept = np.argsort(-h)[:k]
    inside = np.isin(np.arange(len(h)), kept)
    if how == "ash_b":
        return np.where(inside, h.sum() / k, 0)
    ratio = math.exp(h.sum() / h[kept].sum())
    return h * ratio if how == "scale" else np.where(inside, h, 0) * ratio


def _dice_weights(world, percentile):
    share = world.train_h.mean(0)[:, None] * world.w
    return world.w * (share > np.percentile(share, percentile))


def _fdbd(world, n):
    z, y = world.z[n], world.z[n].argmax()
    total = sum(abs(z[y] - z[c]) / np.linalg.norm(world.w[:, y] - world.w[:, c]) for c in range(len(z)) if c != y)
    return total / np.linalg.norm(world.h[n] - world.train_h.mean(0))


def _she(world, n):
    y = world.z[n].argmax()
    right = (world.train_z.argmax(1) == world.labels) & (world.labels == y)
    chosen = right if right.any() else world.labels == y
    return world.h[n] @ world.train_h[chosen].mean(0)


def _nnguide(world, n, k):
    like = [_unit(world.h[n]) @ _unit(world.train_h[i]) * _lse(world.train_z[i]) for i in world.rows]
    return _lse(world.z[n]) * np.mean(_top(like, k))


def _vim(world, n, kind, dim):
    x, train = (world.h, world.train_h) if kind == "h" else (world.f, world.train_f)
    origin = -np.linalg.pinv(world.w.T) @ world.b if kind == "h" else train.mean(0)
    norms = [_residual(train[i], origin, train, dim) for i in world.rows]
    alpha = np.mean([max(world.train_z[i]) for i in world.rows]) / np.mean(norms)
    return _lse(world.z[n]) - alpha * _residual(x[n], origin, train, dim)


def _gen(p, gamma):
    return -sum((q * (1 - q)) ** gamma for q in p)


def _hidden_origin(world):
    return -np.linalg.pinv(world.w.T) @ world.b


ORACLES = {
    "max": lambda v, n: max(v.p[n]),
    "margin": lambda v, n: _top(v.p[n], 2)[0] - _top(v.p[n], 2)[1],
    "top_alone": lambda v, n: _top(v.p[n], 2)[0] * (1 - _top(v.p[n], 2)[1]),
    "msp": lambda v, n: max(_softmax(v.z[n])),
    "msp(2)": lambda v, n: max(_softmax(v.z[n] / 2)),
    "odin": lambda v, n: max(_softmax(v.z[n] / 1000)),
    "entropy": lambda v, n: sum(q * math.log(q) for q in _softmax(v.z[n])),
    "max_logit": lambda v, n: max(v.z[n]),
    "energy": lambda v, n: _lse(v.z[n]),
    "energy(2)": lambda v, n: 2 * _lse(v.z[n] / 2),
    "joint_energy": lambda v, n: sum(math.log(1 + math.exp(z)) for z in v.z[n]),
    "gen": lambda v, n: _gen(_softmax(v.z[n]), 0.1),
    "gen(0.5)": lambda v, n: _gen(_softmax(v.z[n]), 0.5),
    "gen_outputs": lambda v, n: _gen(v.p[n], 0.1),
    "grad_norm": lambda v, n: sum(abs(v.h[n])) * sum(abs(1 - len(v.z[n]) * _softmax(v.z[n]))),
    "react": lambda v, n: _lse(np.minimum(v.h[n], np.percentile(v.train_h[v.rows], 90)) @ v.w + v.b),
    "react(65)": lambda v, n: _lse(np.minimum(v.h[n], np.percentile(v.train_h[v.rows], 65)) @ v.w + v.b),
    "dice": lambda v, n: _lse(v.h[n] @ _dice_weights(v, 90) + v.b),
    "dice(40)": lambda v, n: _lse(v.h[n] @ _dice_weights(v, 40) + v.b),
    "ash_b(65)": lambda v, n: _lse(_shaped(v.h[n], 65, "ash_b") @ v.w + v.b),
    "ash_s(65)": lambda v, n: _lse(_shaped(v.h[n], 65, "ash_s") @ v.w + v.b),
    "scale": lambda v, n: _lse(_shaped(v.h[n], 85, "scale") @ v.w + v.b),
    "fdbd": _fdbd,
    "she": _she,
    "nnguide": lambda v, n: _nnguide(v, n, 10),
    "knn": lambda v, n: _knn(v.f[n], v.train_f[v.rows], 10),
    "knn(1)": lambda v, n: _knn(v.f[n], v.train_f[v.rows], 1),
    "mahalanobis": lambda v, n: _mahalanobis(v.h[n], v.train_h, v.labels),
    "mahalanobis_features": lambda v, n: _mahalanobis(v.f[n], v.train_f, v.labels),
    "relative_mahalanobis": lambda v, n: (
        _mahalanobis(v.h[n], v.train_h, v.labels) + _distance_to_all(v.h[n], v.train_h)
    ),
    "relative_mahalanobis_features": lambda v, n: (
        _mahalanobis(v.f[n], v.train_f, v.labels) + _distance_to_all(v.f[n], v.train_f)
    ),
    "vim": lambda v, n: _vim(v, n, "h", len(v.h[n]) // 2),
    "vim(4)": lambda v, n: _vim(v, n, "h", 4),
    "vim_features": lambda v, n: _vim(v, n, "f", round(0.2 * len(v.f[n]))),
    "residual": lambda v, n: -_residual(v.h[n], _hidden_origin(v), v.train_h, len(v.h[n]) // 2),
    "residual_features": lambda v, n: -_residual(v.f[n], v.train_f.mean(0), v.train_f, round(0.2 * len(v.f[n]))),
    "sirc": lambda v, n: _sirc(v.p[n], sum(abs(v.h[n])), [sum(abs(v.train_h[i])) for i in v.rows]),
    "sirc_residual": lambda v, n: _sirc(
        v.p[n],
        -_residual(v.f[n], v.train_f.mean(0), v.train_f, round(0.2 * len(v.f[n]))),
        [-_residual(v.train_f[i], v.train_f.mean(0), v.train_f, round(0.2 * len(v.f[n]))) for i in v.rows],
    ),
    "sirc_knn": lambda v, n: _sirc(
        v.p[n],
        _knn(v.f[n], v.train_f[v.rows], 10),
        [_knn(v.train_f[i], v.train_f[[j for j in v.rows if j != i]], 10) for i in v.rows],
    ),
}
"""By name: (world, sample) -> score."""
ITERATION_ORACLES = {
    "mean_max": lambda y: max(y.mean(0)),
    "mean_top_alone": lambda y: _top(y.mean(0), 2)[0] * (1 - _top(y.mean(0), 2)[1]),
    "vote_share": lambda y: max(np.bincount(y.argmax(1))) / len(y),
    "gap": lambda y: _gap(y)[0] - 1.0364 * _gap(y)[1],
    "gap(0)": lambda y: _gap(y)[0],
    "gap_deviations": lambda y: _gap(y)[0] / _gap(y)[1],
}
"""By name: outputs (T, C) of the iterations of one sample -> score."""


def _gap(y):
    first, second = np.argsort(-y.mean(0))[:2]
    return y.mean(0)[first] - y.mean(0)[second], math.sqrt(y[:, first].var() + y[:, second].var())

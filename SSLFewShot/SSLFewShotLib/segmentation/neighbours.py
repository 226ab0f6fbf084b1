"""Nearest neighbours among the support's vectors."""

from __future__ import annotations

import faiss
import numpy as np

from SSLFewShotLib.errors import InputError
from SSLFewShotLib.progress import Progress, ignore_progress

_RECALL_QUERIES = 500
_QUERIES_AT_ONCE = 4096


class NeighbourIndex:
    """faiss, exact by default.

    kind "exact": every distance is computed. kind "approximate": inverted lists (one for about 40 vectors, an
    eighth of them searched), with `recall` measured against the exact search on its own vectors, moved by noise.
    """

    def __init__(self, vectors: np.ndarray, kind: str = "exact", seed: int = 0):
        """vectors: (M, D) float32. Raises InputError for another kind, no vector, or one that is not finite."""
        check_kind(kind)
        if not len(vectors):
            raise InputError("the support holds no vector to compare with")
        if not np.isfinite(vectors).all():
            raise InputError("vectors that are not finite cannot be compared; check the scans for NaN voxels")
        vectors = np.ascontiguousarray(vectors, np.float32)
        self.kind = kind
        self.recall = 1.0
        exact = faiss.IndexFlatL2(vectors.shape[1])
        exact.add(vectors)
        self._index = exact
        lists = len(vectors) // 40
        if kind == "approximate" and lists > 8:
            quantiser = faiss.IndexFlatL2(vectors.shape[1])
            self._index = faiss.IndexIVFFlat(quantiser, vectors.shape[1], lists)
            self._index.cp.seed = seed
            self._index.train(vectors)
            self._index.add(vectors)
            self._index.nprobe = max(1, lists // 8)
            self.recall = self._measured_recall(vectors, exact, seed)

    def search(
        self, queries: np.ndarray, k: int, progress: Progress = ignore_progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) to squared distances and rows of the k nearest, both (N, k); row -1 where there are fewer."""
        k = min(k, self._index.ntotal)
        distances = np.empty((len(queries), k), np.float32)
        rows = np.empty((len(queries), k), np.int64)
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            progress(start / len(queries), "searching neighbours")
            part = slice(start, start + _QUERIES_AT_ONCE)
            distances[part], rows[part] = self._index.search(np.ascontiguousarray(queries[part], np.float32), k)
        return distances, rows

    def _measured_recall(self, vectors: np.ndarray, exact: faiss.Index, seed: int) -> float:
        rng = np.random.default_rng(seed)
        probes = vectors[rng.integers(len(vectors), size=_RECALL_QUERIES)]
        probes = probes + rng.normal(0, 0.5, probes.shape).astype(np.float32) * vectors.std(axis=0)
        k = min(21, len(vectors))
        found, truth = self._index.search(probes, k)[1], exact.search(probes, k)[1]
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found, truth, strict=True))
        return hits / truth.size


def check_kind(kind: str) -> None:
    """Raise InputError unless `kind` names an index."""
    if kind not in ("exact", "approximate"):
        raise InputError(f"index '{kind}': 'exact' or 'approximate' was expected")

"""Nearest neighbours among the support's vectors."""

import numpy as np
import pytest
from SSLFewShotLib.errors import Cancelled, InputError
from SSLFewShotLib.segmentation.neighbours import NeighbourIndex


def clustered(rng, count: int = 4000, dimension: int = 24, clusters: int = 20) -> np.ndarray:
    centres = rng.normal(0, 4, (clusters, dimension))
    return (centres[rng.integers(clusters, size=count)] + rng.normal(0, 1, (count, dimension))).astype(np.float32)


def brute_force(vectors: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    squared = ((queries[:, None].astype(np.float64) - vectors[None]) ** 2).sum(axis=-1)
    rows = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(squared, rows, axis=1), rows


def test_the_exact_index_finds_what_brute_force_finds(rng):
    vectors, queries = rng.normal(size=(300, 17)), rng.normal(size=(50, 17))
    index = NeighbourIndex(vectors)
    distances, rows = index.search(queries, 9)
    expected, expected_rows = brute_force(vectors, queries, 9)
    assert np.array_equal(rows, expected_rows)
    np.testing.assert_allclose(distances, expected, rtol=1e-3, atol=1e-3)
    assert index.recall == 1.0


def test_more_queries_than_are_searched_at_once_are_all_answered(rng):
    vectors = rng.normal(size=(30, 5)).astype(np.float32)
    queries = vectors[rng.integers(30, size=9000)]
    reports = []
    _, rows = NeighbourIndex(vectors).search(queries, 1, lambda *report: reports.append(report))
    np.testing.assert_array_equal(vectors[rows[:, 0]], queries)
    assert len(reports) == 3 and all(0 <= fraction < 1 for fraction, _ in reports)


def test_a_search_can_be_cancelled(rng):
    def cancel(fraction: float, message: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        NeighbourIndex(rng.normal(size=(30, 5))).search(rng.normal(size=(3, 5)), 1, cancel)


def test_the_approximate_index_states_its_recall_truthfully(rng):
    vectors = clustered(rng)
    index = NeighbourIndex(vectors, "approximate")
    queries = vectors[rng.integers(len(vectors), size=400)]
    queries = queries + rng.normal(0, 0.5, queries.shape).astype(np.float32) * vectors.std(axis=0)
    found = index.search(queries, 21)[1]
    truth = NeighbourIndex(vectors).search(queries, 21)[1]
    measured = np.mean([len(np.intersect1d(a, b)) / 21 for a, b in zip(found, truth, strict=True)])
    assert 0.8 < index.recall <= 1.0
    assert index.recall == pytest.approx(measured, abs=0.04)


def test_the_approximate_index_looks_at_a_part_of_the_vectors_only(rng):
    vectors = rng.normal(size=(4000, 24)).astype(np.float32)  # without clusters there is nothing to go by
    index = NeighbourIndex(vectors, "approximate")
    found, truth = (i.search(vectors[:300] * 1.1, 21)[1] for i in (index, NeighbourIndex(vectors)))
    measured = np.mean([len(np.intersect1d(a, b)) / 21 for a, b in zip(found, truth, strict=True)])
    assert measured < 0.9 and index.recall == pytest.approx(measured, abs=0.15)


def test_the_approximate_index_is_the_same_for_the_same_seed(rng):
    vectors, queries = clustered(rng), rng.normal(0, 4, (100, 24))
    one, same = (NeighbourIndex(vectors, "approximate", seed=3) for _ in range(2))
    assert one.recall == same.recall
    assert np.array_equal(one.search(queries, 21)[1], same.search(queries, 21)[1])


def test_a_few_vectors_are_searched_exactly_whatever_was_asked_for(rng):
    vectors = rng.normal(size=(60, 5))
    index = NeighbourIndex(vectors, "approximate")
    assert index.recall == 1.0
    assert np.array_equal(index.search(vectors, 3)[1], brute_force(vectors, vectors, 3)[1])


def test_more_neighbours_than_there_are_vectors_gives_them_all(rng):
    distances, rows = NeighbourIndex(rng.normal(size=(4, 5))).search(rng.normal(size=(7, 5)), 21)
    assert distances.shape == rows.shape == (7, 4)
    assert np.array_equal(np.sort(rows, axis=1), np.tile(np.arange(4), (7, 1)))


def test_no_query_is_no_problem(rng):
    distances, rows = NeighbourIndex(rng.normal(size=(4, 5))).search(np.empty((0, 5)), 2)
    assert distances.shape == rows.shape == (0, 2)


def test_what_cannot_be_indexed_is_refused(rng):
    with pytest.raises(InputError, match="'fast': 'exact' or 'approximate'"):
        NeighbourIndex(rng.normal(size=(4, 5)), "fast")
    with pytest.raises(InputError, match="no vector"):
        NeighbourIndex(np.empty((0, 5)))
    vectors = rng.normal(size=(4, 5))
    vectors[2, 1] = np.nan
    with pytest.raises(InputError, match="not finite"):
        NeighbourIndex(vectors)

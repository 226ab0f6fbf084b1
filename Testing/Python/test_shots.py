"""Which scans are marked and which are segmented: support sets for each number of shots, and two folds."""

import pytest
from SSLFewShotLib.errors import InputError, InputWarning
from SSLFewShotLib.evaluation.shots import cyclic_sets, plan_folds
from SSLFewShotLib.imaging.cases import Case


def cases(count, labelled=True):
    return [Case(f"pt_{n:02d}", f"pt_{n:02d}.nrrd", "labels" if labelled else None) for n in range(1, count + 1)]


def test_support_sets_are_cyclic_windows_and_no_set_comes_twice():
    assert cyclic_sets("abcd", 1, 3) == [("a",), ("b",), ("c",)]
    assert cyclic_sets("abcd", 3, 4) == [tuple("abc"), tuple("bcd"), tuple("cda"), tuple("dab")]
    assert cyclic_sets("abcd", 4, 4) == [tuple("abcd")]
    assert cyclic_sets("ab", 1, 5) == [("a",), ("b",)]


def test_every_labelled_scan_that_is_no_support_is_a_query():
    (fold,) = plan_folds([*cases(5), Case("pt_99", "pt_99.nrrd")], ["3", "pt_01"], shots=(1, 2))
    assert fold.support_sets == (("pt_03",), ("pt_01",), ("pt_03", "pt_01"))
    assert fold.queries == ("pt_02", "pt_04", "pt_05")


def test_queries_can_be_chosen_but_no_support_can_be_one():
    (fold,) = plan_folds(cases(5), ["1"], queries=["5", "2"])
    assert fold.queries == ("pt_05", "pt_02")
    with pytest.raises(InputError, match="pt_01: named as support and as query"):
        plan_folds(cases(5), ["1"], queries=["1", "2"])


def test_two_folds_are_the_halves_of_the_paper():
    first, second = plan_folds(cases(19), [], shots=(1, 9), repeats=2, two_fold=True)
    assert first.queries == tuple(f"pt_{n}" for n in range(11, 20))
    assert second.queries == tuple(f"pt_{n:02d}" for n in range(1, 11))
    assert first.support_sets[:2] == (("pt_01",), ("pt_02",)) and second.support_sets[0] == ("pt_11",)
    assert second.support_sets[2:] == (first.queries,)
    for fold in (first, second):
        assert not set(fold.supports) & set(fold.queries)


def test_supports_and_queries_narrow_two_folds_down():
    first, second = plan_folds(cases(6), ["2", "5", "1"], queries=["3", "4"], two_fold=True)
    assert first.support_sets == (("pt_02",), ("pt_01",)) and first.queries == ("pt_04",)
    assert second.support_sets == (("pt_05",),) and second.queries == ("pt_03",)


def test_more_shots_than_supports_are_left_out_with_a_warning():
    with pytest.warns(InputWarning, match="3 shots: left out, there are only 2 supports"):
        (fold,) = plan_folds(cases(4), ["1", "2"], shots=(1, 3))
    assert {len(chosen) for chosen in fold.support_sets} == {1}
    with pytest.warns(InputWarning), pytest.raises(InputError, match="only 1 supports"):
        plan_folds(cases(4), ["1"], shots=(3,))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"supports": ["77"]}, "77: no case has this id"),
        ({"supports": []}, "no support was named"),
        ({"supports": ["1", "2", "3"]}, "no labelled case is left to be a query"),
        ({"supports": ["1"], "shots": (0,)}, "from 1 up"),
        ({"supports": ["1"], "repeats": 0}, "from 1 up"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        plan_folds(cases(3), **arguments)


def test_a_folder_without_two_labelled_scans_is_refused():
    with pytest.raises(InputError, match="at least two are needed"):
        plan_folds([*cases(1), *cases(3, labelled=False)], ["1"])

"""What is told of counterfactuals: which songs are forgotten, and that means, intervals and ranks are what they say."""

import numpy as np
import pytest

from bench.counterfactual.__main__ import kept, sounded, summary, told_of
from bench.counterfactual.figures import agreement, effect, ranks, spearman
from bench.counterfactual.subjects import KINDS, Subject, Truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth.read()


def test_tracks_are_of_one_split_and_those_with_retrained_models_come_first(truth: Truth) -> None:
    test, tune = truth.subjects("test"), truth.subjects("tune")
    assert (len(test), len(tune)) == (80, 48)
    assert not {subject.name for subject in test} & {subject.name for subject in tune}
    known = [bool(subject.removed) for subject in test]
    assert known == sorted(known, reverse=True)
    assert sum(known) == 18


def test_songs_are_the_best_one_of_its_artist_and_any(truth: Truth) -> None:
    subjects = truth.subjects("test")
    assert subjects == Truth.read().subjects("test")
    for subject in subjects:
        top = subject.songs["top"]
        assert set(subject.songs) == set(KINDS)
        assert float(truth.scores[subject.number][top]) == float(truth.scores[subject.number].max())
        assert top not in {subject.songs["matched"], subject.songs["random"]}
        same = truth.artists[top] == truth.artists[subject.songs["matched"]]
        assert same == (subject.matched_by == "artist") == (truth.artists.count(truth.artists[top]) > 1)


def test_an_effect_holds_its_mean_and_is_repeated_alike() -> None:
    told = effect([1.0, 2.0, 3.0, -1.0])
    assert told == effect([1.0, 2.0, 3.0, -1.0])
    assert told["low"] < told["mean"] == 1.25 < told["high"]
    assert told["positive"] == 3


def test_an_interval_covers_the_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    told = [effect(rng.normal(1.0, 1.0, 30).tolist()) for _ in range(60)]
    assert np.mean([each["low"] <= 1.0 <= each["high"] for each in told]) >= 0.85


def test_ranks_share_ties_and_agreement_is_of_order_alone() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0])).tolist() == [1.5, 0.0, 1.5]
    assert spearman(np.array([1.0, 2.0, 3.0]), np.array([1.0, 8.0, 9.0])) == pytest.approx(1)
    told = agreement([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0], [0, 0, 1, 1])
    assert (told["pairs"], told["tracks"], told["slope"]) == (4, 2, pytest.approx(2))
    assert told["spearman"] == told["pearson"] == pytest.approx(1)


def test_a_result_says_how_much_more_the_best_song_matters() -> None:
    keys = ["a", "b", "c", "d"]
    rows = []
    for n in range(3):
        subject = Subject(n, f"t{n}", "p", n, {"top": 0, "matched": 1, "random": 2}, "artist", {0: 0.02, 3: 0.0})
        moved = {"0": 0.1 + n / 100, "1": 0.02, "2": 0.01, "3": 0.0}
        loss = {name: {"change": {"mean": x}, "own": {"mean": 0.2}} for name, x in moved.items()}
        rows.append(told_of(keys, subject, loss | {"seconds": 1.0}))
        for place, kind in enumerate(KINDS):
            rows[-1][kind]["apart"] = {"spectral_db": 3.0 - place}
    told = summary(rows)
    assert (told["n"], told["matched_by"]) == (3, {"artist": 3})
    assert told["top_minus_random"]["mean"] == pytest.approx(0.1)
    assert told["top_minus_matched"]["mean"] == pytest.approx(0.09)
    assert told["retraining"]["pairs"] == 6
    assert sounded(rows[:2])["n"] == 2
    assert sounded(rows)["top_minus_random"]["mean"] == pytest.approx(2.0)


def test_what_was_measured_once_is_kept(tmp_path) -> None:
    path = tmp_path / "row.json"
    assert kept(path, lambda: {"x": 1}) == kept(path, lambda: {"x": 2}) == {"x": 1}

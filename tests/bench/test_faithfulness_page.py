"""The page on faithfulness says what accuracy.json says, and accuracy.json what the committed matrices say."""

import json
from dataclasses import replace

import pytest

from bench.faithfulness import page
from bench.faithfulness.judge.lds import KINDS, board
from bench.faithfulness.judge.resample import Resamples
from bench.faithfulness.judge.table import DIGITS, MAIN
from bench.faithfulness.judge.truth import clusters, panel
from bench.faithfulness.judge.work import Work
from bench.hardware import RESULTS
from worker.attribution.evaluate import Bootstrap

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def result() -> dict:
    return json.loads(page.RESULT.read_text())


@pytest.fixture(scope="module")
def work() -> Work:
    return Work(RESULTS / "faithfulness")


def test_every_table_of_the_page_is_that_of_the_results(result: dict) -> None:
    text = page.PAGE.read_text()
    assert page.filled(text, result) == text
    assert all(text.count(f"<!-- {name} -->") == 1 for name in page.PARTS)
    assert text.count("<!-- end -->") == len(page.PARTS)


def test_another_result_would_be_another_page(result: dict) -> None:
    changed = json.loads(json.dumps(result))
    changed["methods"][0]["lds_interval"]["generated"]["raw"]["value"] += 0.01
    text = page.PAGE.read_text()
    assert page.filled(text, changed) != text


def test_the_committed_matrices_give_the_table(result: dict, work: Work) -> None:
    asked = panel(work.queries, "generated", "test")
    family = work.test(MAIN).queries(asked)
    resamples = Resamples.draw(clusters(work.queries, asked), len(family.kept), replace(Bootstrap(), resamples=2))
    scores = {name: matrix[asked] for name, matrix in work.scores.items()}
    again = board(family, scores, resamples)
    for row in result["methods"]:
        for kind in KINDS:
            value = again.interval(kind, row["name"]).value
            assert value == pytest.approx(row["lds"]["generated"][kind], abs=2 * 10**-DIGITS), row["name"]


def test_methods_are_told_with_costs_and_their_settings_were_logged(result: dict, work: Work) -> None:
    assert result["default"] == work.default == "ours"
    assert result["tuning"] == work.json("tuning.json")
    for name, facts in work.facts.items():
        assert {"query_gpu_s", "bytes_per_segment", "rival", "setting"} <= facts.keys()
        log = result["tuning"]["methods"].get(name)
        assert log is None or log["chosen"] == facts["setting"]
    assert not any(work.facts[name]["rival"] for name in work.facts if "ours" in name or "squared" in name)


def test_what_is_committed_is_small() -> None:
    assert sum(path.stat().st_size for path in (RESULTS / "faithfulness").iterdir()) < 10 * MEBIBYTE

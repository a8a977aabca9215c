"""An index in parts answers as a whole one does, bit for bit; parts answer what they are asked."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from bench import tiny
from worker.engine import Choices, Engine, Query, Ranking
from worker.finding import scattered
from worker.index import Index
from worker.manifest import IndexMismatch
from worker.parts import Answer, Part, Question, share

CPU = torch.device("cpu")
NOTHING = torch.empty(0, dtype=torch.long)


def quiet(_stage: str, _done: float) -> None:
    return


def ask_parts(parts: list[Part], asked: list[int], questions: dict[int, Question]) -> dict[int, Answer]:
    """Put questions to parts held here, as they travel; note how many parts each round asked."""
    asked.append(len(questions))
    return {
        number: Answer.unpacked(parts[number].answer(Question.unpacked(question.packed())).packed())
        for number, question in questions.items()
    }


def opened(folder: Path, index: Index, of: int) -> list[Part]:
    return [Part.open(index.manifest, folder / "index", number, of, CPU) for number in range(of)]


def told(ranking: Ranking) -> Ranking:
    """The ranking without what two runs of the same query never share."""
    return replace(ranking, timings={})


@pytest.mark.parametrize("of", [1, 2, 3])
def test_a_ranking_from_parts_is_that_of_the_whole_index_bit_for_bit(
    tiny_engine: Engine, tiny_folder: Path, of: int
) -> None:
    index, asked = tiny_engine.index, list[int]()
    ask = partial(ask_parts, opened(tiny_folder, index, of), asked)
    choices = Choices(scatter=lambda index: scattered(index, of, ask))
    apart = Engine(tiny_engine.model, index, tiny_engine.calibration, choices)
    query = Query(tiny.SONGS[2].samples(), tiny.RATE, tiny.SONGS[2].caption)
    assert told(apart.attribute(query, quiet)) == told(tiny_engine.attribute(query, quiet))
    assert asked[0] == of, "every part is scanned once"
    assert len(asked) <= 3, "few rounds, whatever the number of songs"


def test_songs_that_were_removed_or_doubled_count_from_parts_as_from_the_whole(
    tiny_engine: Engine, tiny_folder: Path
) -> None:
    whole = tiny_engine.index
    stored = list(whole.manifest.stored)
    stored[1], stored[6] = replace(stored[1], removed=True), replace(stored[6], same_as=stored[0].key)
    index = replace(whole, manifest=replace(whole.manifest, stored=tuple(stored)))
    solved = index.solved(index.background_rows.floats())
    ask = partial(ask_parts, opened(tiny_folder, whole, 3), [])
    found = scattered(index, 3, ask)(solved, len(solved) - 1)
    assert torch.equal(index.scored(found.sums), index.song_scores(index.scan(solved)[:-1]))


def test_scores_of_segments_come_from_the_parts_that_hold_them_and_once(tiny_engine: Engine, tiny_folder: Path) -> None:
    index, asked = tiny_engine.index, list[int]()
    ask = partial(ask_parts, opened(tiny_folder, index, 3), asked)
    solved = index.solved(index.background_rows.floats())
    scores = index.scan(solved)
    found = scattered(index, 3, ask)(solved, 2)
    places = torch.tensor([31, 0, 13, 0, 12])
    assert torch.equal(found.scores[places], scores[0, places])
    assert torch.equal(found.window[places], scores[2:].argmax(0)[places])
    assert torch.equal(found.scores[places[:2]], scores[0, places[:2]])
    assert asked == [3, 3]


def test_a_part_needs_its_own_files_alone(tiny_engine: Engine, own_folder: Path) -> None:
    manifest = tiny_engine.index.manifest
    mine = manifest.shards[share(3, 1, 3)]
    for name in set(manifest.files) - set(mine):
        (own_folder / "index" / name).unlink()
    part = Part.open(manifest, own_folder / "index", 1, 3, CPU)
    assert (part.first_song, part.sums.songs) == (3, 3)


def test_a_part_that_was_changed_is_refused(tiny_engine: Engine, own_folder: Path) -> None:
    manifest = tiny_engine.index.manifest
    path = own_folder / "index" / manifest.shards[2]
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    Part.open(manifest, own_folder / "index", 0, 3, CPU)
    with pytest.raises(IndexMismatch):
        Part.open(manifest, own_folder / "index", 2, 3, CPU)


def test_files_go_to_parts_in_order_and_evenly() -> None:
    for files, of in ((3, 2), (7, 3), (8, 8)):
        runs = [range(files)[share(files, number, of)] for number in range(of)]
        assert [at for run in runs for at in run] == list(range(files))
        assert max(map(len, runs)) - min(map(len, runs)) <= 1
    with pytest.raises(IndexMismatch, match="3 files cannot be held in 4 parts"):
        share(3, 0, 4)


def test_a_part_scans_once_for_the_same_vectors(tiny_engine: Engine, tiny_folder: Path) -> None:
    index = tiny_engine.index
    part = Part.open(index.manifest, tiny_folder / "index", 0, 2, CPU)
    vectors = index.parts(index.solved(index.background_rows.floats()))
    questions = [Question(vectors[at : at + 1], 1, NOTHING) for at in (0, 1, 2, 3, 0, 1)]
    scans = [part.answer(question).sums for question in questions]
    assert torch.equal(scans[0], scans[4])
    assert len(part._last) == 4

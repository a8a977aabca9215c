"""A result names the code that found it, down to the source."""

import numpy as np

from worker.engine import Engine, Query
from worker.versions import PACKAGES, source_digest, versions


def test_any_change_of_the_source_is_another_digest(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "part" / "b.py").write_text("y = 2\n")
    first = source_digest(tmp_path)
    (tmp_path / "notes.txt").write_text("not source")
    assert source_digest(tmp_path) == first
    (tmp_path / "part" / "b.py").write_text("y = 3\n")
    changed = source_digest(tmp_path)
    (tmp_path / "part" / "b.py").rename(tmp_path / "b.py")
    moved = source_digest(tmp_path)
    assert len({first, changed, moved}) == 3


def test_a_result_names_model_index_packages_and_source(tiny_engine: Engine):
    track = (0.3 * np.sin(np.arange(16_000) / 5))[None].astype(np.float32)
    details = tiny_engine.attribute(Query(track, 8_000), lambda *_: None).details
    assert details["versions"] == versions()
    assert set(versions()) == {*PACKAGES, "code"}
    assert "unknown" not in versions().values()
    assert (details["model_digest"], details["index_digest"]) == (tiny_engine.model_digest, tiny_engine.index_digest)

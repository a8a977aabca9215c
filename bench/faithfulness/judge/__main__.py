"""Judge everything in a working folder: `python -m bench.faithfulness.judge [WORK]`, by default what is committed.

Writes bench/results/accuracy.json and the plots in docs/images. `bench.faithfulness.judge.work` lists what is read.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench.faithfulness.judge.plots import draw
from bench.faithfulness.judge.report import accuracy
from bench.faithfulness.judge.work import Work
from bench.hardware import RESULTS, ROOT, save
from worker.attribution.evaluate import Bootstrap


def main() -> None:
    """Judge, write, draw, print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.faithfulness.judge", description=__doc__)
    parser.add_argument("work", type=Path, nargs="?", default=RESULTS / "faithfulness")
    parser.add_argument("--out", type=Path, default=RESULTS / "accuracy.json")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--resamples", type=int, default=Bootstrap.resamples)
    options = parser.parse_args()
    work = Work(options.work)
    result = accuracy(work, Bootstrap(options.resamples))
    save(options.out, {"command": "python -m bench.faithfulness.judge", **result})
    for row in result.get("methods", ()):
        parts = [f"{p} {of['raw']:6.3f} {of['centred']:6.3f}" for p, of in row["lds"].items()]
        print(f"{row['name']:40} {'   '.join(parts)}")
    for path in draw(result, work, options.images):
        print(path)


if __name__ == "__main__":
    main()

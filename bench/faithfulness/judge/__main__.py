"""Judge everything in a working folder: `python -m bench.faithfulness.judge [WORK]`, by default what is committed.

Writes bench/results/accuracy.json and the plots in docs/images. `bench.faithfulness.judge.work` lists what is read. Two
queries are scored again from scratch with the shipped model and index, and compared with the committed scores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from bench.faithfulness.again import SHIPPED, scored_again  # first: it makes torchaudio importable

# isort: split
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
    parser.add_argument("--model", type=Path, default=ROOT / "starter", help="whose index scores queries again")
    parser.add_argument("--again", type=int, nargs="*", default=[60, 150], help="which queries, by number")
    options = parser.parse_args()
    work = Work(options.work)
    result = accuracy(work, Bootstrap(options.resamples))
    if options.again and SHIPPED in work.scores:
        result["scored_again"] = scored_again(options.work, options.model, work.scores[SHIPPED], options.again)
        print(json.dumps(result["scored_again"]))
    save(options.out, {"command": "python -m bench.faithfulness.judge", **result})
    for row in result.get("methods", ()):
        parts = [f"{p} {of['raw']:6.3f} {of['centred']:6.3f}" for p, of in row["lds"].items()]
        print(f"{row['name']:40} {'   '.join(parts)}")
    for path in draw(result, work, options.images):
        print(path)


if __name__ == "__main__":
    main()

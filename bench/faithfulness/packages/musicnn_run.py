"""Embed packed recordings by the package musicnn; run by its own interpreter, so nothing of the project is imported.

`python musicnn_run.py FOLDER NET STEP_S` reads FOLDER/*.wav (16 kHz mono) in the order of their names and writes
FOLDER/embeddings.npy: the penultimate layer, 200 numbers, of every 3 s patch, a patch each STEP_S seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from musicnn import configuration
from musicnn.extractor import extractor

PATCH_S = 3
WHOLE_FILE = 4096  # in a second batch the package (0.1.0) repeats the penultimate layer of the first


def main() -> None:
    """Embed every file of the folder."""
    folder, net, step_s = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    configuration.BATCH_SIZE = WHOLE_FILE
    found = []
    for path in sorted(folder.glob("*.wav")):
        _, _, features = extractor(str(path), model=net, input_length=PATCH_S, input_overlap=step_s)
        found.append(features["penultimate"])
    np.save(folder / "embeddings.npy", np.concatenate(found).astype(np.float32))


if __name__ == "__main__":
    main()

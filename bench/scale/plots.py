"""Pictures of cost against catalogue size and track length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

NAMES = {"starter": "starter's model", "full": "1.06 billion weights"}


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw what `result` holds and return the pictures' paths."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, paint in (("scale-catalogue", _catalogue), ("scale-length", _length)):
        figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
        if paint(axes, result):
            figure.savefig(folder / f"{name}.png", dpi=120)
            made.append(folder / f"{name}.png")
        plt.close(figure)
    return made


def _catalogue(axes: Axes, result: Mapping[str, Any]) -> bool:
    rows = result["catalogues"] or []
    sizes = [row["segments"] for row in rows]
    for key, label in (("one_s", "one query"), ("together_s", f"{result['scan_queries']} queries at once")):
        axes.loglog(sizes, [1000 * row[key] for row in rows], marker="o", label=label)
    axes.set(xlabel="segments in the catalogue", ylabel="milliseconds a scan", title="Scan of the index")
    axes.legend()
    axes.grid(alpha=0.3)
    return bool(rows)


def _length(axes: Axes, result: Mapping[str, Any]) -> bool:
    drawn = False
    for name, label in NAMES.items():
        rows = result["lengths"][name] or []
        drawn = drawn or bool(rows)
        seconds = [row["track_s"] for row in rows]
        axes.loglog(seconds, [row["gradient_s"] for row in rows], marker="o", label=f"gradient, {label}")
        axes.loglog(seconds, [row["scan_s"] for row in rows], marker=".", linestyle=":", label=f"scan, {label}")
    axes.set(xlabel="seconds of the track", ylabel="seconds", title="Cost of a query by length")
    axes.legend()
    axes.grid(alpha=0.3)
    return drawn

"""The pictures beside the table, in colours that colour-blind readers tell apart (Okabe and Ito, 2008)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from safetensors.torch import load_file

from bench.faithfulness.judge.lds import KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bench.faithfulness.judge.work import Work

DPI = 144
STRICT = "called_above_highest"
OURS, PARTS, RIVAL, HUMBLE, LINE = "#D55E00", "#E69F00", "#0072B2", "#7A7A7A", "#333333"
KEY = (
    (OURS, "D", "default"),
    (PARTS, "D", "parts of it, rivals with its square"),
    (RIVAL, "o", "rivals"),
    (HUMBLE, "s", "rivals without a gradient"),
)
SERIES = (("#D55E00", "o"), ("#0072B2", "s"), ("#009E73", "^"), ("#CC79A7", "D"), ("#56B4E9", "v"))
MOST_ROWS, MOST_SERIES = 48, len(SERIES)
CORNERS = ((4, 3), (4, -8), (-4, 3), (-4, -8), (4, 10), (4, -15), (-4, 10), (-4, -15))
STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "grid.linewidth": 0.6, "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "white",
}  # fmt: skip


def draw(result: Mapping[str, Any], work: Work, folder: Path) -> list[Path]:
    """Draw what `result` holds into `folder` and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[str, Figure] = {}
    with mpl.rc_context(STYLE):
        rows = [r for r in result.get("methods", ()) if "generated" in r["lds"]]
        if rows:
            rows = [{**row, "default": row["name"] == result.get("default")} for row in rows]
            made["lds"] = by_method(rows, result["ceiling"].get("generated", {}))
        if any(r.get("query_gpu_s") for r in rows):
            made["cost"] = by_cost(rows)
        if "dose_response" in result:
            made["dose-response"] = dose_response(work, result["dose_response"])
        if "copies" in result.get("known_cause", {}):
            made["copies"] = copies(result["known_cause"]["copies"]["methods"], result.get("default"))
        return [_saved(figure, folder / f"accuracy-{name}.png") for name, figure in made.items()]


def by_method(rows: Sequence[Mapping[str, Any]], ceiling: Mapping[str, float]) -> Figure:
    """Draw the LDS of every method on generated tracks with its interval, raw and centred, beside the ceiling."""
    shown = list(rows[:MOST_ROWS])[::-1]
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 0.8 + 0.19 * len(shown)), sharey=True, layout="constrained")
    for axis, kind in zip(axes, KINDS, strict=True):
        for place, row in enumerate(shown):
            bounds = row["lds_interval"]["generated"][kind]
            axis.plot([bounds["low"], bounds["high"]], [place, place], color=_colour(row), lw=1.5, alpha=0.6)
            axis.plot(bounds["value"], place, _mark(row), color=_colour(row), ms=4.5)
        if kind in ceiling:
            axis.axvline(ceiling[kind], color=LINE, lw=1, ls="--")
            axis.annotate("ceiling", (ceiling[kind], 1), (-3, 2), xycoords=("data", "axes fraction"),
                          textcoords="offset points", ha="right", va="bottom", fontsize=7)  # fmt: skip
        axis.axvline(0, color=LINE, lw=0.6)
        axis.set_xlabel(f"LDS, {kind}")
    axes[0].set_yticks(range(len(shown)), [str(row["name"]) for row in shown])
    for label, row in zip(axes[0].get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if row["default"] else "normal")
    marks = [axes[0].plot([], [], mark, color=colour, ms=4.5, label=name)[0] for colour, mark, name in KEY]
    figure.legend(handles=marks, loc="outside upper center", ncols=len(KEY), fontsize=7)
    return figure


def by_cost(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the LDS on generated tracks against GPU-seconds a query; a line for the best that needs none."""
    figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.4), layout="constrained")
    for axis, kind in zip(axes, KINDS, strict=True):
        costly = [r for r in rows if r.get("query_gpu_s") and (r["rival"] or r["default"])]
        for row in costly:
            axis.plot(row["query_gpu_s"], row["lds"]["generated"][kind], _mark(row), color=_colour(row), ms=5)
        free = [r["lds"]["generated"][kind] for r in rows if r["rival"] and r.get("query_gpu_s") == 0]
        if free:
            axis.axhline(max(free), color=HUMBLE, lw=1, ls=":")
            axis.annotate("best without a gradient", (0.01, max(free)), (0, 2), xycoords=("axes fraction", "data"),
                          textcoords="offset points", color=HUMBLE, fontsize=6)  # fmt: skip
        axis.set(xscale="log", xlabel="GPU-seconds a query", ylabel=f"LDS, {kind}, generated tracks")
        axis.margins(x=0.5, y=0.1)
    figure.canvas.draw()
    for axis, kind in zip(axes, KINDS, strict=True):
        _named(axis, {str(r["name"]): (r["query_gpu_s"], r["lds"]["generated"][kind]) for r in costly})
    return figure


def _named(axis: Axes, points: Mapping[str, tuple[float, float]]) -> None:
    """Write each name beside its point, at the first corner where it covers no other name; else nowhere."""
    taken = []
    for name, point in points.items():
        for across, up in CORNERS:
            text = axis.annotate(name, point, (across, up), textcoords="offset points", fontsize=6,
                                 ha="left" if across > 0 else "right")  # fmt: skip
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def dose_response(work: Work, told: Mapping[str, Any]) -> Figure:
    """Draw predicted against retrained changes with the stated intervals, and the line on which they would be equal."""
    stored = {name: x.double().numpy() for name, x in load_file(work.folder / "effects.safetensors").items()}
    predicted, retrained = stored["predicted"], stored["retrained"]
    figure, axis = plt.subplots(figsize=(4.6, 4.0), layout="constrained")
    spread = [(predicted - stored["low"]).clip(0), (stored["high"] - predicted).clip(0)]
    axis.errorbar(predicted, retrained, xerr=spread, fmt="o", ms=3, lw=0.6, color=RIVAL, alpha=0.5)
    ends = [float(min(predicted.min(), retrained.min())), float(max(predicted.max(), retrained.max()))]
    axis.plot(ends, ends, color=LINE, lw=1, ls="--", label="equal")
    slope, offset = told["slope"]["value"], retrained.mean() - told["slope"]["value"] * predicted.mean()
    axis.plot(ends, [offset + slope * x for x in ends], color=OURS, lw=1.5, label=f"least squares, slope {slope:.2f}")
    axis.set(xlabel="predicted change of the loss, with stated interval", ylabel="change after retraining")
    axis.legend(title=f"{told['covered']['value']:.0%} of {told['n']} covered")
    return figure


def copies(methods: Mapping[str, Mapping[str, Any]], default: str | None) -> Figure:
    """Draw against how often a song was in training: scores, calls among all songs, calls of a track's own song."""
    names = sorted(methods, key=lambda name: (name != default, -methods[name]["spearman"]["value"]))[:MOST_SERIES]
    shown = {
        "mean score, in parts of the greatest": {n: _relative(methods[n]["score_by_dose"]) for n in names},
        "share called, all tracks": {n: methods[n].get("called_by_dose") for n in names},
        "share called, tracks of its caption": {n: methods[n].get("own", {}).get(STRICT) for n in names},
    }
    shown = {label: {n: of for n, of in each.items() if of} for label, each in shown.items()}
    shown = {label: each for label, each in shown.items() if each}
    figure, axes = plt.subplots(
        1, len(shown), figsize=(0.6 + 2.6 * len(shown), 3.0), layout="constrained", squeeze=False
    )
    for axis, (label, each) in zip(axes[0], shown.items(), strict=True):
        for name, (colour, mark) in zip(names, SERIES, strict=False):
            if name in each:
                _by_dose(axis, each[name], f"{colour} {mark}", name)
        axis.set_ylabel(label)
        if "share" in label:
            axis.set_ylim(-0.02, 1.02)
            axis.axhline(0.05, color=LINE, lw=0.8, ls="--")
    axes[0, 0].legend(fontsize=7)
    return figure


def _relative(of: Mapping[Any, Mapping[str, float]]) -> dict[Any, dict[str, float]]:
    """Return values and bounds in parts of the greatest value."""
    most = max(each["value"] for each in of.values()) or 1.0
    return {dose: {key: value / most for key, value in each.items()} for dose, each in of.items()}


def _by_dose(axis: Axes, of: Mapping[Any, Mapping[str, float]], look: str, name: str) -> None:
    """Draw one curve over the doses, which are evenly spaced; `look` is colour and marker."""
    colour, mark = look.split()
    doses = sorted(of, key=int)
    values = [of[d]["value"] for d in doses]
    bounds = [[max(0.0, v - of[d]["low"]) for d, v in zip(doses, values, strict=True)],
              [max(0.0, of[d]["high"] - v) for d, v in zip(doses, values, strict=True)]]  # fmt: skip
    axis.errorbar(
        range(len(doses)), values, yerr=bounds, color=colour, marker=mark, ms=4, lw=1.2, capsize=2, label=name
    )
    axis.set_xticks(range(len(doses)), [str(d) for d in doses])
    axis.set_xlabel("times in the training set")


def _colour(row: Mapping[str, Any]) -> str:
    if not row["rival"]:
        return OURS if row["default"] else PARTS
    return RIVAL if row.get("query_gpu_s") != 0 else HUMBLE


def _mark(row: Mapping[str, Any]) -> str:
    return "D" if not row["rival"] else "o" if row.get("query_gpu_s") != 0 else "s"


def _saved(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=DPI, pil_kwargs={"optimize": True}, metadata={"Software": None})
    plt.close(figure)
    return path

"""docs/performance.md: what was measured, against what, and whether the goal is reached; and the curves beside it."""

from collections.abc import Sequence
from pathlib import Path

from agg_pipeline_tests.bench.catalogue import FIGURES
from agg_pipeline_tests.bench.figures import Figure, Measured

INTRODUCTION = """# Performance

Written by `make bench`. {machine}, the embedded server as it is shipped, fsync on.

Each figure is measured against a baseline in the same run, in rounds that take turns; value and baseline are medians
over the rounds, the ratio is the median of the ratios of the rounds (five or more). The machine is shared: ratios hold,
seconds are upper bounds, and less than 15 % is noise. `make bench ARGS=agg_pipeline_tests/bench/test_bench_NAME.py`
repeats the figures of one file (last column) and leaves the others as they were; all of it takes about half an hour.
"""
CURVES = """
## Growth

![growth](growth.png)

Left: a tick of one 5m task per symbol, in the database. Middle: the same for 50 symbols, and one late bar, as history
grows from 6 to 600 hours. Right: windows/s of one task by the windows of a call.
"""


def write(path: Path, found: Sequence[Measured], *, machine: str) -> None:
    """Write the page, and the picture where there are points and matplotlib."""
    newest = {m.bench: m for m in found if m.at is None}
    missed = [f for f in FIGURES.values() if f.goal and f.bench in newest and not f.goal.is_reached(newest[f.bench])]
    lines = [
        INTRODUCTION.format(machine=machine),
        "| what | value | baseline | ratio | goal | reached | file |",
        "|---|--:|--:|--:|---|---|---|",
        *(_row(figure, newest.get(figure.bench)) for figure in FIGURES.values()),
    ]
    if reasons := _reasons(missed):
        lines += ["", "Not reached, and why:", "", *reasons]
    text = "\n".join(lines) + "\n"
    curves = [m for m in found if m.at is not None]
    if curves and _draw(path.with_name("growth.png"), curves):
        text += CURVES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _reasons(missed: Sequence[Figure]) -> list[str]:
    """One line a reason, behind all figures that it holds for."""
    whats: dict[str, list[str]] = {}
    for figure in missed:
        if figure.why_missed:
            whats.setdefault(figure.why_missed, []).append(f"{figure.what} (against {figure.against})")
    return [f"- **{'; '.join(figures)}**: {why}." for why, figures in whats.items()]


def _row(figure: Figure, m: Measured | None) -> str:
    goal = figure.goal
    asked = f"{goal.of} {goal.sign} {goal.bound:g}" if goal else ""
    if m is None:
        cells = ["not measured", figure.against, "", asked, ""]
    else:
        reached = "" if goal is None else "yes" if goal.is_reached(m) else "**no**"
        baseline = "" if m.baseline is None else f"{m.baseline:,g} ({figure.against})"
        cells = [f"{m.value:,g} {m.unit}", baseline, "" if m.ratio is None else f"{m.ratio:g}", asked, reached]
    return f"| {' | '.join([figure.what, *cells, figure.file.removeprefix('test_bench_').removesuffix('.py')])} |"


def _draw(path: Path, points: Sequence[Measured]) -> bool:
    try:
        import matplotlib

        matplotlib.use("agg")
        from matplotlib.figure import Figure as Picture
    except ImportError:
        return path.exists()
    panels = [
        ("seconds of a tick by symbols", {"growth_symbols": "one 5m task each"}, "symbols"),
        (
            "by hours of history, 50 symbols",
            {"growth_history": "tick", "growth_history_late_bar": "one late bar"},
            "hours",
        ),
        ("windows/s by windows of a call", {"growth_windows": "one task"}, "windows"),
    ]
    picture = Picture(figsize=(12, 3.6), layout="constrained")
    for axes, (title, curves, unit) in zip(picture.subplots(1, len(panels)), panels, strict=True):
        for bench, label in curves.items():
            curve = sorted((m.at, m.value) for m in points if m.bench == bench and m.at is not None)
            if curve:
                axes.plot(*zip(*curve, strict=True), marker="o", label=label)
        # What should not grow is drawn from zero, or noise looks like growth.
        axes.set(
            title=title, xlabel=unit, xscale="log", **({"ylim": (0, None)} if unit == "hours" else {"yscale": "log"})
        )
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    picture.savefig(path, dpi=110)
    return True

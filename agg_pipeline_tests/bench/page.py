"""The page docs/performance.md: each figure with its baseline and goal, reasons for missed goals, growth curves."""

from collections.abc import Sequence
from pathlib import Path

from agg_pipeline_tests.bench.catalogue import FIGURES
from agg_pipeline_tests.bench.figures import Figure, Measured

INTRODUCTION = """# Performance

Written by `make bench` on {machine}, with the embedded server in its default configuration (fsync on).

Each figure is measured against a baseline in the same run, in five or more alternating rounds. Value and baseline are
the medians over the rounds; the ratio is the median of the rounds' ratios. The machine is shared, so the seconds are
upper bounds; the ratios hold, and less than 15 % of difference is noise. `make bench` takes about half an hour; `make
bench ARGS=agg_pipeline_tests/bench/test_bench_NAME.py` measures the figures of one file (last column) and keeps the
others. Goals that are not reached are listed with the reason below the table.
"""
CURVES = """
## Growth

![growth](growth.png)

Left: database time of a tick with one 5m task per symbol, by number of symbols. Middle: the same for 50 symbols, and
for one late bar, as the history grows from 6 to 600 hours. Right: windows/s of one task, by number of windows in a
call.
"""


def write(path: Path, found: Sequence[Measured], *, machine: str) -> None:
    """Write the page, and the picture if there are points and matplotlib is installed."""
    newest = {m.bench: m for m in found if m.at is None}
    missed = [f for f in FIGURES.values() if f.goal and f.bench in newest and not f.goal.is_reached(newest[f.bench])]
    lines = [
        INTRODUCTION.format(machine=machine),
        "| what | value | baseline | ratio | goal | reached | file |",
        "|---|--:|--:|--:|---|---|---|",
        *(_row(figure, newest.get(figure.bench)) for figure in FIGURES.values()),
    ]
    if reasons := _reasons(missed):
        lines += ["", "Goals that are not reached, and why:", "", *reasons]
    text = "\n".join(lines) + "\n"
    curves = [m for m in found if m.at is not None]
    if curves and _draw(path.with_name("growth.png"), curves):
        text += CURVES
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _reasons(missed: Sequence[Figure]) -> list[str]:
    """One line per reason, with all figures that it explains."""
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

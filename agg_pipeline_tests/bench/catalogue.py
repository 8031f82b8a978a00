"""Every figure, in the order of the table."""

from agg_pipeline_tests.bench.figures import Figure, Goal

_EACH = ("125x30d", "1000x2d", "20x30d")


def _catalogue() -> list[Figure]:
    ticks, catch_up, heal = "test_bench_many_tasks.py", "test_bench_catch_up.py", "test_bench_heal.py"
    found = [
        Figure(
            "tick_10000",
            "10,000 due 5m tasks in one run, from select to close, over REST",
            "three calls a task, 8 threads",
            ticks,
            Goal("value", "<=", 5),
        ),
        Figure(
            "tick_10000_against_calls",
            "the same in tasks/s",
            "three calls a task, 8 threads",
            ticks,
            Goal("ratio", ">=", 30),
        ),
        Figure(
            "tick_10000_database",
            "of it in the database",
            "plain insert of as many ready rows",
            ticks,
            Goal("value", "<=", 1.5),
        ),
        Figure(
            "hour_peak_10000_database",
            "full hour, 30,000 tasks of 5m, 15m and 1h, in the database",
            "plain insert of as many ready rows",
            ticks,
            Goal("value", "<=", 3),
        ),
        Figure(
            "tick_20_tasks",
            "run of 20 tasks, default settings",
            "the same graph with empty ops",
            "test_bench_tick.py",
            Goal("ratio", "<=", 1.3),
        ),
    ]
    for shape in _EACH:
        found += [
            Figure(
                f"catch_up_{shape}_against_loop",
                f"catch-up 1m to 5m, {shape}",
                "loop over windows, planner's own choice",
                catch_up,
                Goal("ratio", ">=", 8) if shape == "125x30d" else None,
            ),
            Figure(
                f"catch_up_{shape}_against_loop_generic",
                f"catch-up 1m to 5m, {shape}",
                "loop over windows, forced generic plan",
                catch_up,
                Goal("ratio", ">=", 2.5),
            ),
        ]
    for shape in _EACH:
        found += [
            Figure(
                f"upsert_against_insert_select_{shape}",
                f"catch-up, {shape}",
                "INSERT ... SELECT that computes the same bars, same indexes and foreign key",
                catch_up,
                Goal("ratio", ">=", 0.5),
            ),
            Figure(
                f"upsert_against_insert_of_ready_rows_{shape}",
                f"catch-up with all that it computes, {shape}",
                "INSERT ... SELECT of its ready-made rows, same indexes and foreign key",
                catch_up,
            ),
            Figure(
                f"catch_up_again_{shape}",
                f"the same windows again, nothing has changed, no row written, {shape}",
                "the first time",
                catch_up,
                Goal("ratio", ">=", 2),
            ),
        ]
    found += [
        Figure(
            f"end_to_end_against_{peer}",
            "50 symbols x 12 hours, 1m to 5m, PostgreSQL to PostgreSQL",
            f"{peer}, binary COPY both ways",
            "test_bench_peers.py",
            Goal("ratio", ">=", 1),
        )
        for peer in ("pandas", "polars", "duckdb")
    ]
    found += [
        Figure(
            "year_fill",
            "a year of 1m bars (525,600) to five timeframes, the work of one run without Dagster",
            "plain SQL, the same rows into the same table",
            "test_bench_year.py",
            Goal("ratio", "<=", 1.5),
        ),
        Figure(
            "year_backfill",
            "the whole run, which also stores 1,825 partitions' events",
            "plain SQL, the same rows into the same table",
            "test_bench_year.py",
        ),
        Figure(
            "year_backfill_pace",
            "the same in windows/s",
            "100 windows a task every five minutes",
            "test_bench_year.py",
            Goal("ratio", ">=", 100),
        ),
    ]
    for history in ("1x", "10x", "100x", "10_symbols", "100_symbols", "512_symbols"):
        words = f"{history[:-1]} times 3 days" if history.endswith("x") else history.replace("_", " ")
        found += [
            Figure(
                f"heal_one_late_bar_{history}",
                f"one late bar through five timeframes, {words}",
                "one symbol, 3 days",
                heal,
                Goal("value", "<=", 10) if history.startswith("512") else Goal("ratio", "<=", 1.3),
            ),
            Figure(f"due_one_late_bar_{history}", f"finding it, {words}", "one symbol, 3 days", heal),
            Figure(f"put_one_late_bar_{history}", f"storing it, {words}", "one symbol, 3 days", heal),
        ]
    for symbols in (50, 1000, 10_000):
        for what, words, bound in (
            ("batch", "10,000 new rows a statement", 0.85),
            ("batch_again", "the same rows again", 0.85),
            ("single_rows", "row by row", 0.65),
        ):
            found += [
                Figure(
                    f"ingest_{what}_{symbols}_symbols",
                    f"ingest, {words}, {symbols:,} symbols",
                    "without triggers",
                    "test_bench_ingest.py",
                    Goal("ratio", ">=", bound),
                ),
                Figure(
                    f"ingest_control_{what}_{symbols}_symbols",
                    "control: noise of the row above",
                    "the same without triggers",
                    "test_bench_ingest.py",
                ),
            ]
    found += [
        Figure(
            "run_worker_rss",
            "peak RSS of the run worker, 10,000 tasks",
            "20 tasks",
            "test_bench_processes.py",
            Goal("value", "<=", 200),
        ),
        Figure(
            "run_worker_pss",
            "peak PSS of it (libraries shared with the code server counted in part)",
            "20 tasks",
            "test_bench_processes.py",
        ),
        Figure(
            "slot_to_first_call",
            "slot of the schedule to the run's first call, warm code server",
            "dagster dev with its defaults",
            "test_bench_processes.py",
            Goal("ratio", "<=", 0.5),
        ),
    ]
    return found


FIGURES = {figure.bench: figure for figure in _catalogue()}

"""The page docs/reliability.md: one row per fault with its outcome, for people who decide whether to rely on this."""

import dataclasses
import datetime as dt

import pytest

PLANTS = pytest.StashKey[dict[str, dict[str, str]]]()
"""SQLSTATE by phase, by what was planted."""

PHASES = ("load", "sync", "recovery", "due", "start", "catch-up", "finish", "health")

INTRODUCTION = """# Reliability

Faults that the tests inject, and their outcome. Each row is a test in `agg_pipeline_tests/faults/` against real
PostgreSQL, PostgREST and runs of the job; `make faults` runs them all and writes this page. Last run: {today}.

The bars of three hours are built for twenty tasks (four symbols, five timeframes). Then three more hours arrive, with
gaps and with corrections of the first three. While the fault is active, runs of the job try to build these bars; after
it has ended, runs continue until nothing is due. The bars are then compared with an independent computation from the
raw bars.

| column | meaning |
|---|---|
| runs | runs of the job that failed and that succeeded, during the fault and after it. A run with a failed task fails |
| lost | bars that are missing although they should exist, or exist although they should not |
| wrong | bars with a wrong value |
| disabled | tasks that need a person: disabled or hard_failed |
| time to heal | from the end of the fault until all bars are right and no task is leased or backs off |

The seconds of the time to heal are measured. A time after + is simulated by moving the clock of the runs forward: a
back-off or a lease that had to end. The sensor `release_leases` frees leases of ended Dagster runs; the tests evaluate
it once, the daemon every five seconds. The lease of a worker unknown to Dagster has to expire.

In every row, no bar existed twice and no lease was left.{pauses}
"""

ISOLATION = """
## What one symbol brings

A trigger or constraint of a user, a value, or an impossible row of `data_agg_state`, planted for one of twenty symbols
(`agg_pipeline_tests/sql/test_isolation.py`). The table has the SQLSTATE in each phase of a tick that met it. In every
row, the other 19 symbols had all bars right after the same tick, the task was failed with this error in
`v_aggregation_health`, and after the plant was taken away all 20 had all bars right. `gaps`, `repair` and `rebuild` ask
for one task at a time: they refuse that one and answer for all others. Times of rows that are in no century of a market
harm no statement of their writer, and no other row of it.
"""


@dataclasses.dataclass(frozen=True)
class Row:
    fault: str
    done: str
    failed: int
    ok: int
    lost: int
    wrong: int
    disabled: int
    heal: str

    def __str__(self) -> str:
        runs = f"{self.failed} failed, {self.ok} ok"
        return f"| {self.fault} | {self.done} | {runs} | {self.lost} | {self.wrong} | {self.disabled} | {self.heal} |"


def summary(rows: list[Row], done: str) -> Row:
    """One row for many repetitions of the same fault."""
    last = max(rows, key=lambda row: ("+" in row.heal, row.heal))
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("failed", "ok", "lost", "wrong", "disabled")}
    return Row(rows[0].fault, done, heal=f"at most {last.heal}", **sums)


def table(rows: list[Row]) -> str:
    return "\n".join(
        [
            "| fault | what was done | runs | lost | wrong | disabled | time to heal |",
            "|---|---|---|---|---|---|---|",
            *map(str, rows),
        ]
    )


def matrix(plants: dict[str, dict[str, str]]) -> str:
    """What was planted for one of twenty symbols, and the phases that met it."""
    return "\n".join(
        [
            f"| planted for one of 20 symbols | {' | '.join(PHASES)} |",
            "|---" * (len(PHASES) + 1) + "|",
            *(
                f"| {plant} | {' | '.join(met.get(phase, '') for phase in PHASES)} |"
                for plant, met in sorted(plants.items())
            ),
        ]
    )


def page(rows: list[Row], plants: dict[str, dict[str, str]], *, today: dt.date, pauses: bool) -> str:
    """The page of the documentation."""
    said = "" if pauses else " Failed calls were repeated only once, without a pause."
    return f"{INTRODUCTION.format(today=today, pauses=said)}\n{table(rows)}\n{ISOLATION}\n{matrix(plants)}\n"

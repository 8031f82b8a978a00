"""One row per fault: what came of it, as Markdown for people who decide whether to rely on this."""

import dataclasses
import datetime as dt

INTRODUCTION = """# Reliability

What was broken on purpose, and what came of it. Each row is a test in `agg_pipeline_tests/faults/` against real
PostgreSQL, PostgREST and runs of the job; `make faults` runs them all and writes this page anew. Last run: {today}.

Twenty tasks (four symbols, five timeframes) have three hours of bars built when three more hours arrive, with gaps and
with late corrections of what is built. The fault is on while runs of the job try to build that; then it ends, and runs
go on until nothing is due. The bars are then compared with an independent computation from the raw bars.

| column | means |
|---|---|
| runs | runs of the job that failed and that succeeded, during the fault and after it. A run with a failed task fails |
| lost | bars that should be there and are not, or the other way round |
| wrong | bars with a wrong value |
| disabled | tasks that need a person: disabled or hard_failed |
| time to heal | from the end of the fault until all bars are right and no task is leased or backs off, see below |

Seconds of the time to heal are real. What stands after + is simulated, runs were told that it is so much later: a
back-off that had to pass, or a lease. Leases that a run of Dagster leaves behind are freed by the sensor
`release_leases`, which was asked once, where the daemon asks every ten seconds; the lease of a worker that no Dagster
knows of has to run out.

No bar was there twice and no lease was left in any row.{pauses}
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
    """One row for many times the same."""
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


def page(rows: list[Row], *, today: dt.date, pauses: bool) -> str:
    """The page of the documentation."""
    said = "" if pauses else " A call was tried twice only, and at once."
    return f"{INTRODUCTION.format(today=today, pauses=said)}\n{table(rows)}\n"

"""The predecessor's worker, unmodified: its calls, in its order and with its arguments."""

import datetime as dt
import uuid
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from agg_pipeline_tests.sql.helpers import rows, scalar


class Worker:
    """A cron worker that calls functions one after the other and trusts what they say."""

    def __init__(self, db: psycopg.Connection, environment: str = "DEV") -> None:
        self.db, self.environment = db, environment
        self.log: list[str] = []

    def rpc(self, function: str, **arguments: object) -> Any:
        named = ", ".join(f"{name} => %({name})s" for name in arguments)
        return scalar(self.db, f"select public.{function}({named})", arguments)

    def run(self, now: dt.datetime, *, limit: int | None = 20) -> None:
        run_id = uuid.uuid4()
        self.rpc(
            "ops_runlog_start", p_run_id=run_id, p_job_name="agg-master", p_trigger="cron", p_env_name=self.environment
        )
        self.rpc("ops_runlog_checkpoint", p_run_id=run_id, p_checkpoint="cron_start", p_details=Jsonb({"ts": str(now)}))
        due = rows(
            self.db,
            "select * from agg_get_due_tasks(p_env_name => %s, p_now_utc => %s, p_limit => %s, "
            "p_running_stale_seconds => %s)",
            [self.environment, now, limit, 900],
        )
        self.rpc(
            "ops_runlog_checkpoint",
            p_run_id=run_id,
            p_checkpoint="selected_due_tasks",
            p_details=Jsonb({"task_count": len(due)}),
        )
        for task in due:
            self.one(task["canonical_symbol"], task["timeframe"], now)
        self.rpc("ops_runlog_prune", p_job_name="agg-master", p_trigger="cron", p_keep=10)
        self.rpc("ops_runlog_finish", p_run_id=run_id, p_status="success", p_stats=Jsonb({"tasks": len(due)}))

    def one(self, symbol: str, timeframe: str, now: dt.datetime) -> None:
        lease = self.rpc("agg_start", p_symbol=symbol, p_tf=timeframe, p_now_utc=now)
        if not lease["success"]:
            return
        cursor = lease["last_agg_bar_ts_utc"] or self.rpc(
            "agg_bootstrap_cursor", p_symbol=symbol, p_to_tf=timeframe, p_now_utc=now
        )
        finish = {"p_symbol": symbol, "p_tf": timeframe, "p_now_utc": now, "p_auto_disable_hard_fail_threshold": 3}
        try:
            with self.db.transaction():
                result = self.rpc(
                    "catchup_aggregation_range", p_symbol=symbol, p_to_tf=timeframe, p_start_cursor_utc=cursor,
                    p_max_windows=100,
                    p_now_utc=now, p_derivation_version=1, p_ignore_confirmation=False,
                )  # fmt: skip
        except psycopg.DatabaseError as broken:
            self.log.append(str(broken).splitlines()[0])
            self.rpc(
                "agg_finish",
                p_success=False,
                p_fail_kind="hard",
                p_error=str(broken),
                p_stats=Jsonb({"error": str(broken)}),
                **finish,
            )
            return
        stats = {key: result[key] for key in ("windows_processed", "bars_created", "bars_quality_poor", "bars_skipped")}
        assert result["cursor_advanced_to"] is not None, "it would store null"
        self.rpc(
            "agg_finish", p_success=True, p_new_cursor_utc=result["cursor_advanced_to"], p_stats=Jsonb(stats), **finish
        )

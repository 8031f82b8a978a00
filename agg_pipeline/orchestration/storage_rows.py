"""Rows of Dagster's storage that belong to no run, or that Dagster leaves behind when it deletes one.

Dagster has no call that deletes evaluations of checks (a tick stores thirty) or backfills, so this is SQL.
"""

import datetime as dt
from collections.abc import Collection
from typing import Any

import dagster as dg
from sqlalchemy import bindparam, text

_ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}


def delete_evaluations(instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], before: dt.datetime) -> int:
    """Delete evaluations of the checks of these assets from before that time; their number."""
    storage: Any = instance.event_log_storage
    query = text("delete from asset_check_executions where asset_key in :keys and create_timestamp < :before")
    with storage.index_connection() as connection:
        done = connection.execute(
            query.bindparams(bindparam("keys", expanding=True)),
            {"keys": [key.to_string() for key in assets], "before": _stored(before)},
        )
    return int(done.rowcount)


def delete_backfills(instance: dg.DagsterInstance, assets: Collection[dg.AssetKey], before: dt.datetime) -> int:
    """Delete ended backfills of these assets from before that time, whose runs are gone; their number."""
    old = [
        one.backfill_id
        for one in instance.get_backfills()
        if one.status.value in _ENDED
        and one.backfill_timestamp < before.timestamp()
        and set(one.asset_selection or ()) & set(assets)
        and not instance.get_run_ids(dg.RunsFilter(tags={"dagster/backfill": one.backfill_id}), limit=1)
    ]
    if not old:
        return 0
    storage: Any = instance.run_storage
    with storage.connect() as connection:
        for table, column in (("backfill_tags", "backfill_id"), ("bulk_actions", "key")):
            query = text(f"delete from {table} where {column} in :ids")  # noqa: S608 - names from the line above
            connection.execute(query.bindparams(bindparam("ids", expanding=True)), {"ids": old})
    return len(old)


def _stored(time: dt.datetime) -> dt.datetime:
    """As Dagster's tables hold it: UTC without an offset."""
    return time.astimezone(dt.UTC).replace(tzinfo=None)

"""docs/sql-api.md says what the database says."""

import psycopg

from agg_pipeline_tests.sql_api import PAGE, render


def test_the_page_is_current(db: psycopg.Connection) -> None:
    assert PAGE.read_text(encoding="utf-8") == render(db), "run make docs"

"""Commands over all symbols while a row of one cannot be read: it is named, the others are looked at."""

import psycopg
import pytest
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.sql.helpers import at, put, register
from agg_pipeline_tests.sql.test_isolation import BAD
from agg_pipeline_tests.ticking import tick_until_quiet


@pytest.fixture
def unreadable(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three symbols with two hours of bars, built; then a bar of BAD in a year that no JSON reader takes."""
    for name, value in (stack.environment() | {"ENV_NAME": "PROD"}).items():
        monkeypatch.setenv(name, value)
    register(clean, BAD, "AAA", "ZZZ")
    for symbol in (BAD, "AAA", "ZZZ"):
        put(clean, symbol, "08:00", 120)
    gateway = open_gateway(stack, direct=stack.api_url is None)
    tick_until_quiet(gateway, at("10:20"))
    gateway.close()
    clean.execute(
        """insert into derived_data_bars (canonical_symbol, timeframe, ts_utc, open, high, low, close, source)
           values (%s, '5m', '20000-01-01Z', 1, 1, 1, 1, 'a user')""",
        [BAD],
    )


@pytest.mark.usefixtures("unreadable")
def test_verify_looks_at_the_others() -> None:
    result = CliRunner().invoke(app, ["verify", "--all"], terminal_width=200)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"Error: {BAD}: agg_bar_summary failed: ")
    assert result.stderr.count("Error: ") == 1
    assert "0 differences" in result.stdout
    assert f"{2 * (24 + 8 + 2)} bars of 3 symbols recomputed" in result.stdout


@pytest.mark.usefixtures("unreadable")
@pytest.mark.parametrize(("command", "said"), [("check", "matches_recomputation"), ("repair", "windows of 15 tasks")])
def test_other_commands_do_not_meet_it(command: str, said: str) -> None:
    result = CliRunner().invoke(app, [command], terminal_width=200)
    assert result.exit_code in (0, 1), result.output
    assert "Error: " not in result.stderr
    assert said in result.stdout

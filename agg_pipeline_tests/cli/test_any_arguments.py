"""Any arguments of any command: it ends with a documented exit code and one line, never with a traceback."""

import os
from pathlib import Path
from typing import Any

import psycopg
import pytest
import typer
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from agg_pipeline.cli import app
from agg_pipeline.embedded import Stack
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.impossible import TIMEFRAMES
from agg_pipeline_tests.names import symbols
from agg_pipeline_tests.sql.helpers import at
from agg_pipeline_tests.ticking import tick_until_quiet

# Servers, other processes and changes of the installation have tests of their own.
STARTS_SOMETHING = {"up", "down", "demo", "tick", "backfill", "migrate", "migration", "partition"}
NEVER_ENDS = {"follow", "watch"}
COMMANDS: dict[str, list[Any]] = {
    name: [parameter for parameter in one.params if parameter.name not in NEVER_ENDS | {"root", "database_url"}]
    for name, one in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
    if name not in STARTS_SOMETHING
}
KNOWN = ["BTC/USD", "[/]", "-x"]

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
names = st.sampled_from(KNOWN) | st.sampled_from(KNOWN) | symbols() | texts
times = st.one_of(
    st.sampled_from(
        ["2026-01-05", "2026-01-05T10:00", "2026-01-05T10:00+14:00", "2026-01-06", "0001-01-01T00:00+14:00",
         "9999-12-31T23:59-14:00", "1899-12-31", "2200-01-01", "2026-02-30", "infinity", "now", "-1", ""]
    ),
    st.datetimes(timezones=st.none() | st.timezones()).map(lambda time: time.isoformat()),
    st.dates().map(str),
)  # fmt: skip
numbers = st.one_of(st.integers(), st.sampled_from([0, 1, -1, 2**31, 2**63, 10**30])).map(str) | texts
TIMES = {"begin", "end", "since", "until", "window", "start"}


def values(parameter: Any) -> st.SearchStrategy[str]:
    """What somebody could type for this parameter, sense or nonsense."""
    if parameter.name in ("symbol", "symbols"):
        return names
    if parameter.name in TIMES:
        return times | texts
    if parameter.name in ("timeframe", "timeframes"):
        return st.sampled_from([*TIMEFRAMES, *TIMEFRAMES, "1m", "5M", "2h", "\n"])
    if parameter.name == "files":
        return st.sampled_from(["good.csv", "bad.csv", "empty.csv", ".", "missing.csv", "[b].csv", "x" * 300]) | texts
    if parameter.name == "out":
        return st.sampled_from(["a.svg", "[/].html", "no/folder.svg", ".", "a.png", "x" * 300 + ".svg"])
    if parameter.name in ("name", "names"):
        return st.sampled_from(["crypto", "fx", "XNYS", "xnys", "nowhere"]) | texts
    if parameter.name == "columns":
        return st.sampled_from(["ts=Date", "open=O", "=", "open=", "=x", "x=y", "ts=ts_utc"]) | texts
    return numbers


@st.composite
def typed(draw: st.DrawFn) -> list[str]:
    """A command with arguments, as words of a shell."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    options, arguments = [], []
    for parameter in COMMANDS[name]:
        if parameter.param_type_name == "argument":
            count = draw(st.integers(0, 2)) if parameter.nargs < 0 else int(parameter.required or draw(st.booleans()))
            arguments += [draw(values(parameter)) for _ in range(count)]
        elif draw(st.booleans()) or parameter.required:
            options.append(parameter.opts[0] if parameter.is_flag else f"{parameter.opts[0]}={draw(values(parameter))}")
    return [name, *options, *(["--"] if draw(st.integers(0, 9)) else []), *arguments]


@pytest.fixture
def project(stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Three symbols with an hour of bars, built; a folder with files to load."""
    for name, value in (stack.environment() | {"ENV_NAME": "PROD", "COLUMNS": "200"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    header = "symbol,ts_utc,open,high,low,close,volume\n"
    bars = "".join(f"{name},2026-01-05T10:{n:02}Z,1,2,0.5,1.5,10\n" for name in KNOWN for n in range(60))
    Path("good.csv").write_text(header + bars)
    Path("bad.csv").write_text(f"{header}a,b,c\nAAA,2026-01-05T10:00Z,1,0,2,1,-5\n\x00\n")
    Path("[b].csv").write_bytes(os.urandom(64))
    Path("empty.csv").touch()
    assert CliRunner().invoke(app, ["load", "good.csv"]).exit_code == 0
    gateway = open_gateway(stack, direct=stack.api_url is None)
    tick_until_quiet(gateway, at("11:20"))
    gateway.close()


@pytest.mark.usefixtures("project")
@given(words=typed())
@settings(max_examples=max(25, settings.default.max_examples // 2), suppress_health_check=list(HealthCheck))
def test_any_arguments_end_with_a_documented_exit_code(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), words
    assert result.exit_code in (0, 1, 2), (words, result.output)
    assert "Traceback" not in result.output
    event(f"{words[0]} {result.exit_code}")
    if result.exit_code == 1 and words[0] not in ("load", "status", "check", "doctor", "verify", "repair", "calendars"):
        assert result.stderr.startswith("Error: "), (words, result.output)
        assert result.stderr.count("\n") == 1, (words, result.stderr)

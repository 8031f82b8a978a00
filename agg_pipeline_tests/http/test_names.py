"""Awkward names from a file of bars to every command: documented exit codes, bars equal to the oracle."""

import csv
import shlex
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner, Result

from agg_pipeline.cli import app
from agg_pipeline.database.gateway import AggGateway
from agg_pipeline.embedded import Stack
from agg_pipeline.errors import PermanentError
from agg_pipeline.market.names import file_name, shell_words
from agg_pipeline_tests.conftest import open_gateway
from agg_pipeline_tests.names import NAMES
from agg_pipeline_tests.oracle import assert_equals_oracle
from agg_pipeline_tests.sampling import sampled
from agg_pipeline_tests.sql.helpers import at
from agg_pipeline_tests.ticking import tick_until_quiet

MINUTES = 20
FEW = ["[/]", "Ünï-株", '"q"', "../x", "-x"]  # all commands take a second for each name
OTHERS = [name for name in NAMES if name not in FEW]


@pytest.fixture
def database(
    stack: Stack, clean: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> psycopg.Connection:
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENV_NAME", "PROD")
    monkeypatch.chdir(tmp_path)
    return clean


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), terminal_width=200)


def said(code: int, command: str) -> str:
    """Output of a command as it is typed into a shell."""
    result = run(*shlex.split(command))
    assert (result.exit_code, result.stderr) == (code, ""), f"{command}\n{result.output}"
    assert result.exception is None or isinstance(result.exception, SystemExit), command
    return result.stdout


def write(path: Path, *names: str) -> Path:
    """``MINUTES`` bars a name, as a CSV file that quotes what it must."""
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["symbol", "ts_utc", "open", "high", "low", "close", "volume"])
        for name in names:
            for minute in range(MINUTES):
                price = 100 + minute % 7
                prices = (price, price + 2, price - 1, price + 1)
                lines.writerow([name, f"2026-01-05T10:{minute:02}Z", *prices, 10])
    return path


def bars(db: psycopg.Connection) -> dict[str, list[tuple[object, ...]]]:
    """Live bars of each name, all that a source bar decides."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for name, *bar in db.execute(
        """select canonical_symbol, timeframe, ts_utc, open, high, low, close, vol, source_candles, quality_score
             from derived_data_bars where deleted_at is null order by 1, 2, 3"""
    ):
        found.setdefault(name, []).append(tuple(bar))
    return found


@pytest.fixture
def loaded(stack: Stack, database: psycopg.Connection, tmp_path: Path) -> psycopg.Connection:
    """All awkward names, loaded by the command from one file whose own name is awkward, and ticked."""
    path = write(tmp_path / "[bold]bars[red] :car:.csv", *NAMES)
    result = run("load", str(path))
    assert result.exit_code == 0, result.output
    assert f"[bold]bars[red] :car:.csv: {len(NAMES) * MINUTES:,} bars inserted" in result.stdout
    gateway = open_gateway(stack, direct=stack.api_url is None)
    tick_until_quiet(gateway, at("10:21"))
    gateway.close()
    return database


def test_bars_of_every_name_equal_the_oracle(loaded: psycopg.Connection) -> None:
    counts = assert_equals_oracle(loaded, NAMES[:1])
    assert (counts[NAMES[0], "5m"], counts[NAMES[0], "15m"]) == (MINUTES // 5, MINUTES // 15)
    assert bars(loaded) == {name: bars(loaded)[NAMES[0]] for name in NAMES}, "all were loaded with the same prices"


@pytest.mark.parametrize("names", sampled([FEW, OTHERS], [FEW]))
def test_every_command_works_for_every_name(loaded: psycopg.Connection, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        symbol, task = shell_words(name), shell_words(name, "5m")
        window = shell_words(name, "5m", "2026-01-05T10:00")
        paused = said(0, f"pause --by '[/]' --reason '[bold]why' {task}")
        assert paused == f"{name} is paused until resumed (tasks: 1).\n"
        shown = said(0, f"status {symbol}")
        assert f"{name}/15m" in shown
        assert "[bold]why" in shown
        assert f"`agg-pipeline resume {symbol}`" in shown
        assert said(0, f"resume {task}") == f"{name} may run again (tasks: 1).\n"
        assert f"{name}/5m from 2026-01-05 10:00" in said(0, f"explain {window}")
        assert said(0, f"chart --out chart.svg {task}") == "chart.svg: 4 bars, 0 gaps.\n"
        gaps = said(0, f"gaps --from 2026-01-05T10:00 --to 2026-01-05T10:20 {symbol}")
        assert f"Missing 1m bars of {name}/5m" in gaps
        assert "20 source bars found, 0 missing" in gaps
    assert said(0, "chart '<b>' 5m") == f"{file_name('<b>')}-5m.html: 4 bars, 0 gaps.\n"
    page = (tmp_path / f"{file_name('<b>')}-5m.html").read_text()
    assert '"text":"&lt;b&gt; 5m' in page


@pytest.mark.parametrize("names", sampled([FEW[:1], FEW[1:] + OTHERS], [FEW[:1]]))
def test_bars_of_every_name_are_recomputed_and_checked(loaded: psycopg.Connection, names: list[str]) -> None:
    for name in names:
        assert "0 differences." in said(0, f"verify --symbol={shlex.quote(name)} --all --to 2026-01-06")
        assert "no_gaps" in said(0, f"check --symbol={shlex.quote(name)} --from 2026-01-05T10:00")


def test_doctor_finds_nothing_wrong_with_names(
    stack: Stack, loaded: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over REST, where each name is a value in the query of a URL, and over the database URL."""
    assert said(0, "doctor").endswith("Sound.\n")
    assert said(0, f"doctor --database-url {shlex.quote(stack.dsn)}").endswith("Sound.\n")
    loaded.execute("update data_agg_state set status = 'disabled' where canonical_symbol in ('-x', '[/]')")
    found = said(1, "doctor")
    assert "resume -- -x 5m" in found
    assert "[/]/5m is disabled after failures" in found
    assert "resume '[/]' 5m" in found


@pytest.mark.parametrize("name", ["", " x", "a\x1bb", "a\u202eb", "x" * 101])
def test_what_is_no_name_is_refused_everywhere_with_the_rule(
    stack: Stack, database: psycopg.Connection, tmp_path: Path, name: str
) -> None:
    rule = "a symbol is 1 to 100 characters"
    for arguments in (["status", name], ["pause", name], ["tick", f"--symbol={name}"], ["logs", f"--symbol={name}"]):
        result = run(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (1, 1), result.output
        assert rule in result.stderr
    if name:
        loaded = run("load", str(write(tmp_path / "bars.csv", name)))
        assert rule in loaded.stderr
        assert "0 bars inserted" in loaded.stdout
    gateway: AggGateway = open_gateway(stack, direct=True)
    with pytest.raises(PermanentError, match=rule):
        gateway.register_asset(name, start=at("00:00"), base_timeframe="1m")
    with pytest.raises(PermanentError, match=rule):
        gateway.load_bars([{"canonical_symbol": name}], timeframe="1m", source="test")
    gateway.close()
    assert database.execute("select count(*) from core_asset_registry_all").fetchone() == (0,)


def test_a_terminal_without_the_letters_gets_their_numbers(database: psycopg.Connection) -> None:
    database.execute("select agg_register_asset('Ünï-株', '2026-01-05')")
    result = CliRunner(charset="ascii").invoke(app, ["status", "--trouble"])
    assert result.exit_code == 0, result.output
    assert r"\xdcn\xef-\u682a/5m" in result.stdout

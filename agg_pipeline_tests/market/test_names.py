"""The rule of symbols, and a name in each kind of place: different names stay different, readers get the name."""

import csv
import html
import io
import re
import shlex
import subprocess
import xml.etree.ElementTree as ET
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.table import Table

from agg_pipeline.cli.app import PlainConsole, styled
from agg_pipeline.market import names
from agg_pipeline.market.names import SYMBOL_RULE, SymbolError, check_symbol
from agg_pipeline.orchestration.metadata import markdown_table
from agg_pipeline_tests.names import MORE_NAMES, NAMES, symbols

ALL = [*NAMES, *MORE_NAMES]


@pytest.mark.parametrize("name", ALL)
def test_an_awkward_name_is_a_name(name: str) -> None:
    assert check_symbol(name) == name


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "symbol '' is empty"),
        ("x" * 101, f"symbol '{'x' * 40}...' has 101 characters"),
        (" x", "symbol ' x' begins or ends with a blank"),
        ("x\u3000", r"symbol 'x\u3000' begins or ends with a blank"),
        ("  ", "symbol '  ' begins or ends with a blank"),
        ("a\x00b", r"symbol 'a\x00b' has U+0000 as character 2"),
        ("a\nb", r"symbol 'a\nb' has U+000A as character 2"),
        ("\x1b[2J", r"symbol '\x1b[2J' has U+001B as character 1"),
        ("a\u202eb", r"symbol 'a\u202eb' has U+202E RIGHT-TO-LEFT OVERRIDE as character 2"),
        ("a\u2066", r"symbol 'a\u2066' has U+2066 LEFT-TO-RIGHT ISOLATE as character 2"),
        ("a\u2028b", r"symbol 'a\u2028b' has U+2028 LINE SEPARATOR as character 2"),
        ("a\udc80", r"symbol 'a\udc80' has U+DC80 as character 2"),
    ],
)
def test_what_is_no_name_is_refused_with_the_rule(name: str, problem: str) -> None:
    with pytest.raises(SymbolError) as refused:
        check_symbol(name)
    assert str(refused.value) == f"{problem}; {SYMBOL_RULE}"


KEYS = {
    "mapping": names.mapping_key, "tag": names.tag_value, "partition": names.partition_key, "run": names.run_key,
    "file": lambda name: names.file_name(name).casefold(),  # a file system may take both cases for one
    "url": names.url_part, "shell": names.shell_words, "html": names.html_text, "attribute": names.html_attribute,
    "markdown": names.markdown_cell, "csv": names.csv_cell, "terminal": names.terminal,
}  # fmt: skip


@given(symbols(), symbols())
def test_different_names_have_different_keys(one: str, other: str) -> None:
    for kind, key in KEYS.items():
        if kind in ("html", "attribute") and re.search("[\ufffd-\uffff]", one + other):
            continue  # characters that XML does not know are shown as one
        assert (key(one) == key(other)) == (one == other), kind


@pytest.mark.parametrize("kind", KEYS)
def test_no_two_of_the_awkward_names_share_a_key(kind: str) -> None:
    assert len({KEYS[kind](name) for name in ALL if name != "x\ufffe"}) == len(ALL) - 1


def test_keys_of_plain_names_stay_readable() -> None:
    assert [names.mapping_key(name) for name in ("EURUSD", "BTC/USD", "Ünï-株", "a_b")] == [
        "EURUSD", "BTC_2f_USD", "_dc_n_ef__2d__682a_", "a_5f_b",
    ]  # fmt: skip
    assert [names.file_name(name) for name in ("EURUSD", "BTC/USD", "BRK.B", "-X", ".X")] == [
        "EURUSD", "BTC%2FUSD", "BRK.B", "%2DX", "%2EX",
    ]  # fmt: skip
    assert re.fullmatch("eurusd~[0-9a-f]{16}", names.file_name("eurusd"))
    assert names.markdown_cell("BTC/USD (hard): 22003 out of range.") == "BTC/USD (hard): 22003 out of range."


@given(symbols())
def test_dagster_takes_the_keys(name: str) -> None:
    key = names.mapping_key(name)
    assert len(key) <= 100
    assert dg.DynamicOutput(1, mapping_key=f"00000_{key}_5m").mapping_key == f"00000_{key}_5m"
    assert dg.StaticPartitionsDefinition([names.partition_key(name)]).get_partition_keys() == [
        names.partition_key(name)
    ]
    dg.AssetSpec("bars", tags={"symbol": names.tag_value(name)})


@given(symbols())
def test_a_file_name_is_one_part_of_a_path(name: str) -> None:
    file = names.file_name(name) + "-15m.html"
    assert file.isascii()
    assert len(file) <= 255
    assert re.fullmatch(r"[^/\\.\-][^/\\]*", file)
    assert unquote(file.partition("~")[0].removesuffix("-15m.html")) == name or "~" in file


@given(symbols())
def test_a_url_gives_the_name_back(name: str) -> None:
    address = urlsplit(f"https://host/{names.url_part(name)}?symbol={names.url_part(name)}&x=1")
    assert unquote(address.path.removeprefix("/")) == name
    assert parse_qs(address.query) == {"symbol": [name], "x": ["1"]}
    assert unquote(names.partition_key(name)) == unquote(names.run_key(name)) == name


@given(symbols())
def test_a_browser_gives_the_name_back(name: str) -> None:
    shown = name.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")
    assert html.unescape(names.html_text(name)) == html.unescape(names.html_attribute(name)) == shown
    assert not re.search("[<>]", names.html_text(name))
    assert not re.search("[<>\"']", names.html_attribute(name))
    assert ET.fromstring(f"<text>{names.svg_text(name)}</text>").text == shown


@given(symbols())
def test_markdown_gives_the_name_back(name: str) -> None:
    """By the rules of GitHub's tables, which the pages of Dagster and the command backfill use."""
    table = markdown_table(["symbol", "bars"], [[name, 1], ["next", 2]])
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(table)
    cells = [token.children or [] for token in tokens if token.type == "inline"]
    assert {part.type for cell in cells for part in cell} <= {"text", "text_special"}
    shown = ["".join(part.content for part in cell) for cell in cells]
    assert shown == ["symbol", "bars", name, "1", "next", "2"]


@given(symbols())
def test_a_terminal_shows_the_name(name: str) -> None:
    """In a line, in a styled part and in a table, whatever rich would read as markup or emoji code."""
    for printed in (name, styled((name, "red")), _table(name)):
        console = PlainConsole(file=io.StringIO(), width=1000, force_terminal=False)
        console.print(printed, highlight=False, soft_wrap=True)
        assert isinstance(console.file, io.StringIO)
        assert console.file.getvalue().count(name) >= (3 if isinstance(printed, Table) else 1)


def _table(name: str) -> Table:
    table = Table(name, title=name, box=None)
    table.add_row(name)
    return table


def test_a_terminal_is_not_controlled_by_a_text() -> None:
    assert names.terminal("a\x1b[2J\r\u202eb\nc\td") == "a\\x1b[2J\\r\\u202eb\nc\\td"


@given(symbols())
def test_a_spreadsheet_computes_no_name(name: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([names.csv_cell(name), "next"])
    ((cell, following),) = csv.reader(io.StringIO(file.getvalue()))
    assert cell[0] not in "=+-@"
    assert (cell.removeprefix("'"), following) == (name, "next")


@given(st.lists(symbols(), min_size=1, max_size=3))
def test_a_shell_gives_the_words_back(words: list[str]) -> None:
    options_end = ["--"] if any(word.startswith("-") for word in words) else []
    assert shlex.split(names.shell_words(*words)) == [*options_end, *words]


def test_a_real_shell_gives_the_words_back() -> None:
    words = names.shell_words("x", *ALL)
    said = subprocess.run(["/bin/sh", "-c", f"printf '%s\\n' {words}"], capture_output=True, check=True)
    assert said.stdout.decode() == "".join(f"{word}\n" for word in ("--", "x", *ALL))

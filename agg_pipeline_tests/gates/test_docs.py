"""The documentation names only what exists: pages and headings, commands and their options, make targets, settings."""

import re
from pathlib import Path

import pytest
import typer

from agg_pipeline.cli import app
from agg_pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
REFERENCE = ROOT / "docs" / "reference.md"
README_LINES = 100

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CALL = re.compile(r"\bagg-pipeline ([a-z][a-z-]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_MAKE = re.compile(r"\bmake ([a-z][a-z-]*)")


def options() -> dict[str, set[str]]:
    """Long options of each command that an operator sees."""
    group = typer.main.get_command(app)
    return {
        name: {"--help", *(opt for param in command.params for opt in (*param.opts, *param.secondary_opts))}
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        if not command.hidden
    }


def typed(text: str) -> list[str]:
    """What a page shows as typed: code spans, and lines after a prompt, without their comment."""
    lines = [line[2:].partition("  #")[0] for block in _FENCE.findall(text) for line in block.splitlines()
             if line.startswith("$ ")]  # fmt: skip
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", _FENCE.sub("", text))] + lines


def anchors(text: str) -> set[str]:
    """Names that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a page whose file or heading does not exist."""
    found = []
    for link in _LINK.findall(_FENCE.sub("", text)):
        target, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        there = page.parent / target
        if not there.exists() or (
            anchor and anchor not in anchors(there.read_text(encoding="utf-8") if target else text)
        ):
            found.append(link)
    return found


def unknown_commands(text: str) -> list[str]:
    """Commands and options of a page that the command line does not have."""
    known, found = options(), []
    for shown in typed(text):
        for call in re.split(r"(?=\bagg-pipeline )", shown):
            if match := _CALL.match(call):
                name = match[1]
                if name not in known:
                    found.append(f"agg-pipeline {name}")
                else:
                    found += [f"agg-pipeline {name} {opt}" for opt in _OPTION.findall(call) if opt not in known[name]]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_and_option_exists(page: Path) -> None:
    assert unknown_commands(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for shown in typed(page.read_text(encoding="utf-8")) for name in _MAKE.findall(shown)}
    assert named - targets == set()


def test_the_reference_has_every_command_with_its_own_options() -> None:
    known, described = options(), set[str]()
    for row in re.findall(r"^\| `agg-pipeline .*$", REFERENCE.read_text(encoding="utf-8"), re.MULTILINE):
        command = _CALL.search(row)[1]  # type: ignore[index]
        described.add(command)
        assert [option for option in _OPTION.findall(row) if option not in known[command]] == [], command
    assert described == known.keys()


@pytest.mark.parametrize("page", [REFERENCE, ROOT / ".env.example"], ids=lambda page: page.name)
def test_every_setting_is_documented(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [name.upper() for name in Settings.model_fields if not re.search(rf"\b{name.upper()}\b", text)]
    assert missing == []


def test_the_defaults_of_the_example_are_those_of_the_settings() -> None:
    shown = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name: shown[name.upper()] for name in Settings.model_fields if shown.get(name.upper())}
    assert Settings.model_validate(named) == Settings.model_validate({})


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


def test_what_does_not_exist_is_found() -> None:
    text = "# Here\n[a](#here) [b](#there) [c](missing.md) `agg-pipeline\nfly` `agg-pipeline tick --fast`\n"
    text += "```console\n$ agg-pipeline load f.csv --start 2026-01-01   # --no such option\n$ agg-pipeline swim\n```\n"
    assert broken_links(ROOT / "page.md", text) == ["#there", "missing.md"]
    assert unknown_commands(text) == ["agg-pipeline fly", "agg-pipeline tick --fast", "agg-pipeline swim"]

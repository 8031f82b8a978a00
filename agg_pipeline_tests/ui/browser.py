"""What a person does in Dagster's UI, in a real browser.

Things are found as a person finds them, by role, label and text, so that another style sheet changes nothing here.
Nothing sleeps: every step waits for what it needs, as long as PATIENCE_MS.
"""

import contextlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Locator, Page, expect, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",  # which root needs
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZE = {"width": 1600, "height": 1000}
PATIENCE_MS = 60_000  # a busy machine
ENDED = ("Success", "Failure", "Canceled")
_CREATED = re.compile(r"Created backfill\s*([a-z]{8})")
_RUN_PAGE = re.compile(r"/runs/([0-9a-f]{8}-[0-9a-f-]{27})")


def find_chromium() -> str | None:
    """A Chromium on the PATH that runs; Ubuntu's chromium-browser may only tell how to get one."""
    for path in filter(None, map(shutil.which, NAMES)):
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0:
                return path
    return None


@contextlib.contextmanager
def chromium_running(program: str) -> Iterator[Chromium]:
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


@dataclass(frozen=True)
class Browser:
    """A page of the UI, and what somebody who sits before it does."""

    page: Page
    url: str
    pictures: Path

    def picture(self, name: str) -> None:
        """Keep what can be seen now."""
        self.page.screenshot(path=self.pictures / f"{name}.png", animations="disabled")

    def sees(self, text: str, *, exact: bool = False) -> None:
        """Wait until this can be read somewhere."""
        expect(self.page.get_by_text(text, exact=exact).filter(visible=True)).not_to_have_count(0)

    def sees_no_more(self, text: str) -> None:
        expect(self.page.get_by_text(text)).to_have_count(0)

    # ---- the menu on the left

    def open_section(self, name: str) -> None:
        """Runs, Catalog, Jobs, Automation, Lineage."""
        if not self.page.url.startswith(self.url):
            self.page.goto(self.url)
        self._link(name, within=self.page.get_by_role("navigation")).click()

    def open_lineage(self) -> None:
        """The global asset lineage, every asset with its last event."""
        self.open_section("Lineage")
        self.sees("Global asset lineage")
        self.sees("Latest event")
        self.sees_no_more("Loading...")

    # ---- jobs and runs

    def open_job(self, job: str) -> None:
        self.open_section("Jobs")
        # The page before may list jobs as well.
        self.page.get_by_role("textbox", name="Search and filter jobs").wait_for(state="attached")
        self._link(job).click()

    def open_launchpad(self, job: str) -> None:
        """The job's Launchpad, ready, with the config that is there by default or that was typed last."""
        self.open_job(job)
        self.page.get_by_role("tab", name="Launchpad").click()
        expect(self._launch_button).to_be_enabled()
        self.sees("No errors")

    def type_config(self, config: str) -> None:
        """Replace what the Launchpad's editor holds."""
        self.page.get_by_text("ops:").first.click()
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.insert_text(config)
        self.sees(config)
        self.sees("No errors")

    def launch(self) -> str:
        """Press the Launchpad's button; the id of the run, whose page is open then."""
        self._launch_button.click()
        self.page.wait_for_url(_RUN_PAGE)
        return self.run_id

    @property
    def run_id(self) -> str:
        """Of the run whose page is open."""
        found = _RUN_PAGE.search(self.page.url)
        assert found, f"{self.page.url} is not the page of a run"
        return found[1]

    def open_run(self, run_id: str) -> None:
        self.page.goto(f"{self.url}/runs/{run_id}")

    def wait_for_status(self, status: str) -> Locator:
        """The tag on a run's page once it says Started or how the run ended; an error if it ended otherwise."""
        tag = self.page.get_by_text(re.compile(f"^({'|'.join({status, *ENDED})})$")).filter(visible=True).first
        tag.wait_for()
        assert tag.inner_text() == status, f"{self.page.url} says {tag.inner_text()}, not {status}"
        return tag

    def filter_log(self, text: str) -> None:
        """Leave the events of a run's page that contain this, for it lists only as many as fit into it."""
        self.page.get_by_placeholder("Filter…").fill(text)

    def terminate(self) -> None:
        """The button on a run's page, and the question that follows, which goes away when the run ends."""
        self.page.get_by_role("button", name=re.compile("Terminate$")).click()
        # It offers to force it where the code server is too busy to say that the run can be told.
        sure = re.compile(r"^(Terminate|Force termination for) 1 run$")
        self.page.get_by_role("dialog").get_by_role("button", name=sure).click()

    def open_runs(self, **tags: str) -> None:
        """The list of runs, all or those with these tags; a tag's agg/ is left out: ``open_runs(rerun_of=run_id)``."""
        query = urlencode([("q[]", f"tag:agg/{key}={value}") for key, value in tags.items()])
        self.page.goto(f"{self.url}/runs?{query}")

    def listed_run(self, run_id: str) -> Locator:
        """Its link in the list of runs."""
        return self.page.get_by_role("link").filter(has_text=run_id[:8]).first

    # ---- assets

    def open_asset(self, name: str, tab: str = "Overview") -> None:
        """An asset's page: Overview, Events, Partitions, Checks or Lineage."""
        self.page.goto(f"{self.url}/assets/{name}")
        self.page.get_by_role("tab", name=tab).click()

    def figure(self, name: str) -> Locator:
        """The row of a figure in the table of an asset's last materialization."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("cell", name=name, exact=True)).first

    def open_plots(self) -> Locator:
        """The charts of an asset's figures over time."""
        self.page.get_by_role("button", name="Plots").click()
        return self.page.locator("canvas")

    def open_checks(self, asset: str) -> None:
        self.open_asset(asset, "Checks")
        self.sees("Execute all")

    def checks(self, outcome: str) -> Locator:
        """The checks of the open asset that the list on the left shows as Succeeded, Failed, In Progress ..."""
        return self.page.get_by_text(outcome, exact=True).filter(visible=True)

    # ---- backfills

    def launch_backfill(self, first: str, last: str, config: str) -> str:
        """Materialize all assets for a range of days with this config, from the lineage; the backfill's id."""
        self.open_lineage()
        self.page.get_by_role("button", name=re.compile("Materialize all")).click()
        dialog = self.page.get_by_role("dialog")
        days = dialog.get_by_role("textbox").first
        days.fill(f"[{first}...{last}]")
        days.press("Enter")
        dialog.get_by_text("Config", exact=True).click()
        dialog.get_by_role("button", name="Add config").click()
        editor = self.page.get_by_role("dialog").filter(has_text="Config Editor")
        editor.get_by_role("textbox").focus()
        self.page.keyboard.insert_text(config)
        expect(editor.get_by_text(config)).to_be_visible()
        expect(editor.get_by_text("No errors")).to_be_visible()
        editor.get_by_role("button", name="Save config").click()
        self.picture("backfill-dialog")
        dialog.get_by_role("button", name="Launch backfill").click()
        told = self.page.get_by_text(_CREATED).last.inner_text()  # which goes away after seconds, with its button
        found = _CREATED.search(told)
        assert found, told
        self.page.goto(f"{self.url}/runs/b/{found[1]}")
        return found[1]

    # ---- automation

    def switch(self, name: str) -> Locator:
        """That of a schedule or sensor on the page Automation: the first box to be checked after its name."""
        return self._link(name).locator("xpath=following::input[@type='checkbox'][1]")

    def _link(self, text: str, within: Locator | None = None) -> Locator:
        """The first link that reads so; icons have names too: "column_lineage Jobs", "catch_up info"."""
        return (within or self.page.locator("body")).get_by_role("link", name=re.compile(rf"(^| ){text}( |$)")).first

    @property
    def _launch_button(self) -> Locator:
        return self.page.get_by_role("button", name=re.compile("Launch Run$"))


def is_red(shown: Locator) -> bool:
    """Whether a text is written in a red colour, whatever shade."""
    red, green, blue = map(int, re.findall(r"\d+", shown.evaluate("e => getComputedStyle(e).color"))[:3])
    return red > 2 * max(green, blue)


def is_drawn(canvas: Locator) -> bool:
    """Whether a chart has more than one colour on it."""
    pixels = "c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer"
    return int(canvas.evaluate(f"c => new Set(new Uint32Array({pixels})).size")) > 1

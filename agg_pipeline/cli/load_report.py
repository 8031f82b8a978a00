"""What `agg-pipeline load` prints about one file: what it recognised, what it refused and why, what is stored."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn

from agg_pipeline.cli.app import console, errors, print_error
from agg_pipeline.ingest.bar_file import BarFile
from agg_pipeline.ingest.errors import shown_path
from agg_pipeline.ingest.rejects import RejectGroups
from agg_pipeline.ingest.upload import Upload


class LoadReport:
    """The report on one file, which may not be readable at all.

    Args:
        check: called after each batch; may raise.
    """

    def __init__(self, path: Path, check: Callable[[], None] = lambda: None):
        self.path = path
        self.name = shown_path(path.name if os.path.isfile(path) else path)  # the name of a pipe is only a number
        self.upload, self.rejects = Upload(), RejectGroups()
        self._check = check
        self._file: BarFile | None = None
        self._failed = False
        self._notes_printed = 0

    @property
    def is_whole(self) -> bool:
        """True if every row of the file is stored, and there was one."""
        return not self._failed and not self.upload.rejected and self.upload.stored > 0

    @contextlib.contextmanager
    def reading(self, file: BarFile) -> Iterator[Callable[[int], None]]:
        """Show progress while the file is read; yields what to call after each batch with the position in bytes."""
        self._file = file
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(self.name, total=file.size_bytes or None)

            def after_batch(position_bytes: int) -> None:
                progress.update(bar, completed=position_bytes)
                self._print_notes()
                self._check()

            self._print_notes()
            yield after_batch

    def end(self, *, failure: str | None = None, stopped_by: str | None = None) -> None:
        """Print the rest: rejected rows by cause, why it ended, what is stored, what to look at."""
        self._failed = failure is not None or stopped_by is not None
        self._print_notes()
        for line in self.rejects.lines():
            self._warn(f"{self.name} {line}" if line.startswith(("line ", "row ")) else f"{self.name}: {line}")
        if failure is not None:
            print_error(str(failure))
        if self._file is None:
            if stopped_by is not None:
                self._warn(f"{self.name}: stopped by {stopped_by}; nothing of it is loaded.")
            return
        if self._failed:
            self._print_where_to_go_on(self._file, stopped_by)
        self._print_result(self._file)

    def _print_where_to_go_on(self, file: BarFile, stopped_by: str | None) -> None:
        why, unit = f"stopped by {stopped_by}" if stopped_by else "not loaded to its end", file.unit
        if not (reached := self.upload.stored_to):
            self._warn(f"{self.name}: {why}; nothing of it is stored.")
            return
        self._warn(
            f"{self.name}: {why}; all up to {unit} {reached} is done, in whole batches. Go on from {unit} "
            f"{reached + 1}, or load it again: what is stored does not change."
        )

    def _print_result(self, file: BarFile) -> None:
        upload = self.upload
        console.print(
            f"{self.name}: {upload.inserted:,} bars inserted, {upload.updated:,} updated, "
            f"{upload.unchanged:,} unchanged, {upload.rejected:,} rows rejected "
            f"({', '.join(sorted(upload.symbols)) or 'no symbol'}).",
            highlight=False,
            soft_wrap=True,
        )
        if not upload.stored and not upload.rejected and not self._failed:
            self._warn(f"{self.name} holds no rows.")
        for symbol, why in upload.refused.items():
            self._warn(f"{symbol}: the database refused its bars, which count as rejected. {why}")
        if file.negative_prices:
            self._warn(f"{self.name}: {file.negative_prices:,} bars have a negative price.")
        for line in upload.calendar_failures:
            self._warn(line)
        for symbol, begins in upload.early.items():
            self._warn(
                f"{symbol}: bars before {begins:%Y-%m-%d %H:%M} are stored but not aggregated; its tasks start then "
                "(data_agg_state.agg_start_utc)."
            )
        for symbol, newest in upload.future.items():
            self._warn(
                f"{symbol}: bars are later than now, up to {newest:%Y-%m-%d %H:%M} UTC. Are the file's times UTC? "
                "Until then a silent feed is not noticed; docs/operations.md, The feed stopped, says how to remove "
                "them."
            )

    def _print_notes(self) -> None:
        notes = self._file.notes if self._file else []
        for note in notes[self._notes_printed :]:
            self._warn(f"{self.name}: {note}.")
        self._notes_printed = len(notes)

    @staticmethod
    def _warn(text: str) -> None:
        errors.print(text, style="yellow", highlight=False, soft_wrap=True)

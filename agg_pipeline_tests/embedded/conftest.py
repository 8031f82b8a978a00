"""Real servers for the tests of the embedded stack: a shared one to ask, a folder to start, kill and start again."""

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agg_pipeline import embedded
from agg_pipeline_tests.embedded.processes import OwnerProcess, Starter

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the embedded stack needs a POSIX system")


@pytest.fixture(scope="session")
def asked() -> Iterator[embedded.Stack]:
    """A stack that tests only put questions to."""
    with embedded.temporary() as stack:
        yield stack


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that has been started once, so that the tests pay for initdb once; a path to stumble over."""
    root = tmp_path_factory.mktemp("with spaces and 'quotes'") / ("long " * 24).strip() / "stack"
    with embedded.started(root, durable=False):
        pass
    yield root
    embedded.stop(root)
    shutil.rmtree(root)


@pytest.fixture
def root(made: Path) -> Iterator[Path]:
    """The started-once folder, stopped."""
    embedded.stop(made)
    yield made
    embedded.stop(made)


@pytest.fixture
def start() -> Iterator[Starter]:
    with contextlib.ExitStack() as exits:
        yield Starter(exits)


@pytest.fixture
def owner(root: Path) -> Iterator[OwnerProcess]:
    """Another process that owns the stack of the folder."""
    with OwnerProcess(root) as process:
        yield process

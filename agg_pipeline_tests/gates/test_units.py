"""The systemd units as systemd itself reads them, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = sorted([*ROOT.glob("deploy/systemd/*.service"), *ROOT.glob("deploy/systemd/*.target")])


def verified(folder: Path) -> subprocess.CompletedProcess[str]:
    """All units of a folder, their programs those of this checkout."""
    names = [unit.name.replace("@.", "@prod.") for unit in UNITS]
    return subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], cwd=folder, check=False, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd on this machine")
    program = tmp_path / "program"
    program.touch(mode=0o755)
    for unit in UNITS:
        lines = unit.read_text().splitlines()
        text = [f"ExecStart={program}" if line.startswith("ExecStart=") else line for line in lines]
        (tmp_path / unit.name).write_text("\n".join(text) + "\n")
    return tmp_path


def test_the_units_are_valid(folder: Path) -> None:
    assert len(UNITS) == 4
    done = verified(folder)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_slip_of_the_pen_is_found(folder: Path) -> None:
    unit = folder / "agg-pipeline-daemon.service"
    unit.write_text(unit.read_text().replace("Restart=always", "Restart=sometimes"))
    assert "sometimes" in verified(folder).stderr

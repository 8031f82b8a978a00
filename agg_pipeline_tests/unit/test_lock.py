"""Both lock files: pinned, hashed, without an index, and consistent with pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
ENTRY = re.compile(r"(?P<name>[\w.-]+)(\[(?P<extras>[\w,.-]+)])?==(?P<version>[\w.!+]+)(?P<marker> ; .+)?")


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Requirement and hashes of each entry. Raises ValueError at a line that is neither."""
    found: list[tuple[Requirement, list[str]]] = []
    for number, line in enumerate(lock.splitlines(), 1):
        text = line.removesuffix("\\").strip()
        if digest := re.fullmatch(r"--hash=sha256:([0-9a-f]{64})", text):
            found[-1][1].append(digest[1])
        elif ENTRY.fullmatch(text):
            found.append((Requirement(text), []))
        else:
            raise ValueError(f"requirements.lock:{number}: {text[:100]!r} is neither name==version nor a sha256")
    return found


def unmet(asked: Requirement, locked: list[Requirement]) -> str | None:
    """Why the lock does not give what pyproject.toml asks for, or None."""
    same = [entry for entry in locked if canonical(entry.name) == canonical(asked.name)]
    if not same:
        return f"{asked} is not locked; run `make lock`"
    for entry in same:
        version = str(entry.specifier).removeprefix("==")
        if not asked.specifier.contains(version, prereleases=True):
            return f"{asked}, but {entry} is locked; run `make lock`"
        if missing := asked.extras - entry.extras:
            return f"{asked}, but {entry} is locked without {sorted(missing)}; run `make lock`"
    return None


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


LOCKS = {"requirements.lock": ["dev"], "requirements-extras.lock": ["dev", "bench", "celery", "k8s"]}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_entry_is_pinned_and_hashed(lock: str) -> None:
    locked = entries((ROOT / lock).read_text())
    assert len(locked) > 50, "nothing was read"
    assert [str(entry) for entry, hashes in locked if not hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_index(lock: str) -> None:
    """The index is that of the user's pip or uv configuration."""
    text = (ROOT / lock).read_text()
    assert re.findall(r".*(?:://|\bhttps?:|--(?:extra-)?index-url|--find-links| @ ).*", text) == []


def test_packages_in_both_locks_have_one_version() -> None:
    base, extras = ({str(entry) for entry, _ in entries((ROOT / lock).read_text())} for lock in LOCKS)
    assert base - extras == set()


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_satisfies_pyproject(lock: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, build = pyproject["project"], pyproject["build-system"]
    extras = [text for extra in LOCKS[lock] for text in project["optional-dependencies"][extra]]
    asked = [*project["dependencies"], *extras, *build["requires"]]
    locked = [entry for entry, _ in entries((ROOT / lock).read_text())]
    assert [why for text in asked if (why := unmet(Requirement(text), locked))] == []


def test_errors_of_a_lock_are_reported() -> None:
    sha = "--hash=sha256:" + "0" * 64
    (bare, none), (hashed, one) = entries(f"a==1\nPsycopg[binary]==3.3 ; sys_platform == 'linux' \\\n    {sha}")
    assert (bare.name, none) == ("a", [])
    assert (hashed.extras, len(one)) == ({"binary"}, 1)
    locked = [bare, hashed]
    assert unmet(Requirement("psycopg[binary]>=3"), locked) is None
    assert unmet(Requirement("b>=1"), locked) == "b>=1 is not locked; run `make lock`"
    assert unmet(Requirement("a>=2"), locked) == "a>=2, but a==1 is locked; run `make lock`"
    assert unmet(Requirement("a[x]"), locked) == "a[x], but a==1 is locked without ['x']; run `make lock`"


@pytest.mark.parametrize("line", ["a>=1", "--index-url https://example.org/simple", "a @ https://example.org/a.whl"])
def test_a_line_without_a_pinned_package_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"requirements\.lock:2: "):
        entries(f"b==1\n{line}")

"""The repository as a newcomer and CI meet it: commands, scripts, and what no committed file may say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "run",
    "test",
    "test-cover",
    "lint",
    "build",
    "build-all",
    "verify-cross",
    "bench",
    "clean",
    "help",
)


def committed() -> list[str]:
    done = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip("not a git checkout: nothing says which files are committed")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


def make(*arguments: str, cwd: Path = ROOT, **changes: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    inherited.pop("ET_TASK", None)
    inherited.pop("CONFIG", None)
    return subprocess.run(
        ["make", *arguments],
        cwd=cwd,
        env={**inherited, **changes},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_make_alone_lists_the_targets() -> None:
    listed = make().stdout
    for target in TARGETS:
        assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE), target


@pytest.mark.parametrize("target", [target for target in TARGETS if target != "help"])
def test_every_target_says_what_it_would_do(target: str) -> None:
    done = make("--dry-run", target, "TASK=x")
    assert done.returncode == 0, done.stderr


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone whose environment is ready, with an `et` that says what it was called with."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock", "electrictown.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    (binaries.parent / ".run").touch()  # newer than what it depends on
    (binaries / "et").write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    (binaries / "et").chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    "task",
    [
        'it\'s "quoted" and costs $5, $HOME or $$',
        "`touch pwned` $(touch pwned) ; touch pwned & | > pwned #",
        "$(shell touch pwned)",
        "--help",
        "two\nlines",
        "ünïcode ✓",
    ],
)
def test_a_task_reaches_the_program_as_it_was_typed(task: str, clone: Path) -> None:
    done = make("run", f"TASK={task}", cwd=clone, HOME=str(clone))
    assert done.stdout.split("\0")[-3:] == ["--", task, ""], done.stderr
    assert not (clone / "pwned").exists()


def test_a_run_without_a_task_says_how(clone: Path) -> None:
    done = make("run", cwd=clone)
    assert done.returncode == 2
    assert 'make run TASK="' in done.stderr


def config_of_a_run(clone: Path, *arguments: str, home: Path) -> str | None:
    """The value of --config that `make run` gives, or None where `et run` is left to find one."""
    done = make("run", "TASK=x", *arguments, cwd=clone, HOME=str(home), XDG_CONFIG_HOME=str(home / ".config"))
    assert done.returncode == 0, done.stderr
    words = done.stdout.split("\0")
    return words[words.index("--config") + 1] if "--config" in words else None


def test_the_sample_as_it_came_is_no_configuration(
    clone: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("home")
    assert config_of_a_run(clone, home=home) == "auto"
    (home / "electrictown.yaml").touch()
    assert config_of_a_run(clone, home=home) == str(home / "electrictown.yaml")


def test_a_sample_that_was_made_ones_own_is_found(clone: Path) -> None:
    (clone / "electrictown.yaml").write_text("providers: {}\n")
    assert config_of_a_run(clone, home=clone / "none") is None


def test_a_local_configuration_and_a_named_one_come_first(clone: Path) -> None:
    (clone / "electrictown-local.yaml").touch()
    assert config_of_a_run(clone, home=clone / "none") == "electrictown-local.yaml"
    assert config_of_a_run(clone, "CONFIG=electrictown.yaml", home=clone / "none") == "electrictown.yaml"


def test_ci_is_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith("#")]
    assert commands[-1] == "exec make test"


def test_shell_scripts_are_executable_and_strict() -> None:
    scripts = [ROOT / name for name in committed() if name.endswith(".sh")]
    assert {"venv.sh", "debian-packages.sh", "npm-peer.sh", "install.sh"} <= {path.name for path in scripts}
    for path in scripts:
        text = path.read_text()
        assert os.access(path, os.X_OK), path
        assert re.search(r"^set -eu(o pipefail)?$", text, re.MULTILINE), path
        subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("script", ["venv.sh", "debian-packages.sh"])
def test_a_script_refuses_a_kind_it_does_not_know(script: str) -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / script), "everything"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "unknown kind 'everything'" in done.stderr


def test_packages_that_cannot_be_installed_are_named_and_do_not_stop_anything(tmp_path: Path) -> None:
    # A machine with nothing but a shell's tools, and no root.
    for name in ("bash", "env", "grep", "id"):
        path = shutil.which(name)
        assert path
        if name != "id":
            (tmp_path / name).symlink_to(path)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    # The script adds the folders of system programs to PATH, so only the first word of the answer is certain.
    done = subprocess.run(
        [str(ROOT / "scripts" / "debian-packages.sh"), "test"],
        env={"PATH": str(tmp_path), "PYTHON": str(tmp_path / "none")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "missing here: python3-venv" in done.stderr
    assert "apt-get install --no-install-recommends python3-venv" in done.stderr
    assert "tmux" in done.stderr


def test_no_committed_file_but_the_lock_names_a_registry_or_a_path_of_a_machine() -> None:
    # Written in pieces, so that this file does not name them either.
    hosts = [
        "pypi" + ".org",
        "python" + "hosted.org",
        "registry." + "npmjs",
        "npmjs" + ".com",
        "deb." + "debian.org",
    ]
    paths = ["/wo" + "rk/", "/tm" + "p/", "/ro" + "ot/"]
    forbidden = re.compile("|".join(re.escape(word) for word in (*hosts, *paths)))
    found: list[str] = []
    for name in committed():
        if name == "uv.lock":
            continue
        text = (ROOT / name).read_text(errors="replace")
        found += [
            f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit[0]}" for hit in forbidden.finditer(text)
        ]
    assert found == []


def test_the_commands_that_the_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for name in ("README.md", "CONTRIBUTING.md", "AGENTS.md"):
        text = (ROOT / name).read_text()
        said = re.findall(r"(?:^|`)(?:\$ )?make ([a-z-]+)", text, re.MULTILINE)
        assert set(said) <= targets, name
        scripts = re.findall(r"\bscripts/[\w./-]+\.(?:sh|py)\b", text)
        assert all((ROOT / script).is_file() for script in scripts), name

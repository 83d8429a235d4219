"""The examples and the code on the pages run; the YAML on the pages loads."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import electrictown
from electrictown.config import Config, parse_config
from electrictown.llm.provider import make_provider
from electrictown.llm.routes import RouteTable, Target
from electrictown.wiring import Routes, settings_of

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REHEARSAL = EXAMPLES / "rehearsal" / "electrictown.yaml"
PAGES = (
    "README.md",
    "docs/library.md",
    "docs/providers.md",
    "docs/reverse-proxy.md",
    "docs/migrating-from-go.md",
    "docs/runs.md",
)


def blocks(name: str, language: str) -> list[str]:
    path = ROOT / name
    text = path.read_text() if path.exists() else ""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def program(*arguments: str | Path, path: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run this Python with `arguments`, `et` on its PATH."""
    inherited = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    folders = [str(Path(sys.executable).parent), inherited.get("PATH", "")]
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**inherited, "PATH": os.pathsep.join(folders), "PYTHONPATH": path, **environ},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def et(*arguments: str | Path, path: str = "") -> subprocess.CompletedProcess[str]:
    return program("-c", "from electrictown.cli.main import main; main()", *arguments, path=path)


@pytest.fixture
def rehearsal(tmp_path: Path) -> Path:
    """The rehearsal without its pauses."""
    for file in REHEARSAL.parent.glob("*.yaml"):
        text = re.sub(r"^  (latency|pace): .*\n", "", file.read_text(), flags=re.MULTILINE)
        (tmp_path / file.name).write_text(text)
    return tmp_path / REHEARSAL.name


# --- YAML


def yaml_cases() -> list[tuple[str, str]]:
    found = [
        (f"{name}:{n}", text)
        for name in PAGES
        for n, text in enumerate(blocks(name, "yaml"), 1)
        if re.search(r"^providers:", text, re.MULTILINE)  # another program's YAML is not ours to load
    ]
    files = [
        path for path in EXAMPLES.rglob("*.yaml") if path.parent.name != "rehearsal" or path == REHEARSAL
    ]
    return [*found, *((str(path.relative_to(ROOT)), path.read_text()) for path in files)]


@pytest.mark.parametrize(("name", "text"), yaml_cases(), ids=lambda value: value if ":" in value[:60] else "")
def test_a_configuration_on_a_page_loads(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "type: rot13" in text:
        monkeypatch.syspath_prepend(str(installed_rot13()))
    config = loaded(text, name)
    assert config.notes == (), name
    Routes(config).table()
    for provider in config.providers:
        settings = settings_of(config, provider)
        if settings.type != "scripted" or not isinstance(settings.extra.get("script"), str):
            assert make_provider(settings).name == provider


def loaded(text: str, name: str) -> Config:
    """The configuration in `text`, its variables all set."""
    variables = {v: "user:secret-0123456789" for v in re.findall(r"\$\{?([A-Z_]+)", text)}
    return parse_config(text, name.replace(":", "-"), variables)


# --- Python


@pytest.mark.parametrize("name", ["README.md", "docs/library.md"])
def test_the_python_of_a_page_runs(
    name: str, rehearsal: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(rehearsal.parent)
    programs = [text for text in blocks(name, "python") if "asyncio.run(main())" in text]
    pieces = [text for text in blocks(name, "python") if text not in programs]
    assert programs
    for text in programs:
        exec(compile(text, name, "exec"), {"__name__": "page"})
    asyncio.run(in_a_town(name, pieces))
    assert capsys.readouterr().out


async def in_a_town(name: str, pieces: list[str]) -> None:
    """Run the pieces in their order, in one namespace, inside an open town, as the page says."""
    names: dict[str, object] = {}
    async with electrictown.Town.open(electrictown.load_config("electrictown.yaml")) as town:
        names |= {"town": town, "router": town.router()}
        for text in pieces:
            code = compile(text, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)
            if inspect.isawaitable(result):
                await result


async def test_the_provider_on_the_page_keeps_the_contract() -> None:
    (text,) = blocks("docs/providers.md", "python")
    names: dict[str, object] = {}
    exec(compile(text, "docs/providers.md", "exec"), names)
    kind = names["EchoProvider"]
    assert callable(kind)
    provider = kind(electrictown.ProviderSettings(name="e", type="echo"))
    assert isinstance(provider, electrictown.Provider)
    anything = Target(alias="", provider="e", model="")
    routes = RouteTable(roles={}, aliases={}, providers={"e": anything})
    router = electrictown.Router({"e": provider}, routes)
    request = electrictown.ChatRequest(model="e/echo", messages=(electrictown.user("hello"),))
    assert (await router.chat_completion(request)).text == "hello"
    async with router.stream_chat_completion(request) as chunks:
        assert [type(chunk).__name__ async for chunk in chunks] == ["TextDelta", "End"]


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ("library_roles.py", ["the witness gives 9 of 10", "refinery: 1 requests"]),
        ("router_only.py", ["fast failed (RateLimitError), safe takes over", "2 requests"]),
        ("whole_run.py", ["t04: ", "north -> ", "The word counter has four parts."]),
    ],
)
def test_an_example_runs(example: str, says: list[str], rehearsal: Path) -> None:
    done = program(
        EXAMPLES / example, *([rehearsal] if "REHEARSAL" in (EXAMPLES / example).read_text() else [])
    )
    assert done.returncode == 0, done.stderr
    for line in says:
        assert line in done.stdout


def test_the_example_that_follows_events_runs(rehearsal: Path) -> None:
    done = program(EXAMPLES / "watch_events.py", "write a word counter", rehearsal)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "done: 4 results"
    assert "north failed" in done.stdout


def test_every_example_is_run_here_and_told_of() -> None:
    here, told = Path(__file__).read_text(), (EXAMPLES / "README.md").read_text()
    for path in EXAMPLES.glob("*.py"):
        assert path.name in here, path
    for path in EXAMPLES.iterdir():
        assert path.name in told or path.name in ("README.md", "__pycache__"), path


def test_the_rehearsal_writes_files_and_ends_well(rehearsal: Path, tmp_path: Path) -> None:
    done = et(
        "run", "--json", "--config", rehearsal, "--output-dir", tmp_path / "out", "write a word counter"
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert sorted(report["files"]) == ["README.md", "cli.py", "test_wordcount.py", "wordcount.py"]
    assert {hop["failed"] for hop in report["hops"]} == {"north"}
    tests = next(r for r in report["results"] if r["subtask"] == "t04")
    assert [a["review"]["score"] for a in tests["attempts"] if "review" in a] == [4.0, 9.0]
    assert "an_empty_text" in (tmp_path / "out" / "test_wordcount.py").read_text()


# --- a provider of a third party


def installed_rot13(target: Path | None = None) -> Path:
    """A folder that holds the example's module and the metadata an installer would write for it."""
    import tempfile

    folder = target or Path(tempfile.mkdtemp())
    source = EXAMPLES / "third_party_provider"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    (folder / "electrictown_rot13.py").write_bytes((source / "src" / "electrictown_rot13.py").read_bytes())
    info = folder / f"electrictown_rot13-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = project["entry-points"]["electrictown.providers"]
    lines = [f"{name} = {value}" for name, value in points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[electrictown.providers]", *lines, ""]))
    return folder


def test_a_provider_of_a_third_party_works_through_et(tmp_path: Path) -> None:
    config = EXAMPLES / "third_party_provider" / "electrictown.yaml"
    folder = str(installed_rot13(tmp_path))
    done = et("run", "--config", config, "Hello", path=folder)
    assert (done.returncode, done.stdout) == (0, "## Lbhe fhognfx\n\nUryyb\n"), done.stderr
    listed = et("models", "--json", "--config", config, path=folder)
    assert [m["id"] for m in json.loads(listed.stdout)[0]["models"]] == ["caesar"]
    long = et("run", "--quiet", "--config", config, "x" * 30_000, path=folder)
    assert long.returncode == 1
    assert "more than 20000" in long.stderr


def test_a_type_that_nobody_installed_is_named_with_its_line() -> None:
    config = EXAMPLES / "third_party_provider" / "electrictown.yaml"
    done = et("run", "--config", config, "Hello")
    assert done.returncode == 2
    assert "electrictown.yaml:5: provider 'caesar' has the unknown type 'rot13'" in done.stderr

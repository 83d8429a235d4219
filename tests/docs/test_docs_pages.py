"""What the pages say is true: links lead somewhere, modules exist, help is what `et` prints."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import pytest

from electrictown import errors
from electrictown.engine.run import INTERRUPTED
from scripts import cli_pages, screenshots

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "electrictown"
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def page(name: str) -> str:
    return (ROOT / name).read_text()


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as the usual renderers name them."""
    heads = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_within_the_repository_lead_somewhere(path: Path) -> None:
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text())):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors(there.read_text())):
            broken.append(target)
    assert not broken


def test_the_help_pages_are_what_et_prints() -> None:
    assert page("docs/cli.md") == cli_pages.page(), "run `python -m scripts.cli_pages`"


def test_help_fits_eighty_columns() -> None:
    pages = re.findall(r"^```text\n(.*?)^```", page("docs/cli.md"), re.DOTALL | re.MULTILINE)
    assert len(pages) == len(cli_pages.COMMANDS)
    assert [line for text in pages for line in text.split("\n") if len(line) > 80] == []


def test_every_command_has_its_page() -> None:
    listed = re.findall(r"^  (\w+)  ", cli_pages.help_of("").split("Commands:")[1], re.MULTILINE)
    assert set(listed) == {command.split()[0] for command in cli_pages.COMMANDS if command}


def test_no_help_is_cut_short() -> None:
    cut = [line for line in page("docs/cli.md").split("\n") if line.endswith("...") and "Usage:" not in line]
    assert not cut


def test_every_module_the_architecture_names_exists() -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", page("ARCHITECTURE.md"))
    assert len(named) > 50
    missing = [name for name in named if not (SOURCE / name).exists() and not (ROOT / name).exists()]
    assert not missing


def test_every_room_is_in_the_architecture() -> None:
    text = page("ARCHITECTURE.md")
    packages = {path.parent.relative_to(SOURCE) for path in SOURCE.rglob("__init__.py")} - {Path()}
    modules = {path.name for path in SOURCE.glob("*.py")} - {"__init__.py", "_version.py"}
    for package in packages:
        assert f"`{package}`" in text or f"`{package}/`" in text, package
    for module in modules:
        assert f"`{module}`" in text, module
    unnamed = {
        str(path.relative_to(SOURCE))
        for path in (SOURCE / "llm").glob("*.py")
        if path.name != "__init__.py" and f"`llm/{path.name}`" not in text
    }
    assert not unnamed


def test_the_architecture_lists_the_rooms_in_the_order_that_imports_are_checked_in() -> None:
    contracts = tomllib.loads(page("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    rows = page("ARCHITECTURE.md").split("## Rooms")[1].split("Inside `llm`")[0]
    cells = re.findall(r"^\| (`.+?) \| ", rows, re.MULTILINE)
    told = [{name.removesuffix(".py") for name in re.findall(r"`(\w+(?:\.py)?)`", cell)} for cell in cells]
    checked = [{name.removeprefix("electrictown.") for name in layer.split(" | ")} for layer in layers]
    assert told == checked


@pytest.mark.parametrize("name", ["town", "cluster", "run", "report"])
def test_a_picture_is_whole_and_fetches_nothing(name: str) -> None:
    text = page(f"docs/{name}.svg")
    ElementTree.fromstring(text)
    assert "url(http" not in text
    assert "href" not in text


def test_the_picture_of_the_town_names_everybody_and_knows_the_dark() -> None:
    text = page("docs/town.svg")
    for who in ("task", "mayor", "polecat", "specialist", "witness", "refinery", "report", "router"):
        assert f">{who}<" in text, who
    assert "prefers-color-scheme: dark" in text


def test_a_screen_follows_the_movements_of_a_live_view() -> None:
    screen = screenshots.Screen()
    screen.feed("\x1b[?25lfirst\r\n\x1b[1mold\x1b[0m")
    screen.feed("\r\x1b[2K\x1b[1A\x1b[2Knew\r\nend")
    assert screen.text == "new\nend"


def test_the_pictures_of_the_terminal_are_of_the_rehearsal(tmp_path: Path) -> None:
    last = screenshots.record(tmp_path / "out")[-1]
    told = re.sub(r"\x1b\[[0-9;]*m", "", last)
    assert "failed over: polecat: north -> " in told
    assert re.search(r"done in .*14 requests, \$0$", told)
    drawn = "".join(ElementTree.fromstring(page("docs/report.svg")).itertext()).replace("\xa0", " ")
    for line in ("The word counter has four parts.", "14 requests, $0", "by provider"):
        assert line in told
        assert line in drawn


FEATURES = """
gemini ollama anthropic openai provider/model pool fallbacks specialists defaults Retry-After
mayor polecat witness refinery CostTracker summary_for_role .decompose .execute review_with_context
auth_type bearer basic none --no-synthesize --max-subtasks --config --role
build-all verify-cross test-cover lint clean ARCH=arm64 riscv64 ppc64 ppc64le gastown litellm MIT
tmux byobu spawn attach send kill
"""


def test_everything_of_the_original_is_in_the_readme() -> None:
    text = page("README.md")
    missing = [feature for feature in FEATURES.split() if feature not in text]
    assert not missing


def test_the_exit_codes_of_the_readme_are_those_of_the_errors() -> None:
    told = set(re.findall(r"^\| (\d+) \|", page("README.md").split("| exit code |")[1], re.MULTILINE))
    kinds = [getattr(errors, name) for name in errors.__all__]
    assert told == {str(code) for code in (0, INTERRUPTED, *(kind.exit_code for kind in kinds))}


def test_make_targets_that_the_readme_names_exist() -> None:
    makefile = page("Makefile")
    for target in set(re.findall(r"^make ([a-z-]+)", page("README.md"), re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_flag_the_pages_name_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z-]+", page("docs/cli.md")))
    others = {"--no-deps", "--python", "--pip-args"}
    for name in ("README.md", "docs/library.md", "docs/providers.md"):
        for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", page(name)):
            assert flag in known | others, f"{name}: {flag}"

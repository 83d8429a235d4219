"""Files are found in replies under all the names models give them, and nothing else is a file."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.work import File
from electrictown.workspace.files import files_of

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug


def paths(reply: str) -> list[str]:
    return [file.path for file in files_of(reply).files]


CODE = "print(1)\n"


@pytest.mark.parametrize(
    "reply",
    [
        "### FILE: src/x.py\n````\nprint(1)\n````",
        "### FILE: src/x.py\n```python\nprint(1)\n```",
        "### FILE: `src/x.py`\n\n```python\nprint(1)\n```",
        "FILE: src/x.py\n```\nprint(1)\n```",
        "File: `src/x.py`\n```\nprint(1)\n```",
        "**File: src/x.py**\n```\nprint(1)\n```",
        "**File:** `src/x.py`\n```\nprint(1)\n```",
        "**Filename:** src/x.py\n```\nprint(1)\n```",
        "### src/x.py\n```python\nprint(1)\n```",
        "#### 1. `src/x.py`\n```python\nprint(1)\n```",
        "### `src/x.py` - the main module\n```python\nprint(1)\n```",
        "### src/x.py (new)\n```python\nprint(1)\n```",
        "**src/x.py**\n\n```python\nprint(1)\n```",
        "**`src/x.py`**:\n```python\nprint(1)\n```",
        "**src/x.py:**\n```python\nprint(1)\n```",
        "`src/x.py`:\n```python\nprint(1)\n```",
        "src/x.py:\n```python\nprint(1)\n```",
        "- src/x.py\n  ```python\n  print(1)\n  ```",
        "1. **src/x.py**\n   ```python\n   print(1)\n   ```",
        "```python path=src/x.py\nprint(1)\n```",
        '```python title="src/x.py"\nprint(1)\n```',
        "```python filename='src/x.py'\nprint(1)\n```",
        "```python {file=src/x.py}\nprint(1)\n```",
        "```{.python file=src/x.py}\nprint(1)\n```",
        "```python:src/x.py\nprint(1)\n```",
        "```src/x.py\nprint(1)\n```",
        "```python src/x.py\nprint(1)\n```",
        "~~~python:src/x.py\nprint(1)\n~~~",
        "```python\n# src/x.py\nprint(1)\n```",
        "```python\n# file: src/x.py\nprint(1)\n```",
        "```js\n// src/x.py\nprint(1)\n```",
        "```css\n/* src/x.py */\nprint(1)\n```",
        "```html\n<!-- src/x.py -->\nprint(1)\n```",
        "### FILE: ./src/x.py \n```\nprint(1)\n```",
        "### FILE: src\\x.py\n```\nprint(1)\n```",
        '### FILE: "src/x.py"\n```\nprint(1)\n```',
        "### FILE: src//x.py\r\n```\r\nprint(1)\r\n```\r\n",
        "<think>\n```python:no.py\nno\n```\n</think>\n```python:src/x.py\nprint(1)\n```",
    ],
)
def test_every_usual_way_to_name_a_file_is_understood(reply: str) -> None:
    found = files_of(reply)
    assert found.files == (File("src/x.py", CODE),)
    assert not found.refused


@pytest.mark.parametrize(
    "reply",
    [
        "no fence at all in src/x.py",
        "```python\nprint(1)\n```",
        "```\nprint(1)\n```",
        "Install Node.js:\n```bash\nnpm i\n```",
        "### Node.js\n```js\nrun()\n```",
        "### Usage\n```bash\npython x.py\n```",
        "### x.py\n```bash\npython x.py\n```",
        "Run `x.py` like this:\n```bash\npython x.py\n```",
        "**Example**\n```python\nprint(1)\n```",
        "See https://example.com/x.py\n```python\nprint(1)\n```",
        "```python\n# This is a comment\nprint(1)\n```",
        "```python\n#!/usr/bin/env python\nprint(1)\n```",
        "```sh\n# example.com\ncurl x\n```",
        "x.py does it.\n\n\n```python\nprint(1)\n```",
        "v1.2:\n```\nnews\n```",
        "File: this is how it looks\n```\nx\n```",
        '```python title="An example"\nprint(1)\n```',
        "```python title=Example\nprint(1)\n```",
        "~~~\nx\n~~~",
    ],
)
def test_a_block_without_a_name_is_no_file(reply: str) -> None:
    assert not files_of(reply).files
    assert not files_of(reply).refused


def test_several_files_keep_their_order_and_their_contents() -> None:
    reply = (
        "Here you are.\n\n### FILE: a.py\n````\nx = 1\n\n\n\ty\n````\n\n"
        "and\n\n### FILE: Makefile\n````make\nall:\n\techo\n````\n"
        "### FILE: empty/__init__.py\n````\n````\n### FILE: notes with spaces.txt\n````\nhi\n````\n"
    )
    assert files_of(reply).files == (
        File("a.py", "x = 1\n\n\n\ty\n"),
        File("Makefile", "all:\n\techo\n"),
        File("empty/__init__.py", ""),
        File("notes with spaces.txt", "hi\n"),
    )


def test_a_readme_with_code_in_it_is_one_file() -> None:
    readme = "# X\n\n```bash\npip install x\n```\n\nThen:\n\n```\nx\n```\n"
    longer = f"### FILE: README.md\n````markdown\n{readme}````\n\n### FILE: x.py\n````\nprint(1)\n````\n"
    assert files_of(longer).files == (File("README.md", readme), File("x.py", CODE))
    same = "### FILE: README.md\n```markdown\n# X\n\n```bash\npip install x\n```\n\nThe end.\n```\n"
    assert files_of(same).files == (File("README.md", "# X\n\n```bash\npip install x\n```\n\nThe end.\n"),)
    tildes = "### FILE: README.md\n~~~\n```\nx\n```\n~~~\n"
    assert files_of(tildes).files == (File("README.md", "```\nx\n```\n"),)


def test_a_readme_whose_end_is_not_clear_is_refused() -> None:
    found = files_of("### FILE: README.md\n```markdown\n# X\n\n```\npip install x\n```\n\nThe end.\n```\n")
    assert not found.files
    assert found.refused[0].path == "README.md"
    assert "four backticks" in str(found.refused[0])


def test_code_that_holds_fences_is_kept_whole() -> None:
    code = 'PROMPT = """\n    ```\n    x\n    ```\n"""\n'
    assert files_of(f"### FILE: p.py\n```python\n{code}```\n").files == (File("p.py", code),)


def test_a_file_that_was_cut_off_is_refused_and_the_others_are_kept() -> None:
    found = files_of("### FILE: a.py\n```\nx\n```\n### FILE: b.py\n```\ny = [1,\n")
    assert found.files == (File("a.py", "x\n"),)
    assert [refused.path for refused in found.refused] == ["b.py"]
    assert "ended before" in found.refused[0].reason


def test_a_file_given_twice_counts_as_given_last_and_is_told() -> None:
    twice = files_of(
        "### FILE: a.py\n```\n1\n```\n### FILE: b.py\n```\nb\n```\n### FILE: ./a.py\n```\n2\n```\n"
    )
    assert twice.files == (File("a.py", "2\n"), File("b.py", "b\n"))
    assert twice.notes == ("a.py was given twice in one reply; the last one counts",)
    same = files_of("### FILE: a.py\n```\n1\n```\n### FILE: a.py\n```\n1\n```\n")
    assert (paths("### FILE: a.py\n```\n1\n```\n"), same.notes) == (["a.py"], ())


@pytest.mark.parametrize(
    "path", ["../../x", "/etc/passwd", "C:/x.py", "C:\\x.py", "a/../../b.py", ".git/config"]
)
def test_a_path_that_leads_out_is_handed_on_to_be_refused_and_told(path: str) -> None:
    assert paths(f"### FILE: {path}\n```\nx\n```\n") == [path.replace("\\", "/")]


def test_a_name_outside_the_block_leaves_its_first_line_alone() -> None:
    assert files_of("### FILE: a.py\n```\n# a.py\nx\n```\n").files == (File("a.py", "# a.py\nx\n"),)


marks = ["```", "````", "~~~", "```python", "path=x.y", "<think>", "\n", "\r\n", "    ", "\\", ":"]
bits = st.sampled_from([*marks, "### FILE: a.py", "**b.md**", "# c.py"])


@calm
@given(st.lists(bits | st.text(max_size=4), max_size=40).map("".join))
def test_any_text_can_be_searched_for_files(reply: str) -> None:
    found = files_of(reply)
    names = [file.path for file in found.files] + [refused.path for refused in found.refused]
    assert len(set(names)) == len(names)
    assert all(names)


contents = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\r\ufeff"), max_size=60
)


@calm
@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,6}(/[a-z]{1,6}){0,2}\.(py|txt)", fullmatch=True), contents, min_size=1
    )
)
def test_files_in_the_form_we_ask_for_are_read_back_the_same(files: dict[str, str]) -> None:
    def given_as(path: str, text: str) -> str:
        fence = "`" * (4 + text.count("`"))
        return f"### FILE: {path}\n{fence}\n{text}\n{fence}\n"

    reply = "\n".join(given_as(path, text) for path, text in files.items())
    assert files_of(reply).files == tuple(File(path, text + "\n") for path, text in files.items())

"""What a mayor writes becomes a plan that can be run, or an error that says why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from graphlib import TopologicalSorter

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from electrictown.errors import PlanError, UsageError
from electrictown.roles.plans import (
    matched,
    parse,
    plan_of,
    plan_schema,
    render,
    render_json,
    single,
    validate_plan,
)
from electrictown.work import Plan, Subtask


def texts(reply: str) -> list[str]:
    return [subtask.text for subtask in parse(reply).subtasks]


def edges(reply: str) -> list[tuple[str, ...]]:
    return [subtask.depends for subtask in parse(reply).subtasks]


@pytest.mark.parametrize(
    "reply",
    [
        "1. write it\n2. test it",
        "1) write it\n2) test it",
        "1: write it\n2: test it",
        "(1) write it\n(2) test it",
        "[1] write it\n[2] test it",
        "Step 1: write it\nStep 2: test it",
        "Subtask 1 - write it\nSubtask 2 - test it",
        "Task #1: write it\nTask #2: test it",
        "**1.** write it\n**2.** test it",
        "**1. write it**\n**2. test it**",
        "**Step 1:** write it\n**Step 2:** test it",
        "### 1. write it\n### 2. test it",
        "### Step 1\nwrite it\n### Step 2\ntest it",
        "- write it\n- test it",
        "* write it\n* test it",
        "+ write it\n+ test it",
        "\N{BULLET} write it\n\N{BULLET} test it",
        "- [ ] write it\n- [x] test it",
        "Sure, here is the plan:\n\n1. write it\n\n2. test it\n\nGood luck!",
        "1.write it\n2.test it",
        "  1. write it\n  2. test it",
        "\ufeff1. write it\r\n2. test it\r\n",
        "<think>\n1. no\n2. no\n3. no\n</think>\n1. write it\n2. test it",
        "so I think:\n1. no\n</think>\n1. write it\n2. test it",
        "## Summary\nIn two steps.\n\n## Subtasks\n1. write it\n2. test it",
        "## Summary\n- short\n- good\n## Subtasks\n- write it\n- test it\n\n## Notes\n- be kind",
        "**Subtasks:**\n- write it\n- test it",
        '{"subtasks": ["write it", "test it"]}',
        '["write it", "test it"]',
        '[{"text": "write it"}, {"text": "test it"}]',
        '{"plan": {"tasks": [{"description": "write it"}, {"task": "test it"}]}}',
        '{"steps": {"1": "write it", "2": "test it"}}',
        '```json\n{"subtasks": [{"title": "write it"}, {"name": "test it"}]}\n```',
        'Here:\n\n```\n["write it", "test it"]\n```\nDone.',
        'Here it is:\n{"subtasks": ["write it", "test it"]}\nI hope that helps.',
        '{"subtasks": ["write it", "test it",],}',
    ],
)
def test_every_usual_form_of_a_plan_is_understood(reply: str) -> None:
    assert texts(reply) == ["write it", "test it"]


def test_a_list_without_numbers_is_a_plan() -> None:
    plan = parse("I would do this:\n\n- build the parser\n- build the server\n- join them", task="a server")
    assert [s.id for s in plan.subtasks] == ["t01", "t02", "t03"]
    assert plan.task == "a server"


def test_what_is_nested_or_continued_belongs_to_its_item() -> None:
    reply = (
        "1. Write the server\n   - it listens on 8080\n   - it logs\n"
        "   It answers fast.\n\n   ```python\n   1. not an item\n   def serve(): ...\n   ```\n"
        "2. Test it\n- with pytest\n\nUse no network.\n\n3. Ship it\n"
    )
    assert texts(reply) == [
        "Write the server\n- it listens on 8080\n- it logs\nIt answers fast.\n\n"
        "```python\n1. not an item\ndef serve(): ...\n```",
        "Test it\n- with pytest\n\nUse no network.",
        "Ship it",
    ]


def test_bullets_with_numbers_inside_are_the_items() -> None:
    assert texts("- **Backend**\n  1. model\n  2. api\n- **Frontend**\n  1. page") == [
        "**Backend**\n1. model\n2. api",
        "**Frontend**\n1. page",
    ]


def test_headings_inside_an_item_belong_to_it() -> None:
    reply = "### Step 1: Parser\n#### Files\n1. a.py\n2. b.py\n### Step 2: Server\nSteps:\n- listen\n## Notes"
    assert texts(reply) == ["Parser\n#### Files\n1. a.py\n2. b.py", "Server\nSteps:\n- listen"]
    assert texts("1. Parser\n\n#### Files\n- a.py\n\n2. Server\nTasks:\n- listen") == [
        "Parser\n\n#### Files\n- a.py",
        "Server\nTasks:\n- listen",
    ]


def test_a_list_that_begins_anew_goes_on_counting() -> None:
    plan = parse("## Backend\n1. a\n2. b\n## Frontend\n1. c [depends: 2]")
    assert [s.text for s in plan.subtasks] == ["a", "b", "c"]
    assert plan.subtasks[2].depends == ("t02",)
    assert plan.summary == "## Backend\n## Frontend"


def test_bullets_under_a_summary_are_not_the_plan() -> None:
    plan = parse("## Summary\n1. quick\n2. good\n## Here we go\n- a\n\t- deeper\n- b")
    assert [s.text for s in plan.subtasks] == ["a\n- deeper", "b"]
    assert plan.summary == "1. quick\n2. good\n## Here we go"


def test_right_aligned_numbers_are_all_items() -> None:
    assert len(texts("\n".join(f"{n:>2}. part {n}" for n in range(1, 13)))) == 12


def test_what_stands_around_the_list_becomes_the_summary() -> None:
    plan = parse("We go bottom up.\n\n1. a\n2. b\n\nAll of it in Python 3.11.")
    assert plan.summary == "We go bottom up.\n\nAll of it in Python 3.11."
    assert plan.subtasks[1].text == "b"
    sections = "## Summary\nShort.\n\n## Subtasks\n1. a\n## Risks\nNone."
    assert parse(sections).summary == "Short.\n\n## Risks\nNone."


@pytest.mark.parametrize(
    "marker",
    [
        "[depends: 1, 2]",
        "[depends on: 1 2]",
        "[Depends on: 1 and 2]",
        "[dependencies: #1, #2]",
        "[depends: 1-2]",
        "[depends: task 1, step 2]",
        "(depends on 1, 2)",
        "(depends on: t01 & t02)",
        "\n   Depends on: 1, 2",
        "\n   - **Dependencies:** 1, 2",
    ],
)
def test_dependencies_are_positions_in_the_list(marker: str) -> None:
    plan = parse(f"1. a\n2. b\n3. c {marker}")
    assert plan.subtasks[2] == Subtask("t03", "c", ("t01", "t02"))


@pytest.mark.parametrize(
    "marker", ["[depends: none]", "(depends: none)", "[depends: ]", "[depends: N/A]", "\n   Depends on: -"]
)
def test_no_dependency_may_be_said_as_well(marker: str) -> None:
    assert parse(f"1. a\n2. b {marker}").subtasks[1] == Subtask("t02", "b")


def test_prose_about_dependence_is_left_in_the_text() -> None:
    assert texts("1. a (depends on the platform)\n2. b") == ["a (depends on the platform)", "b"]


def test_json_dependencies_by_id_or_by_position() -> None:
    by_id = [{"id": "db", "text": "a"}, {"id": "api", "text": "b", "depends_on": ["DB"]}]
    from_zero = [{"id": 0, "text": "a"}, {"id": 1, "text": "b", "dependencies": [0]}]
    by_position = [{"text": "a"}, {"text": "b", "depends": 1}]
    in_text = [{"text": "a"}, {"text": "b [depends: 1]"}]
    as_text = [{"text": "a"}, {"text": "b", "dependsOn": "1"}]
    for items in (by_id, from_zero, by_position, in_text, as_text):
        assert edges(json.dumps({"subtasks": items})) == [(), ("t01",)]


def test_half_a_surrogate_does_not_get_into_a_plan() -> None:
    assert texts(r'["a\ud800b"]') == texts("1. a\ud800b") == ["a\N{REPLACEMENT CHARACTER}b"]


def test_json_keeps_what_it_has_no_place_for() -> None:
    item = {
        "title": "Server",
        "description": "listen",
        "acceptance": ["fast", "small"],
        "steps": ["a", "b"],
        "files": "s.py, t.py",
    }
    subtask = parse(json.dumps([item])).subtasks[0]
    assert subtask.text == "Server: listen\nacceptance: fast; small\n- a\n- b"
    assert subtask.paths == ("s.py", "t.py")


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ("", "no subtasks"),
        ("I cannot do that.", "no subtasks"),
        ('{"subtasks": []}', "no subtasks"),
        ("<think>1. a", "no subtasks"),
        ("1. a [depends: 3]\n2. b", "'3'"),
        ("1. a [depends: 0]\n2. b", "'0'"),
        ("1. a [depends: -1]\n2. b", "'-1'"),
        ("1. a [depends: the parser]\n2. b", "'the parser'"),
        ("1. a [depends: 1-999999]\n2. b", "1-999999"),
        ("1. a [depends: 1]", "subtask 1 depends on itself"),
        ("1. a [depends: 2]\n2. b [depends: 1]", "circle"),
        ("1. a [depends: 3]\n2. b [depends: 1]\n3. c [depends: 2]", "circle"),
        ("1. a\n2.\n3. c", "subtask 2 is empty"),
        ('[{"id": 1, "text": "a"}, {"id": 1, "text": "b"}, {"text": "c", "depends": [1]}]', "used twice"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason_and_the_reply(reply: str, said: str) -> None:
    with pytest.raises(PlanError, match=said) as caught:
        parse(reply)
    assert caught.value.reply == reply


def test_a_plan_that_is_too_long_is_refused_and_never_cut() -> None:
    reply = "\n".join(f"{n}. part {n}" for n in range(1, 13))
    with pytest.raises(PlanError, match="12 subtasks, and at most 10 are allowed: merge"):
        parse(reply, max_subtasks=10)
    assert len(parse(reply, max_subtasks=12).subtasks) == 12


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("go-backend", "go-backend"),
        ("Go Backend", "go-backend"),
        ("go_bakend", "go-backend"),
        ("the go-backend specialist", "go-backend"),
        ("UI", "ui"),
        ("default", ""),
        ("none", ""),
        ("qa", ""),
        ("plumber", ""),
    ],
)
def test_a_misspelt_specialist_is_matched_or_left_to_the_default_worker(written: str, read: str) -> None:
    plan = parse(f"1. a [specialist: {written}]", specialists=["go-backend", "ui"])
    assert plan.subtasks[0].specialist == read
    assert plan.subtasks[0].text == "a"
    assert bool(plan.notes) == (written != read and written not in {"default", "none"})


def test_two_equally_near_specialists_are_no_match() -> None:
    assert matched("backend-c", ["backend-a", "backend-b"]) is None


def test_a_note_says_who_was_not_found() -> None:
    assert parse("1. a [specialist: plumber]", specialists=[]).notes == (
        "t01: there is no specialist 'plumber'; the default worker takes it",
    )


A = {"id": "a", "text": "a"}


def plan_file(*subtasks: Mapping[str, object], version: int = 1) -> str:
    return json.dumps({"task": "x", "version": version, "subtasks": subtasks})


def test_single_is_the_task_itself() -> None:
    plan = single("write a poem", "the mayor cannot plan")
    assert validate_plan(plan) is plan
    assert plan.subtasks == (Subtask("t01", "write a poem"),)
    assert plan.notes == ("the mayor cannot plan",)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("{", "plan.json is not JSON"),
        (b"\xff\xfe", "plan.json is not JSON"),
        ("[]", "Expected `object`"),
        ('{"task": "x"}', "missing required field `subtasks`"),
        (plan_file({"id": 3, "text": "a"}), r"\$.subtasks\[0\].id"),
        (plan_file(), "subtasks: the plan has none"),
        (plan_file({"id": "a", "text": " "}), r"subtasks\[0\].text: it is empty"),
        (plan_file({"id": "", "text": "a"}), r"subtasks\[0\].id: it is empty"),
        (plan_file(A, A), r"subtasks\[1\].id: 'a' is used twice"),
        (plan_file({**A, "depends": ["b"]}), r"subtasks\[0\].depends: there is no subtask 'b'"),
        (plan_file({**A, "depends": ["a"]}), "depends on itself"),
        (plan_file({**A, "depends": ["b"]}, {"id": "b", "text": "b", "depends": ["a"]}), "circle"),
        (plan_file(A, version=2), "version: 2"),
        ("[" * 100_000, "plan.json"),
    ],
)
def test_a_plan_file_that_is_wrong_names_file_and_field(file: str | bytes, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        plan_of(file, source="plan.json")
    assert "plan.json" in caught.value.message


def test_the_schema_offers_the_specialists_and_is_strict() -> None:
    schema = plan_schema(["ui"])
    item = schema["properties"]["subtasks"]["items"]
    assert item["properties"]["specialist"]["enum"] == ["ui", "default"]
    assert set(item["required"]) == set(item["properties"])
    assert "specialist" not in plan_schema()["properties"]["subtasks"]["items"]["properties"]


# properties

calm = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no bug

letters = st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="[]()#:`~*_")
words = st.text(letters, min_size=1, max_size=8)
lines = st.lists(words, min_size=1, max_size=4).map(" ".join)
code = st.lists(lines | st.sampled_from(["1. x", "- y", "", "    deep", "## Subtasks"]), max_size=4).map(
    lambda body: ["```python", *body, "```"]
)
nested = st.sampled_from([["- one", "  - two"], ["1. one", "2. two"], ["", "later"], ["    deeper"]])
item_texts = st.tuples(lines, st.lists(nested | code, max_size=3)).map(
    lambda drawn: "\n".join([drawn[0], *(line for part in drawn[1] for line in part)]).strip()
)
names = st.from_regex(r"[a-z]{2,6}(-[a-z]{2,6})?", fullmatch=True).filter(
    lambda name: name not in {"none", "default"}
)
paths = st.lists(st.from_regex(r"[a-z]{1,5}/[a-z]{1,5}\.py", fullmatch=True), max_size=2, unique=True).map(
    tuple
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 12))
    order = draw(st.permutations(range(count)))
    subtasks: list[Subtask] = []
    for position in range(count):
        earlier = [f"t{other + 1:02}" for other in range(count) if order[other] < order[position]]
        depends = draw(st.lists(st.sampled_from(earlier), unique=True, max_size=3)) if earlier else []
        subtasks.append(
            Subtask(
                f"t{position + 1:02}",
                draw(item_texts),
                tuple(depends),
                draw(st.just("") | names),
                draw(paths),
            )
        )
    return Plan(draw(lines), tuple(subtasks), draw(st.just("") | lines))


@calm
@given(plans())
def test_a_plan_that_is_rendered_is_read_back_the_same(plan: Plan) -> None:
    assert parse(render(plan), task=plan.task) == plan
    assert parse(render_json(plan), task=plan.task) == plan
    assert plan_of(render_json(plan)) == plan
    assert validate_plan(plan) is plan


marks = ["- ", "* ", "1. ", "2) ", "Step 3:", "   ", "\t", "\r", "\n", "\n\n", "```", "````", "~~~", "**"]
parts = [
    "{",
    "}",
    "[",
    "]",
    ")",
    ", ",
    "1",
    "2",
    "null",
    '"a"',
    '"\\ud800"',
    '"subtasks": ',
    "\u0663",
    "\ud800",
]
phrases = [
    "[depends: ",
    "(depends on ",
    "99999999999",
    "## Subtasks\n",
    "## Summary\n",
    "<think>",
    "</think>",
]
pieces = st.sampled_from([*marks, *parts, *phrases, "[specialist: ui]", "[files: a.py]"])


def outcome(text: str) -> Plan | PlanError:
    try:
        return parse(text, specialists=["ui"])
    except PlanError as error:
        return error


def check(text: str) -> None:
    plan = outcome(text)
    if isinstance(plan, PlanError):
        assert plan.reply == text
        return
    TopologicalSorter({s.id: s.depends for s in plan.subtasks}).prepare()
    assert validate_plan(plan) is plan
    assert plan_of(msgspec.json.encode(plan)) == plan


@calm
@given(st.lists(pieces | st.text(max_size=5), max_size=30).map("".join) | st.text())
def test_any_text_is_a_runnable_plan_or_a_plan_error(text: str) -> None:
    check(text)


leaves = st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5)
keys = st.sampled_from(["subtasks", "steps", "text", "title", "id", "depends", "files", "specialist", "x"])


@calm
@given(
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_a_runnable_plan_or_a_plan_error(value: object) -> None:
    check(json.dumps(value))


@pytest.mark.parametrize(
    "line", ["```a", "   ```a", "~~~~", "[", "{", "- [depends: ", "**", "1. ```", "<think>", "(depends on "]
)
def test_a_long_reply_of_nonsense_is_read_at_once(line: str) -> None:
    text = f"{line}\n" * 20_000
    assert isinstance(outcome(text), Plan | PlanError)


STUCK = 20_000


@pytest.mark.parametrize(
    "stuck",
    [
        "1. x " + " " * STUCK,
        "1. x (depends" + " " * STUCK,
        "1. x (depends on" + " " * STUCK,
        "1. x [depends:" + " " * STUCK,
        "1. x " + "[depends: " * STUCK,
        "1. x\n" + "\n".join(" " * indent + "- y" for indent in range(1000)),
    ],
    ids=lambda text: text[:20].strip(),
)
def test_a_model_that_got_stuck_does_not_hold_up_the_town(stuck: str) -> None:
    # A pattern that tries all divisions of a run takes minutes here.
    assert len(parse(stuck).subtasks) in (1, 2)

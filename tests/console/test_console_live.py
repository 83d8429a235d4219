import io
import re
from collections.abc import Sequence

from inline_snapshot import snapshot
from msgspec.structs import replace
from rich.console import Console
from rich.text import Text

from electrictown import events as e
from electrictown.console.board import Board
from electrictown.console.choose import choose
from electrictown.console.rich import LiveView, view
from electrictown.work import Attempt, Cost, Failure, Hop, Plan, Report, Review, Subtask

PLAN = Plan(
    "t", tuple(Subtask(f"t{n:02}", f"write part {n} of the [bold]parser[/bold]") for n in range(1, 6))
)
STORY: Sequence[e.Event] = (
    e.RunStarted(time=100, run="r1", task="t", config="electrictown.yaml"),
    e.PhaseStarted(time=100, phase="plan", model="claude"),
    e.CallEnded(
        time=101, role="mayor", model="m", provider="p", usd=0.0123, input_tokens=1000, output_tokens=200
    ),
    e.PlanMade(time=101, plan=PLAN),
    e.PhaseEnded(time=101, phase="plan", seconds=1.0),
    e.PhaseStarted(time=101, phase="work"),
    e.SubtaskStarted(time=101, subtask="t01", attempt=1, model="qwen", provider="ai01"),
    e.SubtaskProgress(time=102, subtask="t01", tokens=412, tokens_per_second=41.23),
    e.SubtaskEnded(time=104, subtask="t01", attempts=(Attempt(1, "qwen", "ai01", output_tokens=1412),)),
    e.SubtaskStarted(time=101, subtask="t02", attempt=1, model="gpt4o", provider="openai"),
    e.SubtaskProgress(time=102, subtask="t02", tokens=88, tokens_per_second=12.5),
    e.SubtaskStarted(time=102, subtask="t03", attempt=1, model="qwen", provider="ai02"),
    e.SubtaskEnded(time=103, subtask="t03", error=Failure("ServerError", "boom")),
    e.SubtaskStarted(time=102, subtask="t04", attempt=1, model="qwen", provider="ai02"),
    e.CallStarted(time=102, subtask="t04", role="polecat", model="qwen", provider="ai02"),
    e.CallStarted(time=103, subtask="t04", role="witness", model="gpt4o", provider="openai"),
)


def board(*story: e.Event) -> Board:
    made = Board()
    for event in story:
        made(event)
    return made


def drawn(board: Board, width: int = 80, height: int = 24, *, text: bool = True) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, highlight=False, color_system=None)
    console.print(view(board, 105.0, width, height, text=text))
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    return "\n".join(line.rstrip() for line in lines)


def test_a_run_at_80_columns() -> None:
    assert drawn(board(*STORY)) == snapshot("""\
plan 1.0s  work 4.0s
t01  write part 1 of the [bold]parse…  qwen@ai01     done       1,412 tok   3.0s
t02  write part 2 of the [bold]parse…  gpt4o@openai  working       88 tok   4.0s
t03  ServerError: boom                 qwen@ai02     failed                 1.0s
t04  write part 4 of the [bold]parse…  qwen@ai02     witness                3.0s
t05  write part 5 of the [bold]parse…                waiting
$0.0123  1,200 tokens  5.0s\
""")


def test_a_run_at_40_columns() -> None:
    assert drawn(board(*STORY), 40) == snapshot("""\
plan 1.0s  work 4.0s
t01 qwen@ai01            done       3.0s
t02 gpt4o@openai         working    4.0s
t03 qwen@ai02            failed     1.0s
t04 qwen@ai02            witness    3.0s
t05                      waiting
$0.0123  1,200 tokens  5.0s\
""")


def test_a_run_at_60_columns() -> None:
    assert drawn(board(*STORY), 60) == snapshot("""\
plan 1.0s  work 4.0s
t01 write part 1 of … qwen@ai01    done      1,412 tok  3.0s
t02 write part 2 of … gpt4o@openai working      88 tok  4.0s
t03 ServerError: boom qwen@ai02    failed               1.0s
t04 write part 4 of … qwen@ai02    witness              3.0s
t05 write part 5 of …              waiting
$0.0123  1,200 tokens  5.0s\
""")


def test_more_subtasks_than_lines_show_those_that_move() -> None:
    many = Plan("t", tuple(Subtask(f"t{n:02}", "part") for n in range(1, 41)))
    crowded = board(
        e.PlanMade(time=100, plan=many),
        e.SubtaskStarted(time=101, subtask="t33", attempt=1, model="qwen", provider="ai01"),
    )
    shown = drawn(crowded, height=12)
    assert "t33" in shown
    assert "and 35 more" in shown


def test_streamed_text_shows_its_end_and_starts_again_on_reset() -> None:
    writing = board(
        e.PhaseStarted(time=100, phase="synthesize", model="claude"),
        e.TextStreamed(time=101, phase="synthesize", text="old words\n" * 3 + "x" * 100 + "\n日本" * 60),
    )
    shown = drawn(writing, height=16)
    assert shown.count("日本") == 10
    writing(e.TextReset(time=102, phase="synthesize", reason="cut"))
    assert "日本" not in drawn(writing)
    writing(e.TextStreamed(time=103, phase="synthesize", text="new words"))
    assert "new words" in drawn(writing)
    assert "new words" not in drawn(writing, text=False)
    writing(e.TextStreamed(time=104, phase="refine", text="polished"))
    assert "new words" not in drawn(writing)


def test_long_lines_of_wide_characters_fit() -> None:
    wide = board(e.TextStreamed(time=101, phase="work", text="日本語" * 500))
    shown = io.StringIO()
    console = Console(file=shown, width=41, color_system=None)
    console.print(view(wide, 105.0, 41, 20, text=True))
    assert max(Text(line).cell_len for line in shown.getvalue().splitlines()) <= 41


def test_money_that_is_partly_unknown_says_so() -> None:
    call = e.CallEnded(role="r", model="m", provider="p")
    assert board(replace(call, usd=0.0)).money == "$0"
    assert board(replace(call, output_tokens=1)).money == "unknown"
    both = board(replace(call, usd=0.01), replace(call, output_tokens=1))
    assert both.money == "$0.0100 + unknown"
    refused = replace(call, error=Failure("ConnectError", "refused"))
    assert board(refused).money == "$0"


def test_states_follow_the_work() -> None:
    made = board(*STORY)
    assert [row.doing for row in made.rows.values()] == ["done", "working", "failed", "witness", "waiting"]
    made(e.SubtaskReviewed(subtask="t04", review=Review("x", False, 3), retry=True))
    assert made.rows["t04"].doing == "retry"
    made(e.SubtaskStarted(subtask="t04", attempt=2, model="qwen", provider="ai01"))
    assert made.rows["t04"].doing == "attempt 2"
    made(e.Waiting(model="qwen", seconds=3, reason="rate limit", subtask="t04"))
    assert made.rows["t04"].doing == "on hold"
    made(e.CallStarted(subtask="t04", role="polecat", model="x", alias="big", provider="cloud"))
    assert (made.rows["t04"].doing, made.rows["t04"].who) == ("working", "big@cloud")
    made(e.SubtaskEnded(subtask="t04", accepted=False))
    assert (made.rows["t04"].state, made.rows["t04"].doing) == ("doubted", "below par")


REPORT = Report(
    run="r",
    task="t",
    outcome="done",
    exit_code=0,
    text="the result",
    costs={
        "role": (Cost("mayor", requests=2, input=1200, output=150, usd=0.0123),),
        "provider": (Cost("[red]ai01[/red]", requests=2, input=1200, output=150, usd=0.0),),
        "model": (Cost("x\x1b[2J", requests=2, input=1200, output=150, usd=None),),
    },
    total=Cost("total", requests=2, input=1200, output=150, usd=0.0123),
    hops=(Hop("qwen", "ServerError", "gpt4o", role="polecat"),),
    seconds=4.0,
)


def played(*story: e.Event, environ: dict[str, str], width: int = 80) -> str:
    stream = io.StringIO()
    live = LiveView(
        stream,
        environ={"TERM": "xterm", "FORCE_COLOR": "1", "COLUMNS": str(width), "LINES": "24", **environ},
        clock=lambda: 105.0,
        refresh=False,
    )
    for event in story:
        live(event)
        live.refresh()
    live.close()
    live.close()
    return stream.getvalue()


def shown(raw: str) -> str:
    return "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw).splitlines())


def test_a_run_ends_with_its_bill_and_what_failed_over() -> None:
    assert shown(played(e.RunEnded(time=105, report=REPORT), environ={})) == snapshot("""\
$0  0 tokens  0.0s


 by role            requests  input  cached  output     cost
   mayor                   2  1,200       0     150  $0.0123
 by provider        requests  input  cached  output     cost
   [red]ai01[/red]         2  1,200       0     150       $0
 by model           requests  input  cached  output     cost
   x                       2  1,200       0     150  unknown
 total                     2  1,200       0     150  $0.0123
failed over: polecat: qwen -> gpt4o (ServerError)
done in 4.0s, 2 requests, $0.0123\
""")


def test_a_bill_fits_40_columns() -> None:
    raw = shown(played(e.RunEnded(time=105, report=REPORT), environ={}, width=40))
    assert raw == snapshot("""\
$0  0 tokens  0.0s


 by role            requests     cost
   mayor                   2  $0.0123
 by provider        requests     cost
   [red]ai01[/red]         2       $0
 by model           requests     cost
   x                       2  unknown
 total                     2  $0.0123
failed over: polecat: qwen -> gpt4o
(ServerError)
done in 4.0s, 2 requests, $0.0123\
""")
    assert max(map(len, raw.splitlines())) <= 40


def test_the_result_is_not_printed_and_the_cursor_comes_back() -> None:
    text = e.TextStreamed(time=104, phase="work", text="the result")
    raw = played(*STORY, text, e.RunEnded(time=105, report=REPORT), environ={})
    assert "the result" in raw
    assert "the result" not in raw[raw.rindex("t05") :]
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")


def test_an_interrupted_run_restores_the_terminal_without_a_bill() -> None:
    raw = played(*STORY, environ={})
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    assert "total" not in raw


def test_lasting_lines_are_printed_and_nothing_hostile_passes() -> None:
    raw = played(
        e.Noted(time=100, text="[blink]beware[/blink]\x1b]0;title\x07 \x1b[5mnow", level="warning"),
        e.SubtaskStarted(time=101, subtask="\x1b[5mt1", attempt=1, model="m\x1b[5m", provider="p"),
        e.TextStreamed(time=101, phase="work", text="\x1b[5mblink [red]x[/red]"),
        environ={},
    )
    assert "warning: [blink]beware[/blink] now" in shown(raw)
    assert "[red]x[/red]" in shown(raw)
    assert "\x1b[5m" not in raw
    assert "title" not in raw


def test_no_color_is_respected() -> None:
    story = (*STORY, e.RunEnded(time=105, report=REPORT))
    colours = re.compile(r"\x1b\[[0-9;]*3[0-9]m")
    assert colours.search(played(*story, environ={}))
    assert not colours.search(played(*story, environ={"NO_COLOR": "1"}))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_the_live_view_and_a_pipe_on_stdout_no_text() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    live = choose(pipe, terminal, environ={"TERM": "xterm", "COLUMNS": "80", "LINES": "24"})
    assert isinstance(live, LiveView)
    live(e.TextStreamed(phase="work", text="the result"))
    live.refresh()
    live.close()
    assert "the result" not in terminal.getvalue()
    assert pipe.getvalue() == ""

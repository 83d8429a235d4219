import io
from collections.abc import Sequence

from inline_snapshot import snapshot

from electrictown import events as e
from electrictown.console.choose import choose
from electrictown.console.plain import Plain
from electrictown.redact import Secret
from electrictown.work import Attempt, Cost, Failure, Hop, Plan, Report, Review, Subtask

PLAN = Plan(
    "make a parser",
    (
        Subtask("t01", "write the parser"),
        Subtask("t02", "test the\nparser", depends=("t01",), specialist="tester"),
    ),
    notes=("the specialist 'testr' is read as 'tester'",),
)
LIMITED = Failure("RateLimitError", "too many requests")
REPORT = Report(
    run="r1",
    task="make a parser",
    outcome="done",
    exit_code=0,
    text="the result",
    costs={
        "role": (
            Cost("mayor", requests=2, input=1200, cache_read=300, output=150, usd=0.0123, known_usd=0.0123),
            Cost("polecat", requests=3, input=900, output=2412, usd=None, partial=1),
        ),
        "provider": (Cost("日本-ai01", requests=5, input=2100, output=2562, usd=0.0),),
    },
    total=Cost("total", requests=5, input=2100, cache_read=300, output=2562, usd=None, known_usd=0.0123),
    hops=(
        Hop("qwen@ai01", "RateLimitError", "gpt4o", role="polecat"),
        Hop("qwen@ai01", "RateLimitError", "gpt4o", role="polecat"),
        Hop("gpt4o", "ServerError"),
    ),
    seconds=12.34,
)
STORY: Sequence[e.Event] = (
    e.RunStarted(time=0, run="r1", task="make a parser", config="electrictown.yaml"),
    e.PhaseStarted(time=0, phase="plan", model="claude"),
    e.CallStarted(time=0, role="mayor", model="claude-x", provider="anthropic"),
    e.CallEnded(time=1, role="mayor", model="claude-x", provider="anthropic", usd=0.0123, output_tokens=5),
    e.PlanMade(time=1, plan=PLAN),
    e.PhaseEnded(time=1, phase="plan", seconds=1.0),
    e.PhaseStarted(time=1, phase="work"),
    e.SubtaskStarted(time=1, subtask="t01", attempt=1, model="qwen", provider="ai01"),
    e.Waiting(time=1, model="qwen@ai01", seconds=3, reason="rate limited", role="polecat", subtask="t01"),
    e.HopTaken(time=2, failed="qwen@ai01", error=LIMITED, took_over="gpt4o", role="polecat", subtask="t01"),
    e.HostBenched(time=2, model="qwen@ai01", error=Failure("ConnectError", "refused")),
    e.SubtaskProgress(time=3, subtask="t01", tokens=200, tokens_per_second=41.5),
    e.SubtaskReviewed(time=3, subtask="t01", review=Review("meh", False, 4.5), retry=True),
    e.SubtaskStarted(time=3, subtask="t01", attempt=2, model="gpt4o", provider=""),
    e.SubtaskReviewed(time=4, subtask="t01", review=Review("?", False)),
    e.SubtaskEnded(
        time=4.1,
        subtask="t01",
        attempts=(Attempt(1, "qwen", "ai01", output_tokens=200), Attempt(2, "gpt4o", "", output_tokens=212)),
    ),
    e.FileWritten(time=4.1, path="parser.py", subtask="t01", bytes=1),
    e.FileRefused(time=4.1, path="../../x", reason="outside the folder", subtask="t01"),
    e.SubtaskEnded(time=5, subtask="t02", error=Failure("ServerError", "boom\nbang")),
    e.SubtaskEnded(time=5, subtask="t03", accepted=False),
    e.PhaseEnded(time=5, phase="work", seconds=4.0),
    e.PhaseStarted(time=5, phase="synthesize", model="claude"),
    e.TextStreamed(time=5, phase="synthesize", text="half an ans"),
    e.TextReset(time=6, phase="synthesize", reason="claude broke off"),
    e.TextStreamed(time=6, phase="synthesize", text="the result"),
    e.PhaseEnded(time=7, phase="synthesize", error=Failure("IdleTimeout", "silent for 60 s")),
    e.Noted(time=7, text="beware", level="warning"),
    e.Noted(time=7, text="by the way"),
    e.RunEnded(time=7, report=REPORT),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(*story: e.Event, quiet: bool = False) -> str:
    stream = io.StringIO()
    console = Plain(stream, quiet=quiet)
    for event in story:
        console(event)
    console.close()
    console.close()
    return stream.getvalue()


def test_a_run_is_told_in_plain_lines() -> None:
    assert told(*STORY) == snapshot("""\
electrictown.yaml
plan: asking claude
plan: 2 subtasks
  t01 write the parser
  t02 [tester] test the parser (after t01)
plan: the specialist 'testr' is read as 'tester'
plan done in 1.0s
t01 started on qwen@ai01
polecat t01 waits 3.0s for qwen@ai01: rate limited
warning: polecat t01: qwen@ai01 failed (RateLimitError: too many requests); gpt4o takes over
warning: qwen@ai01 gets no more work in this run: ConnectError: refused
t01 review: not passed, 4.5 of 10, asked again
t01 started on gpt4o (attempt 2)
t01 review: not passed, no score named
t01 done in 3.1s, 412 tokens
wrote parser.py (1 byte)
warning: refused ../../x from t01: outside the folder
error: t02 failed: ServerError: boom bang
warning: t03 done, but its last review stayed below the threshold
work done in 4.0s
synthesize: asking claude
synthesize starts again: claude broke off
error: synthesize failed: IdleTimeout: silent for 60 s
warning: beware
by the way
by role           requests  input  cached  output               cost
  mayor                  2  1,500     300     150            $0.0123
  polecat    3 (1 partial)    900       0   2,412            unknown
by provider       requests  input  cached  output               cost
  日本-ai01              5  2,100       0   2,562                 $0
total                    5  2,400     300   2,562  $0.0123 + unknown
polecat: qwen@ai01 -> gpt4o (RateLimitError), 2 times
a request: gpt4o -> nobody (ServerError)
done in 12.3s, 5 requests, $0.0123 + unknown
""")


def test_quiet_tells_errors_only() -> None:
    assert told(*STORY, quiet=True) == snapshot("""\
error: t02 failed: ServerError: boom bang
error: synthesize failed: IdleTimeout: silent for 60 s
""")


def test_a_failed_run_ends_with_its_error() -> None:
    failed = Report(
        run="r", task="t", outcome="failed", exit_code=1, error=Failure("PlanError", "no plan"), seconds=1
    )
    ended = e.RunEnded(report=failed)
    assert told(ended) == told(ended, quiet=True) == "error: failed in 1.0s: PlanError: no plan\n"


def test_what_models_and_hosts_say_cannot_steer_the_terminal() -> None:
    Secret("sk-hidden-in-a-path")
    text = told(
        e.SubtaskStarted(subtask="t\x1b[2J1", attempt=1, model="m\x1b]0;x\x07", provider="p\r\n"),
        e.FileRefused(path="a\nerror: forged", reason="\x9b31m sk-hidden-in-a-path"),
        e.Noted(text="\x1b[31mred"),
    )
    assert text == "t1 started on m@p\nwarning: refused a error: forged: 31m ***\nred\n"


def test_a_reader_that_went_away_is_no_error() -> None:
    stream = io.StringIO()
    console = Plain(stream)
    stream.close()
    console(e.Noted(text="x"))
    console.close()


def test_a_dumb_terminal_a_pipe_and_quiet_get_plain_lines() -> None:
    pipe, terminal = io.StringIO(), Terminal()
    assert isinstance(choose(pipe, pipe, environ={"TERM": "xterm"}), Plain)
    assert isinstance(choose(terminal, terminal, environ={"TERM": "dumb"}), Plain)
    assert isinstance(choose(terminal, terminal, environ={}), Plain)
    assert isinstance(choose(terminal, terminal, quiet=True, environ={"TERM": "xterm"}), Plain)

import io
import json

from electrictown import events as e
from electrictown.console.choose import choose
from electrictown.console.jsonl import Jsonl
from electrictown.redact import Secret
from electrictown.work import Failure, Report


def lines(*story: e.Event) -> list[dict[str, object]]:
    stream = io.StringIO()
    console = Jsonl(stream)
    for event in story:
        console(event)
    console.close()
    return [json.loads(line) for line in stream.getvalue().split("\n") if line]


def test_every_event_is_one_line_with_its_type_and_conventional_names() -> None:
    first, last = lines(
        e.CallStarted(time=1.5, role="mayor", model="m", provider="p"),
        e.RunEnded(
            time=2.5, report=Report(run="r", task="t", outcome="done", exit_code=0, text="a\u2028b\nc")
        ),
    )
    assert first == {
        "type": "call.started",
        "time": 1.5,
        "role": "mayor",
        "gen_ai.request.model": "m",
        "gen_ai.provider.name": "p",
    }
    assert last["type"] == "run.ended"


def test_masking_keeps_the_json_whole() -> None:
    Secret('se"cret\\key')
    (noted,) = lines(
        e.HopTaken(failed='se"cret\\key', error=Failure("T", "http://a b"), took_over="x@y http://u:p@h/")
    )
    assert noted["failed"] == "***"
    assert noted["error"] == {"type": "T", "message": "http://a b"}
    assert noted["took_over"] == "x@y http://***@h/"


def test_jsonl_goes_to_stdout() -> None:
    out, err = io.StringIO(), io.StringIO()
    console = choose(out, err, jsonl=True, quiet=True)
    console(e.Noted(text="x"))
    assert json.loads(out.getvalue())["text"] == "x"
    assert err.getvalue() == ""


def test_a_reader_that_went_away_is_no_error() -> None:
    stream = io.StringIO()
    console = Jsonl(stream)
    stream.close()
    console(e.Noted(text="x"))
    console(e.Noted(text="y"))
    console.close()

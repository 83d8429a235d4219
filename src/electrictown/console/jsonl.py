"""Events as JSON lines, for programs."""

from __future__ import annotations

from typing import Any, TextIO, cast

import msgspec

from electrictown.events import Event
from electrictown.redact import mask

__all__ = ["Jsonl", "event_line"]

_encoder = msgspec.json.Encoder()


def event_line(event: Event) -> str:
    """`event` as one line of JSON without its line break; known secrets are masked."""
    text = _encoder.encode(event).decode()
    if mask(text) == text:
        return text
    # String by string: a mask over the whole line could swallow its punctuation.
    return _encoder.encode(_masked(msgspec.to_builtins(event))).decode()


class Jsonl:
    """Writes each event as one line of JSON; `type` says which it is. Known secrets are masked."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._gone = False
        self._error: OSError | None = None

    def __call__(self, event: Event) -> None:
        """Write `event`. Never raises: a reader that went away, or a full disk, stops the writing."""
        if self._gone:
            return
        try:
            self._stream.write(f"{event_line(event)}\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError):  # the reader went away, or the stream is closed
            self._gone = True
        except OSError as error:
            self._gone, self._error = True, error

    def close(self) -> None:
        """Nothing is left to write: the report came with `run.ended`.

        Raises:
            OSError: once, when events could not be written though somebody was there to read them.
        """
        error, self._error = self._error, None
        if error is not None:
            raise error


def _masked(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_masked(item) for item in cast("list[Any]", value)]
    return value

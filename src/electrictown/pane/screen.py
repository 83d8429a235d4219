"""A session's screen: what is said goes up into the terminal's own scrollback, the input stays below.

    > a question

    the reply, whose last line grows while it comes

    > what is being typed
    et-polecat-a3f2  polecat  qwen3@ai01  working 3s  1,234 tokens  $0.0123

Loads prompt_toolkit: import it where there is a terminal.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Iterable, Mapping
from typing import Final, Literal, TextIO

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

from electrictown.console.text import line
from electrictown.errors import ElectrictownError
from electrictown.pane.bar import bar
from electrictown.pane.commands import Command, Message, Mistake, completions, obey, parse
from electrictown.pane.controls import Controls
from electrictown.pane.layout import STYLE, layout
from electrictown.pane.scene import Scene
from electrictown.pane.terminal import Drawing, TerminalOutput
from electrictown.pane.wrap import Wrap
from electrictown.sessions.log import Entry
from electrictown.sessions.records import BackendName, Record, Status

__all__ = ["Screen"]

_FRAME: Final = 0.05
"""Seconds between two frames at least, however many pieces come."""
_TICK: Final = 1.0
"""Seconds between two frames at most while a turn is under way: its time is shown."""
_DETACHING: Final[Mapping[BackendName, str]] = {
    "tmux": "Ctrl-b d leaves it running",
    "byobu": "F6 leaves it running",
}
_ASKED: Final = "it asks for leave: y allows, n denies, then Enter"
_NEW: Final = "Enter sends what you type; /help lists commands"
_UNSAID_SHOWN: Final = 3


class Screen:
    """Shows one session and lets a person speak with it.

    `entry` and `status` may be called at any time; what comes before `run` is shown when that begins.
    """

    def __init__(self, record: Record, stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
        self._record = record
        self._stdin = stdin or sys.stdin
        self._stdout = stdout or sys.stdout
        self._changed = asyncio.Event()
        self._scene = Scene(self._changed.set)

    def entry(self, entry: Entry) -> None:
        """Show `entry`; a `Listener`."""
        self._scene.entry(entry)

    def status(self, status: Status) -> None:
        """Show `status` in the line below the input."""
        self._scene.take(status)

    async def run(self, controls: Controls) -> Literal["quit", "gone"]:
        """Show, and take what is typed, until `/quit` ("quit") or until the terminal is gone ("gone").

        However it ends, the terminal is left as it was, and what was said stays in its scrollback.
        """
        return await _Sitting(self._record, self._scene, self._changed, controls).run(
            self._stdin, self._stdout
        )


class _Sitting:
    """One `run` of a screen; the `View` of its layout."""

    def __init__(self, record: Record, scene: Scene, changed: asyncio.Event, controls: Controls) -> None:
        self._name = record.name
        self._who = record.agent or record.role
        self._detaching = [keys] if (keys := _DETACHING.get(record.backend)) else []
        self._scene = scene
        self._changed = changed
        self._controls = controls
        self._buffer = Buffer(
            completer=_Names(controls),
            complete_while_typing=True,
            multiline=True,
            on_text_changed=self._typed,
        )
        self._wrap = Wrap()
        self._messages: asyncio.Queue[Message | Command] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle_presses = 0

    async def run(self, stdin: TextIO, stdout: TextIO) -> Literal["quit", "gone"]:
        self._output = TerminalOutput(stdout)
        self._app = Drawing(
            layout=layout(self._buffer, self),
            style=STYLE,
            key_bindings=self._keys(),
            input=Vt100Input(stdin),
            output=self._output,
            erase_when_done=True,
            terminal_size_polling_interval=None,  # a signal tells
        )
        self._start(self._draw())
        self._start(self._take_in())
        try:
            await self._app.run_async(set_exception_handler=False, handle_sigint=False)
        except EOFError:
            return "gone"
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._write_rest()
            await self._output.close()
        return "quit"

    # --- what is drawn

    async def _draw(self) -> None:
        while True:
            try:
                async with asyncio.timeout(_TICK if self._scene.working is not None else None):
                    await self._changed.wait()
            except TimeoutError:
                pass
            if not self._output.behind:  # else what is not drawn yet comes with the next frame
                self._changed.clear()
                if lines := self._whole():
                    self._app.above(lines)
                else:
                    self._app.invalidate()
            await asyncio.sleep(_FRAME)

    def _whole(self) -> StyleAndTextTuples:
        columns = self._output.get_size().columns
        return [
            styled
            for piece in self._scene.whole()
            for styled in self._wrap.whole(piece.text, piece.look, columns)
        ]

    def _write_rest(self) -> None:
        lines = self._whole()
        if self._scene.partial:
            columns = self._output.get_size().columns
            lines += self._wrap.whole(self._scene.partial + "\n", "reply", columns)
            self._scene.partial = ""
        if lines:
            self._app.write(lines)

    def tail(self) -> StyleAndTextTuples:
        """The end of the reply's last line; in whole rows, so that they stand still while it grows."""
        columns = self._output.get_size().columns
        room = max(1, self.rows() // 2)
        text = self._wrap.partial(self._scene.partial.expandtabs(), columns)
        text = "\n".join(text.split("\n")[-room:])
        too_much = max(0, -(-len(text) // columns) - room) if "\n" not in text else 0
        return [("class:reply", text[too_much * columns :]), ("[SetCursorPosition]", "")] if text else []

    def waiting(self) -> StyleAndTextTuples:
        """What was typed and waits for its turn, while another is under way."""
        if self._scene.working is None:
            return []
        unsaid = self._scene.unsaid
        rows = [f"  queued: {line(text, 200)}" for text in unsaid[:_UNSAID_SHOWN]]
        if len(unsaid) > _UNSAID_SHOWN:
            rows.append(f"  and {len(unsaid) - _UNSAID_SHOWN} more")
        return [("class:queued", "\n".join(rows))] if rows else []

    def hints(self) -> StyleAndTextTuples:
        """What was wrong with the last line, how to leave, that leave is asked, or how to begin."""
        if hint := self._scene.hint or (_ASKED if self._scene.asked else ""):
            return [("class:hint", hint)]
        new = self._scene.status.state == "ready" and not self._buffer.text
        return [("class:note", "; ".join([_NEW, *self._detaching]))] if new else []

    def bar(self) -> StyleAndTextTuples:
        """Who, how, and how much."""
        columns = self._output.get_size().columns
        return list(bar(self._name, self._who, self._scene.status, columns, self._scene.working))

    def rows(self) -> int:
        """The rows of the terminal."""
        return self._output.get_size().rows

    # --- what is typed

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("enter")(self._enter)
        keys.add("c-c")(self._interrupt)
        keys.add("c-d", filter=Condition(lambda: not self._buffer.text))(self._leave)
        for new_line in (("escape", "enter"), ("c-j",)):
            keys.add(*new_line)(self._new_line)
        return keys

    def _typed(self, buffer: Buffer) -> None:
        self._scene.typing(buffer.text)
        self._idle_presses = 0

    def _empty(self) -> None:
        self._buffer.reset()
        self._typed(self._buffer)  # which a reset does not tell

    def _new_line(self, event: KeyPressEvent) -> None:
        del event
        self._buffer.insert_text("\n")

    def _leave(self, event: KeyPressEvent) -> None:
        del event
        self._scene.hint = "; ".join(["/quit ends the session", *self._detaching])

    def _interrupt(self, event: KeyPressEvent) -> None:
        if self._controls.interrupt():
            self._idle_presses = 0
        elif self._buffer.text:
            self._empty()
        elif self._idle_presses:
            self._leave(event)
        else:
            self._idle_presses += 1

    def _enter(self, event: KeyPressEvent) -> None:
        del event
        # Bytes that are no UTF-8 can be typed, or pasted, but not said.
        text = self._buffer.text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if not text.strip():
            return
        allow = self._scene.answer(text)
        typed = parse(text) if allow is None else Command("allow" if allow else "deny")
        if isinstance(typed, Mistake):  # it stays where it is, to be mended
            self._scene.hint = typed.why
            return
        self._buffer.append_to_history()
        self._empty()
        if isinstance(typed, Message):
            self._scene.unsaid.append(typed.text)
        if isinstance(typed, Command) and typed.at_once:
            self._start(self._obey(typed))
        else:
            self._messages.put_nowait(typed)

    async def _take_in(self) -> None:
        """What was typed, one after another: a message is for the model that was chosen before it."""
        while True:
            typed = await self._messages.get()
            await (self._obey(typed) if isinstance(typed, Command) else self._say(typed.text))

    async def _say(self, text: str) -> None:
        try:
            await self._controls.say(text)
        except ElectrictownError as error:
            self._scene.unsaid.remove(text)
            self._tell(str(error))
            if not self._buffer.text:
                self._buffer.insert_text(text)

    async def _obey(self, command: Command) -> None:
        if told := await obey(command, self._controls):
            self._tell(told)
        if command.name == "quit":
            self._end()

    def _tell(self, text: str) -> None:
        self._scene.entry(Entry("note", text))

    # --- how it ends

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._end(error)

    def _end(self, error: BaseException | None = None) -> None:
        if not self._app.is_running or self._app.is_done:
            return
        if error is None:
            self._app.exit(result="quit")
        else:
            self._app.exit(exception=error)


class _Names(Completer):
    """Completes commands, and models after `/model`."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """What the text before the cursor can go on to be."""
        del complete_event
        typed = document.text_before_cursor
        if "\n" not in document.text:
            for text, does in completions(typed, self._controls.models):
                yield Completion(text, start_position=-len(typed), display_meta=does)

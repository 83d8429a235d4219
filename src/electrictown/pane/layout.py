"""What stands where at the bottom of a session's screen, from top to bottom, and how it looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_completions
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    VerticalAlign,
    VSplit,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenuControl
from prompt_toolkit.layout.processors import TabsProcessor
from prompt_toolkit.styles import Style

__all__ = ["PROMPT", "STYLE", "View", "layout"]

Text: TypeAlias = Callable[[], StyleAndTextTuples]

PROMPT: Final = "> "
_INPUT_SHARE: Final = 3
"""The input takes a third of the screen at most."""
_MENU_ROWS: Final = 8

STYLE: Final = Style.from_dict(
    {
        "said": "bold",
        "heading": "bold underline",
        "strong": "bold",
        "code": "ansicyan",
        "end": "dim",
        "note": "dim",
        "trouble": "ansired",
        "ask": "ansiyellow bold",
        "prompt": "bold",
        "name": "bold",
        "good": "ansigreen",
        "busy": "ansicyan",
        "bar": "dim",
        "queued": "dim",
        "hint": "ansiyellow",
        "completion-menu": "bg:default fg:default",
        "completion-menu.completion": "bg:default fg:default",
        "completion-menu.completion.current": "bg:default fg:default bold reverse",
        "completion-menu.meta.completion": "bg:default fg:default dim",
        "completion-menu.meta.completion.current": "bg:default fg:default",
    }
)
"""By the terminal's own sixteen colours, so that it suits whatever they were chosen to be."""


class View(Protocol):
    """What the rows show now; each is asked at every frame."""

    def tail(self) -> StyleAndTextTuples:
        """The end of the reply's last line, as long as that is not complete."""
        ...

    def waiting(self) -> StyleAndTextTuples:
        """What was typed and waits for its turn."""
        ...

    def hints(self) -> StyleAndTextTuples:
        """What the person should know before pressing the next key."""
        ...

    def bar(self) -> StyleAndTextTuples:
        """The line below the input."""
        ...

    def rows(self) -> int:
        """The rows of the whole screen."""
        ...


def layout(buffer: Buffer, view: View) -> Layout:
    """The rows, with `buffer` as the input."""
    typed = Window(
        BufferControl(buffer, input_processors=[TabsProcessor(char1=" ", char2=" ")]),
        get_line_prefix=lambda number, wrapped: (
            [("class:prompt", PROMPT)] if not number and not wrapped else [("", " " * len(PROMPT))]
        ),
        height=lambda: Dimension(min=1, max=max(1, view.rows() // _INPUT_SHARE)),
        wrap_lines=True,
        dont_extend_height=True,
    )
    menu = VSplit(
        [
            Window(width=len(PROMPT), char=" "),
            Window(CompletionsMenuControl(), height=Dimension(min=1, max=_MENU_ROWS), dont_extend_width=True),
            Window(),
        ]
    )
    rows = HSplit(
        [
            _shown(view.tail, wrap=True),
            Window(height=1),
            _shown(view.waiting),
            typed,
            ConditionalContainer(menu, has_completions),
            _shown(view.hints, wrap=True),
            Window(FormattedTextControl(view.bar), height=1, style="class:bar"),
        ],
        align=VerticalAlign.TOP,
    )
    return Layout(rows, focused_element=typed)


def _shown(text: Text, *, wrap: bool = False) -> ConditionalContainer:
    """A row, or some, that take no room while they are empty."""
    window = Window(FormattedTextControl(text), wrap_lines=wrap, dont_extend_height=True)
    return ConditionalContainer(window, Condition(lambda: bool(text())))

"""Every error the program raises, as one tree.

    ElectrictownError(message, hint)            what a person reads; `exit_code` is the process's
    ├── ConfigError(problems)                   the file is wrong: every problem at once        exit 2
    ├── UsageError                              the command line is wrong                       exit 2
    ├── ProviderError                           a model could not answer
    │   │                                                               retry_same  try_next
    │   ├── AuthError           key missing, wrong or not allowed            -          -       exit 4
    │   ├── BadRequestError     the request itself is refused                -          -
    │   ├── ModelNotFoundError  the host does not have the model             -          -
    │   ├── RefusedError        blocked by the vendor's content filter       -          -
    │   ├── QuotaError          the money is gone                            -         yes
    │   ├── ContextWindowError  the prompt does not fit                      -         yes      (larger)
    │   ├── RateLimitError      too many requests; carries retry_after      yes        yes      exit 75
    │   ├── OverloadedError     the vendor is busy                          yes        yes      exit 75
    │   ├── ServerError         5xx                                         yes        yes
    │   ├── ConnectError        the host cannot be reached                  yes        yes
    │   ├── FirstTokenTimeout   silence before the first token              yes        yes
    │   ├── IdleTimeout         silence between tokens                      yes        yes
    │   ├── IncompleteReplyError  the stream ended without its end          yes        yes
    │   └── BadReplyError       the reply is not what the protocol says     yes        yes
    ├── DeadlineError           the whole call or run is out of time: stop                      exit 75
    ├── PlanError               no plan could be made of the task
    ├── DependencyError         a subtask this one needs has failed
    ├── WorkspaceError          a file cannot be written where it was asked
    ├── SandboxError            a command cannot be run safely
    ├── AgentError              an agent from elsewhere could not do its work
    │   └── AgentMissingError   its program is not there, or not one                        exit 2
    ├── SessionError            a session cannot be started, or does not answer
    │   ├── UnknownSessionError there is no such session                                    exit 2
    │   ├── SessionBusyError    it is alive already                                         exit 75
    │   └── SessionEndedError   it has ended: nobody is there who could be told anything
    └── HaltError               nothing more may be begun in this run
        ├── BudgetExceeded      the cap is reached                                              exit 5
        ├── StoppedError        somebody wants the run to stop                                  exit 130
        └── JournalError        what was done cannot be written down, or read                   exit 75
            ├── UnknownRunError there is no such run                                            exit 2
            ├── RunBusyError    another process drives the run                                  exit 75
            └── LeaseLostError  another worker has taken this work over: stop at once

Two facts on each class decide routing: `retry_same` (wait, then ask the same host again) and
`try_next` (move down the chain). An expected failure of a subtask travels as data
(`work.Failure`), never as text inside a reply.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

__all__ = [
    "AgentError",
    "AgentMissingError",
    "AuthError",
    "BadReplyError",
    "BadRequestError",
    "BudgetExceeded",
    "ConfigError",
    "ConnectError",
    "ContextWindowError",
    "DeadlineError",
    "DependencyError",
    "ElectrictownError",
    "FirstTokenTimeout",
    "HaltError",
    "IdleTimeout",
    "IncompleteReplyError",
    "JournalError",
    "LeaseLostError",
    "ModelNotFoundError",
    "OverloadedError",
    "PlanError",
    "ProviderError",
    "QuotaError",
    "RateLimitError",
    "RefusedError",
    "RunBusyError",
    "SandboxError",
    "ServerError",
    "SessionBusyError",
    "SessionEndedError",
    "SessionError",
    "StoppedError",
    "UnknownRunError",
    "UnknownSessionError",
    "UsageError",
    "WorkspaceError",
]


class ElectrictownError(Exception):
    """The root of the tree: a message of what happened and a hint of what to do about it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


class ConfigError(ElectrictownError):
    """The configuration is wrong; `problems` lists every finding as `file:line: what, remedy`.

    `file` and `line` are those of the first problem (line 0 when the file as a whole is meant).
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        file: str = "",
        line: int = 0,
        problems: Sequence[str] = (),
    ) -> None:
        super().__init__(message, hint)
        self.file = file
        self.line = line
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [self.message, *(f"  {problem}" for problem in self.problems)]
        return "\n".join([*lines, f"  hint: {self.hint}"] if self.hint else lines)


class UsageError(ElectrictownError):
    """What was typed on the command line cannot be done."""

    exit_code = 2


class ProviderError(ElectrictownError):
    """A model could not answer; the subclasses say why, and what the router may do about it.

    `status` is the HTTP status (0 when there was no reply), `retry_after` seconds or None,
    `param` the request parameter the vendor objected to, `request_id` the vendor's own id.
    `provider` and `model` are filled in by the endpoint that asked, and so is `sent`: False where it is
    certain that no byte of the request reached the host, which cannot send a bill for it then.
    """

    retry_same: ClassVar[bool] = False
    try_next: ClassVar[bool] = False
    sent: bool = True

    def __init__(  # noqa: PLR0913  (all but the message are optional facts, by name)
        self,
        message: str,
        hint: str = "",
        *,
        status: int = 0,
        retry_after: float | None = None,
        code: str = "",
        param: str = "",
        request_id: str = "",
        provider: str = "",
        model: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.retry_after = retry_after
        self.code = code
        self.param = param
        self.request_id = request_id
        self.provider = provider
        self.model = model


class AuthError(ProviderError):
    """401 or 403: the key is missing, wrong, or not allowed to do this."""

    exit_code = 4


class BadRequestError(ProviderError):
    """The request itself is refused; no other host would take it either."""


class ModelNotFoundError(ProviderError):
    """The host does not have the model, or the key may not use it."""


class RefusedError(ProviderError):
    """The vendor's content filter blocked the prompt or the reply."""


class QuotaError(ProviderError):
    """The money or the plan's allowance is gone; waiting does not help."""

    try_next = True


class ContextWindowError(ProviderError):
    """The prompt does not fit the model's window; only a larger window helps."""

    try_next = True


class RateLimitError(ProviderError):
    """Too many requests or tokens a minute: wait `retry_after` seconds where it is known."""

    retry_same = True
    try_next = True
    exit_code = 75


class OverloadedError(ProviderError):
    """The vendor or host is busy (529, 503, a full queue)."""

    retry_same = True
    try_next = True
    exit_code = 75


class ServerError(ProviderError):
    """The vendor failed (5xx)."""

    retry_same = True
    try_next = True


class ConnectError(ProviderError):
    """The host cannot be reached: refused, no such name, TLS failure, or a lost connection."""

    retry_same = True
    try_next = True


class FirstTokenTimeout(ProviderError):
    """Nothing came between the request and the first token."""

    retry_same = True
    try_next = True


class IdleTimeout(ProviderError):
    """The stream fell silent between two tokens."""

    retry_same = True
    try_next = True


class IncompleteReplyError(ProviderError):
    """The stream ended without the protocol's terminal event."""

    retry_same = True
    try_next = True


class BadReplyError(ProviderError):
    """The reply is not what the protocol says it should be."""

    retry_same = True
    try_next = True


class DeadlineError(ElectrictownError):
    """The whole call or run is out of time; nothing more is tried."""

    exit_code = 75


class PlanError(ElectrictownError):
    """No usable plan could be made of the task; `reply` is the model's last text."""

    def __init__(self, message: str, hint: str = "", *, reply: str = "") -> None:
        super().__init__(message, hint)
        self.reply = reply


class DependencyError(ElectrictownError):
    """A subtask that this one depends on has failed."""


class WorkspaceError(ElectrictownError):
    """A file cannot be read or written where it was asked."""


class SandboxError(ElectrictownError):
    """A command cannot be run in the sandbox that was asked for."""


class AgentError(ElectrictownError):
    """An agent from elsewhere (a program of its own) could not do its work."""


class AgentMissingError(AgentError):
    """The agent's program is not installed, or does not speak the Agent Client Protocol."""

    exit_code = 2


class SessionError(ElectrictownError):
    """A session cannot be started, or does not answer."""


class UnknownSessionError(SessionError):
    """There is no such session."""

    exit_code = 2


class SessionBusyError(SessionError):
    """The session is alive already: it cannot be started once more."""

    exit_code = 75


class SessionEndedError(SessionError):
    """The session has ended: nobody is there who could be told anything."""


class HaltError(ElectrictownError):
    """Nothing more may be begun in this run, whoever asks; what is under way may end."""


class BudgetExceeded(HaltError):
    """The budget's cap is reached; what is running ends and nothing new starts."""

    exit_code = 5

    def __init__(self, message: str, hint: str = "", *, detail: Mapping[str, float] | None = None) -> None:
        super().__init__(message, hint)
        self.detail = dict(detail or {})


class StoppedError(HaltError):
    """Somebody wants the run to stop."""

    exit_code = 130


class JournalError(HaltError):
    """What a run has done cannot be written down, or read; nothing that was committed is lost."""

    exit_code = 75


class UnknownRunError(JournalError):
    """The journal has no such run."""

    exit_code = 2


class RunBusyError(JournalError):
    """Another process drives the run; there is never more than one."""


class LeaseLostError(JournalError):
    """Another worker has taken the work over while this one was away; it stops at once."""

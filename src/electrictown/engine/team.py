"""Who takes part in a run, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, ValidationError, convert, field, to_builtins

from electrictown.budget.caps import Caps
from electrictown.engine.relay import Station
from electrictown.errors import JournalError
from electrictown.llm.messages import Json
from electrictown.roles.mayor import Mayor
from electrictown.roles.refinery import Refinery
from electrictown.roles.witness import Witness
from electrictown.work import Plan

__all__ = ["RunOptions", "Team"]


class RunOptions(Struct, frozen=True, kw_only=True):
    """How a run is run: who plans, which phases, how strict, how long.

    `supervisor` is the role that plans and merges, `max_subtasks` the most a plan may have. Without
    `specialists` all work goes to the polecats. `threshold` is the witness's lowest passing score, 1 to
    10, `retries` is how often a worker is asked again when its text does not pass the witness, `timeout`
    the whole run's seconds (None: no limit). Files go to `output_dir` (None: there are none). `plan` was
    made before and is not paid for again; with `dry_run` nothing but the plan is made. `caps` are the
    budget (None: the configuration's).
    """

    supervisor: str = "mayor"
    max_subtasks: int = 10
    specialists: bool = True
    threshold: float = 6
    brief: bool = True
    witness: bool = True
    synthesize: bool = True
    refinery: bool = True
    retries: int = 1
    timeout: float | None = None
    output_dir: Path | None = None
    plan: Plan | None = None
    dry_run: bool = False
    caps: Caps | None = None

    def settings(self) -> dict[str, Json]:
        """The options as the journal keeps them."""
        return to_builtins(self, enc_hook=str)

    @classmethod
    def of(cls, settings: Mapping[str, Json]) -> RunOptions:
        """The options that `settings()` gave; those that this version does not know are left out.

        Raises:
            JournalError: when one is not what it was.
        """
        try:
            return convert(settings, cls, dec_hook=lambda kind, value: kind(value))
        except ValidationError as error:
            raise JournalError(
                f"the options of the run cannot be read: {error}",
                "they were written by another version of et: use that one, or start the run anew",
            ) from None


class Team(Struct, frozen=True, kw_only=True):
    """Who does what. `witness` and `refinery` are None where the role is not configured.

    Where the worker is not `several` there is one worker and no planning. `one_subtask_if_unplannable`
    says that the mayor's model is too small to be blamed: a plan it cannot make becomes one subtask.
    """

    mayor: Mayor
    worker: Station
    specialists: Mapping[str, Station] = field(default_factory=dict[str, Station])
    witness: Witness | None = None
    refinery: Refinery | None = None
    one_subtask_if_unplannable: bool = False

    @property
    def stations(self) -> tuple[Station, ...]:
        """All kinds of workers."""
        return (self.worker, *self.specialists.values())

    def station(self, specialist: str) -> Station:
        """Who works a subtask of `specialist`; "", or a name that nobody has, is everybody else's."""
        return self.specialists.get(specialist, self.worker)

"""The budget of a run that many machines work: what is spent and set aside, added up by the database itself.

A request's worst case is set aside in all of its scopes or in none, in the same transaction as its step:
so N workers at once cannot overshoot a cap, wherever they are. What is set aside is held under the
lease of who asked; when that is taken over, what was never settled counts as spent. Money is counted
in billionths of a US dollar, so that sums are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, cast

from msgspec import Struct

from electrictown.journal.journal import Step
from electrictown.postgres import Connection

__all__ = ["BUDGET", "Charge", "Shortage", "Spent", "reserve", "settle", "spent"]

BUDGET: Final = """
CREATE TABLE electrictown.spent (
    run text COLLATE "C" NOT NULL, scope text COLLATE "C" NOT NULL,
    nano bigint NOT NULL DEFAULT 0, tokens bigint NOT NULL DEFAULT 0,
    open_nano bigint NOT NULL DEFAULT 0, open_tokens bigint NOT NULL DEFAULT 0, PRIMARY KEY (run, scope));
CREATE TABLE electrictown.reserved (
    run text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, scope text COLLATE "C" NOT NULL,
    subtask text COLLATE "C" NOT NULL, nano bigint NOT NULL, tokens bigint NOT NULL,
    PRIMARY KEY (run, key, scope));
CREATE INDEX ON electrictown.reserved (run, subtask);

CREATE FUNCTION electrictown.reserve(
    _run text, _subtask text, _epoch integer, _key text, _kind text, _at double precision, _value json,
    _scopes text[], _nano bigint, _tokens bigint, _cap_nano bigint[], _cap_tokens bigint[])
RETURNS TABLE (verdict text, seq bigint, scope text) LANGUAGE plpgsql AS $$
DECLARE
    found_seq bigint;
    short record;
BEGIN
    PERFORM 1 FROM electrictown.leases l
        WHERE l.run = _run AND l.subtask = _subtask AND l.epoch = _epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'lost', NULL::bigint, NULL::text;
        RETURN;
    END IF;
    INSERT INTO electrictown.spent (run, scope)
        SELECT _run, s FROM unnest(_scopes) AS s ORDER BY s ON CONFLICT DO NOTHING;
    -- In one order, so that no two who set aside at once wait for each other.
    PERFORM 1 FROM electrictown.spent s
        WHERE s.run = _run AND s.scope = ANY(_scopes) ORDER BY s.scope FOR UPDATE;
    SELECT s.scope, (s.nano + _nano > c.cap_nano AND _nano > 0 OR s.tokens + _tokens > c.cap_tokens)
            IS TRUE AS for_good INTO short
        FROM electrictown.spent s
        JOIN unnest(_scopes, _cap_nano, _cap_tokens) AS c(scope, cap_nano, cap_tokens) ON c.scope = s.scope
        WHERE s.run = _run AND (s.nano + s.open_nano + _nano > c.cap_nano AND _nano > 0
            OR s.tokens + s.open_tokens + _tokens > c.cap_tokens)
        ORDER BY for_good DESC, array_position(_scopes, s.scope) LIMIT 1;
    IF FOUND THEN
        RETURN QUERY SELECT CASE WHEN short.for_good THEN 'refused' ELSE 'waits' END,
            NULL::bigint, short.scope;
        RETURN;
    END IF;
    INSERT INTO electrictown.steps AS t (run, key, kind, at, epoch, value)
        VALUES (_run, _key, _kind, _at, _epoch, _value)
        ON CONFLICT DO NOTHING RETURNING t.seq INTO found_seq;
    IF found_seq IS NULL THEN
        RETURN QUERY SELECT 'taken', NULL::bigint, NULL::text;
        RETURN;
    END IF;
    UPDATE electrictown.spent s SET open_nano = open_nano + _nano, open_tokens = open_tokens + _tokens
        WHERE s.run = _run AND s.scope = ANY(_scopes);
    INSERT INTO electrictown.reserved (run, key, scope, subtask, nano, tokens)
        SELECT _run, _key, s, _subtask, _nano, _tokens FROM unnest(_scopes) AS s;
    RETURN QUERY SELECT 'granted', found_seq, NULL::text;
END $$;

CREATE FUNCTION electrictown.settle(
    _run text, _subtask text, _epoch integer, _key text, _kind text, _at double precision, _value json,
    _of text, _nano bigint, _tokens bigint)
RETURNS TABLE (verdict text, seq bigint) LANGUAGE plpgsql AS $$
DECLARE
    found_seq bigint;
BEGIN
    PERFORM 1 FROM electrictown.leases l
        WHERE l.run = _run AND l.subtask = _subtask AND l.epoch = _epoch FOR SHARE;
    IF NOT FOUND THEN
        RETURN QUERY SELECT 'lost', NULL::bigint;
        RETURN;
    END IF;
    INSERT INTO electrictown.steps AS t (run, key, kind, at, epoch, value)
        VALUES (_run, _key, _kind, _at, _epoch, _value)
        ON CONFLICT DO NOTHING RETURNING t.seq INTO found_seq;
    IF found_seq IS NULL THEN
        RETURN QUERY SELECT 'taken', NULL::bigint;
        RETURN;
    END IF;
    PERFORM electrictown.close_reserved(_run, ARRAY[_of], _nano, _tokens);
    RETURN QUERY SELECT 'granted', found_seq;
END $$;

CREATE FUNCTION electrictown.close_reserved(_run text, _keys text[], _nano bigint, _tokens bigint)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM electrictown.spent s WHERE s.run = _run AND s.scope IN (
        SELECT r.scope FROM electrictown.reserved r WHERE r.run = _run AND r.key = ANY(_keys))
        ORDER BY s.scope FOR UPDATE;
    WITH closed AS (
        DELETE FROM electrictown.reserved r WHERE r.run = _run AND r.key = ANY(_keys)
        RETURNING r.scope, r.nano, r.tokens),
    sums AS (
        SELECT c.scope, sum(c.nano) AS nano, sum(c.tokens) AS tokens,
            sum(coalesce(_nano, c.nano)) AS charged, sum(coalesce(_tokens, c.tokens)) AS charged_tokens
        FROM closed c GROUP BY c.scope)
    UPDATE electrictown.spent s SET nano = s.nano + sums.charged, tokens = s.tokens + sums.charged_tokens,
            open_nano = s.open_nano - sums.nano, open_tokens = s.open_tokens - sums.tokens
        FROM sums WHERE s.run = _run AND s.scope = sums.scope;
END $$;

CREATE FUNCTION electrictown.write_off(_run text, _subtask text) RETURNS void LANGUAGE sql AS $$
    SELECT electrictown.close_reserved(_run, array_agg(DISTINCT r.key), NULL, NULL)
    FROM electrictown.reserved r WHERE r.run = _run AND r.subtask = _subtask HAVING count(*) > 0
$$;
"""

_RESERVE: Final = """
SELECT verdict, seq, scope FROM electrictown.reserve(
    %(run)s, %(subtask)s, %(epoch)s, %(key)s, %(kind)s, %(at)s, %(value)s::json, %(scopes)s::text[],
    %(nano)s::bigint, %(tokens)s::bigint, %(cap_nano)s::bigint[], %(cap_tokens)s::bigint[])
"""
_SETTLE: Final = """
SELECT verdict, seq, NULL FROM electrictown.settle(
    %(run)s, %(subtask)s, %(epoch)s, %(key)s, %(kind)s, %(at)s, %(value)s::json,
    %(of)s, %(nano)s::bigint, %(tokens)s::bigint)
"""


class Charge(Struct, frozen=True):
    """One scope of a request (the run "", "role mayor", "subtask t07") with its caps; None: no cap."""

    scope: str
    cap_nano: int | None = None
    cap_tokens: int | None = None


class Spent(Struct, frozen=True):
    """What has become of a scope: spent, and set aside for requests that are under way."""

    nano: int = 0
    tokens: int = 0
    open_nano: int = 0
    open_tokens: int = 0


class Shortage(Struct, frozen=True):
    """A scope that has no room for a request: now, or, where `for_good`, whatever others settle."""

    scope: str
    for_good: bool


async def reserve(
    connection: Connection, step: Step, subtask: str, charges: Sequence[Charge], nano: int, tokens: int
) -> tuple[str, int | None, str | None]:
    """Commit `step` and set its worst case aside; verdict, number, and the scope that has no room.

    The verdict is "granted", "taken" (the key has a step), "lost" (the lease), "waits" (for what others have
    set aside) or "refused" (whatever they settle).
    """
    given = {
        **_fields(step, subtask),
        "scopes": [charge.scope for charge in charges],
        "nano": nano,
        "tokens": tokens,
        "cap_nano": [charge.cap_nano for charge in charges],
        "cap_tokens": [charge.cap_tokens for charge in charges],
    }
    return await _verdict(connection, _RESERVE, given)


async def settle(
    connection: Connection, step: Step, subtask: str, of: str, nano: int, tokens: int
) -> tuple[str, int | None, str | None]:
    """Commit `step` and settle the reservation `of` with what was charged; "granted", "taken" or "lost"."""
    given = {**_fields(step, subtask), "of": of, "nano": nano, "tokens": tokens}
    return await _verdict(connection, _SETTLE, given)


async def spent(connection: Connection, run: str) -> dict[str, Spent]:
    """What has become of every scope of a run."""
    query = "SELECT scope, nano, tokens, open_nano, open_tokens FROM electrictown.spent WHERE run = %s"
    rows = await (await connection.execute(query, (run,))).fetchall()
    found = cast("list[tuple[str, int, int, int, int]]", rows)
    return {scope: Spent(*sums) for scope, *sums in found}


def _fields(step: Step, subtask: str) -> dict[str, object]:
    return {
        "run": step.run,
        "subtask": subtask,
        "epoch": step.epoch,
        "key": step.key,
        "kind": step.kind,
        "at": step.at,
        "value": step.value.decode(),
    }


async def _verdict(
    connection: Connection, query: str, given: dict[str, object]
) -> tuple[str, int | None, str | None]:
    row = await (await connection.execute(query.encode(), given)).fetchone()
    return cast("tuple[str, int | None, str | None]", row)

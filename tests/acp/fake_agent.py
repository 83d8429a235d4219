"""An agent that does what it is told: its prompts are scripts. Plain Python, a program of its own.

A prompt is a JSON list of steps, each a list of a word and what belongs to it (`_Agent` has them all). What
the client answers to a request becomes text of the reply. The first argument is a JSON object of habits.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, NoReturn

HABITS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}


class _Agent:
    def __init__(self) -> None:
        self.session = ""
        self.prompt: Any = None
        self.end: dict[str, Any] = {"stopReason": "end_turn"}
        self.after: list[list[Any]] = []
        self.number = 0
        self.cancelled = False
        self.before: deque[dict[str, Any]] = deque()

    # --- the wire

    def send(self, **message: object) -> None:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()

    def receive(self) -> dict[str, Any]:
        line = sys.stdin.readline()
        if not line:
            while HABITS.get("ignores_eof"):
                time.sleep(1)
            sys.exit(HABITS.get("exit", 0))
        return json.loads(line)

    def serve(self) -> NoReturn:
        while True:
            message = self.before.popleft() if self.before else self.receive()
            method, number = message.get("method", ""), message.get("id")
            if method == "session/cancel":
                continue
            answer = getattr(self, "on_" + method.replace("/", "_"), None)
            if answer is None:
                self.send(id=number, error={"code": -32601, "message": f"Method not found: {method}"})
                continue
            try:
                result = answer(message.get("params") or {}, number)
            except Refusal as refusal:
                self.send(id=number, error=refusal.error)
                continue
            self.send(id=number, result=result)
            steps, self.after = self.after, []
            for word, *given in steps:
                getattr(self, word)(*given)

    # --- what a client asks

    def on_initialize(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        self.client = params
        if "silent" in HABITS:
            time.sleep(3600)
        if "says" in HABITS:
            print(HABITS["says"], flush=True)
        return {
            "protocolVersion": HABITS.get("version", 1),
            "agentCapabilities": HABITS.get("can", {"loadSession": True}),
            "authMethods": [{"id": "key", "name": "A key", "description": None}],
        }

    def on_session_new(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        if "login" in HABITS:
            raise Refusal(-32000, "Authentication required")
        self.session = f"s-{os.getpid()}"
        return {"sessionId": self.session, **HABITS.get("opened", {})}

    def on_session_load(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        if "login" in HABITS:
            raise Refusal(-32000, "Authentication required")
        if "forgetful" in HABITS:
            raise Refusal(-32603, "Internal error", {"details": "No previous sessions found"})
        self.session = params["sessionId"]
        self.say("what was said long ago")
        return HABITS.get("opened", {})

    def on_session_set_mode(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        self.mode = params["modeId"]
        return {}

    def on_session_set_model(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        if params["modelId"] == "nothing":
            raise Refusal(-32602, "no such model")
        self.model = params["modelId"]
        return {}

    def on_session_set_config_option(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        self.model = params["value"]
        return {"configOptions": []}

    def on_session_prompt(self, params: dict[str, Any], number: object) -> dict[str, Any]:
        self.end = {"stopReason": "end_turn"}
        self.cancelled = False
        for word, *given in json.loads(params["prompt"][0]["text"]):
            getattr(self, word)(*given)
        return {"stopReason": "cancelled"} if self.cancelled else self.end

    # --- steps

    def update(self, update: dict[str, Any], session: str = "") -> None:
        self.send(method="session/update", params={"sessionId": session or self.session, "update": update})

    def say(self, text: str, **more: object) -> None:
        self.update(
            {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}, **more}
        )

    def request(self, method: str, params: dict[str, Any]) -> None:
        """Ask the client, and say what it answered."""
        self.say(json.dumps(self.asked(method, params)))

    def asked(self, method: str, params: dict[str, Any]) -> object:
        self.number += 1
        self.send(id=self.number, method=method, params={"sessionId": self.session, **params})
        while True:
            message = self.receive()
            if message.get("method") == "session/cancel":
                self.cancelled = True
            elif message.get("id") == self.number and "method" not in message:
                return message.get("result", message.get("error"))
            else:
                self.before.append(message)

    def replay(self, messages: list[dict[str, Any]], path: str) -> None:
        """Send what another agent has sent, and write to `path` what it is answered."""
        answers: list[object] = []
        for message in messages:
            if message["method"] == "session/update":
                self.update(message["params"]["update"])
            else:
                answers.append(self.asked(message["method"], message["params"]))
        Path(path).write_text(json.dumps(answers))

    def permission(self, call: dict[str, Any], *kinds: str) -> None:
        options = [{"optionId": f"o-{kind}", "name": kind, "kind": kind} for kind in kinds or KINDS]
        self.request("session/request_permission", {"toolCall": call, "options": options})

    def write(self, path: str, text: str) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(text)

    def write_bytes(self, path: str, text: str) -> None:
        Path(path).write_bytes(text.encode("latin-1"))

    def link(self, path: str, target: str) -> None:
        Path(path).symlink_to(target)

    def delete(self, path: str) -> None:
        Path(path).unlink()

    def child(self, path: str, *, daemon: bool = False) -> None:
        """Start something that ends only when it is killed, and have it write its pid to `path`."""
        if os.fork() == 0:
            os.setsid()
            if daemon and os.fork():
                os._exit(0)
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            Path(path).write_text(str(os.getpid()))
            while True:
                time.sleep(60)
        while not Path(path).exists() or not Path(path).read_text():
            time.sleep(0.005)

    def daemon(self, path: str) -> None:
        self.child(path, daemon=True)

    def pid(self) -> None:
        self.say(str(os.getpid()))

    def environ(self) -> None:
        self.say(json.dumps(dict(os.environ)))

    def met(self) -> None:
        self.say(
            json.dumps({"client": self.client, **{n: getattr(self, n, None) for n in ("mode", "model")}})
        )

    def print(self, text: str) -> None:
        print(text, flush=True)

    def complain(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def huge(self, size: int) -> None:
        sys.stdout.write("x" * size)
        sys.stdout.flush()

    def die(self, code: int) -> None:
        os._exit(code)

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hang(self) -> None:
        while True:
            message = self.receive()
            if message.get("method") == "session/cancel":
                self.cancelled = True
                return

    def deaf(self) -> None:
        while True:
            time.sleep(60)

    def stop(self, reason: str, **more: object) -> None:
        self.end = {"stopReason": reason, **more}

    def ends(self, end: dict[str, Any]) -> None:
        self.end = end

    def refuse(self, code: int, message: str, data: object = None) -> None:
        raise Refusal(code, message, data)

    def later(self, *steps: list[Any]) -> None:
        """Take these steps after the end."""
        self.after += steps


class Refusal(Exception):
    def __init__(self, code: int, message: str, data: object = None) -> None:
        self.error = {"code": code, "message": message, **({} if data is None else {"data": data})}


KINDS = ("allow_always", "allow_once", "reject_once")

if __name__ == "__main__":
    if HABITS.get("ignores_term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "pid" in HABITS:
        Path(HABITS["pid"]).write_text(str(os.getpid()))
    _Agent().serve()

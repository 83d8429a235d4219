#!/usr/bin/env python3
"""An agent without a model, to see how agents work here: it writes down what it was asked, in its folder.

It speaks the Agent Client Protocol (https://agentclientprotocol.com): JSON-RPC, one message a line.
"""

import json
import sys
from pathlib import Path
from typing import Any

SESSION = "only"


def tell(**message: object) -> None:
    """Send one message."""
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def say(text: str) -> None:
    """Send a piece of the answer."""
    content = {"type": "text", "text": text}
    update = {"sessionUpdate": "agent_message_chunk", "content": content}
    tell(method="session/update", params={"sessionId": SESSION, "update": update})


def work(folder: Path, prompt: str) -> None:
    """Do what `prompt` asks, in `folder`."""
    found = sorted(path.name for path in folder.iterdir())
    (folder / "asked.md").write_text(f"# What I was asked\n\n{prompt}\n")
    say("I wrote it down in asked.md. ")
    say(f"I found {', '.join(found) or 'no files'} there.")


def main() -> None:
    """Answer whoever started this, until they have nothing more to ask."""
    folder = Path()
    for line in sys.stdin:
        message: dict[str, Any] = json.loads(line)
        params: dict[str, Any] = message.get("params", {})
        result: dict[str, Any] = {}
        match message.get("method"):
            case "initialize":
                result = {"protocolVersion": 1, "agentCapabilities": {}, "authMethods": []}
            case "session/new":
                folder, result = Path(params["cwd"]), {"sessionId": SESSION}
            case "session/prompt":
                work(folder, "\n".join(block.get("text", "") for block in params["prompt"]))
                result = {"stopReason": "end_turn"}
            case _:
                pass
        if "id" in message:
            tell(id=message["id"], result=result)


if __name__ == "__main__":
    main()

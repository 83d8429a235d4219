"""Another program follows a run: `et run --jsonl` prints an event a line.

python examples/watch_events.py "write a word counter" [electrictown.yaml]
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

REHEARSAL = Path(__file__).parent / "rehearsal" / "electrictown.yaml"


def main(task: str, path: str | Path = REHEARSAL) -> int:
    """Run `et` and tell of its events; the exit code is et's own."""
    command = ["et", "run", "--jsonl", "--config", str(path), "--", task]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:  # noqa: S603  (no shell)
        for line in run.stdout or ():
            event = json.loads(line)
            match event["type"]:
                case "subtask.started":
                    print(f"{event['subtask']} on {event['gen_ai.provider.name']}")
                case "hop":
                    print(f"{event['failed']} failed, {event['took_over']} takes over")
                case "run.ended":
                    report = event["report"]
                    print(f"{report['outcome']}: {len(report['results'])} results")
                case _:
                    pass
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

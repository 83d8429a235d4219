"""Writes what it was given to the file named first, and stays."""

import json
import os
import sys
import time

with open(sys.argv[1] + ".tmp", "w") as file:  # noqa: PTH123  (every import counts here)
    json.dump({"arguments": sys.argv[2:], "folder": os.getcwd(), "pid": os.getpid()}, file)  # noqa: PTH109
os.rename(sys.argv[1] + ".tmp", sys.argv[1])  # noqa: PTH104
time.sleep(1000)

"""What electrictown costs between a program and a model, measured on this machine: `python -m bench`."""

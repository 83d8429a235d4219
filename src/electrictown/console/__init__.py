"""Renderers of events: rich, plain, jsonl. They see events and work, nothing else."""

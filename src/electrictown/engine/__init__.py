"""The run: the pipeline, the schedule."""

"""What a run has done, kept so that nothing is done or paid for twice: `journal.py` is the contract."""

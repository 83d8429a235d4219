"""What a run may spend, and how much of it is gone: `purse.py` stands before every request."""

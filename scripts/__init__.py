"""What the Makefile calls: setting up, and releases."""

"""Sessions: agents that go on working, with an inbox for words and a terminal as a window onto them."""

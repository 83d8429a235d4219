"""What runs in a session's pane: the conversation with its town, journal, inbox and screen."""

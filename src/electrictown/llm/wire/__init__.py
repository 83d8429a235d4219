"""The pure translation between our messages and the vendors' HTTP bodies. No I/O happens here."""

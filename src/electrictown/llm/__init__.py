"""The model side: messages, wires, transport, router, prices."""

"""The buses: one protocol, what each can do declared in its capabilities."""

"""From a message to a bus: sending, the outbox, its relay, and what wakes them."""

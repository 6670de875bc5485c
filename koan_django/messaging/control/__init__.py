"""Which handlers there are, what they did, and who may work now."""

"""What stands on the brokers of the buses, what should, and how the one becomes the other."""

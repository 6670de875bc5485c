"""What is counted, and what is shown of it."""

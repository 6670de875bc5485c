"""What each app would change in a project that exists. Files are read, changed in memory, and never written."""

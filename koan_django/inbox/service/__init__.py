"""The inbox over HTTP, version 1: for what is not a Django project, and for projects that share no database."""

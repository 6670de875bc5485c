"""The inbox over HTTP alone: a service for other projects, with Redis behind it and no database."""

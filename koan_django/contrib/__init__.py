"""Bridges to packages that a project may have. Each stands alone, and nothing else imports it."""

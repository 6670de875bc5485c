"""Apps of a user: each uses one app of koan-django for its main purpose."""

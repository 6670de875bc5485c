"""What is made of every photograph."""

from koan_django.media import recipe

thumbnail = recipe("thumbnail", version=1).orient().resize(320, 240, fit="cover").encode("webp", quality=80)
card = recipe("card", version=1).orient().resize(720, 540, fit="cover").encode("webp", quality=80)
web = recipe("web", version=1).orient().resize(1600, 1600, fit="inside").encode("webp", quality=82)
#: As the camera stored it, not turned: asked for by the page of a photograph when somebody opens it.
before = recipe("before", version=1).resize(640, 640, fit="inside").encode("webp", quality=75)

#: Rendered for every photograph before it is published.
PUBLISHED = ("thumbnail", "card", "web")

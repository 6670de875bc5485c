from __future__ import annotations

from koan_django.media import recipe

thumbnail = recipe("thumbnail", version=1).orient().resize(64, 48, fit="cover").encode("webp")
card = recipe("card", version=1).orient().resize(160, 120, fit="cover").encode("webp")
web = recipe("web", version=1).orient().resize(320, 320).encode("webp")
too_fine = recipe("too-fine").encode("jpeg", quality=95)

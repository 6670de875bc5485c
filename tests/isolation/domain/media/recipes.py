from koan_django.media import recipe

thumbnail = recipe("thumbnail", version=1).orient().resize(32, 24, fit="cover").encode("webp")

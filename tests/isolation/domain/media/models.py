from koan_django.media import MediaAsset


class Photo(MediaAsset):
    class Storage:
        container = "photos"

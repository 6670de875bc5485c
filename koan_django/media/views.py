"""The delivery views. The access check comes first: who may not see a picture does not learn whether there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.views import View

from .addresses import VERSION_LENGTH
from .assets import MediaAsset
from .conf import options
from .delivery import deliver
from .exceptions import RecipeNotFoundError

if TYPE_CHECKING:
    from uuid import UUID

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

YEAR_SECONDS = 31_536_000
#: What a client is told to wait, in seconds, for a variant that is being rendered.
RETRY_AFTER = 2


class MediaView(View):
    """Serves the pictures of ``model``, or of the model that the address names, to whom :meth:`has_permission` lets.

    ``path("photos/<uuid:public_id>/<str:version>/<str:name>", MediaView.as_view(model=Photo, public=True))``
    """

    http_method_names = ["get", "head", "options"]
    model: type[MediaAsset] | None = None
    #: Everybody may see everything, and caches between here and there may keep it.
    public = False

    def has_permission(self, request: HttpRequest, model: type[MediaAsset]) -> bool:
        """Whether ``request`` may see pictures of ``model``; asked before one is looked up.

        Staff who may view the model, unless the view is public. Override it for anything else.
        """
        if self.public:
            return True
        user = getattr(request, "user", None)  # a project may do without accounts
        return user is not None and user.is_active and user.is_staff and user.has_perm(_view_permission(model))

    def find(self, model: type[MediaAsset], public_id: UUID) -> MediaAsset:
        """Return the picture; raises ``Http404``."""
        found = model._default_manager.filter(public_id=public_id).first()
        if found is None or not found.key:
            raise Http404
        return found

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponseBase:
        """Serve the picture, for GET and HEAD."""
        model = self._model(kwargs.get("label", ""))
        if model is None or not self.has_permission(request, model):
            raise PermissionDenied
        return self.serve(request, self.find(model, kwargs["public_id"]), **kwargs)

    head = get

    def serve(self, request: HttpRequest, asset: MediaAsset, **kwargs: Any) -> HttpResponseBase:
        """Answer with ``asset``."""
        current = kwargs.get("version") == asset.sha256[:VERSION_LENGTH]
        return deliver(request, asset, cache_control=self.cache_control(immutable=current))

    def cache_control(self, *, immutable: bool) -> str:
        """Return how long an answer may be kept: for good under an address that changes with the content."""
        scope = "public" if self.public else "private"
        if immutable:
            return f"{scope}, max-age={YEAR_SECONDS}, immutable"
        return f"{scope}, max-age={int(options().cache.total_seconds())}"

    def _model(self, label: str) -> type[MediaAsset] | None:
        if self.model is not None:
            return self.model
        try:
            found = apps.get_model(label)
        except (LookupError, ValueError):
            return None
        return found if issubclass(found, MediaAsset) else None


class VariantView(MediaView):
    """Serves the variant that the address names by its recipe, and has it rendered when it is not there yet."""

    def find(self, model: type[MediaAsset], public_id: UUID) -> MediaAsset:
        """Return the original: variants of variants without end are not for whoever can send a request."""
        found = super().find(model, public_id)
        if found.derivation_key is not None:
            raise Http404
        return found

    def serve(self, request: HttpRequest, asset: MediaAsset, **kwargs: Any) -> HttpResponseBase:
        """Answer with the variant of ``asset``, or with 202 while it is being rendered."""
        try:
            variant = asset.ensure_derivation(kwargs["recipe"])
        except RecipeNotFoundError as error:
            raise Http404(str(error)) from error
        if variant is not None:
            current = kwargs.get("version") == str(variant.derivation_key)[:VERSION_LENGTH]
            return deliver(request, variant, cache_control=self.cache_control(immutable=current))
        if asset.derivations().filter(recipe=kwargs["recipe"], state="failed").exists():
            raise Http404
        return HttpResponse(status=202, headers={"Retry-After": str(RETRY_AFTER), "Cache-Control": "no-store"})


def _view_permission(model: type[MediaAsset]) -> str:
    return f"{model._meta.app_label}.view_{model._meta.model_name}"

"""Tasks of Django, which no worker runs here."""

from django.tasks import task


@task
def pack(order: int, *, box: str = "small") -> str:
    return f"{order} {box}"


@task(takes_context=True)
async def ship(context: object, order: int) -> None: ...


def no_task() -> None: ...

from koan_django.scheduling import Every, scheduled

RAN: list[str] = []


@scheduled(Every(hours=1), name="domain.hourly")
def hourly() -> None:
    RAN.append("hourly")

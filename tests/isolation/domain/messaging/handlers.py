from domain.messaging.messages import OrderPaid
from koan_django.messaging import handler


@handler(OrderPaid, group="shipping", name="domain.ship")
def ship(message: OrderPaid) -> None:
    assert message.order_id == 7

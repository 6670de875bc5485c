from koan_django.messaging import Message


class OrderPaid(Message):
    order_id: int

    class Meta:
        alias = "order.paid"

"""What a CRM's own tests do, with the gateway's objects in the test database."""
from django.db import connection, transaction
from django.test import TestCase, TransactionTestCase

from .models import Employee, Notification


def captured():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM notification_gateway.log")
        return cursor.fetchone()[0]


def notify(employee, title="a title"):
    return Notification.objects.create(user=employee, notification_type="x", title=title, message="m")


class InOneTransaction(TestCase):
    @classmethod
    def setUpTestData(cls):
        cls.alice = Employee.objects.create(first_name="Alice", last_name="Archer", email="alice@example.com")

    def test_create(self):
        before = captured()
        notify(self.alice)
        self.assertEqual(captured(), before + 1)

    def test_rolled_back(self):
        before = captured()
        with self.assertRaises(RuntimeError), transaction.atomic():
            notify(self.alice)
            raise RuntimeError
        self.assertEqual(captured(), before)
        self.assertEqual(Notification.objects.count(), 0)

    def test_bulk(self):
        before = captured()
        Notification.objects.bulk_create(Notification(user=self.alice, notification_type="x", title=str(n), message="m") for n in range(500))
        self.assertEqual(captured(), before + 500)


class WithTruncate(TransactionTestCase):
    """Each of these ends with TRUNCATE of the CRM's tables."""

    def check(self):
        self.assertEqual(Notification.objects.count(), 0)
        alice = Employee.objects.create(first_name="Alice", last_name="Archer", email="alice@example.com")
        before = captured()
        with transaction.atomic():
            notify(alice)
        Notification.objects.update(is_read=True)
        Notification.objects.all().delete()
        self.assertGreater(captured(), before)

    def test_first(self):
        self.check()

    def test_second(self):
        self.check()

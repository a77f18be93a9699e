"""The CRM. Django keeps defaults to itself: its columns have none in the database."""
from django.db import models


class Employee(models.Model):
    """Whom notifications are for. A login (auth_user) belongs to the employee with its email address."""

    first_name = models.CharField(max_length=100)
    last_name = models.CharField(max_length=100)
    email = models.EmailField(unique=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        db_table = "employees"


class Lead(models.Model):
    title = models.CharField(max_length=200, default="")
    first_name = models.CharField(max_length=100, default="")
    last_name = models.CharField(max_length=100, default="")
    company_name = models.CharField(max_length=200, default="")
    email_address = models.EmailField(default="")
    contact_number = models.CharField(max_length=50, default="")
    status = models.CharField(max_length=50, default="new")
    lead_type = models.CharField(max_length=50, default="inbound")
    assigned_sales_staff = models.ForeignKey(Employee, null=True, on_delete=models.SET_NULL)
    is_deleted = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "leads"


class Task(models.Model):
    title = models.CharField(max_length=200)
    description = models.TextField(null=True)
    assigned_to = models.ForeignKey(Employee, null=True, on_delete=models.SET_NULL)
    priority = models.CharField(max_length=20, default="medium")
    status = models.CharField(max_length=20, default="to_do")
    due_date = models.DateField(null=True)
    due_time = models.TimeField(null=True)
    is_deleted = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "tasks"


class TaskReminder(models.Model):
    task = models.ForeignKey(Task, on_delete=models.CASCADE)
    remind_at = models.DateTimeField()
    is_sent = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "task_reminders"


class Notification(models.Model):
    user = models.ForeignKey(Employee, on_delete=models.CASCADE)
    notification_type = models.CharField(max_length=50)
    title = models.CharField(max_length=255)
    message = models.TextField()
    lead = models.ForeignKey(Lead, null=True, on_delete=models.SET_NULL)
    task = models.ForeignKey(Task, null=True, on_delete=models.SET_NULL)
    reminder = models.ForeignKey(TaskReminder, null=True, on_delete=models.SET_NULL)
    metadata = models.JSONField(default=dict)
    is_read = models.BooleanField(default=False)
    read_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "notifications"

"""The CRM's API. It knows nothing of the gateway, which has paths of its own beside it."""
from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET
from rest_framework import serializers
from rest_framework.decorators import api_view
from rest_framework.generics import ListAPIView
from rest_framework.response import Response

from .models import Notification


class NotificationSerializer(serializers.ModelSerializer):
    user = serializers.IntegerField(source="user_id")

    class Meta:
        model = Notification
        fields = ["id", "user", "notification_type", "title", "message", "lead_id", "task_id", "reminder_id", "metadata", "is_read", "read_at", "created_at", "updated_at"]


def mine(request):
    return Notification.objects.filter(user__email=request.user.email, user__is_active=True)


class NotificationList(ListAPIView):
    """GET /api/notifications/: the newest hundred of the user who asks."""

    serializer_class = NotificationSerializer

    def get_queryset(self):
        return mine(self.request).order_by("-created_at", "-id")[:100]


@api_view(["POST"])
def mark_read(request, pk):
    now = timezone.now()
    marked = mine(request).filter(pk=pk, is_read=False).update(is_read=True, read_at=now, updated_at=now)
    return Response({"marked": marked})


@api_view(["POST"])
def mark_all_read(request):
    now = timezone.now()
    marked = mine(request).filter(is_read=False).update(is_read=True, read_at=now, updated_at=now)
    return Response({"marked": marked})


@api_view(["GET"])
def me(request):
    """Whom a request's session or token names: what the gateway asks with GATEWAY_AUTH_URL."""
    return Response({"id": request.user.pk})


@require_GET
def page(request):
    response = render(request, "page.html")
    response["Content-Security-Policy"] = "default-src 'self'"
    return response


@require_GET
def script(request):
    return HttpResponse(render(request, "page.js").content, content_type="text/javascript; charset=utf-8")

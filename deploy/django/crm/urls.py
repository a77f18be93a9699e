from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from rest_framework_simplejwt.views import TokenObtainPairView, TokenRefreshView

from . import views

urlpatterns = [
    path("", views.page),
    path("page.js", views.script),
    path("login/", LoginView.as_view(template_name="login.html")),
    path("logout/", LogoutView.as_view(next_page="/login/")),
    path("api/token/", TokenObtainPairView.as_view()),
    path("api/token/refresh/", TokenRefreshView.as_view()),
    path("api/me/", views.me),
    path("api/notifications/", views.NotificationList.as_view()),
    path("api/notifications/read/", views.mark_all_read),
    path("api/notifications/<int:pk>/read/", views.mark_read),
]

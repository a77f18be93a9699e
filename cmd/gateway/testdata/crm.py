"""A CRM with Django's own sessions, Django REST framework's tokens and SimpleJWT's. It prints its port, and serves until its input ends.

/login/?user=5 signs in, /logout/ signs out. /token/?user=5 gives a token of DRF's, /jwt/?user=5 an access and a refresh token of
SimpleJWT's. /me/ is for sessions: login_required answers 302 to somebody signed out. /drf/me/ takes sessions and DRF's tokens, and
answers 401. /asked/?from=3 says how often either was asked, once it was three times."""
import os, socketserver, sys, tempfile, threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import django
from django.conf import settings

directory = tempfile.TemporaryDirectory()
settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.path.join(directory.name, "crm.db")}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions", "rest_framework", "rest_framework.authtoken"],
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware", "django.contrib.auth.middleware.AuthenticationMiddleware"],
    ROOT_URLCONF=__name__, SECRET_KEY="of this test alone", ALLOWED_HOSTS=["crm.example.com"], LOGIN_URL="/login/", USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField", SIMPLE_JWT={"SIGNING_KEY": os.environ["GATEWAY_JWT_SECRET"]},
)
django.setup()

from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.management import call_command
from django.http import HttpResponse, JsonResponse
from django.urls import path
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.authtoken.models import Token
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.tokens import RefreshToken

asked = 0
changed = threading.Condition()


def count():
    global asked
    with changed:
        asked += 1
        changed.notify_all()


def how_often(request):
    with changed:
        changed.wait_for(lambda: asked >= int(request.GET.get("from", "0")))
        return HttpResponse(str(asked))


def sign_in(request):
    login(request, User.objects.get(pk=request.GET["user"]), backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("in")


def sign_out(request):
    logout(request)
    return HttpResponse("out")


def token(request):
    return HttpResponse(Token.objects.get_or_create(user_id=request.GET["user"])[0].key)


def jwt(request):
    refresh = RefreshToken.for_user(User.objects.get(pk=request.GET["user"]))
    return HttpResponse(f"{refresh.access_token} {refresh}")


@login_required
def named(request):
    return JsonResponse({"id": request.user.pk, "username": request.user.username})


def me(request):
    count()
    return named(request)


class Me(APIView):
    authentication_classes = [TokenAuthentication, SessionAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return Response({"user": {"pk": request.user.pk}})


def drf(request):
    count()
    return Me.as_view()(request)


urlpatterns = [
    path("login/", sign_in), path("logout/", sign_out), path("token/", token), path("jwt/", jwt), path("me/", me), path("drf/me/", drf),
    path("asked/", how_often),
]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Handler(WSGIRequestHandler):
    def log_message(self, *_):
        pass


call_command("migrate", verbosity=0)
for pk in (5, 7):
    User.objects.create_user(str(pk), id=pk)
from django.core.handlers.wsgi import WSGIHandler

server = make_server("127.0.0.1", 0, WSGIHandler(), Server, Handler)
print(server.server_port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
directory.cleanup()

# Runs the Python client as it stands: only the base URL, the token and the
# called function come from outside.
import json
import sys

import requests

client, base, token = sys.argv[1:]
get = requests.get
requests.get = lambda url, **options: get(url.replace("http://localhost:8000", base), **options)


def handle_notification(data):
    print(json.dumps(data), flush=True)


exec(compile(open(client).read(), client, "exec"))
stream_notifications(token)

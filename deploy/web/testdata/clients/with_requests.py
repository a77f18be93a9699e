# requests: resumes by hand. chunk_size=1 reads what there is; with None or a
# larger one iter_lines waits for more.
import json
import sys
import time

import requests

url, token = sys.argv[1:]
headers = {"Authorization": "Bearer " + token}
while True:
    try:
        with requests.get(url, headers=headers, stream=True, timeout=(10, 75)) as answer:
            answer.raise_for_status()
            answer.encoding = "utf-8"
            event, data = "message", []
            for line in answer.iter_lines(chunk_size=1, decode_unicode=True):
                name, _, value = line.partition(": ")
                if name == "event":
                    event = value
                elif name == "data":
                    data.append(value)
                elif name == "id":
                    headers["Last-Event-ID"] = value
                elif line == "":
                    if event == "connected":
                        print("connected", flush=True)
                    if event == "notification":
                        print("notification", json.loads("\n".join(data))["id"], flush=True)
                    event, data = "message", []
    except requests.RequestException as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise
    time.sleep(1)

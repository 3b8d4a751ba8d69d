"""The document is one, and what the page loads comes from the server alone."""

import os
import re

from urllib.parse import urljoin

import requests

base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
token = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}


def get(url, headers=token):
    return requests.get(url, headers=headers, timeout=180)


def loaded(url):
    answer = get(url)
    answer.raise_for_status()
    return answer


document = loaded(f"{base}/openapi.json").json()
assert document["openapi"].startswith("3.1"), document["openapi"]
for path in ["/v1/chat/completions", "/v1/batches/{id}/events", "/v1/nodes", "/health"]:
    assert path in document["paths"], path

page = loaded(f"{base}/docs")
assert page.headers["content-type"].startswith("text/html")
names = re.findall(r'(?:src|href)="([^"]+)"', page.text)
assert names
for name in names:
    assert not re.match(r"(https?:)?//", name), name
    loaded(urljoin(page.url, name))
started = loaded(urljoin(page.url, "swagger-initializer.js")).text
assert "/openapi.json" in started and "petstore" not in started, started

for closed in ["/openapi.json", "/docs/", "/v1/models", "/v1/files", "/v1/batches", "/v1/chat/completions"]:
    assert get(base + closed, headers={}).status_code == 401, closed

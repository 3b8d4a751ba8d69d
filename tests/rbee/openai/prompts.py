"""Several prompts in one request for completions; the figures of the server's own node; a schedule in one body of JSON."""

import os

import openai
import requests

client = openai.OpenAI(max_retries=0, timeout=180)
prompts = ["one", "two", "three"]
asked = {"model": "m", "max_tokens": 8, "temperature": 0, "n": 2}

answer = client.completions.create(prompt=prompts, **asked)
assert [choice.index for choice in answer.choices] == list(range(6))
alone = [client.completions.create(prompt=prompt, **asked) for prompt in prompts]
texts = [choice.text for one in alone for choice in one.choices]
assert [choice.text for choice in answer.choices] == texts
for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
    assert getattr(answer.usage, count) == sum(getattr(one.usage, count) for one in alone)

streamed = [""] * 6
reasons = {}
last = None
for last in client.completions.create(prompt=prompts, stream=True, stream_options={"include_usage": True}, **asked):
    for choice in last.choices:
        streamed[choice.index] += choice.text
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
assert streamed == texts and sorted(reasons) == list(range(6))
assert last.usage.total_tokens == answer.usage.total_tokens

for wrong in (["a"] * 129, ["a", 1], [[1], [2]], []):
    try:
        client.completions.create(prompt=wrong, **asked)
    except openai.BadRequestError as error:
        assert error.param == "prompt", error
    else:
        raise AssertionError(f"{wrong} was taken")

base = os.environ["OPENAI_BASE_URL"].removesuffix("/v1")
session = requests.Session()
session.headers["Authorization"] = f"Bearer {os.environ['OPENAI_API_KEY']}"
metrics = session.get(f"{base}/metrics", timeout=180).text
figures = {}
for line in metrics.splitlines():
    if line and not line.startswith("#"):
        name, value = line.rsplit(" ", 1)
        figures[name] = float(value)
assert figures["rbee_node_time_to_first_token_seconds_count"] >= 9, metrics
assert figures["rbee_node_time_per_token_seconds_count"] > 0, metrics
assert figures["rbee_node_jobs_succeeded_total"] >= 9, metrics
assert figures['rbee_http_responses_total{status="2xx"}'] > 0, metrics

schedule = {
    "name": "hourly",
    "cron": "@hourly",
    "tz": "Europe/Berlin",
    "source": {"kind": "kept", "name": "two lines", "lines": [{"prompt": "a"}, {"prompt": "b", "max_tokens": 3}]},
    "model": "m",
}
made = session.post(f"{base}/v1/schedules", json=schedule, timeout=180)
assert made.status_code == 201, made.text
assert made.json()["schedule"]["tz"] == "Europe/Berlin"
run = session.post(f"{base}/v1/schedules/hourly/run", timeout=180)
assert run.ok, run.text
for change, status in (
    ({"colour": 1}, 400),
    ({"cron": "@never"}, 400),
    ({"tz": "Mars/Base"}, 400),
    ({"source": {"kind": "kept", "name": "a", "lines": [{"prompt": 5}]}}, 400),
    ({"source": {"kind": "kept", "name": "a", "lines": []}}, 400),
    ({"source": {"kind": "files", "pattern": "/etc/passwd"}}, 403),
    ({"command": "none"}, 404),
    ({}, 409),
):
    refused = session.post(f"{base}/v1/schedules", json={**schedule, **change}, timeout=180)
    assert refused.status_code == status, (change, refused.text)

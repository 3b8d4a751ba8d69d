"""A queue that is full."""

import json
import time

import openai
from openai import OpenAI

PATIENCE_S = 120

client = OpenAI(max_retries=0)


def make(jobs):
    line = {"method": "POST", "url": "/v1/chat/completions"}
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 10_000, "ignore_eos": True}
    lines = [line | {"custom_id": str(n), "body": body} for n in range(jobs)]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=text, purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


def full(call):
    try:
        call()
    except openai.RateLimitError as error:
        assert error.code == "queue_full", error
        assert int(error.response.headers["Retry-After"]) > 0
    else:
        raise AssertionError("more jobs than there is room for were taken")


def until(batch, status):
    deadline = time.monotonic() + PATIENCE_S
    while (now := client.batches.retrieve(batch.id)).status != status:
        assert time.monotonic() < deadline, now
        assert now.status == "validating" and now.request_counts.total == 0, now
    return now


def until_full():
    """The server counts its jobs now and then; this asks for a batch that cannot be made until it has."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            client.batches.create(
                input_file_id="file_none", endpoint="/v1/chat/completions", completion_window="24h"
            )
        except openai.RateLimitError:
            return
        except openai.NotFoundError:
            assert time.monotonic() < deadline


batch = until(make(15), "in_progress")
# How many jobs a file has is seen when it is read: these wait for room, and one that never has room is refused.
patient, unlucky = make(15), make(15)
refused = until(make(21), "failed")
assert refused.errors.data[0].code == "too_many_jobs", refused
until(make(5), "in_progress")
until_full()
full(lambda: make(1))
full(lambda: client.chat.completions.create(model="smollm2-135m", messages=[{"role": "user", "content": "x"}]))
# What reads goes on, and what makes room does too.
assert client.batches.retrieve(batch.id).request_counts.total == 15
assert client.batches.retrieve(patient.id).status == "validating"
cancelled = client.batches.cancel(unlucky.id)
assert cancelled.status == "cancelled" and cancelled.cancelled_at >= cancelled.cancelling_at, cancelled
assert cancelled.request_counts.total == 0 and cancelled.errors is None and cancelled.error_file_id is None
client.batches.cancel(batch.id)
assert until(patient, "in_progress").request_counts.total == 15

"""A queue that is full."""

import json

import openai
from openai import OpenAI

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


batch = make(15)
full(lambda: make(15))
make(5)
full(lambda: make(1))
full(lambda: client.chat.completions.create(model="smollm2-135m", messages=[{"role": "user", "content": "x"}]))
try:
    make(21)
except openai.RateLimitError:
    pass
else:
    raise AssertionError("a batch that never has room was taken")
# What reads goes on, and what makes room does too.
assert client.batches.retrieve(batch.id).request_counts.total == 15
client.batches.cancel(batch.id)

"""A client that goes away in the middle of an answer."""

import sys

from openai import OpenAI

client = OpenAI(max_retries=0)
asked = {
    "model": "smollm2-135m",
    "messages": [{"role": "user", "content": "Never stop."}],
    "max_tokens": 10_000,
    "extra_body": {"ignore_eos": True},
}
if sys.argv[1] == "stream":
    stream = client.chat.completions.create(stream=True, **asked)
    next(iter(stream))
    stream.close()
else:
    client.chat.completions.create(**asked)

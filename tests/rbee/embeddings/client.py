"""Embeddings and batches of them through the official client."""

import io
import json
import math
import struct
import sys
import time

import openai

model, reference = sys.argv[1], json.load(open(sys.argv[2], encoding="utf-8"))
client = openai.OpenAI(max_retries=0, timeout=120)
texts = [entry["text"] for entry in reference]


def agree(vector, wanted):
    assert len(vector) == len(wanted), len(vector)
    assert max(abs(a - b) for a, b in zip(vector, wanted)) < 1e-4


def refused(kind, code, **body):
    try:
        client.embeddings.create(model=model, **body)
    except kind as error:
        assert error.code == code, error
    else:
        raise AssertionError(f"{body} was taken")


# The client asks for base64 by itself.
answer = client.embeddings.create(model=model, input=texts)
assert answer.object == "list" and answer.model == model
assert [entry.index for entry in answer.data] == list(range(len(texts)))
for entry, wanted in zip(answer.data, reference):
    assert entry.object == "embedding"
    agree(entry.embedding, wanted["embedding"])
assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(len(entry["tokens"]) for entry in reference)

# What is alike in meaning is near.
near = sum(a * b for a, b in zip(answer.data[0].embedding, answer.data[1].embedding))
far = sum(a * b for a, b in zip(answer.data[0].embedding, answer.data[2].embedding))
assert near > far + 0.3, (near, far)
assert abs(math.hypot(*answer.data[0].embedding) - 1) < 1e-5



def numbers(vector):
    """As 32-bit numbers: in JSON they are the shortest decimals that mean the same."""
    return struct.pack(f"<{len(vector)}f", *vector)


one = client.embeddings.create(model=model, input=texts[0], encoding_format="float", dimensions=384, user="u")
assert numbers(one.data[0].embedding) == numbers(answer.data[0].embedding)
tokens = client.embeddings.create(model=model, input=reference[0]["tokens"], encoding_format="float")
assert numbers(tokens.data[0].embedding) == numbers(answer.data[0].embedding)
lists = client.embeddings.create(model=model, input=[entry["tokens"] for entry in reference])
assert [entry.embedding for entry in lists.data] == [entry.embedding for entry in answer.data]

refused(openai.BadRequestError, "invalid_parameter", input="a", dimensions=12)
refused(openai.BadRequestError, "context_length_exceeded", input="word " * 400)
refused(openai.BadRequestError, "invalid_value", input="")
refused(openai.BadRequestError, "invalid_value", input=[])
refused(openai.BadRequestError, "out_of_range", input=["a"] * 2049)
refused(openai.BadRequestError, "invalid_value", input=[5, 40_000])
try:
    client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
except openai.NotFoundError as error:
    assert error.code == "unsupported_endpoint", error
else:
    raise AssertionError("a model of embeddings answered")

lines = "\n".join(
    json.dumps({"custom_id": f"t{at}", "method": "POST", "url": "/v1/embeddings", "body": {"model": model, "input": text}})
    for at, text in enumerate(texts)
)
file = client.files.create(file=("in.jsonl", io.BytesIO(lines.encode())), purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
assert batch.status == "completed" and batch.request_counts.completed == len(texts), batch
results = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
for result, wanted, entry in zip(results, reference, answer.data):
    body = result["response"]["body"]
    agree(body["data"][0]["embedding"], wanted["embedding"])

"""What belongs to one token's owner is not there for another's."""

import json

import openai
from openai import OpenAI

root = OpenAI(max_retries=0)


def client(name, **quota):
    made = root.post("/tokens", cast_to=object, body={"name": name, "role": "submit"} | quota)
    return OpenAI(api_key=made["token"], max_retries=0)


def absent(call):
    try:
        call()
    except openai.NotFoundError as error:
        return error
    raise AssertionError("what is somebody else's was found")


def line(number):
    body = {"messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 3}
    entry = {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(entry) + "\n"


def make(owner, file):
    return owner.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
    )


ann, bob = client("ann"), client("bob", max_queued=5)
file = ann.files.create(file=line(1).encode(), purpose="batch")
batch = make(ann, file)
while batch.status != "completed":
    batch = ann.batches.retrieve(batch.id)
assert ann.files.content(batch.output_file_id).text

absent(lambda: bob.files.retrieve(file.id))
absent(lambda: bob.files.content(file.id))
absent(lambda: bob.files.delete(file.id))
absent(lambda: bob.files.content(batch.output_file_id))
absent(lambda: bob.batches.retrieve(batch.id))
absent(lambda: bob.batches.cancel(batch.id))
absent(lambda: make(bob, file))
assert list(bob.files.list()) == [] and list(bob.batches.list()) == []
assert [one.id for one in root.batches.list()] == [batch.id]

many = bob.files.create(file="".join(line(n) for n in range(6)).encode(), purpose="batch")
refused = make(bob, many)
while refused.status == "validating":
    refused = bob.batches.retrieve(refused.id)
assert refused.status == "failed" and refused.errors.data[0].code == "quota_exceeded", refused

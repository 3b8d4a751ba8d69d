"""Canaries in all that a client says."""

import json

import openai
from openai import OpenAI

client = OpenAI(max_retries=0)
asked = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "canary-prompt"}], "max_tokens": 3}
client.chat.completions.create(**asked)
list(client.chat.completions.create(stream=True, **asked))
for wrong in ({"temperature": 9}, {"messages": [{"role": "canary-prompt" * 20, "content": "canary-prompt"}]}):
    try:
        client.chat.completions.create(**(asked | wrong))
    except openai.BadRequestError:
        pass
line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": asked}
text = json.dumps(line) + "\ncanary-file is no json\n"
file = client.files.create(file=("canary-file", text.encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id,
    endpoint="/v1/chat/completions",
    completion_window="1h",
    metadata={"note": "canary-note"},
)
while batch.status not in ("completed", "failed"):
    batch = client.batches.retrieve(batch.id)
assert batch.status == "completed"
client.files.content(batch.output_file_id)
client.files.content(batch.error_file_id)

"""A batch whose server dies: `make` prints its id, `end ID` waits for its end on the next server."""

import json
import sys
import time

from openai import OpenAI

JOBS = 300
PATIENCE_S = 180

client = OpenAI()
if sys.argv[1] == "make":
    lines = [
        {
            "custom_id": f"line-{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "user", "content": f"Say {n}."}], "max_tokens": 50, "ignore_eos": True},
        }
        for n in range(JOBS)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=text, purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "1"}
    )
    print(batch.id)
else:
    deadline = time.monotonic() + PATIENCE_S
    while (batch := client.batches.retrieve(sys.argv[2])).status != "completed":
        assert time.monotonic() < deadline, batch
    assert batch.request_counts.completed == JOBS and batch.metadata == {"run": "1"}
    output = client.files.content(batch.output_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in output] == [f"line-{n}" for n in range(JOBS)]
    assert client.files.content(batch.input_file_id).read().count(b"\n") == JOBS

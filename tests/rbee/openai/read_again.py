"""A batch whose server dies while it reads the file: `make` prints its id, `end ID` waits for its end on the next server."""

import json
import sys
import time

from openai import OpenAI

JOBS = 30
# What makes a line long enough that a few fill one write into the store.
PADDING = " " * (1 << 20)
PATIENCE_S = 120

client = OpenAI()
if sys.argv[1] == "make":
    body = {"messages": [{"role": "user", "content": "Say something."}], "max_tokens": 20, "seed": 1}
    rest = json.dumps({"method": "POST", "url": "/v1/chat/completions", "body": body})
    lines = (f'{{"custom_id": "line-{n}",{PADDING}{rest[1:]}\n' for n in range(JOBS))
    file = client.files.create(file="".join(lines).encode(), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"run": "1"}
    )
    print(batch.id)
else:
    deadline = time.monotonic() + PATIENCE_S
    while (batch := client.batches.retrieve(sys.argv[2])).status != "completed":
        assert time.monotonic() < deadline, batch
        assert batch.request_counts.total == (0 if batch.status == "validating" else JOBS), batch
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (JOBS, JOBS, 0), batch
    assert batch.metadata == {"run": "1"}
    output = client.files.content(batch.output_file_id).text.splitlines()
    assert [json.loads(line)["custom_id"] for line in output] == [f"line-{n}" for n in range(JOBS)]

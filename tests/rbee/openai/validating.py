"""A file that takes a while to be read: what is seen of its batch, and what becomes of a bad one."""

import json
import time

from openai import OpenAI

JOBS = 60_000
PATIENCE_S = 120

client = OpenAI(max_retries=0)


def line(number):
    body = {"messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 10_000, "ignore_eos": True}
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}


def send(lines):
    text = "".join(json.dumps(entry) + "\n" for entry in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch")


def make(file):
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "ann"}
    )
    assert batch.status == "validating" and batch.metadata == {"who": "ann"}, batch
    assert batch.in_progress_at is None and batch.errors is None and batch.failed_at is None
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (0, 0, 0)
    return batch


def until(batch, status):
    deadline = time.monotonic() + PATIENCE_S
    while (now := client.batches.retrieve(batch.id)).status != status:
        assert time.monotonic() < deadline, now
        assert now.status == "validating" and now.request_counts.total == 0, now
    return now


good = send(line(number) for number in range(JOBS))
batch = make(good)
assert batch.id in [one.id for one in client.batches.list(limit=5)]
running = until(batch, "in_progress")
assert running.request_counts.total == JOBS and running.in_progress_at >= running.created_at == batch.created_at
assert running.expires_at == batch.expires_at and running.metadata == batch.metadata
assert client.batches.cancel(batch.id).status in ("cancelling", "cancelled")

# The last line of a long file has the id of an earlier one.
bad = make(send([*(line(number) for number in range(JOBS)), line(7)]))
failed = until(bad, "failed")
(reason,) = failed.errors.data
assert (reason.code, reason.line, reason.param) == ("duplicate_custom_id", JOBS + 1, "custom_id"), reason
assert failed.failed_at >= failed.created_at and failed.in_progress_at is None
assert failed.request_counts.total == 0 and failed.output_file_id is None and failed.error_file_id is None

# Nobody waits for the rest of a file whose batch is cancelled.
cancelled = client.batches.cancel(make(good).id)
assert cancelled.status in ("cancelling", "cancelled"), cancelled
assert cancelled.request_counts.total in (0, JOBS) and cancelled.cancelling_at

# A file that is gone before it is read cannot be, and one that goes later was.
gone = send(line(number) for number in range(JOBS))
batch = make(gone)
client.files.delete(gone.id)
deadline = time.monotonic() + PATIENCE_S
while (now := client.batches.retrieve(batch.id)).status == "validating":
    assert time.monotonic() < deadline, now
if now.status == "failed":
    assert now.errors.data[0].code == "file_not_found", now
else:
    assert now.request_counts.total == JOBS, now
    client.batches.cancel(batch.id)

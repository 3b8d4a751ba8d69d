"""Batches from their file to their output, through all their states."""

import json
import sys
import time

import openai
from openai import OpenAI

MODEL = "smollm2-135m"
TERMINAL = {"completed", "failed", "expired", "cancelled"}
PATIENCE_S = 180

client = OpenAI(max_retries=0)


def line(number, url="/v1/chat/completions", **body):
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Say {number}."}],
        "max_tokens": 5,
        "temperature": 0,
    } | body
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": body}


def send(lines):
    text = "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines)
    return client.files.create(file=("in.jsonl", text.encode()), purpose="batch")


def make(lines, **changes):
    parameters = {"endpoint": "/v1/chat/completions", "completion_window": "24h"} | changes
    return client.batches.create(input_file_id=send(lines).id, **parameters)


def ended(batch):
    deadline = time.monotonic() + PATIENCE_S
    while batch.status not in TERMINAL:
        assert time.monotonic() < deadline, batch
        batch = client.batches.retrieve(batch.id)
        counts = batch.request_counts
        assert counts.completed + counts.failed <= counts.total
    return batch


def lines_of(file_id):
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


def batch_is_answered_in_order():
    batch = make([line(n) for n in range(6)], metadata={"who": "the tests", "empty": ""})
    assert batch.object == "batch" and batch.status == "validating"
    assert batch.endpoint == "/v1/chat/completions" and batch.completion_window == "24h"
    assert batch.expires_at - batch.created_at == 86_400
    assert batch.metadata == {"who": "the tests", "empty": ""}
    done = ended(batch)
    assert done.status == "completed", done
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (6, 6, 0)
    assert done.error_file_id is None and done.errors is None
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    assert done.failed_at is None and done.expired_at is None and done.cancelled_at is None
    output = lines_of(done.output_file_id)
    assert [entry["custom_id"] for entry in output] == [f"line-{n}" for n in range(6)]
    for entry in output:
        assert entry["error"] is None and entry["response"]["status_code"] == 200
        assert entry["response"]["body"]["object"] == "chat.completion"
    usages = [entry["response"]["body"]["usage"] for entry in output]
    assert done.usage.input_tokens == sum(usage["prompt_tokens"] for usage in usages)
    assert done.usage.output_tokens == sum(usage["completion_tokens"] for usage in usages)
    assert done.usage.total_tokens == done.usage.input_tokens + done.usage.output_tokens
    file = client.files.retrieve(done.output_file_id)
    assert file.purpose == "batch_output" and file.filename.endswith("_output.jsonl")
    assert file.bytes == len(client.files.content(done.output_file_id).read())
    assert done.output_file_id in [one.id for one in client.files.list(purpose="batch_output")]
    # The same request, asked alone, has the same answer.
    alone = client.chat.completions.create(**line(3)["body"])
    assert alone.choices[0].message.content == output[3]["response"]["body"]["choices"][0]["message"]["content"]
    return done


def bad_lines_are_in_the_error_file():
    lines = [
        line(0),
        "this is no json",
        line(2, temperature=9),
        line(3, url="/v1/completions"),
        line(4),
    ]
    done = ended(make(lines))
    assert done.status == "completed"
    counts = done.request_counts
    assert (counts.total, counts.completed, counts.failed) == (5, 2, 3)
    assert [entry["custom_id"] for entry in lines_of(done.output_file_id)] == ["line-0", "line-4"]
    errors = lines_of(done.error_file_id)
    codes = [(entry["custom_id"], entry["error"]["code"]) for entry in errors]
    assert codes == [("1", "invalid_json"), ("line-2", "out_of_range"), ("line-3", "url_mismatch")], codes
    assert all(entry["response"] is None for entry in errors)


def completions_are_batched_too():
    lines = [
        {
            "custom_id": "a",
            "method": "POST",
            "url": "/v1/completions",
            "body": {"model": MODEL, "prompt": "One, two,", "max_tokens": 3},
        }
    ]
    done = ended(make(lines, endpoint="/v1/completions"))
    (entry,) = lines_of(done.output_file_id)
    assert entry["response"]["body"]["object"] == "text_completion"


def batch_that_is_refused_says_why():
    doubled = ended(make([line(1), line(2), line(1)]))
    assert doubled.status == "failed" and doubled.failed_at and doubled.in_progress_at is None
    (reason,) = doubled.errors.data
    assert (reason.code, reason.line, reason.param) == ("duplicate_custom_id", 3, "custom_id")
    assert doubled.output_file_id is None and doubled.error_file_id is None
    empty = ended(make([]))
    assert empty.status == "failed" and empty.errors.data[0].code == "empty_file"


def batches_are_listed_in_pages(known):
    ids = [batch.id for batch in client.batches.list(limit=2)]
    assert known.id in ids and len(ids) == len(set(ids)) == 5
    page = client.batches.list(limit=2)
    assert page.has_more and [batch.id for batch in page.data] == ids[:2]
    after = client.batches.list(limit=10, after=ids[1])
    assert [batch.id for batch in after.data] == ids[2:]


def cancelled_batch_keeps_what_it_has():
    batch = make([line(n, max_tokens=400, ignore_eos=True) for n in range(40)])
    while client.batches.retrieve(batch.id).status == "validating":
        pass
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled") and cancelled.cancelling_at
    done = ended(cancelled)
    assert done.status == "cancelled" and done.cancelled_at >= done.cancelling_at
    counts = done.request_counts
    assert counts.total == 40 and counts.completed + counts.failed == 40 and counts.failed > 0
    codes = {entry["error"]["code"] for entry in lines_of(done.error_file_id)}
    assert codes == {"cancelled"}, codes
    try:
        client.batches.cancel(batch.id)
    except openai.ConflictError:
        pass
    else:
        raise AssertionError("a cancelled batch was cancelled")


def batch_expires_with_its_window():
    batch = make([line(n, max_tokens=400, ignore_eos=True) for n in range(200)], completion_window="2s")
    assert batch.expires_at - batch.created_at == 2
    done = ended(batch)
    assert done.status == "expired", done
    assert done.finalizing_at <= done.expired_at and done.expired_at >= done.expires_at
    assert done.completed_at is None
    counts = done.request_counts
    assert counts.completed + counts.failed == counts.total == 200 and counts.failed > 0
    errors = lines_of(done.error_file_id)
    assert {entry["error"]["code"] for entry in errors} == {"batch_expired"}
    assert len(errors) == counts.failed


def output_file_can_be_deleted(done):
    assert client.files.delete(done.output_file_id).deleted
    try:
        client.files.content(done.output_file_id)
    except openai.NotFoundError:
        pass
    else:
        raise AssertionError("a deleted output is there")
    assert client.batches.retrieve(done.id).status == "completed"


done = batch_is_answered_in_order()
bad_lines_are_in_the_error_file()
completions_are_batched_too()
batch_that_is_refused_says_why()
batches_are_listed_in_pages(done)
cancelled_batch_keeps_what_it_has()
batch_expires_with_its_window()
output_file_can_be_deleted(done)
if len(sys.argv) > 1:
    print(done.id)

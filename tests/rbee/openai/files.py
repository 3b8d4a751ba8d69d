"""Files: sent, listed in pages, fetched, deleted."""

import asyncio
import os

import openai
from openai import AsyncOpenAI, OpenAI

client = OpenAI(max_retries=0)

content = os.urandom((2 << 20) + 77)
file = client.files.create(file=("../../odd name.jsonl", content), purpose="batch")
assert file.object == "file" and file.purpose == "batch" and file.status == "processed"
assert file.bytes == len(content)
assert file.filename == "odd name.jsonl"
assert file.expires_at - file.created_at == 30 * 86_400
assert client.files.retrieve(file.id) == file
assert client.files.content(file.id).read() == content

short = client.files.create(
    file=("short.jsonl", b""), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
)
assert (short.bytes, short.expires_at - short.created_at) == (0, 3600)
assert client.files.content(short.id).read() == b""
try:
    client.files.create(file=b"x", purpose="batch", expires_after={"anchor": "created_at", "seconds": 5})
except openai.BadRequestError:
    pass
else:
    raise AssertionError("a file for five seconds was taken")


async def more():
    async with AsyncOpenAI() as many:
        sent = [many.files.create(file=(f"{n}.jsonl", b"%d" % n), purpose="batch") for n in range(20)]
        return await asyncio.gather(*sent)


more = asyncio.run(more())
ids = {file.id, short.id} | {one.id for one in more}
listed = [one.id for one in client.files.list(limit=5)]
assert len(listed) == 22 and set(listed) == ids
assert [one.id for one in client.files.list(limit=7, order="asc")] == listed[::-1]
assert client.files.list(limit=5).has_more
assert list(client.files.list(purpose="batch_output")) == []
for one in more:
    assert client.files.content(one.id).read() == one.filename.split(".")[0].encode()

deleted = client.files.delete(file.id)
assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
try:
    client.files.retrieve(file.id)
except openai.NotFoundError:
    pass
else:
    raise AssertionError("a deleted file is there")

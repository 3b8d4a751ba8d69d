-- Puts jobs into an inbox, all or none. Jobs that are in it already are passed over.
-- KEYS: inbox, urgent, waiting, work, running (as in join.lua)
-- ARGV: time to live in seconds, the node's bell (channel), then three for each job: the job,
--       'u' (goes ahead) or 'w', its payload
-- Reply: nil where there is no inbox; else {1, 0, 0}, or {0, jobs that would fit, jobs given} if
--       there is no room
local room = redis.call('HGET', KEYS[1], 'room')
if not room then
  return false
end
local work, ahead, behind = {}, {}, {}
for i = 3, #ARGV, 3 do
  local job = ARGV[i]
  if redis.call('HEXISTS', KEYS[4], job) == 0 and redis.call('HEXISTS', KEYS[5], job) == 0 then
    work[#work + 1] = job
    work[#work + 1] = ARGV[i + 2]
    if ARGV[i + 1] == 'u' then
      ahead[#ahead + 1] = job
    else
      behind[#behind + 1] = job
    end
  end
end
local given = #work / 2
if given == 0 then
  return {1, 0, 0}
end
local depth = redis.call('LLEN', KEYS[2]) + redis.call('LLEN', KEYS[3])
  + redis.call('HLEN', KEYS[5])
room = math.max(0, tonumber(room) - depth)
if given > room then
  return {0, room, given}
end
-- Lua takes some thousands of values at once.
local function all(command, key, values)
  for from = 1, #values, 4000 do
    redis.call(command, key, unpack(values, from, math.min(from + 3999, #values)))
  end
end
-- The first write: a server without memory refuses it, and then nothing has changed.
all('HSET', KEYS[4], work)
all('RPUSH', KEYS[2], ahead)
all('RPUSH', KEYS[3], behind)
for i = 2, 4 do
  redis.call('EXPIRE', KEYS[i], ARGV[1])
end
redis.call('PUBLISH', ARGV[2], 'work')
return {1, 0, 0}

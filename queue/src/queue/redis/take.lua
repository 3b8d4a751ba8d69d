-- Moves jobs from waiting to running and hands them out. What earlier takes handed out and
-- nobody received (the caller or its connection went away) is handed out again first.
-- KEYS: inbox, urgent, waiting, work, running (as in join.lua)
-- ARGV: most jobs, the inbox's born and its takes as of the last reply that the caller received,
--       time to live in seconds
-- Reply: nil where there is no inbox; else {born, takes, job, payload, job, payload, ...}
local inbox = redis.call('HMGET', KEYS[1], 'born', 'takes')
local born = inbox[1]
if not born then
  return false
end
local takes = tonumber(inbox[2] or 0)
local received = 0
if ARGV[2] == born then
  received = tonumber(ARGV[3])
end
if takes > received then
  local running = redis.call('HGETALL', KEYS[5])
  local lost = {}
  for i = 1, #running, 2 do
    if tonumber(running[i + 1]) > received then
      lost[#lost + 1] = running[i]
    end
  end
  table.sort(lost)
  for i = #lost, 1, -1 do
    redis.call('HDEL', KEYS[5], lost[i])
    redis.call('LPUSH', KEYS[2], lost[i])
  end
  redis.call('EXPIRE', KEYS[2], ARGV[4])
end

local most = math.min(tonumber(ARGV[1]), 2000)
local reply, moved = {born, takes}, {}
local function pop(list)
  while #moved / 2 < most do
    local jobs = redis.call('LPOP', list, most - #moved / 2)
    if not jobs or #jobs == 0 then
      return
    end
    local payloads = redis.call('HMGET', KEYS[4], unpack(jobs))
    local taken = redis.call('HMGET', KEYS[5], unpack(jobs))
    for i, job in ipairs(jobs) do
      -- A job without payload is no more there.
      if payloads[i] and not taken[i] then
        reply[#reply + 1] = job
        reply[#reply + 1] = payloads[i]
        moved[#moved + 1] = job
        moved[#moved + 1] = takes + 1
      end
    end
  end
end
pop(KEYS[2])
pop(KEYS[3])
if #moved == 0 and redis.call('HLEN', KEYS[4]) > redis.call('HLEN', KEYS[5]) then
  -- Somebody deleted the lists: work that is in none of them waits again.
  local jobs = redis.call('HKEYS', KEYS[4])
  table.sort(jobs)
  for _, job in ipairs(jobs) do
    if redis.call('HEXISTS', KEYS[5], job) == 0 then
      redis.call('RPUSH', KEYS[3], job)
    end
  end
  redis.call('EXPIRE', KEYS[3], ARGV[4])
  pop(KEYS[3])
end
if #moved > 0 then
  redis.call('HSET', KEYS[5], unpack(moved))
  redis.call('EXPIRE', KEYS[5], ARGV[4])
  redis.call('HSET', KEYS[1], 'takes', takes + 1)
  reply[2] = takes + 1
end
return reply

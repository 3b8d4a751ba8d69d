-- Removes jobs that wait, and leaves a control message about those that run.
-- KEYS: inbox, urgent, waiting, work, running, controls (as in join.lua)
-- ARGV: time to live in seconds, the node's bell (channel), channel that says that there is room,
--       most control messages, the jobs
-- Reply: the jobs that waited
local removed, running = {}, {}
if redis.call('HEXISTS', KEYS[1], 'born') == 0 then
  return removed
end
for i = 5, #ARGV do
  local job = ARGV[i]
  if redis.call('HEXISTS', KEYS[5], job) == 1 then
    running[#running + 1] = job
  elseif redis.call('HDEL', KEYS[4], job) == 1 then
    redis.call('LREM', KEYS[2], 1, job)
    redis.call('LREM', KEYS[3], 1, job)
    removed[#removed + 1] = job
  end
end
if #running > 0 and redis.call('LLEN', KEYS[6]) < tonumber(ARGV[4]) then
  local number = redis.call('HINCRBY', KEYS[1], 'controls', 1)
  redis.call('RPUSH', KEYS[6], number .. ' c ' .. table.concat(running, ' '))
  redis.call('EXPIRE', KEYS[6], ARGV[1])
  redis.call('PUBLISH', ARGV[2], 'control')
end
if #removed > 0 then
  redis.call('PUBLISH', ARGV[3], '')
end
return removed

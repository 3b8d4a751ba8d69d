-- Takes a node's inbox away.
-- KEYS: inbox, urgent, waiting, work, running, controls (as in join.lua)
-- ARGV: the node's bell (channel), channel that says that there is room
-- Reply: the jobs that were in it, waiting and running, in no order
local held = redis.call('HKEYS', KEYS[4])
for _, job in ipairs(redis.call('HKEYS', KEYS[5])) do
  if redis.call('HEXISTS', KEYS[4], job) == 0 then
    held[#held + 1] = job
  end
end
redis.call('DEL', unpack(KEYS))
redis.call('PUBLISH', ARGV[1], 'gone')
redis.call('PUBLISH', ARGV[2], '')
return held

-- Forgets jobs that ended, and their payloads.
-- KEYS: work, running (as in join.lua)
-- ARGV: channel that says that there is room, the jobs
-- Reply: how many were there
local gone = 0
for from = 2, #ARGV, 4000 do
  local till = math.min(from + 3999, #ARGV)
  gone = gone + redis.call('HDEL', KEYS[1], unpack(ARGV, from, till))
  redis.call('HDEL', KEYS[2], unpack(ARGV, from, till))
end
redis.call('PUBLISH', ARGV[1], '')
return gone

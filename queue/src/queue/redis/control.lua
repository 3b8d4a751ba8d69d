-- Leaves a control message for a node.
-- KEYS: inbox, controls (as in join.lua)
-- ARGV: time to live in seconds, the node's bell (channel), most control messages, the message
-- Reply: nil where there is no inbox, 0 where it is full, else 1
if redis.call('HEXISTS', KEYS[1], 'born') == 0 then
  return false
end
if redis.call('LLEN', KEYS[2]) >= tonumber(ARGV[3]) then
  return 0
end
local number = redis.call('HINCRBY', KEYS[1], 'controls', 1)
redis.call('RPUSH', KEYS[2], number .. ' ' .. ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], 'control')
return 1

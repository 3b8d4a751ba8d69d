-- Reads the control messages of a node that come next, and drops those that it received.
-- KEYS: inbox, controls (as in join.lua)
-- ARGV: the inbox's born and the number of the last message as of the last reply that the caller
--       received, most messages
-- Reply: nil where there is no inbox; else {born, '<number> <message>', ...}
local born = redis.call('HGET', KEYS[1], 'born')
if not born then
  return false
end
local reply = {born}
local received = 0
if ARGV[1] == born then
  received = tonumber(ARGV[2])
end
local function number(message)
  return tonumber(string.match(message, '^%d+'))
end
local first = redis.call('LINDEX', KEYS[2], 0)
while first and number(first) <= received do
  redis.call('LPOP', KEYS[2])
  first = redis.call('LINDEX', KEYS[2], 0)
end
for _, message in ipairs(redis.call('LRANGE', KEYS[2], 0, tonumber(ARGV[3]) - 1)) do
  reply[#reply + 1] = message
end
return reply

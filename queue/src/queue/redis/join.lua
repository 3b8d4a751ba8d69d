-- Makes a node's inbox where there is none, and gives all of its keys a new time to live.
-- KEYS: inbox (hash: born, room, takes, controls), urgent (list), waiting (list), work (hash),
--       running (hash), controls (list); all of one node, so in one slot
-- ARGV: room, born (a name for this life of the inbox), time to live in seconds,
--       channel that says that there is room
-- Reply: 1 if it was made, 0 if it was there
local made = 0
if redis.call('HEXISTS', KEYS[1], 'born') == 0 then
  redis.call('HSET', KEYS[1], 'born', ARGV[2], 'room', ARGV[1])
  -- Their numbers belong to an earlier life of the inbox.
  redis.call('DEL', KEYS[6])
  made = 1
end
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[3])
end
if made == 1 then
  redis.call('PUBLISH', ARGV[4], '')
end
return made

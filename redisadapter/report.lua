-- Reports how many readers the channels of a node have.
--
-- KEYS   the readers of the node
-- ARGV   the milliseconds of its lease; "1" if these are all of them, and
--        nothing else is to stay; how many arguments are channels and their
--        numbers, in turn; those, and then the channels without readers

-- These come first, because a server without memory refuses nothing to a script
-- that has begun to write: else it would remove all readers and add none.
redis.call('PEXPIRE', KEYS[1], ARGV[1])
if ARGV[2] == '1' then
  redis.call('UNLINK', KEYS[1])
end
local last = 3 + tonumber(ARGV[3])
if #ARGV > last then
  redis.call('HDEL', KEYS[1], unpack(ARGV, last + 1))
end
if last > 3 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 4, last))
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end

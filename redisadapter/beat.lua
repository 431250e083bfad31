-- Renews the lease of a node, and returns the state of the log.
--
-- KEYS   meta, nodes, the readers of this node, state, value
-- ARGV   the name of this node, and the milliseconds of its lease
--
-- The reply is the log's identity, its newest entry, how often it lost its
-- values, why the server refused to write ("" if it did not), its time in
-- milliseconds, whether the lease had not ended, for how many channels it has
-- readers of this node, and the names of all nodes.

local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[2])
local was, readers, names = 0, 0, {}

local ok, err = pcall(function()
  -- This comes first, because a server without memory refuses nothing to a
  -- script that has begun to write. A lease that ends in more than two leases was
  -- made before the clock has stepped back.
  call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', now))
  call('ZREMRANGEBYSCORE', KEYS[2], string.format('(%.0f', now + 2 * lease), '+inf')
  was = call('ZSCORE', KEYS[2], ARGV[1]) and 1 or 0
  call('ZADD', KEYS[2], string.format('%.0f', now + lease), ARGV[1])
  call('PEXPIRE', KEYS[2], string.format('%.0f', 10 * lease))
  call('PEXPIRE', KEYS[3], ARGV[2])
  readers = call('HLEN', KEYS[3])
  names = call('ZRANGE', KEYS[2], 0, -1)

  -- A server that evicts keys may have removed one of the hashes, or both.
  local count, bytes = call('HLEN', KEYS[4]), call('HGET', KEYS[1], 'bytes')
  if bytes and (count ~= call('HLEN', KEYS[5]) or count == 0 and tonumber(bytes) > 0) then
    call('UNLINK', KEYS[4], KEYS[5])
    call('HSET', KEYS[1], 'bytes', '0')
    call('HINCRBY', KEYS[1], 'valueless', 1)
  end
end)
local refused = ''
if not ok then
  refused = type(err) == 'table' and err.err or tostring(err)
end

local meta = call('HMGET', KEYS[1], 'log', 'last', 'valueless')
return {meta[1] or '', meta[2] or '', meta[3] or '', refused, string.format('%.0f', now), was, readers, names}

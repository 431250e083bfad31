-- Decides a batch of operations and appends their entries, all or nothing. doc.go
-- describes the keys and the entries.
--
-- KEYS   meta, state, value, k0 … k5, gone, closed, closing, and the streams; the first
--        is "live"
-- ARGV   the nonce of the batch
--        32 random hexadecimal digits: the identity of the log, if it is new
--        flags: "w" writes something in any case, so that a WAIT covers all that
--               was written before; "p" says that there is a purge, so that all
--               streams must be among KEYS; "f" says that the batch only frees
--               memory, so that a server without memory must not refuse it
--        the number of streams, and their names
--        the number of destinations, and of each the number of its stream,
--               its rules ("" is none) and its owner ("" is none)
--        how many idempotency keys may be remembered
--        the number of those of this batch, their names, and then the digests
--               of their operations, both in the order of the operations
--        the operations: an event, or a notice, is the number of its destination
--               and the entry. Others begin with a letter, a capital one if they
--               have an idempotency key:
--               e  and the number of the destination: an event with a key: the
--                  entry
--               p  a purge: the entry. It has the same id in every stream.
--               c  and the number of the destination: closes a channel: channel,
--                  for how many milliseconds (0 is until a purge), how many may be
--                  closed ("" is any number), "1" if there is a last event, and the
--                  entry
--               s  and the number of the destination: state: channel, value ("" is none), digest, session,
--                  condition, milliseconds, " VERSION VERSION … ", the bounds
--                  of count and bytes ("" is none), the size of value and
--                  channel, whether the answer includes the value, and the
--                  entry up to the channel. Without a value, a session is
--                  one to unbind the value from
--        Between them, ">" begins another stage of an Append, and "|" an Append:
--        the operations of a stage are not decided if one of a stage before, of
--        the same Append, was refused.
--
-- The reply is a list: "ms" or a refusal, and for each operation
--        n                  stored, with the id ms-n
--        "c" n              stored, and the channel had no value before
--        "u" version        the value was equal already, or the channel closed
--        "r" 0|1 id value   the key was known: whether it created, the answer
--        "x" "t" "f" "b"    another operation with this key; too many keys;
--                           no room for more values; too many bindings
--        "d" "n"            the channel is closed; too many are
--        "o"                not decided, because of an earlier stage
--        {version, written, session, value}   the condition does not hold

local call = redis.call
local wrote = false

-- Executes a command that a failure must not leave half done. What only removes
-- left-overs does not go through here.
local function write(...)
  local reply = call(...)
  wrote = true
  return reply
end

-- Calls f for pieces of a range, because the arguments of a call are bounded.
local function each(from, to, step, f)
  while from <= to do
    f(from, math.min(to, from + step - 1))
    from = from + step
  end
end

local function append()
  local nonce, flags = ARGV[1], ARGV[3]
  local time = call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)

  local meta, changed = {}, {}
  local flat = call('HGETALL', KEYS[1])
  for i = 1, #flat, 2 do
    meta[flat[i]] = flat[i + 1]
  end
  local function set(field, value)
    meta[field], changed[field] = value, true
  end

  if meta.format == nil then
    -- All other keys belong to a log that is gone.
    call('UNLINK', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9], KEYS[10], KEYS[11], KEYS[12], KEYS[13])
    local born = string.format('%.0f-0', now)
    meta = {}
    set('format', '1')
    set('log', ARGV[2])
    set('born', born)
    set('last', born .. ' ' .. nonce)
    set('bytes', '0')
  elseif meta.format ~= '1' then
    return {'format', meta.format}
  end
  if string.find(flags, 'f', 1, true) then
    -- A server without memory refuses nothing to a script that has begun to write.
    -- This is a write, of no field, that needs none.
    call('HDEL', KEYS[1], '')
  end
  local last, ms, n = string.match(meta.last or '', '^((%d+)%-(%d+)) ')
  if not last then
    return {'damaged'}
  end
  ms, n = tonumber(ms), tonumber(n)
  if now > ms then
    ms, n = now, -1
  end
  local prefix = string.format('%.0f-', ms)

  -- The streams, and the newest entry of each.
  local at = 4
  local names, newest = {}, {}
  for s = 1, tonumber(ARGV[at]) do
    names[s] = ARGV[at + s]
    newest[s] = meta['s:' .. names[s]]
  end
  at = at + 1 + #names
  if string.find(flags, 'p', 1, true) then
    local given, all, missing = {}, {'streams'}, false
    for _, name in ipairs(names) do
      given['s:' .. name] = true
    end
    for field in pairs(meta) do
      if string.sub(field, 1, 2) == 's:' then
        all[#all + 1] = string.sub(field, 3)
        missing = missing or not given[field]
      end
    end
    if missing then
      return all
    end
  end
  local added = {}  -- the id of the newest of this batch
  local before, behind = nonce .. ' ', ' ' .. nonce
  local function add(s, id, entry, owner)
    local tip = added[s]
    local link = tip and before .. tip .. behind or before .. (newest[s] or '0-0 -')
    if owner and owner ~= '' then
      call('XADD', KEYS[12 + s], id, 'm', link, 'e', entry, 'o', owner)
    else
      call('XADD', KEYS[12 + s], id, 'm', link, 'e', entry)
    end
    wrote, last, added[s] = true, id, id
  end
  -- The id of the next entry in a stream. A new stream is announced to the nodes
  -- first.
  local function new_id(s)
    if not newest[s] and not added[s] then
      call('UNLINK', KEYS[12 + s])
      if s > 1 then
        n = n + 1
        add(1, prefix .. n, '\1\255' .. names[s])
      end
    end
    n = n + 1
    return prefix .. n
  end

  -- The destinations.
  local stream, rules, owner = {}, {}, {}
  for p = 1, tonumber(ARGV[at]) do
    local number = tostring(p)
    stream[number], rules[number], owner[number] = tonumber(ARGV[at + 3 * p - 2]), ARGV[at + 3 * p - 1], ARGV[at + 3 * p]
  end
  at = at + 1 + 3 * tonumber(ARGV[at])

  -- The idempotency keys. Those of a minute are forgotten together, when all of
  -- them are older than the window. After a small step back of the clock the
  -- minute stands still until the clock has reached it again.
  local minute, ahead = math.floor(now / 60000), 0
  for k = 0, 5 do
    ahead = math.max(ahead, tonumber(meta['k' .. k] or 0))
  end
  if ahead > minute and ahead <= minute + 6 then
    minute = ahead
  end
  local remembered = {}
  for k = 0, 5 do
    local of = tonumber(meta['k' .. k])
    if of and of > minute - 6 then
      remembered[#remembered + 1] = KEYS[4 + k]
    elseif of then
      call('UNLINK', KEYS[4 + k])
      call('HDEL', KEYS[1], 'k' .. k)
      meta['k' .. k] = nil
    end
  end
  local max_keys, keyed, key = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), 0
  local first = {}  -- the record of a key: by its number, and if it is of this batch by its name
  local keys, fresh = 0, {}
  local names_at, digests_at = at + 1, at + 1 + keyed
  at = at + 2 + 2 * keyed
  if keyed > 0 then
    for _, hash in ipairs(remembered) do
      keys = keys + call('HLEN', hash)
      each(1, keyed, 1000, function(from, to)
        local found = call('HMGET', hash, unpack(ARGV, names_at + from, names_at + to))
        for i = from, to do
          first[i] = found[i - from + 1] or first[i]
        end
      end)
    end
  end
  local function remember(answer)
    local name = ARGV[names_at + key]
    local record = ARGV[digests_at + key] .. answer
    fresh[#fresh + 1], fresh[#fresh + 2] = name, record
    first[name], keys = record, keys + 1
  end

  -- The channels that are closed. Nothing is looked up where none is.
  local closed = tonumber(meta.closed or 0)
  if closed > 0 and call('HLEN', KEYS[11]) == 0 then  -- Redis has evicted them
    closed = 0
    set('closed', '0')
    set('valueless', string.format('%d', (meta.valueless or 0) + 1))
  end
  -- The id of the entry that closed a channel, if it is closed now.
  local function closed_by(channel)
    local row = closed > 0 and call('HGET', KEYS[11], channel)
    if not row then
      return nil
    end
    local id, till = string.match(row, '^(%S+) (%d+)$')
    if till == '0' or ms < tonumber(till) then
      return id
    end
  end
  -- The channel of an entry, which is at most 255 bytes long.
  local function channel_of(entry)
    local size, more = string.byte(entry, 3, 4)
    if size < 128 then
      return string.sub(entry, 4, 3 + size)
    end
    return string.sub(entry, 5, 4 + size - 128 + 128 * more)
  end
  local function open(channels)
    write('HDEL', KEYS[11], unpack(channels))
    write('ZREM', KEYS[12], unpack(channels))
    closed = call('HLEN', KEYS[11])
    set('closed', string.format('%d', closed))
  end
  -- Forgets some of those that are not closed any more by their time.
  local function open_over()
    local over = {}
    local first = closed > 0 and call('ZRANGE', KEYS[12], 0, 99, 'WITHSCORES') or {}
    for i = 1, #first, 2 do
      if tonumber(first[i + 1]) <= ms then
        over[#over + 1] = first[i]
      end
    end
    if #over > 0 then
      open(over)
    end
  end

  -- The values, and the facts of nodes, which are counted apart from them.
  local bytes, facts = tonumber(meta.bytes or 0), tonumber(meta.facts or 0)
  -- The channels whose value was removed are remembered for nodes that come back:
  -- so many by name, and of all others the time of the last removal.
  local most_gone = 4096
  local function forget(channel)
    write('ZADD', KEYS[10], string.format('%.0f', ms), channel)
    if call('ZCARD', KEYS[10]) > most_gone then
      local forgot = tonumber(write('ZPOPMIN', KEYS[10])[2])
      if forgot > tonumber(meta.forgot or 0) then
        set('forgot', string.format('%.0f', forgot))
      end
    end
  end
  -- A value may be bound to several sessions, whose names are separated by spaces.
  local max_bindings = 64
  local function is_bound(bound, session)
    return string.find(' ' .. bound .. ' ', ' ' .. session .. ' ', 1, true)
  end
  -- The end of an entry before the value: flags, and the sessions.
  local function bindings(session, valued)
    if not valued then
      return '\0'
    elseif session == '' then
      return '\2'
    end
    local size, length = #session, ''
    while size >= 128 do
      length = length .. string.char(size % 128 + 128)
      size = math.floor(size / 128)
    end
    return '\3' .. length .. string.char(size) .. session
  end
  local function state(keyed, destination)
    local channel, value, digest, session = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local condition, idle, versions = ARGV[at + 5], tonumber(ARGV[at + 6]), ARGV[at + 7]
    local max_count, max_bytes, size = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9]), tonumber(ARGV[at + 10])
    local keep, entry = ARGV[at + 11], ARGV[at + 12]

    if value ~= '' and string.sub(channel, 1, 1) ~= '_' and closed_by(channel) then
      return 'd'
    end
    local row = call('HGET', KEYS[2], channel)
    local version, written, old_size, old_session, old_digest
    if row then
      version, written, old_size, old_session, old_digest = string.match(row, '^(%S+) (%d+) (%d+) (.*) (%S+)$')
    end
    local listed = version and string.find(versions, ' ' .. version .. ' ', 1, true)
    local holds = condition == '0'
      or condition == '1' and not version
      or condition == '2' and version
      or condition == '3' and listed
      or condition == '4' and not listed
      or condition == '5' and listed and tonumber(written) + idle <= now
    if not holds or value == '' and not version then
      if not version then
        return {}
      end
      return {version, written, old_session, call('HGET', KEYS[3], channel)}
    end

    local unbound  -- the value stays, with the sessions that are left
    if session ~= '' and value == '' then
      if not is_bound(old_session, session) then
        return {version, written, old_session, call('HGET', KEYS[3], channel)}
      end
      local left = {}
      for other in string.gmatch(old_session, '%S+') do
        if other ~= session then
          left[#left + 1] = other
        end
      end
      unbound = #left > 0
      session = table.concat(left, ' ')
    elseif session ~= '' and (old_session or '') ~= '' and session ~= old_session then
      local _, count = string.gsub(old_session, '%S+', '')
      local all = old_session
      for other in string.gmatch(session, '%S+') do
        if not is_bound(all, other) then
          all, count = all .. ' ' .. other, count + 1
        end
      end
      if count > max_bindings then
        return 'b'
      end
      session = all
    end

    local answer = ''
    if keep == '1' and value ~= '' then
      answer = ' ' .. value
    end
    local fact = string.sub(channel, 1, 1) == '_'
    if unbound then
      local id = new_id(1)
      add(1, id, entry .. bindings(session, true) .. call('HGET', KEYS[3], channel))
      write('HSET', KEYS[2], channel, id .. ' ' .. written .. ' ' .. old_size .. ' ' .. session .. ' ' .. old_digest)
      if keyed then
        remember('0' .. id .. answer)
      end
      return n
    end
    if value == '' then
      local id = new_id(1)
      add(1, id, entry .. bindings('', false))
      if fact then
        facts = facts - 1
      else
        bytes = bytes - tonumber(old_size)
        forget(channel)
      end
      write('HDEL', KEYS[2], channel)
      write('HDEL', KEYS[3], channel)
      if keyed then
        remember('0' .. id .. answer)
      end
      return n
    end

    local tail = string.format(' %.0f %d ', ms, size) .. session .. ' ' .. digest
    if version and old_digest == digest and old_session == session then
      write('HSET', KEYS[2], channel, version .. string.format(' %.0f ', ms) .. old_size .. ' ' .. session .. ' ' .. digest)
      if keyed then
        remember('0' .. version .. answer)
      end
      return 'u' .. version
    end
    local full = false
    if not version then
      local count = call('HLEN', KEYS[2])
      if count == 0 and bytes + facts > 0 then  -- Redis has evicted them
        bytes, facts = 0, 0
        set('valueless', string.format('%d', (meta.valueless or 0) + 1))
      end
      full = max_count and count - facts >= max_count
    end
    local total = bytes + size - tonumber(old_size or 0)
    if full or max_bytes and total > max_bytes and total > bytes then
      return 'f'
    end
    local id = new_id(1)
    add(1, id, entry .. bindings(session, true) .. value, owner[destination])
    write('HSET', KEYS[2], channel, id .. tail)
    write('HSET', KEYS[3], channel, value)
    if not fact then
      bytes = total
    elseif not version then
      facts = facts + 1
    end
    if keyed then
      remember((version and '0' or '1') .. id .. answer)
    end
    return version and n or 'c' .. n
  end

  -- The operations.
  local reply = {string.sub(prefix, 1, -2)}
  local function event(destination, entry)
    local s = stream[destination]
    if rules[destination] ~= '' and rules[destination] ~= meta.rules then
      if meta.rules then
        set('mixed', last)
      end
      set('rules', rules[destination])
    end
    local id = new_id(s)
    add(s, id, entry, owner[destination])
    return id
  end
  -- Whether an entry is an event of a channel that is closed.
  local function is_late(entry)
    return closed > 0 and string.byte(entry, 2) == 1 and closed_by(channel_of(entry))
  end
  local function purge()
    local id = new_id(1)
    if closed > 0 then
      open({channel_of(ARGV[at + 1])})
    end
    for s = 1, #names do
      if s == 1 or newest[s] or added[s] then
        add(s, id, ARGV[at + 1])
      end
    end
    return id
  end
  local function close(keyed, destination)
    local channel, lasting, most = ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
    local id = closed_by(channel)
    if id then
      if ARGV[at + 4] == '1' then
        return 'd'
      end
      if keyed then
        remember('0' .. id)
      end
      return 'u' .. id
    end
    if closed == 0 then
      call('UNLINK', KEYS[11], KEYS[12])  -- those of a log that is gone
    end
    open_over()
    if most and closed >= most then
      return 'n'
    end
    id = event(destination, ARGV[at + 5])
    local till = lasting > 0 and string.format('%.0f', ms + lasting) or '0'
    write('HSET', KEYS[11], channel, id .. ' ' .. till)
    write('ZREM', KEYS[12], channel)
    if lasting > 0 then
      write('ZADD', KEYS[12], till, channel)
    end
    closed = call('HLEN', KEYS[11])
    set('closed', string.format('%d', closed))
    if keyed then
      remember('0' .. id)
    end
    return n
  end
  local ops, done = #ARGV, 1
  if at > ops then
    open_over()
  end
  -- Whether an operation of this stage or an earlier one was refused, and whether
  -- that was an earlier one.
  local refused, over = false, false
  while at < ops do
    while ARGV[at] == '>' or ARGV[at] == '|' do
      refused = refused and ARGV[at] == '>'
      over = refused
      at = at + 1
    end
    local code = ARGV[at]
    local result
    if stream[code] then
      if over then
        result = 'o'
      elseif is_late(ARGV[at + 1]) then
        result = 'd'
      else
        event(code, ARGV[at + 1])
        result = n
      end
      at = at + 2
    else
      local letter = string.sub(code, 1, 1)
      local kind = string.lower(letter)
      local keyed = letter ~= kind
      if keyed then
        key = key + 1
      end
      if over then
        result = 'o'
      elseif keyed then
        local record = first[key] or first[ARGV[names_at + key]]
        if record then
          result = string.sub(record, 1, 16) == ARGV[digests_at + key] and 'r' .. string.sub(record, 17) or 'x'
        elseif keys >= max_keys then
          result = 't'
        end
      end
      if result == nil and kind == 's' then
        result = state(keyed, string.sub(code, 2))
      elseif result == nil and kind == 'c' then
        result = close(keyed, string.sub(code, 2))
      elseif result == nil and kind == 'e' and is_late(ARGV[at + 1]) then
        result = 'd'
      elseif result == nil then
        local id = kind == 'p' and purge() or kind == 'e' and event(string.sub(code, 2), ARGV[at + 1])
        if keyed then
          remember('0' .. id)
        end
        result = n
      end
      at = at + (kind == 's' and 13 or kind == 'c' and 6 or 2)
    end
    refused = refused or type(result) == 'table'
      or type(result) == 'string' and string.find('xtfbdn', string.sub(result, 1, 1), 1, true) ~= nil
    done = done + 1
    reply[done] = result
  end

  -- What has changed in meta and among the idempotency keys.
  if #fresh > 0 then
    local k = minute % 6
    if meta['k' .. k] and tonumber(meta['k' .. k]) ~= minute then
      call('UNLINK', KEYS[4 + k])
    end
    set('k' .. k, string.format('%d', minute))
    each(1, #fresh, 1000, function(from, to)
      write('HSET', KEYS[4 + k], unpack(fresh, from, to))
    end)
  end
  for s, id in pairs(added) do
    set('s:' .. names[s], id .. behind)
    set('last', last .. behind)
  end
  if bytes ~= tonumber(meta.bytes) then
    set('bytes', string.format('%.0f', bytes))
  end
  if facts ~= tonumber(meta.facts or 0) then
    set('facts', string.format('%d', facts))
  end
  if not wrote and string.find(flags, 'w', 1, true) then
    set('last', meta.last)
  end
  local fields = {}
  for field in pairs(changed) do
    fields[#fields + 1], fields[#fields + 2] = field, meta[field]
  end
  each(1, #fields, 1000, function(from, to)
    write('HSET', KEYS[1], unpack(fields, from, to))
  end)
  return reply
end

-- An error before the first write leaves everything as it was. One after it can
-- only come from a bug in here or from the access rules of Redis. It is marked,
-- because then it is not known what was stored.
local ok, result = pcall(append)
if ok then
  return result
end
local message = type(result) == 'table' and result.err or tostring(result)
message = string.gsub(message, '^@?user_script: ?%d+: ?', '')
message = string.gsub(message, '^%-', '')
if wrote then
  message = 'EVSPARTIAL ' .. message
end
return redis.error_reply(message)

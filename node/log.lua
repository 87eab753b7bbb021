#!lua name=tally_log_VERSION
-- Numbered batches in Redis. Every function works on one lane; keys[1] is its prefix with the hash tag, so that all of the
-- lane's keys lie in one slot. The keys:
--   <lane>:meta            hash: cluster (id), incarnation
--   <lane>:open            hash: partition -> number of the open batch. No number: appends are refused until it is repaired
--   <lane>:sealed          hash: partition -> number of the sealed batch, where there is one
--   <lane>:b:<p>:<n>       hash: counter -> sum                   batch n of partition p
--   <lane>:c:<p>:<n>       hash: writer -> its last call in that batch
--   <lane>:w:<writer>      hash: last (call number), and the answers of its last two calls by number
--   <lane>:i:<s>:<w>:<b>   hash: rest of a digest -> value        ids remembered in window w of s seconds, bucket b
--   <lane>:full            set: counters that must not grow any more
-- A Lua error rolls nothing back. So everything is checked before the first write, and an id is remembered after its
-- increment was added: between the two, a lost id could double a retry, but a lost increment would never be found again.
-- Numbers that may pass 2^53 are text here; they are only compared as doubles, where one more or less does not matter.

local SUM_MAX = 2305843009213693952 -- 2^61, settlement.SUM_MAX
local EXACT_MAX = 9007199254740992 -- 2^53
local CALLS_IN_FLIGHT = 2 -- writer.CALLS_IN_FLIGHT: so many answers are remembered
local WRITER_LIFETIME_S = 3600 -- a writer that makes no call for so long is forgotten; writers make one every few minutes

local function batch_key(lane, p, n) return lane .. ':b:' .. p .. ':' .. n end
local function calls_key(lane, p, n) return lane .. ':c:' .. p .. ':' .. n end
local function refuse(code, text) return redis.error_reply(code .. ' ' .. text) end

-- The answer of a call that was run before, an error when it must not be run, nil when it is the writer's next.
local function known_answer(me, call)
  local seen = redis.call('HMGET', me, 'last', call)
  if not seen[1] then return refuse('UNREPAIRED', 'this writer is not introduced') end
  local last, number = tonumber(seen[1]), tonumber(call)
  if number <= last then return seen[2] or refuse('ERR', 'the answer of call ' .. call .. ' is forgotten') end
  if number > last + 1 then return refuse('GAP', 'call ' .. call .. ' came before call ' .. (last + 1)) end
end

-- partition -> number of its open batch, or an error when one has none.
local function open_numbers(lane, payload)
  local wanted, open = {}, {}
  for _, list in ipairs({payload.sums, payload.ids}) do
    for _, item in ipairs(list) do
      if not open[item[1]] then open[item[1]] = true; wanted[#wanted + 1] = item[1] end
    end
  end
  if #wanted == 0 then return open end
  for i, number in ipairs(redis.call('HMGET', lane .. ':open', unpack(wanted))) do
    if not number then return nil, refuse('UNREPAIRED', 'partition ' .. wanted[i] .. ' has no number') end
    open[wanted[i]] = number
  end
  return open
end

-- One addition to an open batch. False when the counter is full, or its sum would pass what a settle can take.
local function add(lane, open, any_full, p, counter, sum)
  if any_full and redis.call('SISMEMBER', lane .. ':full', counter) == 1 then return false end
  local key = batch_key(lane, p, open[p])
  if redis.call('HINCRBY', key, counter, sum) < SUM_MAX then return true end
  redis.call('HINCRBY', key, counter, '-' .. sum)
  return false
end

local function bucket_key(lane, seconds, window, digest)
  return string.format('%s:i:%d:%d:%s%d', lane, seconds, window, digest:sub(1, 2), digest:byte(3) % 4)
end

-- What is remembered of an id, in this window or the one before.
local function remembered(lane, seconds, window, digest)
  local field = digest:sub(3)
  return redis.call('HGET', bucket_key(lane, seconds, window, digest), field)
    or redis.call('HGET', bucket_key(lane, seconds, window - 1, digest), field)
end

local function remember(lane, seconds, window, digest, value)
  local key = bucket_key(lane, seconds, window, digest)
  redis.call('HSET', key, digest:sub(3), value)
  if redis.call('HLEN', key) == 1 then redis.call('EXPIREAT', key, (window + 2) * seconds) end
end

-- Sorts items into exceptions (replays and mismatches) and groups of fresh ones, one a counter while its sum stays exact.
-- An id that comes twice in one call shares the fate of its first item, which is not known yet.
local function judge(lane, items, now, exceptions)
  local groups, group_of, first = {}, {}, {}
  for i, item in ipairs(items) do
    local p, counter, value, digest, seconds = unpack(item)
    local window, name = math.floor(now / seconds), seconds .. digest
    local earlier = first[name]
    local had = earlier and earlier.value or remembered(lane, seconds, window, digest)
    if had and had ~= value then
      exceptions[#exceptions + 1] = 'm' .. (i - 1)
    elseif earlier then
      earlier.repeats[#earlier.repeats + 1] = i - 1
    elseif had then
      exceptions[#exceptions + 1] = 'r' .. (i - 1)
    else
      local group = group_of[counter]
      if not group or group.sum + tonumber(value) >= EXACT_MAX then
        group = {p = p, counter = counter, sum = 0, text = value, items = {}}
        group_of[counter] = group
        groups[#groups + 1] = group
      end
      first[name] = {index = i - 1, value = value, digest = digest, seconds = seconds, window = window, repeats = {}}
      group.sum = group.sum + tonumber(value)
      if #group.items == 1 then group.text = nil end -- one value alone may be a sum past 2^53
      group.items[#group.items + 1] = first[name]
    end
  end
  return groups
end

local function add_group(lane, open, any_full, group, exceptions)
  local added = add(lane, open, any_full, group.p, group.counter, group.text or string.format('%.0f', group.sum))
  for _, item in ipairs(group.items) do
    if added then remember(lane, item.seconds, item.window, item.digest, item.value)
    else exceptions[#exceptions + 1] = 'x' .. item.index end
    for _, index in ipairs(item.repeats) do
      exceptions[#exceptions + 1] = (added and 'r' or 'x') .. index
    end
  end
end

-- args: writer, call number, payload. Answer: the exceptions, as node/call.py describes them.
local function append(keys, args)
  local lane, writer, call = keys[1], args[1], args[2]
  local me = lane .. ':w:' .. writer
  local answer = known_answer(me, call)
  if answer then return answer end
  local payload = cjson.decode(args[3])
  local open, unrepaired = open_numbers(lane, payload)
  if unrepaired then return unrepaired end
  local now = tonumber(redis.call('TIME')[1])
  local any_full = redis.call('EXISTS', lane .. ':full') == 1
  local exceptions = {}
  local groups = judge(lane, payload.ids, now, exceptions)

  for p, n in pairs(open) do redis.call('HSET', calls_key(lane, p, n), writer, call) end
  for i, item in ipairs(payload.sums) do
    if not add(lane, open, any_full, item[1], item[2], item[3]) then
      exceptions[#exceptions + 1] = 's' .. (i - 1)
    end
  end
  for _, group in ipairs(groups) do add_group(lane, open, any_full, group, exceptions) end

  answer = table.concat(exceptions, ' ')
  redis.call('HSET', me, 'last', call, call, answer)
  redis.call('HDEL', me, string.format('%d', tonumber(call) - CALLS_IN_FLIGHT))
  redis.call('EXPIRE', me, WRITER_LIFETIME_S)
  return answer
end

-- args: writer, the number before its next call. Answer: {1 when it was known before, number of its last call}.
-- A writer is introduced before its first call. One that was forgotten is refused: taken for a new one, its call in flight
-- could be counted a second time.
local function introduce(keys, args)
  local me = keys[1] .. ':w:' .. args[1]
  local new = redis.call('HSETNX', me, 'last', args[2])
  redis.call('EXPIRE', me, WRITER_LIFETIME_S)
  return {1 - new, tonumber(redis.call('HGET', me, 'last'))}
end

-- args: partition. Answer: {number, incarnation, {counter, sum, ...}, {writer, call, ...}}, or false when there is nothing to
-- settle. The numbers and the content come out of one step: content read later could be that of a Redis gone back in time.
local function seal(keys, args)
  local lane, p = keys[1], args[1]
  local number = redis.call('HGET', lane .. ':sealed', p)
  if not number then
    number = redis.call('HGET', lane .. ':open', p)
    if not number then return refuse('UNREPAIRED', 'partition ' .. p .. ' has no number') end
    if redis.call('EXISTS', calls_key(lane, p, number)) == 0 then return false end
    redis.call('HSET', lane .. ':sealed', p, number)
    redis.call('HINCRBY', lane .. ':open', p, 1)
  end
  return {
    number, redis.call('HGET', lane .. ':meta', 'incarnation'),
    redis.call('HGETALL', batch_key(lane, p, number)), redis.call('HGETALL', calls_key(lane, p, number)),
  }
end

local function drop_settled(lane, p, settled)
  local number = redis.call('HGET', lane .. ':sealed', p)
  if not number or tonumber(number) > tonumber(settled) then return 0 end
  redis.call('UNLINK', batch_key(lane, p, number), calls_key(lane, p, number))
  return redis.call('HDEL', lane .. ':sealed', p)
end

local function note_full(lane, counters, from)
  for i = from, #counters do redis.call('SADD', lane .. ':full', counters[i]) end
end

-- args: partition, settled (as Postgres says), counters that are full... Answer: 1 when the sealed batch was dropped.
local function drop(keys, args)
  note_full(keys[1], args, 3)
  return drop_settled(keys[1], args[1], args[2])
end

-- args: cluster id, incarnation, {"<partition>": <settled>} as JSON, full counters... A batch numbered <= settled is what is
-- left of the settled one, so it goes; the open number is then the next. Any node may do this, at any time, again.
local function repair(keys, args)
  local lane, meta = keys[1], keys[1] .. ':meta'
  local known = tonumber(redis.call('HGET', meta, 'incarnation') or '0')
  if known > tonumber(args[2]) then return refuse('STALE', 'incarnation ' .. known .. ' is newer than ' .. args[2]) end
  note_full(lane, args, 4)
  for p, settled in pairs(cjson.decode(args[3])) do
    drop_settled(lane, p, settled)
    local open = tonumber(redis.call('HGET', lane .. ':open', p) or '0')
    if open <= settled then
      if open > 0 then redis.call('UNLINK', batch_key(lane, p, open), calls_key(lane, p, open)) end
      redis.call('HSET', lane .. ':open', p, string.format('%d', settled + 1))
    end
  end
  redis.call('HSET', meta, 'cluster', args[1], 'incarnation', args[2])
  return 'OK'
end

-- args: partition, counter, partition, counter, ... Answer: for each {open number, sealed number, sealed sum, open sum}.
local function read(keys, args)
  local lane, numbers, answer = keys[1], {}, {}
  for i = 1, #args, 2 do
    local p, counter = args[i], args[i + 1]
    local n = numbers[p]
    if not n then
      n = {redis.call('HGET', lane .. ':open', p), redis.call('HGET', lane .. ':sealed', p)}
      if not n[1] then return refuse('UNREPAIRED', 'partition ' .. p .. ' has no number') end
      numbers[p] = n
    end
    answer[#answer + 1] = {
      n[1], n[2], n[2] and redis.call('HGET', batch_key(lane, p, n[2]), counter) or false,
      redis.call('HGET', batch_key(lane, p, n[1]), counter),
    }
  end
  return answer
end

-- What shrinks memory is allowed when memory is full, or it could never shrink again.
local function register(name, callback, flags)
  redis.register_function{function_name = 'tally_' .. name .. '_VERSION', callback = callback, flags = flags}
end
register('append', append, {})
register('introduce', introduce, {'allow-oom'})
register('seal', seal, {'allow-oom'})
register('drop', drop, {'allow-oom'})
register('repair', repair, {'allow-oom'})
register('read', read, {'no-writes', 'allow-oom'})

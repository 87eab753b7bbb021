#!lua name=tally_log_VERSION
-- Numbered batches in Redis. Every function works on one lane; keys[1] is its prefix with the hash tag, so that all of the
-- lane's keys lie in one slot. The keys:
--   <lane>:meta            hash: cluster (id), incarnation, whole (the incarnation in which everything is back), run (of the
--                          server that was repaired), life (given to an empty Redis: another after it was flushed)
--   <lane>:open            hash: partition -> number of the open batch. No number: appends are refused until it is repaired
--   <lane>:sealed          hash: partition -> number of the sealed batch, where there is one
--   <lane>:b:<p>:<n>       hash: counter -> sum                   batch n of partition p
--   <lane>:c:<p>:<n>       hash: writer -> its last call in that batch, and what was decided in its last two (see `decide_all`)
--   <lane>:w:<writer>      hash: last (call number), and the answers of its last two calls by number. Without an expiry: a
--                          writer that is forgotten makes its unsettled calls again
--   <lane>:i:<s>:<w>:<b>   hash: digest -> value                ids remembered in window w of s seconds, bucket b; s is
--                          negative for a proxy's request ids. The value of a reset's is what it took off, after TAKEN;
--                          HEARSAY is before one that was put back by a writer that did not count it itself
--   <lane>:windows         hash: <s>:<w> -> number of buckets deleted, for the windows that have any
--   <lane>:full            set: counters that must not grow any more
-- A Lua error rolls nothing back. So everything is checked before the first write, and an id is remembered after its
-- increment was added: between the two, a lost id could double a retry, but a lost increment would never be found again.
-- Numbers that may pass 2^53 are text here. As doubles they are only compared where one more or less does not matter; where
-- it does, they are two limbs (see `exact`).

local SUM_MAX = 2305843009213693952 -- 2^61, settlement.SUM_MAX
local EXACT_MAX = 9007199254740992 -- 2^53
local CALLS_IN_FLIGHT = 2 -- writer.CALLS_IN_FLIGHT: so many answers are remembered
local ITEM = 5 -- fields of an item with an id
local DECIDED = 9 -- fields of an operation that is decided here
local REPLAYED, SUM = 114, 115 -- 'r' and 's' in an answer
local TAKEN = 116 -- 't', payload.TAKEN
local HEARSAY = 104 -- 'h', payload.HEARSAY
local BUCKETS = 65536 -- of a window: at a million ids one holds 15, so it is packed and soon searched

local function batch_key(lane, p, n) return lane .. ':b:' .. p .. ':' .. n end
local function calls_key(lane, p, n) return lane .. ':c:' .. p .. ':' .. n end
local function refuse(code, text) return redis.error_reply(code .. ' ' .. text) end
local function negative(text) return text:byte(1) == 45 end

-- The text of -n. Redis takes no '-0'.
local function negated(text)
  if text == '0' then return text end
  return negative(text) and text:sub(2) or '-' .. text
end

-- What an item adds: its value, or what a reset took off, less.
local function amount_of(value)
  return value:byte(1) == TAKEN and negated(value:sub(2)) or value
end

-- An integer of 64 bits and a little more, exact in two doubles: hi * LIMB + lo, 0 <= lo < LIMB.
local LIMB = 1000000000
local function exact(hi, lo)
  local carry = math.floor(lo / LIMB)
  return {hi + carry, lo - carry * LIMB}
end
local function integer(text)
  local sign, digits = 1, text
  if negative(text) then sign, digits = -1, text:sub(2) end
  return exact(sign * (tonumber(digits:sub(1, -10)) or 0), sign * tonumber(digits:sub(-9)))
end
local function plus(a, b) return exact(a[1] + b[1], a[2] + b[2]) end
local function less(a, b) return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2]) end
local function text_of(a)
  if a[1] < 0 then
    local size = exact(-a[1], -a[2])
    return '-' .. text_of(size)
  end
  return a[1] == 0 and string.format('%d', a[2]) or string.format('%d%09d', a[1], a[2])
end
local LEAST, MOST = {-2305843010, 786306048}, {2305843009, 213693952} -- -SUM_MAX and SUM_MAX

-- Whether everything is put back that Redis had lost: only then are totals right.
local function is_whole(lane)
  local meta = redis.call('HMGET', lane .. ':meta', 'incarnation', 'whole')
  return meta[1] and meta[1] == meta[2]
end

-- Whether it is whole, and this very server was repaired: one that came back, and that nobody has found yet, looks whole too.
local function is_readable(lane, run) return is_whole(lane) and redis.call('HGET', lane .. ':meta', 'run') == run end

-- The answer of a call that was run before, an error when it must not be run, nil when it is the writer's next. A call that is
-- replayed need not follow the last one: those between are in Postgres, or are nowhere any more.
local function known_answer(lane, me, incarnation, call, replayed)
  if redis.call('HGET', lane .. ':meta', 'incarnation') ~= incarnation then
    return refuse('UNREPAIRED', 'this writer has not come back in this incarnation')
  end
  local seen = redis.call('HMGET', me, 'last', call)
  if not seen[1] then return refuse('UNREPAIRED', 'this writer is not introduced') end
  local last, number = tonumber(seen[1]), tonumber(call)
  if number <= last then return seen[2] or refuse('ERR', 'the answer of call ' .. call .. ' is forgotten') end
  if number > last + 1 and not replayed then return refuse('GAP', 'call ' .. call .. ' came before call ' .. (last + 1)) end
end

-- Partition -> its open batch, {key of its sums, key of its calls, number}, for all that a payload touches; nil and an error
-- when one has no number.
local function open_batches(lane, payload)
  local wanted, open = {}, {}
  local function want(p)
    if not open[p] then open[p] = true; wanted[#wanted + 1] = p end
  end
  for _, group in ipairs(payload.sums) do want(group.p) end
  for i = 1, #payload.ids, ITEM do want(payload.ids[i]) end
  for i = 1, #(payload.decided or {}), DECIDED do want(payload.decided[i]) end
  if #wanted == 0 then return open end
  for i, number in ipairs(redis.call('HMGET', lane .. ':open', unpack(wanted))) do
    local p = wanted[i]
    if not number then return nil, refuse('UNREPAIRED', 'partition ' .. p .. ' has no number') end
    open[p] = {batch_key(lane, p, number), calls_key(lane, p, number), number}
  end
  return open
end

-- One addition to an open batch. False when the counter is full, or its sum would pass what a settle can take.
local function add(lane, batch, any_full, counter, sum)
  if any_full and redis.call('SISMEMBER', lane .. ':full', counter) == 1 then return false end
  if math.abs(redis.call('HINCRBY', batch, counter, sum)) < SUM_MAX then return true end
  redis.call('HINCRBY', batch, counter, negated(type(sum) == 'number' and string.format('%.0f', sum) or sum))
  return false
end

-- Additions to different counters of one batch; -> index -> true for those refused. Two commands for all of them instead of one
-- for each, and one entry in the append-only file. Doubles are exact within 2^53; what could pass that is added by itself.
local function add_many(lane, batch, any_full, counters, sums)
  local refused = {}
  if #counters == 1 or any_full then
    for i, counter in ipairs(counters) do
      if not add(lane, batch, any_full, counter, sums[i]) then refused[i] = true end
    end
    return refused
  end
  local before, fields, n = redis.call('HMGET', batch, unpack(counters)), {}, 0
  for i, counter in ipairs(counters) do
    local sum, more = before[i] and tonumber(before[i]) or 0, tonumber(sums[i])
    if math.abs(sum) + math.abs(more) < EXACT_MAX then
      fields[n + 1], fields[n + 2], n = counter, sum + more, n + 2 -- Redis writes a whole number below 2^53 out exactly
    elseif not add(lane, batch, any_full, counter, sums[i]) then
      refused[i] = true
    end
  end
  if n > 0 then redis.call('HSET', batch, unpack(fields)) end
  return refused
end

local function window_prefix(lane, seconds, window) return string.format('%s:i:%d:%d:', lane, seconds, window) end

local function is_over(seconds, window, now) return (window + 2) * math.abs(seconds) <= now end

-- Prefixes of the buckets in which an id may be: this window's first, and those before it, of other lengths too: the length may
-- have been changed since, or be known to another node already. Where all have the same there are two.
local function windows_of(lane, seconds, now)
  local window = math.floor(now / math.abs(seconds))
  local prefixes = {window_prefix(lane, seconds, window)}
  local noted = redis.call('HGETALL', lane .. ':windows')
  for i = 1, #noted, 2 do
    local s, w = noted[i]:match('(-?%d+):(%d+)')
    s, w = tonumber(s), tonumber(w)
    if (s < 0) == (seconds < 0) and not (s == seconds and w == window) and not is_over(s, w, now) then
      prefixes[#prefixes + 1] = window_prefix(lane, s, w)
    end
  end
  return prefixes
end

-- Likewise, where one is to be written. A window is noted when it is first written to, for `forget_ids`: an expiry on every bucket
-- would cost memory, and a look at each id whether its bucket is new.
local function noted_windows_of(lane, seconds, now)
  redis.call('HSETNX', lane .. ':windows', string.format('%d:%d', seconds, math.floor(now / math.abs(seconds))), 0)
  return windows_of(lane, seconds, now)
end

local function found_in(windows, bucket, digest)
  for _, prefix in ipairs(windows) do
    local had = redis.call('HGET', prefix .. bucket, digest)
    if had then return had end
  end
  return false
end

-- The number of an id's bucket, the same in every window: out of the first 18 bits of its digest, which is base64.
local function bucket_of(digest)
  local first, second, third = digest:byte(1, 3)
  return (first * 4096 + second * 64 + third) % BUCKETS
end

-- The value that is remembered of an id, false when there is none; and the bucket it belongs into now. `windows` is a cache.
-- What is known by hearsay was counted: by a call that is in Postgres, or by one that its writer makes again now. So a new call
-- finds it known, and one that is replayed does not.
local function recall(lane, windows, seconds, now, digest, replayed)
  local prefixes = windows[seconds]
  if not prefixes then prefixes = noted_windows_of(lane, seconds, now); windows[seconds] = prefixes end
  local bucket = bucket_of(digest)
  local had = found_in(prefixes, bucket, digest)
  if had and had:byte(1) == HEARSAY then had = not replayed and had:sub(2) end
  return had, prefixes[1] .. bucket
end

-- Sorts items into exceptions (replays and mismatches), fresh ones, and repeats of fresh ones in the same call, which share the
-- fate of the first. Lists of plain values, and not a table an item: a call may bring a thousand. `skipped` is nil but in a
-- replay.
local function judge(lane, items, now, exceptions, skipped)
  local fresh = {index = {}, p = {}, counter = {}, value = {}, digest = {}, bucket = {}}
  local repeats, first, windows, n = {}, {}, {}, 0
  for i = 1, #items, ITEM do
    local value, digest = items[i + 2], items[i + 3]
    local index, earlier, had, current = (i - 1) / ITEM, first[digest], nil, nil
    if not (skipped and skipped[items[i]]) then -- in Postgres, and its id is put back
      if earlier then had = fresh.value[earlier]
      else had, current = recall(lane, windows, items[i + 4], now, digest, skipped) end
      if not had then
        n = n + 1
        first[digest] = n
        fresh.index[n], fresh.p[n], fresh.counter[n] = index, items[i], items[i + 1]
        fresh.value[n], fresh.digest[n], fresh.bucket[n] = value, digest, current
      elseif had ~= value then
        exceptions[#exceptions + 1] = 'm' .. index
      elseif earlier then
        repeats[index] = earlier
      else
        exceptions[#exceptions + 1] = 'r' .. index
      end
    end
  end
  return fresh, repeats
end

-- Adds the fresh items; -> position among the fresh -> true for those refused. Where doubles would not keep a counter's sum
-- exact, its items are added one by one: one value alone may itself be a sum, and comes as text.
local function add_fresh(lane, open, any_full, fresh)
  local sums, sizes, refused, together, refused_counter = {}, {}, {}, {}, {} -- a size: of a sum without signs
  for k, counter in ipairs(fresh.counter) do
    local p, amount = fresh.p[k], tonumber(amount_of(fresh.value[k]))
    if not sums[counter] then
      local list = together[p]
      if not list then list = {}; together[p] = list end
      list[#list + 1] = counter
    end
    sums[counter], sizes[counter] = (sums[counter] or 0) + amount, (sizes[counter] or 0) + math.abs(amount)
  end
  for p, counters in pairs(together) do
    local small, amounts = {}, {}
    for _, counter in ipairs(counters) do
      if sizes[counter] < EXACT_MAX then
        small[#small + 1], amounts[#amounts + 1] = counter, sums[counter]
      end
    end
    if #small > 0 then
      for i in pairs(add_many(lane, open[p][1], any_full, small, amounts)) do refused_counter[small[i]] = true end
    end
  end
  for k, counter in ipairs(fresh.counter) do
    if sizes[counter] < EXACT_MAX then refused[k] = refused_counter[counter]
    else refused[k] = not add(lane, open[fresh.p[k]][1], any_full, counter, amount_of(fresh.value[k])) end
  end
  return refused
end

local function remember(fresh, repeats, refused, exceptions)
  for k, digest in ipairs(fresh.digest) do
    if refused[k] then exceptions[#exceptions + 1] = 'x' .. fresh.index[k]
    else redis.call('HSET', fresh.bucket[k], digest, fresh.value[k]) end
  end
  for index, k in pairs(repeats) do
    exceptions[#exceptions + 1] = (refused[k] and 'x' or 'r') .. index
  end
end

local function add_sums(lane, open, any_full, sums, exceptions, skipped)
  local ordinal = 0
  for _, group in ipairs(sums) do
    if not (skipped and skipped[group.p]) then
      for i in pairs(add_many(lane, open[group.p][1], any_full, group.c, group.s)) do
        exceptions[#exceptions + 1] = 's' .. (ordinal + i - 1)
      end
    end
    ordinal = ordinal + #group.c
  end
end

-- A counter's total and its sum in the open batch; the total is nil when neither store knows the counter. Nothing when the
-- half that the node has read of Postgres does not fit (settlement.value_of).
local function total_of(lane, p, batch, counter, stored, settled)
  local number, total = tonumber(batch[3]), stored ~= '' and integer(stored) or nil
  local function take(sum)
    if sum then total = total and plus(total, integer(sum)) or integer(sum) end
  end
  if number == settled + 2 then
    local sealed = redis.call('HGET', lane .. ':sealed', p)
    if not sealed or tonumber(sealed) ~= settled + 1 then return end
    take(redis.call('HGET', batch_key(lane, p, sealed), counter))
  elseif number ~= settled + 1 then
    return
  end
  local sum = redis.call('HGET', batch[1], counter)
  take(sum)
  return true, total, sum and integer(sum) or {0, 0}
end

-- Decides one operation, and counts it when it is to be counted; `value` is '' for a reset, `had` what its id was remembered
-- with. -> a letter as node/call.py describes them, and the total or what was taken, as text.
local function decide(lane, p, batch, any_full, had, counter, value, stored, settled, least, most)
  local reset = value == ''
  if reset and had then
    if had:byte(1) == TAKEN then return 'r', had:sub(2) end
    return 'm', ''
  end
  local fits, total, sum = total_of(lane, p, batch, counter, stored, settled)
  if not fits then return 'a', '' end
  local now = total and text_of(total) or ''
  if had then return had == value and 'r' or 'm', now end
  if reset and not total then return 'n', '' end
  local amount = reset and integer(negated(now)) or integer(value)
  local after, sum_after = plus(total or {0, 0}, amount), plus(sum, amount)
  if (least ~= '' and less(after, integer(least))) or (most ~= '' and less(integer(most), after)) then return 'b', now end
  if not (less(LEAST, sum_after) and less(sum_after, MOST)) then return 'x', now end
  if any_full and redis.call('SISMEMBER', lane .. ':full', counter) == 1 then return 'x', now end
  redis.call('HINCRBY', batch[1], counter, text_of(amount))
  return 'c', reset and now or text_of(after)
end

-- Partition -> those of the exceptions that say that something was not counted.
local function refusals(payload, exceptions)
  local found, group_of = {}, {}
  if #exceptions == 0 then return found end
  for _, group in ipairs(payload.sums) do
    for _ = 1, #group.c do group_of[#group_of + 1] = group.p end
  end
  for _, exception in ipairs(exceptions) do
    local kind, index = exception:byte(1), tonumber(exception:sub(2))
    if kind ~= REPLAYED then
      local p = kind == SUM and group_of[index + 1] or payload.ids[index * ITEM + 1]
      found[p] = (found[p] and found[p] .. ' ' or '') .. exception
    end
  end
  return found
end

-- Decides operations in their order; each sees the ones before. A total is right only once everything is back that Redis had
-- lost, so until then all are apart; a replay is made in just that time, and decides nothing. What was counted is added to
-- `outcomes`.
local function decide_all(lane, decided, open, any_full, now, exceptions, outcomes, whole)
  local windows = {}
  for i = 1, #decided, DECIDED do
    local p, counter, value, stored, settled, least, most, digest, seconds = unpack(decided, i, i + DECIDED - 1)
    local kind, number, had, bucket = 'a', '', nil, nil
    if whole then
      if digest ~= '' then had, bucket = recall(lane, windows, seconds, now, digest) end
      kind, number = decide(lane, p, open[p], any_full, had, counter, value, stored, settled, least, most)
    end
    local ruling = 'd' .. (i - 1) / DECIDED .. ':' .. kind .. number
    exceptions[#exceptions + 1] = ruling
    if kind == 'c' then
      if bucket then redis.call('HSET', bucket, digest, value == '' and string.char(TAKEN) .. number or value) end
      outcomes[p] = (outcomes[p] and outcomes[p] .. ' ' or '') .. ruling
    end
  end
end

-- What was decided, and what was refused, is noted beside the writer's call number in the batch, and so reaches Postgres with it:
-- should Redis forget the answer of a call that is in flight, the writer still learns what became of it. More than the last two
-- calls cannot be in flight; of an older one the writer has the answer.
local function note_outcomes(writer, call, open, outcomes)
  for p, outcome in pairs(outcomes) do
    redis.call('HSET', open[p][2], writer .. '/' .. tonumber(call) % CALLS_IN_FLIGHT, call .. ' ' .. outcome)
  end
end

-- args: writer, the incarnation it has come back in, call number, payload; for a replay also the partitions that have this call
-- in Postgres, as a JSON array: what belongs to them is left alone. A replay is not refused for a counter that is full meanwhile:
-- what was acknowledged fits below it. Answer: the exceptions, as node/call.py describes them.
local function append(keys, args)
  local lane, writer, call = keys[1], args[1], args[3]
  local me = lane .. ':w:' .. writer
  local answer = known_answer(lane, me, args[2], call, args[5])
  if answer then return answer end
  local payload = cjson.decode(args[4])
  local open, unrepaired = open_batches(lane, payload)
  if unrepaired then return unrepaired end
  local now = tonumber(redis.call('TIME')[1])
  local exceptions, skipped = {}, nil
  if args[5] then
    skipped = {}
    for _, p in ipairs(cjson.decode(args[5])) do skipped[p] = true end
  end
  local any_full = not skipped and redis.call('EXISTS', lane .. ':full') == 1
  local fresh, repeats = judge(lane, payload.ids, now, exceptions, skipped)

  for p, batch in pairs(open) do
    if not (skipped and skipped[p]) then redis.call('HSET', batch[2], writer, call) end
  end
  add_sums(lane, open, any_full, payload.sums, exceptions, skipped)
  remember(fresh, repeats, add_fresh(lane, open, any_full, fresh), exceptions)
  local outcomes = refusals(payload, exceptions)
  if payload.decided then
    decide_all(lane, payload.decided, open, any_full, now, exceptions, outcomes, not skipped and is_whole(lane))
  end
  note_outcomes(writer, call, open, outcomes)

  answer = table.concat(exceptions, ' ')
  redis.call('HSET', me, 'last', call, call, answer)
  redis.call('HDEL', me, string.format('%d', tonumber(call) - CALLS_IN_FLIGHT))
  return answer
end

-- args: writer, the number before its next call. Answer: {1 when it was known before, number of its last call}.
-- A writer is introduced before its first call. One that was forgotten is refused: taken for a new one, its call in flight
-- could be counted a second time.
local function introduce(keys, args)
  local me = keys[1] .. ':w:' .. args[1]
  local new = redis.call('HSETNX', me, 'last', args[2])
  return {1 - new, tonumber(redis.call('HGET', me, 'last'))}
end

-- args: writers that are dead. Their names are forgotten, so that one which is not dead after all is refused.
local function forget_writers(keys, args)
  for _, writer in ipairs(args) do redis.call('DEL', keys[1] .. ':w:' .. writer) end
  return #args
end

-- args: seconds, digest, value, ... Puts back ids whose increments Postgres has, or that are known by hearsay only. One that
-- is known stays as it is, unless it was hearsay.
local function remember_ids(keys, args)
  local now, windows = tonumber(redis.call('TIME')[1]), {}
  for i = 1, #args, 3 do
    local seconds, digest = tonumber(args[i]), args[i + 1]
    windows[seconds] = windows[seconds] or noted_windows_of(keys[1], seconds, now)
    local bucket, prefixes = bucket_of(digest), windows[seconds]
    local had = found_in(prefixes, bucket, digest)
    if not had or (had:byte(1) == HEARSAY and args[i + 2]:byte(1) ~= HEARSAY) then
      redis.call('HSET', prefixes[1] .. bucket, digest, args[i + 2])
    end
  end
  return #args / 3
end

-- args: incarnation. Every writer has put back what Redis had lost: reads are exact again.
local function whole(keys, args)
  if redis.call('HGET', keys[1] .. ':meta', 'incarnation') ~= args[1] then return 0 end
  redis.call('HSET', keys[1] .. ':meta', 'whole', args[1])
  return 1
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

-- args: cluster id, incarnation, {"<partition>": <settled>} as JSON, the run and the life that were found, a life for a Redis
-- that has none, full counters... A batch numbered <= settled is what is left of the settled one, so it goes; the open number is
-- then the next. Any node may do this, at any time, again. Answer: the life. An incarnation that was raised for the Redis before
-- it was flushed says nothing of the one after.
local function repair(keys, args)
  local lane, meta = keys[1], keys[1] .. ':meta'
  local noted = redis.call('HMGET', meta, 'incarnation', 'life')
  local known, life = tonumber(noted[1] or '0'), noted[2] or ''
  if known > tonumber(args[2]) then return refuse('STALE', 'incarnation ' .. known .. ' is newer than ' .. args[2]) end
  if life ~= args[5] then return refuse('STALE', 'Redis is not the one that was found') end
  note_full(lane, args, 7)
  for p, settled in pairs(cjson.decode(args[3])) do
    drop_settled(lane, p, settled)
    local open = tonumber(redis.call('HGET', lane .. ':open', p) or '0')
    if open <= settled then
      if open > 0 then redis.call('UNLINK', batch_key(lane, p, open), calls_key(lane, p, open)) end
      redis.call('HSET', lane .. ':open', p, string.format('%d', settled + 1))
    end
  end
  if life == '' then life = args[6] end
  redis.call('HSET', meta, 'cluster', args[1], 'incarnation', args[2], 'run', args[4], 'life', life)
  return life
end

-- args: how many buckets at most. Deletes those of windows that nobody looks into any more, a piece at a time.
-- Answer: how many of such windows are left.
local function forget_ids(keys, args)
  local lane, now, budget, left = keys[1], tonumber(redis.call('TIME')[1]), tonumber(args[1]), 0
  local windows = redis.call('HGETALL', lane .. ':windows')
  for i = 1, #windows, 2 do
    local seconds, window = windows[i]:match('(-?%d+):(%d+)')
    if is_over(seconds, window, now) then
      local prefix, from = window_prefix(lane, seconds, window), tonumber(windows[i + 1])
      local to = math.min(from + budget, BUCKETS)
      for bucket = from, to - 1 do redis.call('UNLINK', prefix .. bucket) end
      budget = budget - (to - from)
      if to == BUCKETS then
        redis.call('HDEL', lane .. ':windows', windows[i])
      else
        redis.call('HSET', lane .. ':windows', windows[i], to)
        left = left + 1
      end
    end
  end
  return left
end

-- args: the run of the server that is meant, seconds, digest. Answer: the value that is remembered of an id, or false.
local function receipt(keys, args)
  local lane, seconds, digest = keys[1], tonumber(args[2]), args[3]
  if not is_readable(lane, args[1]) then return refuse('UNREPAIRED', 'what Redis had lost is being put back') end
  local had = found_in(windows_of(lane, seconds, tonumber(redis.call('TIME')[1])), bucket_of(digest), digest)
  return had and (had:byte(1) == HEARSAY and had:sub(2) or had)
end

-- args: the run of the server that is meant, [{"p": "<partition>", "c": ["<counter>", ...]}, ...] as JSON. Answer: for each
-- partition {open number, sealed number, {sums in the sealed batch}, {sums in the open one}}, false where there is none.
local function read(keys, args)
  local lane, groups, partitions, answer = keys[1], cjson.decode(args[2]), {}, {}
  if not is_readable(lane, args[1]) then return refuse('UNREPAIRED', 'what Redis had lost is being put back') end
  for i, group in ipairs(groups) do partitions[i] = group.p end
  local open = redis.call('HMGET', lane .. ':open', unpack(partitions))
  local sealed = redis.call('HMGET', lane .. ':sealed', unpack(partitions))
  for i, group in ipairs(groups) do
    if not open[i] then return refuse('UNREPAIRED', 'partition ' .. group.p .. ' has no number') end
    answer[i] = {
      open[i], sealed[i], sealed[i] and redis.call('HMGET', batch_key(lane, group.p, sealed[i]), unpack(group.c)),
      redis.call('HMGET', batch_key(lane, group.p, open[i]), unpack(group.c)),
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
register('forget_writers', forget_writers, {'allow-oom'})
register('remember_ids', remember_ids, {'allow-oom'})
register('whole', whole, {'allow-oom'})
register('seal', seal, {'allow-oom'})
register('drop', drop, {'allow-oom'})
register('repair', repair, {'allow-oom'})
register('forget_ids', forget_ids, {'allow-oom'})
register('receipt', receipt, {'no-writes', 'allow-oom'})
register('read', read, {'no-writes', 'allow-oom'})

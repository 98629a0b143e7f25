-- The verbs by which the Pod API drives the Server, for Prosody 0.12 and 13.0. Wire and promises:
-- docs/prosody-module.md.
--
--   HTTP -> access (who asks) -> fields (what with)
--     -> a verb of accounts, changes, probe, profiles, reload
--
-- What comes in is JSON of a few known fields, each checked by its kind; nothing of it is ever
-- compiled, and no text of Lua's goes out.

local json = require "util.json"
local server = require "net.http.server"
local utf8_valid = require "util.encodings".utf8.valid
local roles = module:require "mod_stele/roles"

local VERSION = 1
local LONGEST_BODY = 16 * 1024

-- What the parts share: each adds to it what the later ones may use.
local stele = { verbs = {} }

-- Refusals

local refusal_mt = {}

-- Ends a verb.
function stele.refuse(status, word, cause)
  error(setmetatable({ status = status, word = word, cause = cause }, refusal_mt), 0)
end

function stele.must(done)
  if not done then stele.refuse(500, "failed", "the Server can't; its log says why") end
end

for _, part in ipairs { "fields", "access", "changes", "accounts", "profiles", "probe", "reload" } do
  module:require(part)(stele)
end

stele.verbs.version = { run = function()
  return { prosody = prosody.version, module = VERSION, started = math.floor(prosody.start_time) }
end }

-- HTTP

-- A connection of this machine, in clear, that nobody forwarded.
local function is_direct(request)
  local ip, headers = request.conn:ip(), request.headers
  return (ip == "127.0.0.1" or ip == "::1") and not request.conn:ssl()
    and not (headers.forwarded or headers.x_forwarded_for or headers.via)
end

local function read_input(verb, body)
  if #body > (verb.longest_body or LONGEST_BODY) then
    stele.refuse(413, "too_large", "the body is longer than that of this verb may be")
  end
  local is_json, input = pcall(json.decode, body)
  if not utf8_valid(body) or not is_json or type(input) ~= "table" or getmetatable(input) then
    stele.refuse(400, "malformed", "the body must be a JSON object")
  end
  local checked, unknown = {}, {}
  for name in pairs(input) do unknown[name] = true end
  for _, name in ipairs(verb.needs or {}) do checked[name], unknown[name] = stele.checks[name](input[name]), nil end
  for _, name in ipairs(verb.may or {}) do
    if input[name] ~= nil then checked[name], unknown[name] = stele.checks[name](input[name]), nil end
  end
  if next(unknown) ~= nil then stele.refuse(400, "malformed", "the body has a field that isn't known here") end
  return checked
end

local function answer(name, request, response)
  stele.authenticate(request)
  local verb = stele.verbs[name]
  if not verb then stele.refuse(404, "no_such_verb", "there is no such verb") end
  return verb.run(read_input(verb, request.body), response)
end

-- A result that is text is JSON already.
local function send(response, status, result)
  response.status_code = status
  response:send(type(result) == "string" and result or json.encode(result))
end

local function handle(event)
  local request, response = event.request, event.response
  if not is_direct(request) then return end
  local headers = response.headers
  headers.content_type, headers.cache_control = "application/json", "no-store"
  if request.body == false then -- too long for Prosody, or of a length that isn't said beforehand
    response.persistent, headers.connection = false, "close"
    local message = "cannot read the body: its length must be said, up to 10 MB"
    send(response, 413, { error = "too_large", message = message })
    return true
  end
  local name = request.path:match("^/stele/v1/([a-z_]+)$") or ""
  local done, result = pcall(answer, name, request, response)
  if done then
    if result then send(response, 200, result) end -- else it comes later
    return true
  end
  if getmetatable(result) ~= refusal_mt then
    module:log("error", "cannot %s: %s", name, tostring(result))
    result = { status = 500, word = "failed", cause = "the Server can't; its log says why" }
  end
  if result.status == 401 then headers.www_authenticate = 'Basic realm="stele"' end
  if result.status == 429 then headers.retry_after = "5" end
  local message = ("cannot %s: %s"):format(stele.verbs[name] and name or "do this", result.cause)
  send(response, result.status, { error = result.word, message = message })
  return true
end

module:depends("http")
-- Signals are 13.0's own business; 0.12 has a module for them.
if not roles.are_primary then module:depends("posix") end
-- Whatever the `Host` is: the API asks for an address.
module:hook_object_event(server, "POST /stele/v1/*", handle)

stele.watch_all()
stele.make_account()

function module.unload()
  stele.stop_probing() -- what was wrapped last is unwrapped first
  stele.stop_watching()
end

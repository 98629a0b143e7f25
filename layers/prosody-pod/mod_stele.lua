-- The verbs by which the Pod API drives the Server, for Prosody 0.12 and 13.0. Wire and promises:
-- docs/prosody-module.md.
--
-- What comes in is JSON of a few known fields, each checked by its kind; nothing of it is ever
-- compiled, and no text of Lua's goes out.

local array = require "util.array"
local base64 = require "util.encodings".base64
local cache = require "util.cache"
local config = require "core.configmanager"
local hashes = require "util.hashes"
local hostmanager = require "core.hostmanager"
local json = require "util.json"
local modulemanager = require "core.modulemanager"
local random = require "util.random"
local server = require "net.http.server"
local stringprep = require "util.encodings".stringprep
local storagemanager = require "core.storagemanager"
local throttle = require "util.throttle"
local usermanager = require "core.usermanager"
local utf8_valid = require "util.encodings".utf8.valid

local VERSION = 1
local API_USER = "prose-pod-api"
local API_JID = API_USER .. "@" .. module.host
local LONGEST_BODY = 16 * 1024
local LONGEST_LOCALPART = 64 -- in bytes: as a file's name with each one escaped it still fits
local LONGEST_PASSWORD = 1024
local MOST_CHANGES = 1024 -- that are remembered
local MOST_WAITING = 16
local LONGEST_WAIT = 25 -- seconds; below the 30 s that proxies are silent for
local COMPONENTS_AFTER = 0.1 -- seconds
local ROLES = { ["prosody:admin"] = true, ["prosody:member"] = true, ["prosody:registered"] = true }

-- Refusals

local refusal_mt = {}

local function refuse(status, word, cause)
  error(setmetatable({ status = status, word = word, cause = cause }, refusal_mt), 0)
end

-- Fields: each returns the value in its one normal form, or refuses it

local function is_text(value, longest)
  return type(value) == "string" and #value >= 1 and #value <= longest and utf8_valid(value)
    and not value:find("%c")
end

local function malformed(field, form)
  refuse(400, "malformed", ("`%s` must be %s"):format(field, form))
end

local fields = {}

function fields.host(value)
  local host = is_text(value, 253) and stringprep.nameprep(value, true)
  if not host then malformed("host", "a domain") end
  local session = prosody.hosts[host]
  if not session or session.type ~= "local" or host == module.host then
    refuse(404, "no_such_host", "this server has no accounts at that host")
  end
  return host
end

function fields.localpart(value)
  local name = is_text(value, LONGEST_LOCALPART) and stringprep.nodeprep(value, true)
  if not name or not is_text(name, LONGEST_LOCALPART) then
    malformed("localpart", "the local part of an XMPP address, of 1 to " .. LONGEST_LOCALPART .. " bytes")
  end
  return name
end

function fields.password(value)
  if not is_text(value, LONGEST_PASSWORD) or (stringprep.saslprep(value) or "") == "" then
    malformed("password", "text of 1 to " .. LONGEST_PASSWORD .. " bytes without control characters")
  end
  return value
end

function fields.new(value)
  if type(value) ~= "string" or not value:find("^[!-~]+$") or #value < 32 or #value > 512 then
    malformed("new", "32 to 512 printable ASCII characters without blanks")
  end
  return value
end

function fields.role(value)
  if type(value) ~= "string" or not ROLES[value] then
    malformed("role", "prosody:admin, prosody:member or prosody:registered")
  end
  return value
end

local function whole(value, most)
  return type(value) == "number" and value >= 0 and value <= most and value % 1 == 0
end

function fields.since(value)
  if not whole(value, 2 ^ 53) then malformed("since", "a number of `seq`") end
  return value
end

function fields.wait(value)
  if not whole(value, LONGEST_WAIT) then malformed("wait", "0 to " .. LONGEST_WAIT .. " seconds") end
  return value
end

-- Accounts, whose functions differ between 0.12 and 13.0

local has_primary_roles = usermanager.get_user_role ~= nil -- since 13.0

local function role_of(localpart, host)
  if has_primary_roles then
    local role = usermanager.get_user_role(localpart, host)
    return role and role.name or "prosody:registered"
  end
  local roles = usermanager.get_roles(localpart .. "@" .. host, host) or {}
  if roles["prosody:admin"] then return "prosody:admin" end
  return roles["prosody:registered"] and "prosody:registered" or "prosody:member"
end

local function set_role(localpart, host, role)
  if has_primary_roles then return usermanager.set_user_role(localpart, host, role) end
  return usermanager.set_roles(localpart .. "@" .. host, host, { [role] = true })
end

local function account_of(localpart, host)
  local account = { localpart = localpart, role = role_of(localpart, host) }
  local info = usermanager.get_account_info and usermanager.get_account_info(localpart, host)
  account.created = info and info.created -- since 13.0
  return account
end

local function must_exist(input)
  if not usermanager.user_exists(input.localpart, input.host) then
    refuse(404, "no_such_account", "there is no such account")
  end
end

local function must(done)
  if not done then refuse(500, "failed", "the Server can't; its log says why") end
end

-- Changes, numbered. The numbers of a process start beyond all of those before it: whoever kept one
-- over a restart is told that it is gone.

local first = os.time() * 0x100000
local seq, ring = first, {}
local waiting = {}

local function changes_after(since)
  local changes = array()
  for number = since + 1, seq do
    changes:push(ring[number % MOST_CHANGES])
  end
  return { seq = seq, changes = changes }
end

local function answer_all()
  local waiters = waiting
  waiting = {}
  for _, waiter in ipairs(waiters) do waiter.answer() end
end

local function record(change)
  seq = seq + 1
  change.seq = seq
  ring[seq % MOST_CHANGES] = change
  answer_all()
end

local function record_of(kind, localpart, host, more)
  if host == module.host then return end
  local change = more or {}
  change.kind, change.localpart, change.host = kind, localpart, host
  record(change)
end

local online = {}

local function note_presence(localpart, host)
  local jid = localpart .. "@" .. host
  local is_online = prosody.hosts[host].sessions[localpart] ~= nil
  if is_online ~= (online[jid] or false) then
    online[jid] = is_online or nil
    record_of("presence", localpart, host, { online = is_online })
  end
end

-- Every way to make an account ends in its host's provider, and only some tell of it.
local wrapped = {}

local function wrap_provider(host)
  local provider = prosody.hosts[host].users
  local create = provider.create_user
  local function create_and_tell(localpart, ...)
    local done, err = create(localpart, ...)
    if done then record_of("account", localpart, host, { exists = true, role = role_of(localpart, host) }) end
    return done, err
  end
  provider.create_user = create_and_tell
  wrapped[#wrapped + 1] = function()
    if provider.create_user == create_and_tell then provider.create_user = create end
  end
end

local function watch(host)
  local session = prosody.hosts[host]
  if not session or session.type ~= "local" or host == module.host then return end
  wrap_provider(host)
  for localpart in pairs(session.sessions) do online[localpart .. "@" .. host] = true end
  local function changed(event) note_presence(event.session.username, host) end
  module:hook_object_event(session.events, "resource-bind", changed)
  module:hook_object_event(session.events, "resource-unbind", changed)
end

module:hook_global("host-activated", function(host)
  watch(host)
  if prosody.hosts[host].type == "local" then record({ kind = "host", host = host, exists = true }) end
end, -10)
module:hook_global("host-deactivated", function(host)
  record({ kind = "host", host = host, exists = false })
end)
module:hook_global("user-deleted", function(event)
  record_of("account", event.username, event.host, { exists = false })
end)
module:hook_global("user-password-changed", function(event)
  record_of("password", event.username, event.host)
end)
for _, name in ipairs { "user-role-changed", "user-roles-changed" } do -- 13.0 and 0.12
  module:hook_global(name, function(event)
    local localpart, host = event.username, event.host
    if usermanager.user_exists(localpart, host) then
      record_of("role", localpart, host, { role = role_of(localpart, host) })
    end
  end)
end

-- Who asks: the account that the API and the Server share. Its verified secret is kept as a digest
-- by a key of this process, since hashing a password as it is stored takes as long as 1000 requests.

local digest_key = random.bytes(32)
local known -- the digest of the account's secret, once that is certain
local failures = throttle.create(20, 20) -- wrong secrets; a right one is never held up

local function digest(secret) return hashes.hmac_sha256(digest_key, secret) end

module:hook_global("user-password-changed", function(event)
  if event.host == module.host and event.username == API_USER then known = nil end
end)

local function credential()
  local folder = os.getenv("CREDENTIALS_DIRECTORY")
  for _, name in ipairs { "current", "bootstrap" } do
    local file = folder and io.open(folder .. "/" .. name, "rb")
    if file then
      local secret = file:read("a"):gsub("\n$", "")
      file:close()
      return secret
    end
  end
end

local function make_account()
  if usermanager.user_exists(API_USER, module.host) then return end
  local secret = credential()
  if not secret or secret == "" or #secret > LONGEST_PASSWORD then
    module:log("error", "cannot create account %s: there is no credential for it", API_JID)
  elseif usermanager.create_user(API_USER, secret, module.host) then
    known = digest(secret)
  else
    module:log("error", "cannot create account %s: its credential is no password", API_JID)
  end
end

local function authenticate(request)
  local encoded = (request.headers.authorization or ""):match("^[Bb]asic +([%w+/=]+)$")
  local user, secret = (encoded and base64.decode(encoded) or ""):match("^([^:]*):(.+)$")
  if user ~= API_JID or #secret > LONGEST_PASSWORD then
    refuse(401, "unauthorized", "that isn't the Pod API")
  end
  if known and hashes.equals(known, digest(secret)) then return end
  if not failures:poll(1) then refuse(429, "slow_down", "there were too many wrong secrets") end
  if known or not usermanager.test_password(API_USER, module.host, secret) then
    refuse(401, "unauthorized", "that isn't the secret")
  end
  known = digest(secret)
end

-- Verbs

local verbs = {}

verbs.version = { run = function()
  return { prosody = prosody.version, module = VERSION, started = math.floor(prosody.start_time) }
end }

verbs.rotate_secret = { needs = { "new" }, run = function(input)
  if hashes.equals(known, digest(input.new)) then
    refuse(409, "unchanged", "the new secret is the old one")
  end
  must(usermanager.set_password(API_USER, input.new, module.host))
  known = digest(input.new)
  return {}
end }

verbs.accounts = { needs = { "host" }, run = function(input)
  local accounts = array()
  for localpart in usermanager.users(input.host) do
    accounts:push(account_of(localpart, input.host))
  end
  accounts:sort(function(a, b) return a.localpart < b.localpart end)
  return { seq = seq, accounts = accounts }
end }

verbs.account = { needs = { "host", "localpart" }, run = function(input)
  must_exist(input)
  local account = account_of(input.localpart, input.host)
  account.exists = true
  return account
end }

verbs.create_account = { needs = { "host", "localpart", "password", "role" }, run = function(input)
  local localpart, host = input.localpart, input.host
  if usermanager.user_exists(localpart, host) then
    refuse(409, "exists", "there is such an account already")
  end
  -- The role first: if the power goes in between there is no account with another role than asked.
  must(set_role(localpart, host, input.role))
  if not usermanager.create_user(localpart, input.password, host) then
    storagemanager.purge(localpart, host)
    must(false)
  end
  return { localpart = localpart }
end }

verbs.delete_account = { needs = { "host", "localpart" }, run = function(input)
  must_exist(input)
  must(usermanager.delete_user(input.localpart, input.host))
  return {}
end }

verbs.set_password = { needs = { "host", "localpart", "password" }, run = function(input)
  must_exist(input)
  must(usermanager.set_password(input.localpart, input.password, input.host))
  return {}
end }

verbs.set_role = { needs = { "host", "localpart", "role" }, run = function(input)
  must_exist(input)
  -- Setting a role ends the account's sessions: not for nothing.
  if role_of(input.localpart, input.host) ~= input.role then
    must(set_role(input.localpart, input.host, input.role))
  end
  return {}
end }

local wrong_passwords = cache.new(4096)

verbs.check_password = { needs = { "host", "localpart", "password" }, run = function(input)
  local localpart, host = input.localpart, input.host
  local jid = localpart .. "@" .. host
  local left = wrong_passwords:get(jid) or throttle.create(10, 60)
  if not left:peek(1) then refuse(429, "slow_down", "there were too many wrong passwords") end
  local is_right
  if usermanager.user_exists(localpart, host) then
    is_right = usermanager.test_password(localpart, host, input.password) == true
  else -- takes as long
    hashes.pbkdf2_hmac_sha1(input.password, jid, 10000)
    is_right = false
  end
  if not is_right then
    left:poll(1)
    wrong_passwords:set(jid, left)
  end
  return { ok = is_right }
end }

verbs.sessions = { needs = { "host" }, may = { "localpart" }, run = function(input)
  local sessions = array()
  for localpart, user in pairs(prosody.hosts[input.host].sessions) do
    if not input.localpart or localpart == input.localpart then
      for resource, session in pairs(user.sessions) do
        local since = session.conntime and math.floor(session.conntime)
        sessions:push({ localpart = localpart, resource = resource, since = since })
      end
    end
  end
  return { sessions = sessions }
end }

verbs.modules = { run = function()
  local modules = {}
  for host in pairs(prosody.hosts) do
    modules[host] = array()
    for name in pairs(modulemanager.get_modules(host)) do modules[host]:push(name) end
    modules[host]:sort()
  end
  return { modules = modules }
end }

-- Answers at once if there is something to tell; else when there is, or after `wait`.
local function wait_for_changes(since, seconds, response)
  local waiter = {}
  local timer
  local function forget()
    timer:stop()
    for at, other in ipairs(waiting) do
      if other == waiter then table.remove(waiting, at) end
    end
  end
  function waiter.answer()
    if not response.finished then response:send(json.encode(changes_after(since))) end
  end
  timer = module:add_timer(seconds, waiter.answer)
  response.on_destroy = forget
  waiting[#waiting + 1] = waiter
  if #waiting > MOST_WAITING then waiting[1].answer() end
end

verbs.changes = { needs = { "since" }, may = { "wait" }, run = function(input, response)
  local since = input.since // 1 | 0
  if since > seq or since < math.max(first, seq - MOST_CHANGES) then
    refuse(410, "gone", "changes after that number aren't known: read everything anew")
  end
  if since == seq and (input.wait or 0) > 0 then
    return wait_for_changes(since, input.wait, response)
  end
  return changes_after(since)
end }

-- A new configuration, with the least disturbance: hosts and modules that come and go, modules that
-- read an option which has changed. What else has changed needs a restart, and the answer says so.

local READ_BY = { -- option = the modules that read it when they are loaded
  allow_unencrypted_plain_auth = { "saslauth" },
  archive_expires_after = { "mam" },
  c2s_require_encryption = { "tls", "saslauth" },
  contact_info = { "server_contact_info" },
  http_file_share_expires_after = { "http_file_share" },
  limits = { "limits" },
  muc_log_expires_after = { "muc_mam" },
  push_notification_with_body = { "cloud_notify" },
  push_notification_with_sender = { "cloud_notify" },
}
-- Read again at each reload, by Prosody or below.
local READ_ANYWAY = {
  component_module = true, defined = true, log = true, modules_disabled = true,
  modules_enabled = true, tls_profile = true,
}

local function alike(a, b)
  if type(a) ~= "table" or type(b) ~= "table" then return a == b end
  for key, value in pairs(a) do
    if not alike(value, b[key]) then return false end
  end
  for key in pairs(b) do
    if a[key] == nil then return false end
  end
  return true
end

-- The options of a host, or of `*`, that differ.
local function differences(before, after, host)
  local names, old, new = {}, rawget(before, host) or {}, rawget(after, host) or {}
  for name, value in pairs(old) do
    if not alike(value, rawget(new, name)) then names[name] = true end
  end
  for name in pairs(new) do
    if rawget(old, name) == nil then names[name] = true end
  end
  return names
end

-- Which modules of which host the changed options ask for, and whether Prosody must be restarted.
local function to_be_read_again(before, after, hosts)
  local again, needs_restart = {}, false
  local function add(names, readers_on)
    for name in pairs(names) do
      if not READ_BY[name] and not READ_ANYWAY[name] then
        module:log("info", "option %s has changed: that needs a restart", name)
        needs_restart = true
      end
      for _, reader in ipairs(READ_BY[name] or {}) do
        for _, host in ipairs(readers_on) do again[host .. "\n" .. reader] = { host, reader } end
      end
    end
  end
  local everywhere = { "*" }
  for _, host in ipairs(hosts) do
    everywhere[#everywhere + 1] = host
    add(differences(before, after, host), { host })
  end
  add(differences(before, after, "*"), everywhere)
  return again, needs_restart
end

local function wanted_modules(hosts)
  local wanted = {}
  for _, host in ipairs(hosts) do wanted[host] = modulemanager.get_modules_for_host(host) end
  return wanted
end

-- Is it of no host any more, though it isn't a host's alone? Then its ports close.
local function unload_if_unused(name)
  if not modulemanager.is_loaded("*", name) then return end
  for host in pairs(prosody.hosts) do
    if modulemanager.is_loaded(host, name) then return end
  end
  modulemanager.unload("*", name)
end

local function change_modules(before, after)
  for host, wanted in pairs(after) do
    for name in before[host] - wanted do
      modulemanager.unload(host, name)
      unload_if_unused(name)
    end
    for name in wanted - before[host] do modulemanager.load(host, name) end
  end
end

local function is_wanted(options, host)
  local own = rawget(options, host)
  return own ~= nil and own.enabled ~= false
end

local function kind_of(options, host)
  return (rawget(options, host) or {}).component_module
end

verbs.reload = { run = function(_, response)
  local before, staying, going = config.getconfig(), {}, {}
  local active = {}
  for host in pairs(prosody.hosts) do active[#active + 1] = host end
  local modules_before = wanted_modules(active)
  if not prosody.reload_config() then
    refuse(409, "bad_configuration", "Prosody refuses it; its log says why")
  end
  local after = config.getconfig()
  for _, host in ipairs(active) do
    local stays = is_wanted(after, host) and kind_of(before, host) == kind_of(after, host)
    stays = stays or host == module.host
    table.insert(stays and staying or going, host)
  end
  for _, host in ipairs(going) do hostmanager.deactivate(host) end
  local again, needs_restart = to_be_read_again(before, after, staying)
  change_modules(modules_before, wanted_modules(staying))
  for _, reader in pairs(again) do
    if modulemanager.is_loaded(reader[1], reader[2]) then modulemanager.reload(reader[1], reader[2]) end
  end
  local components = {}
  for host in pairs(after) do
    if host ~= "*" and is_wanted(after, host) and not prosody.hosts[host] then
      if kind_of(after, host) then components[#components + 1] = host else hostmanager.activate(host) end
    end
  end
  local result = { restart = needs_restart }
  if not components[1] then return result end
  -- Clients needn't wait for rooms and uploads: those that are at the door come first.
  module:add_timer(COMPONENTS_AFTER, function()
    for _, host in ipairs(components) do
      if not prosody.hosts[host] then hostmanager.activate(host) end
    end
    if not response.finished then response:send(json.encode(result)) end
  end)
end }

-- HTTP

-- A connection of this machine, in clear, that nobody forwarded.
local function is_direct(request)
  local ip, headers = request.conn:ip(), request.headers
  return (ip == "127.0.0.1" or ip == "::1") and not request.conn:ssl()
    and not (headers.forwarded or headers.x_forwarded_for or headers.via)
end

local function read_input(verb, body)
  if #body > LONGEST_BODY then refuse(413, "too_large", "the body has more than 16 KiB") end
  local is_json, input = pcall(json.decode, body)
  if not utf8_valid(body) or not is_json or type(input) ~= "table" or getmetatable(input) then
    refuse(400, "malformed", "the body must be a JSON object")
  end
  local checked, unknown = {}, {}
  for name in pairs(input) do unknown[name] = true end
  for _, name in ipairs(verb.needs or {}) do checked[name], unknown[name] = fields[name](input[name]), nil end
  for _, name in ipairs(verb.may or {}) do
    if input[name] ~= nil then checked[name], unknown[name] = fields[name](input[name]), nil end
  end
  if next(unknown) ~= nil then refuse(400, "malformed", "the body has a field that isn't known here") end
  return checked
end

local function answer(name, request, response)
  authenticate(request)
  local verb = verbs[name]
  if not verb then refuse(404, "no_such_verb", "there is no such verb") end
  return verb.run(read_input(verb, request.body), response)
end

local function send(response, status, result)
  response.status_code = status
  response:send(json.encode(result))
end

local function handle(event)
  local request, response = event.request, event.response
  if not is_direct(request) then return end
  local headers = response.headers
  headers.content_type, headers.cache_control = "application/json", "no-store"
  if request.body == false then -- too long for Prosody, or of a length that isn't said beforehand
    response.persistent, headers.connection = false, "close"
    local message = "cannot read the body: its length must be said, up to 16 KiB"
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
  local message = ("cannot %s: %s"):format(verbs[name] and name or "do this", result.cause)
  send(response, result.status, { error = result.word, message = message })
  return true
end

module:depends("http")
-- Signals are 13.0's own business; 0.12 has a module for them.
if not has_primary_roles then module:depends("posix") end
-- Whatever the `Host` is: the API asks for an address.
module:hook_object_event(server, "POST /stele/v1/*", handle)

for host in pairs(prosody.hosts) do watch(host) end
make_account()

function module.unload()
  answer_all()
  for _, unwrap in ipairs(wrapped) do unwrap() end
end

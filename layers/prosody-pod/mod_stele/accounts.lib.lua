-- Accounts: their names, roles, passwords and sessions.

local array = require "util.array"
local cache = require "util.cache"
local hashes = require "util.hashes"
local storagemanager = require "core.storagemanager"
local throttle = require "util.throttle"
local usermanager = require "core.usermanager"
local roles = module:require "mod_stele/roles"

local function account_of(localpart, host)
  local account = { localpart = localpart, role = roles.of(localpart, host) }
  local info = usermanager.get_account_info and usermanager.get_account_info(localpart, host)
  account.created = info and info.created -- since 13.0
  return account
end

local wrong_passwords = cache.new(4096)

return function(stele)
  function stele.must_exist(input)
    if not usermanager.user_exists(input.localpart, input.host) then
      stele.refuse(404, "no_such_account", "there is no such account")
    end
  end

  stele.verbs.accounts = { needs = { "host" }, run = function(input)
    local accounts = array()
    for localpart in usermanager.users(input.host) do
      accounts:push(account_of(localpart, input.host))
    end
    accounts:sort(function(a, b) return a.localpart < b.localpart end)
    return { seq = stele.seq(), accounts = accounts }
  end }

  stele.verbs.account = { needs = { "host", "localpart" }, run = function(input)
    stele.must_exist(input)
    local account = account_of(input.localpart, input.host)
    account.exists = true
    return account
  end }

  stele.verbs.create_account = { needs = { "host", "localpart", "password", "role" }, run = function(input)
    local localpart, host = input.localpart, input.host
    if localpart == roles.PROBE or usermanager.user_exists(localpart, host) then
      stele.refuse(409, "exists", "there is such an account already")
    end
    -- The role first: if the power goes in between there is no account with another role than asked.
    stele.must(roles.set(localpart, host, input.role))
    if not usermanager.create_user(localpart, input.password, host) then
      storagemanager.purge(localpart, host)
      stele.must(false)
    end
    return { localpart = localpart }
  end }

  stele.verbs.delete_account = { needs = { "host", "localpart" }, run = function(input)
    stele.must_exist(input)
    stele.must(usermanager.delete_user(input.localpart, input.host))
    return {}
  end }

  stele.verbs.set_password = { needs = { "host", "localpart", "password" }, run = function(input)
    stele.must_exist(input)
    stele.must(usermanager.set_password(input.localpart, input.password, input.host))
    return {}
  end }

  stele.verbs.set_role = { needs = { "host", "localpart", "role" }, run = function(input)
    stele.must_exist(input)
    -- Setting a role ends the account's sessions: not for nothing.
    if roles.of(input.localpart, input.host) ~= input.role then
      stele.must(roles.set(input.localpart, input.host, input.role))
    end
    return {}
  end }

  stele.verbs.check_password = { needs = { "host", "localpart", "password" }, run = function(input)
    local localpart, host = input.localpart, input.host
    local jid = localpart .. "@" .. host
    local left = wrong_passwords:get(jid) or throttle.create(10, 60)
    if not left:peek(1) then stele.refuse(429, "slow_down", "there were too many wrong passwords") end
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

  stele.verbs.sessions = { needs = { "host" }, may = { "localpart" }, run = function(input)
    local sessions = array()
    for localpart, user in pairs(prosody.hosts[input.host].sessions) do
      if localpart ~= roles.PROBE and (not input.localpart or localpart == input.localpart) then
        for resource, session in pairs(user.sessions) do
          local since = session.conntime and math.floor(session.conntime)
          sessions:push({ localpart = localpart, resource = resource, since = since })
        end
      end
    end
    return { sessions = sessions }
  end }
end

-- A new configuration, with the least disturbance: hosts and modules that come and go, modules that
-- read an option which has changed. What else has changed needs a restart, and the answer says so.

local array = require "util.array"
local config = require "core.configmanager"
local hostmanager = require "core.hostmanager"
local json = require "util.json"
local modulemanager = require "core.modulemanager"

local COMPONENTS_AFTER = 0.1 -- seconds

local READ_BY = { -- option = the modules that read it when they are loaded
  allow_unencrypted_plain_auth = { "saslauth" },
  archive_expires_after = { "mam" },
  c2s_require_encryption = { "tls", "saslauth" },
  contact_info = { "server_contact_info" },
  friendly_servers = { "friends" },
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

return function(stele)
  stele.verbs.modules = { run = function()
    local modules = {}
    for host in pairs(prosody.hosts) do
      modules[host] = array()
      for name in pairs(modulemanager.get_modules(host)) do modules[host]:push(name) end
      modules[host]:sort()
    end
    return { modules = modules }
  end }

  stele.verbs.reload = { run = function(_, response)
    local before, staying, going = config.getconfig(), {}, {}
    local active = {}
    for host in pairs(prosody.hosts) do active[#active + 1] = host end
    local modules_before = wanted_modules(active)
    if not prosody.reload_config() then
      stele.refuse(409, "bad_configuration", "Prosody refuses it; its log says why")
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
end

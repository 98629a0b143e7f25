-- Roles of accounts, whose functions differ between 0.12 and 13.0.

local usermanager = require "core.usermanager"

local roles = {}

-- Does each account have just one? Since 13.0.
roles.are_primary = usermanager.get_user_role ~= nil

function roles.of(localpart, host)
  if roles.are_primary then
    local role = usermanager.get_user_role(localpart, host)
    return role and role.name or "prosody:registered"
  end
  local all = usermanager.get_roles(localpart .. "@" .. host, host) or {}
  if all["prosody:admin"] then return "prosody:admin" end
  return all["prosody:registered"] and "prosody:registered" or "prosody:member"
end

function roles.set(localpart, host, role)
  if roles.are_primary then return usermanager.set_user_role(localpart, host, role) end
  return usermanager.set_roles(localpart .. "@" .. host, host, { [role] = true })
end

-- What tells that one is another: of 13.0 and 0.12.
roles.CHANGED = { "user-role-changed", "user-roles-changed" }

-- The account of `probe`, which has no role, and of which nobody is told.
roles.PROBE = "stele-probe"

return roles

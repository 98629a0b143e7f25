-- Sends SIGKILL to the Server, by means of a module of the Server: Lua alone can't.

local pid_file = assert(io.open("/run/prosody/prosody.pid"))
local pid = assert(pid_file:read("n"), "no number in the pid file")
local library = "/usr/lib/prosody/util/signal.so"
local open = package.loadlib(library, "luaopen_prosody_util_signal")
  or assert(package.loadlib(library, "luaopen_util_signal"))
print("kills " .. pid)
open().kill(pid, "SIGKILL")

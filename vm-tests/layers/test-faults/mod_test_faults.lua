-- The Server's own undoing: at each start another fault of the list, when it has served for a
-- second. How often it has been started is noted on its volume.

local pposix = require "prosody.util.pposix"
local signal = require "prosody.util.signal"
local add_task = require "prosody.util.timer".add_task
-- Lua has no fork(2), but can call any function of C's whose result it needn't understand.
local fork = assert(package.loadlib("libc.so.6", "fork"))

local faults = {
  -- Killed by somebody.
  killed = function() signal.kill(pposix.getpid(), "SIGKILL") end,
  -- Stopped, and nobody to continue it.
  suspended = function() signal.kill(pposix.getpid(), "SIGSTOP") end,
  -- Busy, and never done.
  looping = function() while true do end end,
  -- Ever more processes, each of them busy.
  forking = function() while true do fork() end end,
  -- Ever more memory.
  leaking = function()
    local kept, long = {}, ("x"):rep(1024):rep(1024)
    while true do kept[#kept + 1] = long .. #kept end
  end,
}

local path = "/var/lib/prosody/test-faults"
local file = io.open(path)
local starts = file and file:read("n") or 0
if file then file:close() end
file = assert(io.open(path, "w"))
file:write(starts + 1)
file:close()

local list = module:get_option_array("test_faults")
local name = list[starts + 1]
if name then
  add_task(1, function()
    module:log("info", "fault: %s", name)
    faults[name]()
  end)
end

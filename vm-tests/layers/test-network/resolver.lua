-- Prints /etc/hosts and /etc/resolv.conf, and again when they change: each file as one line.

local sleep = require("socket").sleep

local shown = {}
while true do
  for _, path in ipairs { "/etc/hosts", "/etc/resolv.conf" } do
    local file = assert(io.open(path))
    local text = file:read("a"):gsub("\n", "|")
    file:close()
    if text ~= shown[path] then
      shown[path] = text
      print(path .. ": " .. text)
      io.flush()
    end
  end
  sleep(0.2)
end

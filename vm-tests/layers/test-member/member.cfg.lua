pidfile = "/tmp/prosody.pid"
data_path = "/var/lib/prosody"
authentication = "internal_hashed"
VirtualHost "prose.local"

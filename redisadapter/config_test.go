package redisadapter

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDefaultsAreAllowed(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestImpossibleConfigurationSaysWhatIsAllowed(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(*Config)
		want string // in the error; "" is none
	}{
		{"no address", func(c *Config) { c.Addresses = nil }, "needs an address, such as localhost:6379"},
		{"an address without a port", func(c *Config) { c.Addresses = []string{"redis"} }, "address 1 must be a host and a port"},
		{"an address with a password", func(c *Config) { c.Addresses = []string{"me:secret@redis:6379"} }, "address 1 must be a host and a port"},
		{"an address whose port is none", func(c *Config) { c.Addresses = []string{"redis:99999"} }, "address 1 must be"},
		{"a socket", func(c *Config) { c.Addresses = []string{"/run/redis.sock"} }, ""},
		{"a socket of a Cluster", func(c *Config) { c.Addresses, c.Cluster = []string{"/run/redis.sock"}, true }, "socket of one server"},
		{"IPv6", func(c *Config) { c.Addresses = []string{"[::1]:6379"} }, ""},
		{"two servers", func(c *Config) { c.Addresses = []string{"a:1", "b:2"} }, "there are 2 addresses, which is for a Cluster or Sentinels"},
		{"Sentinels", func(c *Config) { c.Addresses, c.Master = []string{"a:1", "b:2"}, "m" }, ""},
		{"a Cluster", func(c *Config) { c.Addresses, c.Cluster = []string{"a:1", "b:2"}, true }, ""},
		{"both", func(c *Config) { c.Master, c.Cluster = "m", true }, "not both"},
		{"a database", func(c *Config) { c.DB = 3 }, ""},
		{"no database", func(c *Config) { c.DB = -1 }, "0 or more, not -1"},
		{"a database of a Cluster", func(c *Config) { c.Cluster, c.DB = true, 1 }, "only database 0, not 1"},
		{"no prefix", func(c *Config) { c.Prefix = "" }, `letters, digits and . _ : / -, not ""`},
		{"a prefix that is a pattern", func(c *Config) { c.Prefix = "a*" }, `not "a*"`},
		{"a prefix with a tag", func(c *Config) { c.Prefix = "{a}" }, `not "{a}"`},
		{"a long prefix", func(c *Config) { c.Prefix = strings.Repeat("x", 129) }, "1 to 128"},
		{"replicas", func(c *Config) { c.Wait = 2 }, ""},
		{"less than no replicas", func(c *Config) { c.Wait = -1 }, "0 or more, not -1"},
		{"no time for replicas", func(c *Config) { c.Wait, c.WaitTimeout = 1, 0 }, "1ms to 2s, not 0s"},
		{"too much time for replicas", func(c *Config) { c.Wait, c.WaitTimeout = 1, 3*time.Second }, "1ms to 2s, not 3s"},
		{"a small log", func(c *Config) { c.MaxBytes = 1000 }, "at least 1 MiB, not 1000 bytes"},
		{"no time for nodes that lag", func(c *Config) { c.LiveAge = time.Second }, "at least 10s, not 1s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := DefaultConfig()
			tt.set(&cfg)
			switch err := cfg.Validate(); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want one with %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "secret"):
				t.Errorf("the error quotes a password: %v", err)
			}
			log, err := Open(cfg, nil) // which needs no Redis
			if (err == nil) != (tt.want == "") {
				t.Errorf("opened: %v", err)
			}
			if err == nil {
				_ = log.Close()
			}
		})
	}
}

func TestURLSaysWhereRedisIs(t *testing.T) {
	for text, set := range map[string]func(*Config){
		"redis://localhost":       func(c *Config) { c.Addresses = []string{"localhost:6379"} },
		"redis://10.0.0.5:7000/3": func(c *Config) { c.Addresses, c.DB = []string{"10.0.0.5:7000"}, 3 },
		"redis://[::1]:7000":      func(c *Config) { c.Addresses = []string{"[::1]:7000"} },
		"redis://:p%40ss%2F@h/0":  func(c *Config) { c.Addresses, c.Password = []string{"h:6379"}, "p@ss/" },
		"redis://me:secret@h:1":   func(c *Config) { c.Addresses, c.Username, c.Password = []string{"h:1"}, "me", "secret" },
		"unix:///run/redis.sock":  func(c *Config) { c.Addresses = []string{"/run/redis.sock"} },
		"unix://me:secret@/run/r.sock?db=2": func(c *Config) {
			c.Addresses, c.DB, c.Username, c.Password = []string{"/run/r.sock"}, 2, "me", "secret"
		},
		"redis://a:1?addr=b:2&addr=c:3": func(c *Config) { c.Addresses, c.Cluster = []string{"a:1", "b:2", "c:3"}, true },
		"redis://a:1?cluster=true":      func(c *Config) { c.Addresses, c.Cluster = []string{"a:1"}, true },
		"redis://s:pw@a:26379/4?master_name=m&addr=b:26379&username=me&password=secret": func(c *Config) {
			c.Addresses, c.Master, c.DB = []string{"a:26379", "b:26379"}, "m", 4
			c.SentinelUsername, c.SentinelPassword, c.Username, c.Password = "s", "pw", "me", "secret"
		},
	} {
		want := DefaultConfig()
		set(&want)
		if got, err := ParseURL(text); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v", text, got, err)
		}
	}
	got, err := ParseURL("rediss://h:1")
	if err != nil || got.TLS == nil || got.TLS.MinVersion < 0x0303 || got.TLS.InsecureSkipVerify || got.TLS.ServerName != "" {
		t.Errorf("rediss is %+v, %v", got, err)
	}
}

// TestURLThatIsWrongIsNotQuoted uses passwords that are not escaped, so that parts
// of them are taken for other parts of the URL.
func TestURLThatIsWrongIsNotQuoted(t *testing.T) {
	for _, text := range []string{
		"", "h:6379", "http://h:6379", "redis:h", "redis://", "redis://h/x", "redis://h/1/2", "redis://h:port",
		"redis://h/-1", "redis://h?db=1", "redis://h?cluster=yes", "redis://h?username=me", "redis://h?max_retries=3", "redis://h?cluster=true&cluster=true",
		"redis://h/2?cluster=true", "redis://h?addr=b", "redis://h?cluster=true&master_name=m", "unix://h/x", "unix://", "unix:///x?addr=h:1", "redis://h?%zz",
		"redis://me:1secret#2@h", "redis://me:secret/2@h", "redis://me:1/2secret@h", "redis://me:1?secret@h", "redis://me:secret%@h",
		"redis://me:sec ret@h", "redis://me:[secret@h", "redis://h?secret=1", "redis://me:secret@h:x", "redis://h#secret", "redis://me:12?addr=secret@h",
	} {
		cfg, err := ParseURL(text)
		if err == nil {
			t.Errorf("%q is %+v", text, cfg)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q is quoted: %v", text, err)
		}
	}
}

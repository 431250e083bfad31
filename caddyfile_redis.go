package evstream

import (
	"strconv"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// UnmarshalCaddyfile sets up the adapter from Caddyfile tokens. Syntax:
//
//	adapter redis [<url>] {
//		address   <host:port|path...>
//		username  <name>
//		password  <secret>
//		db        <number>
//		prefix    <prefix>
//		sentinel  <master> {
//			username <name>
//			password <secret>
//		}
//		cluster
//		tls {
//			ca          <files...>
//			certificate <file> <key file>
//			server_name <name>
//		}
//		wait      <replicas> [<timeout>]
//		max_size  <size>|unlimited
//		live_age  <duration>
//	}
//
// Either the URL or address is required. A secret, and any part of the URL, is
// {env.NAME}, {file./abs/path} or, at your own risk, the value itself. No line
// may be repeated.
func (a *RedisAdapter) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the module's name
	opening := d.Token()
	if d.NextArg() {
		a.URL = d.Val()
	}
	seen, err := block(d, "adapter redis", nil, func(name string) error { return a.unmarshalOption(d, name) })
	if err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return seen.errorOf(opening, "adapter redis: %w", err)
	}
	return nil
}

func (a *RedisAdapter) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "address":
		return someArgs(d, &a.Addresses, "addresses, such as 10.0.0.5:6379")
	case "username":
		return oneArg(d, &a.Username, "one name")
	case "password":
		return oneSecret(d, &a.Password, "the password", "{env.REDIS_PASSWORD}")
	case "db":
		var s string
		if err := oneArg(d, &s, "the number of a database, such as 2"); err != nil {
			return err
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return d.Errf("db is the number of a database, such as 2, not %q", s)
		}
		a.DB = n
	case "prefix":
		return oneArg(d, &a.Prefix, "one prefix, such as chat")
	case "sentinel":
		a.Sentinel = new(RedisSentinel)
		if !d.NextArg() {
			return d.Errf("sentinel takes the name of the master")
		}
		a.Sentinel.Master = d.Val()
		_, err := block(d, name, nil, func(name string) error { return a.Sentinel.unmarshalOption(d, name) })
		return err
	case "cluster":
		a.Cluster = true
	case "tls":
		a.TLS = new(RedisTLS)
		_, err := block(d, name, nil, func(name string) error { return a.TLS.unmarshalOption(d, name) })
		return err
	case "wait":
		return a.unmarshalWait(d)
	case "max_size":
		return parseLimit(d, parseSize, &a.MaxSize)
	case "live_age":
		return parseDuration(d, name, d.RemainingArgs(), &a.LiveAge)
	default:
		return d.Errf("adapter redis: unknown subdirective %q%s", name, redisWords.hint(name))
	}
	return nil
}

func (s *RedisSentinel) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "username":
		return oneArg(d, &s.Username, "one name")
	case "password":
		return oneSecret(d, &s.Password, "the password", "{env.SENTINEL_PASSWORD}")
	}
	return d.Errf("sentinel: unknown subdirective %q%s", name, sentinelWords.hint(name))
}

func (t *RedisTLS) unmarshalOption(d *caddyfile.Dispenser, name string) error {
	switch name {
	case "ca":
		return someArgs(d, &t.CA, "files of certificates")
	case "certificate":
		if !d.AllArgs(&t.Certificate, &t.Key) {
			return d.Errf("certificate takes two files: that of the certificate, and that of its key")
		}
		return nil
	case "server_name":
		return oneArg(d, &t.ServerName, "one name")
	}
	return d.Errf("tls: unknown subdirective %q%s", name, tlsWords.hint(name))
}

func (a *RedisAdapter) unmarshalWait(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("wait takes a number of replicas, and how long they may take, such as: wait 1 500ms")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil || n < 1 {
		return d.Errf("wait: %q is not a number of replicas above zero", args[0])
	}
	a.Wait = &RedisWait{Replicas: n}
	if len(args) == 1 {
		return nil
	}
	return parseDuration(d, "wait", args[1:], &a.Wait.Timeout)
}

// Interface guard
var _ caddyfile.Unmarshaler = (*RedisAdapter)(nil)

package redisadapter

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// errURL quotes no part of the URL: often a special character in the password is
// the cause, and then any part may belong to the password.
var errURL = errors.New("the URL of Redis must be like redis://user:password@host:6379/0, rediss:// for TLS, or " +
	"unix://user:password@/path/to/socket?db=0, with the special characters of a password as %XX")

// ParseURL returns DefaultConfig with the settings of a URL:
//
//	redis://user:password@host:6379/0
//	rediss://user:password@host:6379/0
//	unix://user:password@/path/to/socket?db=0
//
// rediss is redis with TLS. The user, the password, the port and the number of
// the database may be left out. redis and rediss take some parameters:
//
//	?addr=host:6379&addr=…      more nodes of a Cluster, or Sentinels
//	?cluster=true               the host is a node of a Cluster
//	?master_name=name           the hosts are Sentinels, and user and password
//	                            are for them
//	?username=…&password=…      with master_name: user and password for Redis
//
// Several hosts without master_name are a Cluster. Errors do not quote the URL.
func ParseURL(text string) (Config, error) {
	c := DefaultConfig()
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return Config{}, errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Config{}, errURL
	}
	username := u.User.Username()
	password, _ := u.User.Password()
	var db string
	switch u.Scheme {
	case "unix":
		if u.Host != "" || u.Path == "" {
			return Config{}, errURL
		}
		if err := allow(query, "db"); err != nil {
			return Config{}, err
		}
		c.Addresses = []string{u.Path}
		db = query.Get("db")
	case "redis", "rediss":
		if err := allow(query, "addr", "cluster", "master_name", "username", "password"); err != nil {
			return Config{}, err
		}
		if err := c.hosts(u, query); err != nil {
			return Config{}, err
		}
		db = strings.TrimPrefix(u.Path, "/")
		if u.Scheme == "rediss" {
			c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} // go-redis adds the name of each host
		}
	default:
		return Config{}, errURL
	}
	if db != "" {
		if c.DB, err = strconv.Atoi(db); err != nil {
			return Config{}, errURL
		}
	}
	c.Username, c.Password = username, password
	if c.Master != "" {
		c.SentinelUsername, c.SentinelPassword = username, password
		c.Username, c.Password = query.Get("username"), query.Get("password")
	}
	return c, c.Validate()
}

// hosts reads the addresses, and whether they are of a server, Sentinels or a
// Cluster.
func (c *Config) hosts(u *url.URL, query url.Values) error {
	port := u.Port()
	if port == "" {
		port = "6379"
	}
	if u.Hostname() == "" {
		return errURL
	}
	c.Addresses = append([]string{net.JoinHostPort(u.Hostname(), port)}, query["addr"]...)
	c.Master = query.Get("master_name")
	switch query.Get("cluster") {
	case "":
		c.Cluster = len(c.Addresses) > 1 && c.Master == ""
	case "true":
		c.Cluster = true
	default:
		return errors.New("the parameter cluster in the URL of Redis must be true, or left out")
	}
	if c.Master == "" && (query.Has("username") || query.Has("password")) {
		return errors.New("the parameters username and password need master_name: without it, put them before the host")
	}
	return nil
}

// allow reports a parameter that is not among names, or there twice.
func allow(query url.Values, names ...string) error {
	for name, values := range query {
		if !slices.Contains(names, name) || len(values) > 1 && name != "addr" {
			return fmt.Errorf("the URL of Redis has an unknown parameter, or one twice: allowed are %s", strings.Join(names, ", "))
		}
	}
	return nil
}

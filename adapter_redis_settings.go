package evstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/evstream/caddy-evstream/redisadapter"
)

// check reports the first invalid value that can be found without replacing
// placeholders.
func (a *RedisAdapter) check() error {
	switch {
	case a.URL == "" && len(a.Addresses) == 0:
		return errors.New("redis needs a url, such as redis://localhost:6379, or addresses")
	case a.URL != "" && len(a.Addresses) > 0:
		return errors.New("url and addresses say the same thing: give one of them")
	case a.Sentinel != nil && a.Sentinel.Master == "":
		return errors.New("sentinel: the name of the master is missing")
	case a.Wait != nil && a.Wait.Replicas < 1:
		return fmt.Errorf("wait: the number of replicas must be at least 1, not %d", a.Wait.Replicas)
	case a.TLS != nil && (a.TLS.Certificate == "") != (a.TLS.Key == ""):
		return errors.New("tls: certificate and key go together")
	}
	c := redisadapter.DefaultConfig()
	switch {
	case a.URL == "":
		c.Addresses = slices.Clone(a.Addresses)
		for i, address := range c.Addresses {
			if strings.Contains(address, "{") {
				c.Addresses[i] = "localhost:6379" // in place of a placeholder
			}
		}
	case !strings.Contains(a.URL, "{"):
		var err error
		if c, err = a.resolveURL(); err != nil {
			return err
		}
	}
	return a.fill(&c)
}

// fill sets the fields that cannot be placeholders, and validates c.
func (a *RedisAdapter) fill(c *redisadapter.Config) error {
	if c.Cluster = c.Cluster || a.Cluster; a.Sentinel != nil {
		c.Master = a.Sentinel.Master
	}
	if a.DB != 0 {
		c.DB = a.DB
	}
	if a.Wait != nil {
		if c.Wait = a.Wait.Replicas; a.Wait.Timeout != 0 {
			c.WaitTimeout = time.Duration(a.Wait.Timeout)
		}
	}
	c.MaxBytes = int64(a.MaxSize.or(int(c.MaxBytes)))
	if a.LiveAge != 0 {
		c.LiveAge = time.Duration(a.LiveAge)
	}
	whole := *c // to be validated; without a prefix, with the shortest default
	if whole.Prefix = a.Prefix; a.Prefix == "" {
		whole.Prefix = "evstream:"
	}
	c.Prefix = a.Prefix
	return whole.Validate()
}

// resolve returns the configuration of the log, with placeholders replaced.
// Prefix is "" if it is the default, which depends on the broker's name.
func (a *RedisAdapter) resolve() (c redisadapter.Config, err error) {
	if a.URL != "" {
		if c, err = a.resolveURL(); err != nil {
			return c, err
		}
	} else {
		c = redisadapter.DefaultConfig()
		c.Addresses = nil
		for _, raw := range a.Addresses {
			address, err := expand("addresses", raw)
			if err != nil {
				return c, err
			}
			c.Addresses = append(c.Addresses, address)
		}
	}
	if c.Username, c.Password, err = a.credentials(); err != nil {
		return c, err
	}
	if slices.ContainsFunc([]string{a.URL, a.Username, a.Password}, readsFile) {
		c.Credentials = func(context.Context) (username, password string, err error) { return a.credentials() }
	}
	if s := a.Sentinel; s != nil {
		if c.SentinelUsername, err = expand("sentinel: username", s.Username); err != nil {
			return c, err
		}
		if c.SentinelPassword, err = expand("sentinel: password", s.Password); err != nil {
			return c, err
		}
	}
	if a.TLS != nil {
		if c.TLS, err = a.TLS.config(); err != nil {
			return c, fmt.Errorf("tls: %w", err)
		}
	}
	return c, a.fill(&c)
}

// expand replaces the placeholders of an optional field. If the field is set,
// an empty result is an error.
func expand(field, raw string) (string, error) {
	if raw == "" {
		return "", nil
	}
	s, err := replaced(caddy.NewReplacer(), raw)
	if err == nil && s == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", field, err)
	}
	return s, nil
}

// readsFile reports whether a field has a {file.…} placeholder.
func readsFile(raw string) bool { return strings.Contains(raw, "{file.") }

// credentials returns the current user and password.
func (a *RedisAdapter) credentials() (username, password string, err error) {
	if a.URL != "" {
		c, err := a.resolveURL()
		if err != nil {
			return "", "", err
		}
		username, password = c.Username, c.Password
	}
	for field, to := range map[string]*string{"username": &username, "password": &password} {
		raw := a.Username
		if field == "password" {
			raw = a.Password
		}
		switch {
		case raw == "":
			continue
		case *to != "":
			return "", "", fmt.Errorf("the url has a %s already: give only one", field)
		}
		if *to, err = expand(field, raw); err != nil {
			return "", "", err
		}
	}
	return username, password, nil
}

// resolveURL parses the URL. Errors do not quote it: it may have a password.
func (a *RedisAdapter) resolveURL() (c redisadapter.Config, err error) {
	text, err := expandURL(a.URL)
	if err != nil {
		return c, err
	}
	if c, err = redisadapter.ParseURL(text); err != nil {
		return c, fmt.Errorf("url: %w", err)
	}
	return c, nil
}

// expandURL replaces the placeholders of a URL, and escapes their values in the
// user, the password and the query. One that is the whole URL is not escaped.
func expandURL(raw string) (string, error) {
	scheme, rest, found := strings.Cut(raw, "://")
	if !found {
		return expand("url", raw)
	}
	at := strings.LastIndexByte(rest, '@') + 1
	query := at + len(strings.SplitN(rest[at:], "?", 2)[0])
	var text strings.Builder
	text.WriteString(scheme + "://")
	for _, part := range []struct {
		raw    string
		escape bool
	}{{rest[:at], true}, {rest[at:query], false}, {rest[query:], true}} {
		s, err := caddy.NewReplacer().ReplaceFunc(part.raw, func(name string, value any) (any, error) {
			s := caddy.ToString(value)
			switch {
			case s == "":
				return nil, fmt.Errorf("url: the placeholder {%s} is empty", name)
			case part.escape:
				s = strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
			}
			return s, nil
		})
		if err != nil {
			return "", err
		}
		text.WriteString(s)
	}
	return text.String(), nil
}

// config reads the certificate files.
func (t *RedisTLS) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName}
	for _, name := range t.CA {
		text, err := os.ReadFile(name) //nolint:gosec // the configuration names it
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		if c.RootCAs == nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("ca: there is no certificate in %s", name)
		}
	}
	if t.Certificate == "" {
		return c, nil
	}
	certificate := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
		return &pair, err
	}
	if _, err := certificate(nil); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c.GetClientCertificate = certificate
	return c, nil
}

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/evstream/caddy-evstream/cli/doctor"
)

// The hub, over HTTP and HTTPS, and a Caddy that is a proxy before it, once for each
// trouble that it can make.
const doctored = `{
	admin {{admin}}
	persist_config off
	skip_install_trust
	auto_https disable_redirects
	evstream other {
		history 1000 1h
	}
}
(hub) {
	evstream /live/* {
		allow anyone all **
		cors *
		heartbeat 1s
	}
	evstream /closed/* {
		allow anyone all **
		heartbeat 1s
	}
	evstream /slow/* {
		allow anyone all **
		heartbeat 1m
	}
}
http://{{plain}} {
	import hub
}
https://{{tls}} {
	tls internal
	import hub
}
http://{{attached}} {
	evstream /live/* {
		broker other
		allow anyone all **
	}
	evstream /read/* {
		broker other
		allow anyone subscribe match.*
	}
	handle_path /nodes/* {
		reverse_proxy {{plain}} {{attached}} {
			lb_policy round_robin
		}
	}
	handle_path /flush/* {
		reverse_proxy {{plain}} {
			flush_interval 5s
		}
	}
	handle_path /buffers/* {
		reverse_proxy {{plain}} {
			response_buffers 4KiB
		}
	}
	handle_path /clock/* {
		reverse_proxy {{plain}} {
			header_down Date "Sat, 29 Nov 2025 09:00:00 GMT"
		}
	}
}
`

// An nginx before the hub, with a location for each trouble.
const doctoredNginx = `
daemon off;
worker_processes 1;
pid nginx.pid;
error_log nginx.log;
events { worker_connections 512; }
http {
	access_log off;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	server {
		listen %[1]s;
		location /http10/ { proxy_pass http://%[2]s/; }
		location /buffering/ {
			proxy_pass http://%[2]s/;
			proxy_ignore_headers X-Accel-Buffering;
		}
		proxy_http_version 1.1;
		proxy_set_header Connection "";
		location /good/ {
			proxy_pass http://%[2]s/;
			proxy_buffering off;
			proxy_request_buffering off;
			proxy_read_timeout 1h;
		}
		location /gzip/ {
			proxy_pass http://%[2]s/;
			gzip on;
			gzip_proxied any;
			gzip_types text/event-stream;
		}
		location /gzip-held/ {
			proxy_pass http://%[2]s/;
			proxy_ignore_headers X-Accel-Buffering;
			gzip on;
			gzip_proxied any;
			gzip_types text/event-stream;
		}
		location /cut/ {
			proxy_pass http://%[2]s/;
			proxy_read_timeout 1s;
		}
		location /stripped/ {
			proxy_pass http://%[2]s/;
			proxy_set_header Last-Event-ID "";
		}
	}
}
`

// startNginx runs an nginx before an address until the test ends.
func startNginx(t *testing.T, upstream string) (address string) {
	t.Helper()
	binary, err := exec.LookPath("nginx")
	if err != nil {
		binary = "/usr/sbin/nginx"
	}
	dir := t.TempDir()
	address = freeAddress(t)
	file := filepath.Join(dir, "nginx.conf")
	config := strings.Replace(fmt.Sprintf(doctoredNginx, address, upstream),
		`location /http10/ {`, `location /http10/ { proxy_http_version 1.0;`, 1)
	config = strings.Replace(config, `location /buffering/ {`, `location /buffering/ { proxy_http_version 1.0;`, 1)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(binary, "-p", dir, "-c", file, "-e", filepath.Join(dir, "nginx.log"))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = mortal()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%v: make setup installs nginx", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it ends its workers
		<-exited
	})
	eventually(t, "nginx listens", func() bool {
		select {
		case <-exited:
			t.Fatalf("nginx does not start: %s", &said)
		default:
		}
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return address
}

// examine runs the command, and returns what it prints, and that as JSON.
func examine(t *testing.T, args ...string) (string, doctor.Report) {
	t.Helper()
	cmd := doctor.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(append(args, "--json"))
	err := cmd.ExecuteContext(t.Context())
	var r doctor.Report
	if jsonErr := json.Unmarshal(out.Bytes(), &r); jsonErr != nil {
		t.Fatalf("%v, %v: %s", err, jsonErr, &out)
	}
	if (err != nil) != (r.Problems > 0) {
		t.Errorf("%d problems, and the error is %v", r.Problems, err)
	}
	return out.String(), r
}

// Set-ups that are broken on purpose: each is named, with the setting that mends it.
func TestDoctorNamesWhatIsBroken(t *testing.T) {
	t.Parallel()
	hub := start(t, doctored)
	nginx := startNginx(t, hub.plain)
	for _, tt := range []struct {
		name, url    string
		check        string
		level        doctor.Level
		saw, through string
		change       string
	}{
		{"nginx buffers", nginx + "/buffering/live/", "buffering", doctor.Problem, " KiB were published", "nginx", "proxy_buffering off;"},
		{"nginx compresses", nginx + "/gzip/live/", "compression", doctor.Warning, "is compressed (gzip), though", "nginx", "gzip off;"},
		{"nginx compresses and buffers", nginx + "/gzip-held/live/", "compression", doctor.Problem, "then it comes compressed (gzip)", "nginx", "gzip off;"},
		{"nginx cuts what is idle", nginx + "/cut/slow/", "idle", doctor.Problem, "a quiet stream was cut after ", "nginx", "proxy_read_timeout 1h;"},
		{"nginx strips a header", nginx + "/stripped/live/", "last-event-id", doctor.Problem, "does not reach the hub; ?last_event_id= does", "nginx", "proxy_set_header Last-Event-ID $http_last_event_id;"},
		{"nginx speaks HTTP/1.0", nginx + "/http10/live/", "http", doctor.Problem, "asks it in HTTP/1.0", "nginx", "proxy_http_version 1.1;"},
		{"nginx holds bodies back", nginx + "/http10/live/", "request-body", doctor.Warning, "held back until its end", "nginx", "proxy_request_buffering off;"},
		{"CORS is missing", hub.plain + "/closed/", "cors", doctor.Problem, "no Access-Control-Allow-Origin", "evstream", "cors https://app.example"},
		{"Caddy buffers", hub.attached + "/buffers/live/", "buffering", doctor.Problem, "", "Caddy", "remove response_buffers"},
		{"nodes do not share a log", hub.attached + "/nodes/live/", "nodes", doctor.Problem, "of 6 new connections led to a hub that does not know the id", "evstream", "adapter redis"},
		{"the clock is wrong", hub.attached + "/clock/live/", "clock", doctor.Problem, "behind that of this machine", "the server", "timedatectl set-ntp true"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			idle := "0"
			if tt.check == "idle" {
				idle = "30s" // it ends with the cut
			}
			out, r := examine(t, "http://"+tt.url, "--origin", "https://app.example", "--late", "1s", "--idle", idle)
			for _, f := range r.Findings {
				if f.Check != tt.check || f.Level != tt.level || !strings.Contains(f.Saw, tt.saw) {
					continue
				}
				for _, fix := range f.Fix {
					if fix.In == tt.through && strings.Contains(fix.Change, tt.change) {
						return
					}
				}
			}
			t.Errorf("%s: no %s with the fix %q: %s", tt.check, tt.level, tt.change, out)
		})
	}
}

// Set-ups that are right: nothing is wrong with them.
func TestDoctorIsQuietWhereAllIsWell(t *testing.T) {
	t.Parallel()
	hub := start(t, doctored)
	nginx := startNginx(t, hub.plain)
	var ca struct {
		Root string `json:"root_certificate"`
	}
	if err := json.Unmarshal([]byte(get(t, "http://"+hub.admin+"/pki/ca/local")), &ca); err != nil || ca.Root == "" {
		t.Fatalf("the root certificate: %v", err)
	}
	roots := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(roots, []byte(ca.Root), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, url, want string }{
		{"Caddy", "http://" + hub.plain + "/live/", "HTTP/1.1"},
		{"Caddy over HTTPS", "https://" + hub.tls + "/live/", "HTTP/2.0, HTTP/3 offered"},
		{"nginx", "http://" + nginx + "/good/live/", "through nginx"},
		{"Caddy before Caddy", "http://" + hub.attached + "/flush/live/", "through Caddy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			args := []string{tt.url, "--origin", "https://app.example", "--late", "10s", "--idle", "2500ms", "--cacert", roots}
			out, r := examine(t, args...)
			if r.Problems > 0 || r.Warnings > 0 {
				t.Errorf("after %s: %s", time.Since(begun), out)
			}
			if !strings.Contains(out, tt.want) {
				t.Errorf("it does not say %q: %s", tt.want, out)
			}
			for _, f := range r.Findings {
				if f.Level == doctor.Skipped {
					t.Errorf("not checked: %s: %s", f.Check, f.Saw)
				}
			}
		})
	}
}

// Where it may not publish it reads, and says what it has not looked at.
func TestDoctorReadsWhereItMayNotPublish(t *testing.T) {
	t.Parallel()
	hub := start(t, doctored)
	for _, args := range [][]string{
		{"http://" + hub.attached + "/read/match.7"}, // the URL of a channel
		{"http://" + hub.attached + "/read/", "--channel", "match.7"},
		{"http://" + hub.attached + "/read", "--channel", "match.7"}, // which is redirected
	} {
		out, r := examine(t, append(args, "--late", "10s", "--idle", "0")...)
		if r.Channel != "match.7" || r.Problems > 0 || r.Warnings > 0 {
			t.Errorf("%q: %s", args, out)
		}
		for check, saw := range map[string]string{
			"hub": "only read, since publishing is answered 403 Forbidden", "buffering": "how fast an event arrives",
			"request-body": "may publish to match.7", "last-event-id": "the hub gets Last-Event-ID: it tells of a gap",
		} {
			if !slices.ContainsFunc(r.Findings, func(f doctor.Finding) bool {
				return f.Check == check && strings.Contains(f.Saw, saw)
			}) {
				t.Errorf("%q: %s does not say %q: %s", args, check, saw, out)
			}
		}
	}
	cmd := doctor.Command()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{"http://" + hub.attached + "/read/", "--idle", "0"})
	err := cmd.ExecuteContext(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the hub answers 403 Forbidden") || !strings.Contains(err.Error(), "--channel names one") {
		t.Errorf("a channel that may not be read: %v", err)
	}
}

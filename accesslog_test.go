package evstream

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/evstream/caddy-evstream/stream"
)

// logDir has the files that access logs are written to.
type logDir struct {
	t   *testing.T
	dir string
}

func (d logDir) output(name string) string {
	return "output file " + filepath.Join(d.dir, name+".log") + "\n\t\tformat json\n\t\tlevel DEBUG"
}

// lines returns the lines about requests of a method, by file.
func (d logDir) lines(method string) (lines []map[string]any) {
	d.t.Helper()
	files, err := filepath.Glob(filepath.Join(d.dir, "*.log"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, file := range slices.Sorted(slices.Values(files)) {
		content, err := os.ReadFile(file)
		if err != nil {
			d.t.Fatal(err)
		}
		for text := range strings.Lines(string(content)) {
			var line map[string]any
			if err := json.Unmarshal([]byte(text), &line); err != nil {
				continue // it is being written
			}
			request, _ := line["request"].(map[string]any)
			if request["method"] == method {
				line["file"] = filepath.Base(file)
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// uri is that of a line.
func uri(line map[string]any) string { return line["request"].(map[string]any)["uri"].(string) }

// secretHash is of the password "hiccup".
const secretHash = "$2a$04$B8i/Zb5RdxwlLX5NpbEF7eZiPvE3kTfLbysNwfgaPKTbk9Dn7ACCC"

// TestAccessLogsAreTheSameInBothModes sends the same requests in both, to
// sites that are logged in many ways, and compares every field of every line.
func TestAccessLogsAreTheSameInBothModes(t *testing.T) {
	address := freeAddress(t)
	_, port, _ := strings.Cut(address, ":")
	config := func(d logDir, mode mode, global string) string {
		handler := func(mount string) string {
			return "evstream " + mount + " {\n" + mode.block() + "\n\t}\n"
		}
		site := func(host, inner string) string {
			return "http://" + host + ":" + port + " {\n\tbind 127.0.0.1\n\t" + inner + "\n\t" + handler("/live/*") + "}\n"
		}
		log := func(name, more string) string {
			return "log " + name + " {\n\t\t" + d.output(name) + "\n\t\t" + more + "\n\t}\n\t"
		}
		return options("\tservers {\n\t\ttrusted_proxies static 127.0.0.1/32\n\t\t"+global+"\n\t}") +
			site("a.test", log("a", "")+log("named", "no_hostname")+`
	@skipped query skipped=1
	log_skip @skipped
	@named query named=1
	log_name @named named a
	@warned query warned=1
	log_level @warned WARN
	header X-Early early
	header >X-Late late
	header +Set-Cookie "session=secret"
	handle_path /inner/* {
		`+handler("")+`
	}
	handle /rewritten/* {
		rewrite * /live/rewritten
		`+handler("/live/*")+`
	}
	basic_auth /live/auth {
		bob `+secretHash+`
	}
`) +
			site("b.test", log("b", "")+log("bb", "")) +
			site("*.w.test", log("w", "")) +
			site("quiet.test", "") +
			site("off.test", "log\n\tlog_skip")
	}
	requests := []struct {
		host, path string
		header     []string
		lines      int
	}{
		{"a.test", "/live/plain?token=secret&last=3", []string{"Cookie", "secret", "Authorization", "Bearer secret", "X-Own", "own", "Referer", "http://there/"}, 1},
		{"A.test", "/live/upper", nil, 1},
		{"a.test:" + port, "/live/port%41", []string{"X-Forwarded-For", "192.0.2.7"}, 1},
		{"a.test", "/live/?channel=x&channel=y%2Fz", nil, 1},
		{"a.test", "/inner/x?envelope=1", nil, 1},
		{"a.test", "/rewritten/x?padding=1", nil, 1},
		{"a.test", "/live/auth", []string{"Authorization", "Basic Ym9iOmhpY2N1cA=="}, 1},
		{"a.test", "/live/skipped?skipped=1", nil, 0},
		{"a.test", "/live/named?named=1", nil, 2},
		{"a.test", "/live/warned?warned=1", nil, 1},
		{"b.test", "/live/b", nil, 2},
		{"any.w.test", "/live/w", nil, 1},
		{"quiet.test", "/live/quiet", nil, 0},
		{"off.test", "/live/off", nil, 0},
	}
	for name, global := range map[string]string{"redacted": "", "with credentials": "log_credentials"} {
		t.Run(name, func(t *testing.T) {
			told := map[string][]map[string]any{}
			inBothModes(t, func(t *testing.T, mode mode) {
				d := logDir{t, t.TempDir()}
				load(t, config(d, mode, global))
				var streams []*caddyStream
				want := 0
				for _, r := range requests {
					s := subscribe(t, "http://"+address+r.path, func(request *http.Request) {
						request.Host = r.host
						for pair := range slices.Chunk(r.header, 2) {
							request.Header.Set(pair[0], pair[1])
						}
					})
					mode.check(s)
					streams = append(streams, s)
					want += r.lines
				}
				mustPublish(t, "http://"+address+"/live/plain", "1", header("Host", "a.test"))
				streams[0].expect("1")
				if lines := d.lines(http.MethodGet); len(lines) > 0 {
					t.Errorf("there are lines before the end: %v", lines)
				}
				for _, s := range streams {
					s.cancel()
				}
				h := theHub(t, "default")
				eventually(t, "the lines of all streams", func() bool {
					return len(h.Sessions()) == 0 && len(d.lines(http.MethodGet)) >= want
				})
				// No more come, and nothing else is logged.
				mustPublish(t, "http://"+address+"/live/plain", "2", header("Host", "a.test"))
				eventually(t, "the line of the second event", func() bool { return len(d.lines(http.MethodPost)) == 2 })
				lines := d.lines(http.MethodGet)
				for _, r := range requests {
					n := 0
					for _, line := range lines {
						if uri(line) == r.path {
							n++
						}
					}
					if n != r.lines {
						t.Errorf("%s has %d lines, not %d", r.path, n, r.lines)
					}
				}
				slices.SortStableFunc(lines, func(a, b map[string]any) int {
					return strings.Compare(uri(a)+a["logger"].(string), uri(b)+b["logger"].(string))
				})
				for _, line := range lines {
					if size := line["size"].(float64); size < 150 {
						t.Errorf("%s has the size %v", uri(line), size)
					}
					if line["evstream_reason"] != "client" || line["status"] != 200.0 {
						t.Errorf("%v", line)
					}
					for _, varies := range []string{"ts", "duration", "size"} {
						if _, ok := line[varies].(float64); !ok {
							t.Errorf("%s has no %s", uri(line), varies)
						}
						delete(line, varies)
					}
					delete(line["request"].(map[string]any), "remote_port")
					if headers, ok := line["resp_headers"].(map[string]any); ok {
						delete(headers, "Connection") // only an attached one says that it closes
					}
				}
				told[mode.delivery] = lines
			})
			a, b := told["attached"], told["auto"]
			for i := range min(len(a), len(b)) {
				if a, b := encode(t, a[i]), encode(t, b[i]); a != b {
					t.Errorf("attached:\n%s\ndetached:\n%s", a, b)
				}
			}
			all := encode(t, b)
			if strings.Contains(all, `"secret"`) != (global != "") {
				t.Errorf("credentials are told: %v", all)
			}
			for _, what := range []string{`"user_id":"bob"`, `"client_ip":"192.0.2.7"`, `"level":"warn"`, `"X-Late":["late"]`, `"logger":"http.log.access.named"`} {
				if !strings.Contains(all, what) {
					t.Errorf("no line has %s: this tests nothing", what)
				}
			}
		})
	}
}

// encode is JSON with its keys in order.
func encode(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTheSizeInTheAccessLogIsThatOfTheBody(t *testing.T) {
	address := freeAddress(t)
	d := logDir{t, t.TempDir()}
	handler := func(mount string, more ...string) string {
		return "\tevstream " + mount + " {\n" + mode{delivery: strings.Trim(mount, "/*")}.block(more...) + "\n\t}\n"
	}
	config := func(more ...string) string {
		return options("") + "http://" + address + " {\n\tlog {\n\t\t" + d.output("all") + "\n\t}\n" +
			handler("/attached/*", more...) + handler("/auto/*", more...) + "}\n"
	}
	load(t, config())
	streams := map[string]*caddyStream{}
	inBothModes(t, func(t *testing.T, mode mode) {
		s := subscribe(t, "http://"+address+"/"+mode.delivery+"/a")
		mode.check(s)
		streams[mode.delivery] = s
		// More than fits into a connection's buffers is published before it is read.
		data := strings.Repeat("x", 200<<10)
		for i := range 40 {
			if status, body := post(t, "http://"+address+"/"+mode.delivery+"/a", fmt.Sprint(i, data)); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
		}
		for _, l := range theHub(t, "default").Sessions() {
			l.Stream.End()
		}
		if _, err := io.Copy(io.Discard, s.read); err != nil {
			t.Fatal(err)
		}
		var line map[string]any
		eventually(t, "the line", func() bool {
			for _, l := range d.lines(http.MethodGet) {
				if strings.HasPrefix(uri(l), "/"+mode.delivery) {
					line = l
				}
			}
			return line != nil
		})
		if line["size"] != float64(s.read.n) || line["evstream_reason"] != "ended" || line["evstream_events"] != 40.0 {
			t.Errorf("%d bytes were read, and logged is %v", s.read.n, line)
		}
	})
}

// watchingCore is a log that looks at the hub while a line is written.
type watchingCore struct {
	zapcore.Core
	look func()
}

func (watchingCore) Enabled(zapcore.Level) bool { return true }

func (c watchingCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return to.AddCore(e, c)
}

func (c watchingCore) Write(zapcore.Entry, []zapcore.Field) error {
	c.look()
	return nil
}

// The exit waits for the last stream to leave its hub, and closes the logs
// then: a line that came after that would be lost.
func TestALineIsWrittenBeforeTheStreamHasLeft(t *testing.T) {
	address, file := freeAddress(t), filepath.Join(t.TempDir(), "access.log")
	load(t, options("")+"http://"+address+" {\n\tlog {\n\t\toutput file "+file+"\n\t}\n\tevstream /live/* {\n"+allowAnything+"\n\t}\n}\n")
	s := subscribe(t, "http://"+address+"/live/a")
	want := 1
	if handlerWaits(t) {
		want = 0 // it is attached: its line is Caddy's
	}
	h := theHub(t, "default")
	written, line := 0, running.get().handlers[0].host.log
	line.logger = zap.New(watchingCore{zapcore.NewNopCore(), func() {
		written++
		if n := h.Stats().Streams; n != 1 {
			t.Errorf("the hub has %d streams already", n)
		}
	}})
	h.Sessions()[0].Stream.Close(stream.ReasonShutdown)
	s.ended()
	eventually(t, "the stream to leave", func() bool { return h.Stats().Streams == 0 })
	if written != want || h.Stats().Disconnects[stream.ReasonShutdown] != 1 {
		t.Errorf("%d lines, and ended for %v", written, h.Stats().Disconnects)
	}
}

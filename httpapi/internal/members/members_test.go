package members

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
)

// statusOf is the status of a refusal, 200 where there is none.
func statusOf(err error) int {
	if err == nil {
		return http.StatusOK
	}
	return problem.Of(err).Status()
}

func TestWhatIsBehindPresence(t *testing.T) {
	for _, tt := range []struct {
		path  string // behind _presence/
		has   bool   // the channel that is named has presence
		read  int    // the status of GET
		write int    // and of PUT
		of    string // the channel in which PUT writes
	}{
		{"chat/1", true, 200, 405, ""},
		{"chat/1", false, 404, 405, ""},
		{"chat/1/me", true, 200, 200, "chat/1"}, // a channel may be named so
		{"chat/1/me/me", true, 200, 200, "chat/1/me"},
		{"me", true, 200, 405, ""}, // of no channel
		{"/me", true, 400, 400, ""},
		{"home", true, 200, 405, ""},
		{"chat/1/ME", true, 200, 405, ""},
		{"chat/1/me/", true, 400, 405, ""},
		{"", true, 400, 405, ""},
		{"chat/*", true, 400, 405, ""},
		{"chat/**/me", true, 400, 400, ""},
		{"a b", true, 400, 405, ""},
		{strings.Repeat("a", 255), true, 200, 405, ""},
		{strings.Repeat("a", 256), true, 400, 405, ""},
		{strings.Repeat("a", 256) + "/me", true, 400, 400, ""},
	} {
		if got := statusOf(Check(tt.path, tt.has)); got != tt.read {
			t.Errorf("GET _presence/%s is %d, not %d", tt.path, got, tt.read)
		}
		of, err := Self(tt.path)
		got := statusOf(err)
		switch {
		case got == http.StatusMethodNotAllowed:
			if allow := problem.Of(err).Allow; allow != "GET, HEAD, OPTIONS" {
				t.Errorf("PUT _presence/%s allows %q", tt.path, allow)
			}
			if !strings.Contains(problem.Of(err).Error(), "_presence/"+tt.path+"/me") {
				t.Errorf("PUT _presence/%s does not say what to write to: %v", tt.path, err)
			}
		case err == nil:
			if got = statusOf(Check(of, tt.has)); got == http.StatusOK && of != tt.of {
				t.Errorf("PUT _presence/%s writes in %q, not in %q", tt.path, of, tt.of)
			}
		}
		if got != tt.write {
			t.Errorf("PUT _presence/%s is %d, not %d", tt.path, got, tt.write)
		}
	}
}

func TestMetadataOfAMember(t *testing.T) {
	for body, want := range map[string]string{
		` { "a" : "<" } `: `{"a":"<"}`,
		`{}`:              `{}`,
		``:                "", `null`: "", `[]`: "", `"a"`: "", `{"a":1}x`: "", `{"a":`: "",
		`{"a":"` + strings.Repeat("x", presence.MaxMeta-8) + `"}`: `{"a":"` + strings.Repeat("x", presence.MaxMeta-8) + `"}`,
		`{"a":"` + strings.Repeat("x", presence.MaxMeta-7) + `"}`: "",
	} {
		meta, err := Meta([]byte(body))
		if string(meta) != want || (want == "") != (statusOf(err) == http.StatusBadRequest) {
			t.Errorf("%.40s is %.40s, %v", body, meta, err)
		}
	}
}

func TestDocumentOfMembers(t *testing.T) {
	for _, tt := range []struct {
		page presence.Page
		want string
	}{
		{presence.Page{Members: []presence.Member{}}, `{"channel":"a","count":0,"anonymous":0,"members":[]}`},
		{presence.Page{Count: 200, Unnamed: 1}, `{"channel":"a","count":200,"anonymous":1}`}, // too many to tell by name
		{
			presence.Page{Count: 2, Members: []presence.Member{{User: "ann", Sessions: 1}}, Next: "ann"},
			`{"channel":"a","count":2,"anonymous":0,"members":[{"user":"ann","sessions":1,"since":"0001-01-01T00:00:00Z"}],"next":"ann"}`,
		},
	} {
		got, err := json.Marshal(New("a", &tt.page))
		if err != nil || string(got) != tt.want {
			t.Errorf("it is %s, %v, and not %s", got, err, tt.want)
		}
	}
}

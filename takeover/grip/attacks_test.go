package grip

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// Whatever the application begins with, or sends as a keep-alive, the next event is whole.
func TestNoEventIsTakenForAPartOfWhatComesBefore(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "",
		":\n":                       ":\n",
		":":                         ":\n",
		": padding":                 ": padding\n",
		"hello":                     "hello\n\n",
		"data: x":                   "data: x\n\n",
		"data: x\n":                 "data: x\n\n",
		"data: x\n\n":               "data: x\n\n",
		"data: x\n: more":           "data: x\n: more\n\n",
		"data: x\n: more\n":         "data: x\n: more\n\n",
		"data: x\r\n\r\n":           "data: x\r\n\r\n",
		"data: x\r\r":               "data: x\r\r",
		"data: x\r":                 "data: x\r\n\n",
		"data: x\r\n":               "data: x\r\n\n",
		"data: x\n\nretry: 1":       "data: x\n\nretry: 1\n\n",
		"event: stream-open\ndata:": "event: stream-open\ndata:\n\n",
	} {
		if got := whole([]byte(text)); string(got) != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, body := range []string{"hello", "data: x\n", ":"} {
		s := newSite(t, func(*http.Request) string { return held + "Grip-Channel: a\n\n" + body })
		read := s.open("/")
		read(string(whole([]byte(body))))
		s.publish(`{"channel":"a","http-stream":{"content":"data: 1\n\n"}}`)
		read("data: 1\n\n")
	}
}

// The headers of a client, and what it asks for, name no channel, user or link.
func TestAClientCannotInstruct(t *testing.T) {
	s := newSite(t, func(r *http.Request) string {
		for name := range r.Header {
			if strings.HasPrefix(strings.ToLower(name), "grip") && name != headerSig && name != headerFeature {
				t.Errorf("the application got %s", name)
			}
		}
		if r.Header.Get(headerSig) == "forged" {
			t.Error("the signature is the client's")
		}
		return held + "Grip-Channel: a\nGrip-Set-Meta: user=\"ann\"\n\n:\n\n"
	})
	r, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/?Grip-Channel=b", nil)
	for _, name := range []string{"Grip-Sig", "grip-sig", "GRIP-SIG", "Grip_Sig", "Grip-Channel", "Grip.Hold", "Grip-Last", "Grip-Feature", "Grip-Set-Meta"} {
		r.Header[name] = []string{"forged"}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	for _, session := range s.publisher.Hub.Sessions() {
		if got := fmt.Sprint(session.Stream.Channels()); got != "[a]" {
			t.Errorf("the client reads %s", got)
		}
	}
}

// More of what cannot be followed.
func TestInstructionsThatWouldDoHarmAreErrors(t *testing.T) {
	for headers, want := range map[string]string{
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Set-Meta: user=\"" + strings.Repeat("x", 256) + "\"": "at most 255 bytes",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Set-Meta: user=\"\xff\"":                             "UTF-8",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Set-Meta: user=\"a\tb\"":                             "control characters",
		"Grip-Hold: stream\nGrip-Channel: " + strings.Repeat("a,", maxChannels) + "a":                  "at most 10000 are allowed",
		"Grip-Hold: stream\nGrip-Channel: a" + strings.Repeat("; filter=skip-self", maxFilters+1):      "more than 16 filters",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Link: <>; rel=next":                                  "<URI>",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Link: <:>; rel=next":                                 "missing protocol scheme",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Link: </x>; rel=next; timeout=-1":                    "whole number",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: ; timeout=1":                             "1 to 4096",
		"Grip-Hold: stream\nGrip-Channel: a\nGrip-Keep-Alive: \\x0; format=cstring":                    "escapes",
	} {
		if _, err := ReadInstruct(headersOf(headers)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.70q: %v", headers, err)
		}
	}
	for link, want := range map[string]string{
		"mailto:x":                 "to a path of the application",
		"http:x":                   "to a path of the application",
		"//evil.example/x":         "to the application itself",
		"http://evil.example":      "to the application itself",
		"http://evil.example@x/":   "to the application itself",
		"http://127.0.0.1:1/admin": "to the application itself",
		"../../x":                  "",
	} {
		s := newSite(t, func(r *http.Request) string {
			if r.URL.Path == "/first" {
				return "Grip-Link: <" + link + ">; rel=next\n\n1"
			}
			return "X: y\n\n2"
		})
		resp, err := http.Get(s.url + "/first")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if want == "" && resp.StatusCode != http.StatusOK || want != "" && (resp.StatusCode != http.StatusBadGateway || !s.logged(want)) {
			t.Errorf("%s: %s, %s", link, resp.Status, s.log.String())
		}
	}
}

// What a publisher says that cannot be an event, or that would be lost, is an error; and who
// has no key learns nothing.
func TestPublishingThatWouldDoHarmIsRefused(t *testing.T) {
	p := newPublisher(t)
	for content, want := range map[string]int{
		"retry: 1000\\n\\n":         400, // it is no event
		"id: 1\\n\\n":               400,
		": a comment\\n\\n":         400,
		"data: x\\n\\n: more":       200, // comments are left out
		"data: x\\n\\ndata: half":   400,
		"":                          400,
		"data: \\u0000\\n\\n":       200,
		"event: grip\\ndata:\\n\\n": 200, // it is no action
	} {
		if w := send(p, "POST", `{"items":[{"channel":"a","http-stream":{"content":"`+content+`"}}]}`); w.Code != want {
			t.Errorf("%q: %d %s", content, w.Code, w.Body)
		}
	}
	many := strings.Repeat(`{"channel":"a","http-stream":{"content":"data: x\n\n"}},`, maxItems)
	for body, want := range map[string]int{
		`{"items":[` + many + `{}]}`: 400,
		`{"items":[{"channel":"a","http-stream":{"content":"` + strings.Repeat(`\n`, MaxBody): 413,
		`{"items":{"channel":"a"}}`:        400,
		`{"items":[null]}`:                 400,
		`[]`:                               400,
		strings.Repeat(`{"items":[`, 1000): 400,
	} {
		if w := send(p, "POST", body); w.Code != want {
			t.Errorf("%.40q: %d %s", body, w.Code, w.Body)
		}
	}
	for _, body := range []string{"", "{", `{"items":[]}`} {
		if w := send(p, "POST", body, "Authorization", "Bearer wrong-key-of-the-test"); w.Code != 401 {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	}
}

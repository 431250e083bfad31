package sessions

import (
	"testing"

	"github.com/evstream/caddy-evstream/internal/query"
	"github.com/evstream/caddy-evstream/problem"
)

func TestAPathNamesASessionAndItsChannel(t *testing.T) {
	const id = "node.MZ3HSEYrlgnGQgSZad0U_Q"
	for name, want := range map[string]Target{
		"_sessions":                                   {},
		"_sessions/" + id:                             {ID: id},
		"_sessions/" + id + "/channels/a":             {ID: id, Channel: "a"},
		"_sessions/" + id + "/channels/rooms/*":       {ID: id, Channel: "rooms/*"},
		"_sessions/" + id + "/channels/channels/x":    {ID: id, Channel: "channels/x"},
		"_sessions/" + id + "/channels/rooms/":        {ID: id, Channel: "rooms/"}, // the broker refuses it
		"_sessions/" + id[5:] + "/channels/_reserved": {ID: id[5:], Channel: "_reserved"},
	} {
		if got, err := Parse(name); got != want || err != nil || !Is(name) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, kind := range map[string]problem.Kind{
		"_sessions/":                     problem.NoSession,
		"_sessions/x":                    problem.NoSession,
		"_sessions/" + id + "/":          problem.NotFound,
		"_sessions/" + id + "/events":    problem.NotFound,
		"_sessions/" + id + "/channels":  problem.NotFound,
		"_sessions/" + id + "/channels/": problem.NotFound,
	} {
		if got, err := Parse(name); err == nil || problem.Of(err).Kind != kind {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if Is("_sessionsx") || Is("sessions") {
		t.Error("it takes the names of others")
	}
}

func TestEachTargetHasItsMethods(t *testing.T) {
	for target, want := range map[Target]map[string]query.Request{
		{}:                      {"GET": query.Sessions, "HEAD": query.Sessions},
		{ID: "x"}:               {"GET": query.Session, "HEAD": query.Session, "POST": query.Send, "DELETE": query.End},
		{ID: "x", Channel: "a"}: {"PUT": query.Join, "DELETE": query.Leave},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
			if kind, ok := target.Kind(method); kind != want[method] || ok != (want[method] != 0) {
				t.Errorf("%+v, %s: %b, %t", target, method, kind, ok)
			}
		}
		if p := target.RefuseMethod(); p.Kind != problem.BadMethod || p.Allow != target.Methods() {
			t.Errorf("%+v: %+v", target, p)
		}
	}
}

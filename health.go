package evstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/evstream/caddy-evstream/hub"
	"github.com/evstream/caddy-evstream/problem"
)

// Health at the admin endpoint, for load balancers and orchestrators: 200, or 503 with
// the reasons as a problem.
const (
	healthPath = adminMount + "/_health/"
	livePath   = healthPath + "live"  // whether the process can do anything but be started again
	readyPath  = healthPath + "ready" // whether it can serve now
)

// healthChecks are what a broker must do to be ready. A request can leave some out, with
// ?exclude=.
var healthChecks = []struct {
	name string
	of   func(hub.Health) error
}{
	{"log", func(h hub.Health) error { return errors.Join(h.Failed, h.Reach) }},
	{"loading", func(h hub.Health) error { return h.Loading }},
	{"room", func(h hub.Health) error { return h.Room }},
	{"exit", func(h hub.Health) error {
		if h.Draining {
			return errors.New("the server exits")
		}
		return nil
	}},
}

// healthy is the answer of a server that is well.
type healthy struct {
	Status  string   `json:"status"` // "live" or "ready"
	Brokers []string `json:"brokers"`
}

// serveHealth answers a request for the health of the brokers of app, which is nil where
// none runs. It is false if the path is none of those.
func serveHealth(w http.ResponseWriter, r *http.Request, app *App) bool {
	if !strings.HasPrefix(r.URL.Path, healthPath) && r.URL.Path+"/" != healthPath {
		return false
	}
	w.Header().Set("Cache-Control", "no-store")
	ready := r.URL.Path == readyPath
	switch {
	case !ready && r.URL.Path != livePath:
		answerProblem(w, problem.NotFound.Because("health is told at %s and %s", livePath, readyPath))
		return true
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		answerProblem(w, problem.BadMethod.Because("%s takes GET and HEAD, not %s", r.URL.Path, r.Method))
		return true
	}
	names, exclude, p := healthQuery(r.URL, app, ready)
	if p == nil {
		p = judgeHealth(names, app, ready, exclude)
	}
	if p != nil {
		if p.Status() == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "5")
		}
		answerProblem(w, p)
		return true
	}
	answer := healthy{Status: "live", Brokers: names}
	if ready {
		answer.Status = "ready"
	}
	body, _ := json.Marshal(answer) // these types never fail
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(body, '\n'))
	return true
}

// healthQuery returns which brokers are asked for, by default all, and which checks are
// left out.
func healthQuery(u *url.URL, app *App, ready bool) (names, exclude []string, _ *problem.Error) {
	names = []string{}
	if app != nil {
		names = app.names()
	}
	checks := make([]string, len(healthChecks))
	for i := range healthChecks {
		checks[i] = healthChecks[i].name
	}
	for name, values := range u.Query() {
		switch {
		case name == "broker":
			for _, value := range values {
				if app == nil || app.hubs[value] == nil {
					return nil, nil, problem.NotFound.Because("there is no broker %q; the brokers are: %s", value, strings.Join(names, ", "))
				}
			}
			names = values
		case name == "exclude" && ready:
			for _, value := range values {
				if !slices.Contains(checks, value) {
					return nil, nil, problem.BadParameter.Because("there is no check %q to exclude; the checks are: %s", value, strings.Join(checks, ", "))
				}
			}
			exclude = values
		case ready:
			return nil, nil, problem.BadParameter.Because("%s has no parameter %q, but broker and exclude", u.Path, problem.Clip(name))
		default:
			return nil, nil, problem.BadParameter.Because("%s has no parameter %q, but broker", u.Path, problem.Clip(name))
		}
	}
	return names, exclude, nil
}

// judgeHealth returns what is wrong with brokers; nil if they are well.
func judgeHealth(names []string, app *App, ready bool, exclude []string) *problem.Error {
	if app == nil && ready {
		return problem.Unavailable.Because("no configuration with a broker is running")
	}
	var wrong []error
	for _, name := range names {
		health := app.hubs[name].Health()
		if !ready {
			if health.Failed != nil {
				wrong = append(wrong, fmt.Errorf("broker %q: %w", name, health.Failed))
			}
			continue
		}
		for _, c := range healthChecks {
			if err := c.of(health); err != nil && !slices.Contains(exclude, c.name) {
				wrong = append(wrong, fmt.Errorf("broker %q, %s: %s", name, c.name, strings.ReplaceAll(err.Error(), "\n", "; ")))
			}
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	texts := make([]string, len(wrong))
	for i, err := range wrong {
		texts[i] = err.Error()
	}
	return problem.Unavailable.Because("%s", strings.Join(texts, "; "))
}

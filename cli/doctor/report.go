package doctor

import "slices"

// Level says how bad a finding is.
type Level string

// The levels of findings. Only problems make the exit status 1.
const (
	OK      Level = "ok"      // looked at, and right
	Note    Level = "note"    // worth to know
	Skipped Level = "skipped" // not looked at, and why
	Warning Level = "warning" // it works, but not as well as it could
	Problem Level = "problem" // readers lose events, get them late, or not at all
)

// Finding is what one check has seen.
type Finding struct {
	Check  string `json:"check"`
	Level  Level  `json:"level"`
	Saw    string `json:"saw"`
	Effect string `json:"effect,omitempty"` // what it does to readers and publishers
	Fix    []Fix  `json:"fix,omitempty"`
}

// Fix is what to change, and in what.
type Fix struct {
	In     string `json:"in"` // a proxy, or evstream
	Change string `json:"change"`
}

// Report is all that was found at one URL.
type Report struct {
	URL      string    `json:"url"`
	Channel  string    `json:"channel,omitempty"` // where it published and read
	Through  []string  `json:"through"`           // the proxies that gave themselves away
	Findings []Finding `json:"findings"`
	Problems int       `json:"problems"`
	Warnings int       `json:"warnings"`
}

func (r *Report) add(f Finding) {
	switch f.Level {
	case Problem:
		r.Problems++
	case Warning:
		r.Warnings++
	}
	r.Findings = append(r.Findings, f)
}

// checks are the names of all checks, in the order in which they are shown.
func checks() []string {
	return []string{
		"hub", "redirect", "certificate", "http", "token", "clock", "cache", "buffering", "compression",
		"last-event-id", "nodes", "request-body", "cors", "idle",
	}
}

// sort orders the findings as checks does.
func (r *Report) sort() {
	order := checks()
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return slices.Index(order, a.Check) - slices.Index(order, b.Check)
	})
}

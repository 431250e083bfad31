package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// hubs are the types of the hub's own events.
func hubs(kind string) bool { return strings.HasPrefix(kind, "evstream.") }

// judge compares what was heard with what was published.
func (r *round) judge(all []sent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	number := map[string]int{}
	for n := range all {
		number[all[n].data] = n
	}
	if r.until >= 0 {
		all = all[:r.until]
	}
	times := make([]int, len(all))
	var twice, late, order, nobody, missing []string
	newest, gaps, early := -1, 0, 0
	for i, d := range r.heard {
		if d.Note != "" || hubs(d.Type) {
			if d.Type == "evstream.gap" {
				if i < r.stops {
					early++
				}
				gaps++
			}
			continue
		}
		n, ok := number[d.Data]
		if !ok {
			nobody = append(nobody, fmt.Sprintf("type %q, id %q, data %.40q", d.Type, d.ID, d.Data))
			continue
		}
		if n >= len(all) {
			continue
		}
		e := &all[n]
		if want := e.event; d.Type != want && (want != "" || d.Type != "message") {
			nobody = append(nobody, fmt.Sprintf("%d has the type %q, not %q", n, d.Type, want))
		}
		if times[n]++; times[n] > 1 {
			twice = append(twice, fmt.Sprint(n))
			continue
		}
		if n < newest {
			order = append(order, fmt.Sprintf("%d after %d", n, newest))
		}
		newest = max(newest, n)
		if took := d.at.Sub(e.at); took > e.within {
			late = append(late, fmt.Sprintf("%d after %s", n, took.Round(10*time.Millisecond)))
		}
	}
	for n := range all {
		if times[n] == 0 {
			missing = append(missing, fmt.Sprint(n))
		}
	}
	for what, list := range map[string][]string{
		"never came": missing, "came twice": twice, "late": late, "out of order": order, "nobody published": nobody,
	} {
		if len(list) > 0 {
			r.faults = append(r.faults, fmt.Sprintf("%s (%d): %s", what, len(list), strings.Join(list[:min(len(list), 6)], ", ")))
		}
	}
	if early > 0 {
		r.faults = append(r.faults, fmt.Sprintf("%d gaps before anything was lost", early))
	}
	if gaps == early && r.stops > 0 {
		r.faults = append(r.faults, "no gap was announced after what Caddy had was lost")
	}
	if r.over && r.until < 0 {
		r.faults = append(r.faults, fmt.Sprintf("it has ended: %v", r.ended))
	}
	if len(r.faults) > 0 {
		var notes []string
		for _, d := range r.heard {
			if d.Note != "" {
				notes = append(notes, d.Note)
			}
		}
		r.faults = append(r.faults, fmt.Sprintf("its last notes: %q", notes[max(0, len(notes)-5):]))
	}
	slices.Sort(r.faults)
}

// summary is what came of it.
func (r *round) summary() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	events, empty := 0, 0
	for _, d := range r.heard {
		switch {
		case d.Note != "" || hubs(d.Type):
		case d.Data == "":
			empty++
		default:
			events++
		}
	}
	s := fmt.Sprintf("%d events", events)
	if empty > 0 {
		s += fmt.Sprintf(", %d messages without data", empty)
	}
	return s
}

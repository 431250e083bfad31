package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
)

// report is what -json writes.
type report struct {
	Machine   string   `json:"machine"`
	Revision  string   `json:"revision"`
	Command   string   `json:"command"`
	Scenarios []result `json:"scenarios"`
}

// result is what one scenario measured.
type result struct {
	Scenario string   `json:"scenario"`
	About    string   `json:"about"`
	Figures  []string `json:"figures"`
	Base     string   `json:"base"` // the target by whose figures the others are divided
	Targets  []row    `json:"targets"`
}

// row has the figures of one target.
type row struct {
	Target   string      `json:"target"`
	Runs     [][]float64 `json:"runs"` // of each run, the figures
	Warnings []string    `json:"warnings,omitempty"`
}

// column is one figure of all runs.
func (r *row) column(figure int) []float64 {
	values := make([]float64, 0, len(r.Runs))
	for _, run := range r.Runs {
		values = append(values, run[figure])
	}
	return values
}

// print writes a table with a line for each target and for each ratio to the base,
// and the warnings.
func (r *result) print(w io.Writer) error {
	fmt.Fprintf(w, "\n%s: %s\n\n", r.Scenario, r.About)
	if len(r.Targets) == 0 {
		fmt.Fprintln(w, "! no target is measured over TLS")
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintf(table, "\t%s\n", strings.Join(r.Figures, "\t"))
	var base *row
	for i := range r.Targets {
		target := &r.Targets[i]
		if target.Target == r.Base {
			base = target
		}
		fmt.Fprint(table, target.Target)
		for figure := range r.Figures {
			fmt.Fprint(table, "\t", spreadOf(target.column(figure)))
		}
		fmt.Fprintln(table)
	}
	for i := range r.Targets {
		target := &r.Targets[i]
		if base == nil || target == base {
			continue
		}
		fmt.Fprintf(table, "%s ÷ %s", target.Target, base.Target)
		for figure := range r.Figures {
			fmt.Fprint(table, "\t", spreadOf(ratios(target.column(figure), base.column(figure))))
		}
		fmt.Fprintln(table)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, target := range r.Targets {
		for _, warning := range target.Warnings {
			fmt.Fprintf(w, "! %s: %s\n", target.Target, warning)
		}
	}
	return nil
}

// String is the median and, of several figures, their range.
func (s spread) String() string {
	switch {
	case math.IsNaN(s.median):
		return "–"
	case s.low == s.high:
		return short(s.median)
	}
	return fmt.Sprintf("%s (%s–%s)", short(s.median), short(s.low), short(s.high))
}

// short formats a number with about three significant digits.
func short(v float64) string {
	switch size := math.Abs(v); {
	case size >= 1e6:
		return fmt.Sprintf("%.2f M", v/1e6)
	case size >= 1e4:
		return fmt.Sprintf("%.0f k", v/1e3)
	case size >= 100:
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// save writes the report as JSON.
func (r *report) save(file string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.WriteFile(file, append(text, '\n'), 0o644) //nolint:gosec // no secret
	}
	if err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// sign returns what a level looks like.
func (l Level) sign() (string, term.Style) {
	switch l {
	case OK:
		return "✓", term.Green
	case Warning:
		return "!", term.Yellow
	case Problem:
		return "✗", term.Red
	}
	return "·", term.Dim
}

// print writes the report for people.
func (r *Report) print(w io.Writer, paint term.Painter) error {
	var b strings.Builder
	const margin = "                 "
	for _, f := range r.Findings {
		sign, style := f.Level.sign()
		saw := f.Saw
		if f.Level == Skipped {
			saw = "not checked: " + saw
		}
		fmt.Fprintf(&b, "%s %s\n", paint.In(style, fmt.Sprintf("%s %-14s", sign, f.Check)), saw)
		if f.Effect != "" {
			fmt.Fprintf(&b, "%s%s.\n", margin, strings.ToUpper(f.Effect[:1])+f.Effect[1:])
		}
		for _, fix := range f.Fix {
			fmt.Fprintf(&b, "%s→ %s: %s\n", margin, fix.In, fix.Change)
		}
	}
	fmt.Fprintf(&b, "%s\n", r.summary())
	_, err := io.WriteString(w, b.String())
	return err
}

// summary is the last line.
func (r *Report) summary() string {
	count := func(n int, what string) string {
		if n == 1 {
			return "1 " + what
		}
		return fmt.Sprintf("%d %ss", n, what)
	}
	switch {
	case r.Problems > 0:
		return count(r.Problems, "problem") + ", " + count(r.Warnings, "warning")
	case r.Warnings > 0:
		return "no problem, " + count(r.Warnings, "warning")
	}
	return "no problem"
}

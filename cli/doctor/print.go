package doctor

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// terminal reports whether somebody looks at what is written.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// colored reports whether to use colours: on terminals, unless NO_COLOR is set.
func colored(w io.Writer) bool {
	return os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && terminal(w)
}

// sign returns what a level looks like, and its colour.
func (l Level) sign() (sign, color string) {
	switch l {
	case OK:
		return "✓", "\x1b[32m"
	case Warning:
		return "!", "\x1b[33m"
	case Problem:
		return "✗", "\x1b[31m"
	}
	return "·", "\x1b[2m"
}

// print writes the report for people.
func (r *Report) print(w io.Writer, color bool) error {
	var b strings.Builder
	const margin = "                 "
	for _, f := range r.Findings {
		sign, paint := f.Level.sign()
		saw := f.Saw
		if f.Level == Skipped {
			saw = "not checked: " + saw
		}
		if color {
			sign = paint + sign
			fmt.Fprintf(&b, "%s %-14s\x1b[0m %s\n", sign, f.Check, saw)
		} else {
			fmt.Fprintf(&b, "%s %-14s %s\n", sign, f.Check, saw)
		}
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

package bench

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/evstream/caddy-evstream/cli/internal/term"
)

// Figures sum up durations, in nanoseconds.
type Figures struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
}

func figuresOf(h *histogram) Figures {
	return Figures{h.count.Load(), h.quantile(0.5), h.quantile(0.9), h.quantile(0.99), h.quantile(0.999), time.Duration(h.max.Load())}
}

// Report is what a run has measured.
type Report struct {
	URL         string  `json:"url"`
	Publish     string  `json:"publish,omitempty"`
	Subscribers int     `json:"subscribers"`
	Publishers  int     `json:"publishers"`
	Rate        float64 `json:"rate"` // events a second that were to be published; 0: back to back, or none
	Size        int     `json:"size"`
	Interrupted bool    `json:"interrupted,omitempty"`

	Connected      int      `json:"connected"`
	ConnectSeconds float64  `json:"connect_seconds"`
	Connecting     Figures  `json:"connecting"`
	ConnectFailed  uint64   `json:"connect_failed"`
	ConnectErrors  []Reason `json:"connect_errors"`
	Closed         int      `json:"closed"` // streams that ended before the run

	Seconds         float64 `json:"seconds"`
	Events          uint64  `json:"events"` // that arrived, at all subscribers
	EventsPerSecond float64 `json:"events_per_second"`
	Bytes           uint64  `json:"bytes"`

	// With Publish: from the time at which an event was to be published to its arrival.
	// Else from one event of a stream to the next.
	Delay Figures `json:"delay"`
	Bars  []Bar   `json:"histogram"`

	Published     uint64   `json:"published"`
	Lost          uint64   `json:"lost"`
	Unordered     uint64   `json:"duplicate_or_reordered"`
	Publishing    *Figures `json:"publishing,omitempty"`
	Behind        *Figures `json:"publishing_behind,omitempty"` // how late it began
	PublishFailed uint64   `json:"publish_failed"`
	PublishErrors []Reason `json:"publish_errors,omitempty"`
	Unknown       uint64   `json:"publish_unknown"` // of these, without an answer

	CPU      float64 `json:"own_cpu"` // cores that this program took; 0: not known
	Cores    int     `json:"cores"`
	OwnDelay Figures `json:"own_delay"` // how late its own timers were
}

// failed reports whether something went wrong.
func (r *Report) failed() bool {
	return r.Lost > 0 || r.Unordered > 0 || r.Closed > 0 || r.ConnectFailed > 0 || r.PublishFailed > 0
}

// perEvent is what an event costs this program, in time of one core; 0 if not known.
func (r *Report) perEvent() time.Duration {
	if r.Events == 0 {
		return 0
	}
	return time.Duration(r.CPU * r.Seconds * 1e9 / float64(r.Events))
}

// readAll is about how long this program takes to read an event that comes to all
// subscribers at once.
func (r *Report) readAll() time.Duration {
	return r.perEvent() * time.Duration(r.Connected) / time.Duration(max(r.Cores, 1))
}

// doubts says why the figures may be those of this program.
func (r *Report) doubts() (list []string) {
	if r.Cores > 0 && r.CPU > 0.8*float64(r.Cores) {
		list = append(list, fmt.Sprintf("this program took %.0f %% of all cores: the figures may be its own; use fewer subscribers, or more machines", 100*r.CPU/float64(r.Cores)))
	}
	if all := r.readAll(); r.Publish != "" && all > r.Delay.P99/4 {
		list = append(list, fmt.Sprintf("an event to all takes this program about %s to read: delays contain a part of that", short(all)))
	}
	if r.Publish != "" && r.OwnDelay.P99 > 5*time.Millisecond && r.OwnDelay.P99 > r.Delay.P99/4 {
		list = append(list, fmt.Sprintf("a timer of this program was up to %s late (p99): delays contain that", short(r.OwnDelay.P99)))
	}
	if r.Publish != "" && r.Rate == 0 {
		list = append(list, "published back to back, each after the answer to the one before: a slow server gets less to do, so that its delays look better than at a rate")
	}
	if r.Publish != "" && r.Rate > 0 && r.Seconds > 0 && float64(r.Published) < 0.98*r.Rate*r.Seconds-1 {
		list = append(list, fmt.Sprintf("published %.0f a second and not %.0f: delays count from the time at which each was to be published", float64(r.Published)/r.Seconds, r.Rate))
	}
	if r.Unknown > 0 {
		list = append(list, fmt.Sprintf("%d publishes got no answer: what is lost may be these", r.Unknown))
	}
	if r.Interrupted {
		list = append(list, "interrupted")
	}
	return list
}

// print writes the report for people.
func (r *Report) print(w io.Writer, paint term.Painter) error {
	var b strings.Builder
	line := func(name, text string, args ...any) { fmt.Fprintf(&b, "%-14s %s\n", name, fmt.Sprintf(text, args...)) }
	figures := func(f Figures) string {
		return fmt.Sprintf("p50 %s  p90 %s  p99 %s  p99.9 %s  max %s", short(f.P50), short(f.P90), short(f.P99), short(f.P999), short(f.Max))
	}
	line("connected", "%s of %s in %s, each in %s (p50), %s (max)", commas(uint64(r.Connected)), commas(uint64(r.Subscribers)),
		short(time.Duration(r.ConnectSeconds*1e9)), short(r.Connecting.P50), short(r.Connecting.Max))
	for _, e := range r.ConnectErrors {
		line("", "%s failed: %s", commas(e.Count), e.Why)
	}
	if r.Closed > 0 {
		line("closed", "%s streams ended before the run", commas(uint64(r.Closed)))
	}
	line("events", "%s in %.1f s: %s a second, %s bytes", commas(r.Events), r.Seconds, commas(uint64(r.EventsPerSecond)), commas(r.Bytes))
	name := "between"
	if r.Publish != "" {
		name = "delay"
		line("published", "%s: %.0f a second; answered in %s (p50), %s (p99)", commas(r.Published), float64(r.Published)/max(r.Seconds, 1e-9), short(r.Publishing.P50), short(r.Publishing.P99))
		for _, e := range r.PublishErrors {
			line("", "%s failed: %s", commas(e.Count), e.Why)
		}
		line("lost", "%s; %s came twice or too late", commas(r.Lost), commas(r.Unordered))
	}
	if r.Delay.Count > 0 {
		line(name, "%s", figures(r.Delay))
		r.chart(&b, paint)
	}
	if r.CPU > 0 {
		line("this program", "%.2f of %d cores, %s an event; its timers were %s late (p99)", r.CPU, r.Cores, short(r.perEvent()), short(r.OwnDelay.P99))
	}
	for _, d := range r.doubts() {
		line("!", "%s", d)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// chart draws the distribution.
func (r *Report) chart(b *strings.Builder, paint term.Painter) {
	const width = 40
	var most uint64
	for _, bar := range r.Bars {
		most = max(most, bar.Count)
	}
	for _, bar := range r.Bars {
		if most == 0 {
			return
		}
		eighths := int(bar.Count * width * 8 / most)
		text := strings.Repeat("█", eighths/8)
		if rest := eighths % 8; rest > 0 {
			text += string([]rune(" ▏▎▍▌▋▊▉")[rest])
		}
		share := 100 * float64(bar.Count) / float64(r.Delay.Count)
		fmt.Fprintf(b, "  < %-10s %6.2f %% %s\n", short(bar.To), share, paint.In(term.Cyan, text))
	}
}

// short writes a duration with three digits.
func short(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d)
	case d < time.Millisecond:
		return three(float64(d)/1e3) + " µs"
	case d < time.Second:
		return three(float64(d)/1e6) + " ms"
	}
	return three(float64(d)/1e9) + " s"
}

func three(f float64) string {
	decimals := 2
	if f >= 100 {
		decimals = 0
	} else if f >= 10 {
		decimals = 1
	}
	return strconv.FormatFloat(f, 'f', decimals, 64)
}

// commas writes a number with its thousands apart.
func commas(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// bar returns a Progress that draws a bar on a terminal, and what removes it.
func bar(w io.Writer) (Progress, func()) {
	if !term.IsTerminal(w) {
		return func(string, float64, float64, string) {}, func() {}
	}
	draw := func(what string, done, all float64, remark string) {
		const width = 30
		full := int(width * done / max(all, 1e-9))
		_, _ = fmt.Fprintf(w, "\r\x1b[K%-10s [%s%s] %3.0f %% %s", what,
			strings.Repeat("#", full), strings.Repeat("-", width-full), 100*done/max(all, 1e-9), remark)
	}
	return draw, func() { _, _ = fmt.Fprint(w, "\r\x1b[K") }
}

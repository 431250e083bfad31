package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// clock compares clocks: that of the Date header, and that of the hub's ids.
func (x *exam) clock() {
	var agree []string
	judge := func(whose string, skew, uncertain time.Duration) {
		off := skew.Abs()
		if off <= 5*time.Second+uncertain {
			agree = append(agree, whose)
			return
		}
		way, level := "ahead of", Warning
		if skew < 0 {
			way = "behind"
		}
		if off > time.Minute {
			level = Problem
		}
		f := x.found("clock", level, "%s is %s %s that of this machine", whose, days(off), way)
		x.because(f, fixClock, "tokens are taken for expired, or for not valid yet, and since= and ages are off by that")
	}
	if x.skew != nil {
		judge("the clock of the hub, as its ids show it,", *x.skew, 0)
	}
	if date, err := http.ParseTime(x.head.Header.Get("Date")); err == nil {
		// Date is cut to seconds.
		middle := x.head.begun.Add(x.head.took / 2)
		judge("the Date of the server", date.Add(500*time.Millisecond).Sub(middle), time.Second+x.head.took/2)
	}
	switch len(agree) {
	case 2:
		x.found("clock", OK, "the ids of the hub and the Date of the server agree with the clock of this machine")
	case 1:
		x.found("clock", OK, "%s agrees with that of this machine", agree[0])
	}
	if x.skew == nil && x.head.Header.Get("Date") == "" {
		x.found("clock", Skipped, "the answer has no Date")
	}
}

// idClock remembers how far the clock of an id is ahead, which was given between two times.
func (x *exam) idClock(id string, begun, ended time.Time) {
	ms, _, ok := strings.Cut(id, "-")
	n, err := strconv.ParseInt(ms, 10, 64)
	if !ok || err != nil || n <= 0 || n > math.MaxInt64/int64(time.Millisecond) {
		return
	}
	skew := time.UnixMilli(n).Sub(begun.Add(ended.Sub(begun) / 2))
	x.skew = &skew
}

// token judges the times of a JSON Web Token. Others say nothing.
func (x *exam) token() {
	parts := strings.Split(x.Token, ".")
	if len(parts) != 3 {
		return
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var claims struct {
		Expires   *float64 `json:"exp"`
		NotBefore *float64 `json:"nbf"`
	}
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		return
	}
	until := func(seconds float64) time.Duration {
		return time.Duration(max(min(seconds-float64(time.Now().Unix()), 1e9), -1e9)) * time.Second
	}
	switch {
	case claims.NotBefore != nil && until(*claims.NotBefore) > 0:
		x.found("token", Problem, "it is valid only in %s", until(*claims.NotBefore)).Effect = "the hub refuses it until then"
	case claims.Expires == nil:
		x.found("token", Note, "it never expires")
	case until(*claims.Expires) <= 0:
		x.found("token", Problem, "it expired %s ago", -until(*claims.Expires)).Effect = "the hub refuses it"
	case until(*claims.Expires) < 5*time.Minute:
		x.found("token", Warning, "it expires in %s", until(*claims.Expires)).Effect = "its streams end then"
	default:
		x.found("token", OK, "it is valid for %s more", days(until(*claims.Expires)))
	}
}

// requestBody finds out whether the lines of a body are published as they are sent.
func (x *exam) requestBody(ctx context.Context) {
	switch {
	case !x.hub:
		return
	case !x.publish:
		x.found("request-body", Skipped, "that needs a token that may publish to %s", x.channel)
		return
	case x.split:
		x.found("request-body", Skipped, "lines may go to another node than they are read at: see nodes")
		return
	}
	at, err := x.poll(ctx, x.client, "poll=1")
	if err != nil {
		x.found("request-body", Skipped, "a poll is answered %s", clip(err.Error()))
		return
	}
	body, line := io.Pipe()
	req := x.request(http.MethodPost, x.at(x.channel, "event=doctor"), body)
	req.Header.Set("Content-Type", "application/x-ndjson")
	sent := make(chan error, 1)
	go func() {
		a, err := ask(ctx, x.client, req, x.Timeout+2*x.Late)
		if err == nil && a.StatusCode != http.StatusOK {
			err = refused(a)
		}
		_ = body.CloseWithError(errors.New("answered"))
		sent <- err
	}()
	mark := "evstream doctor " + random()
	begun := time.Now()
	_, _ = fmt.Fprintf(line, "%q\n", mark)
	arrived := false
	for left := x.Late; left > 0 && !arrived; left = x.Late - time.Since(begun) {
		query := fmt.Sprintf("poll=1&timeout=%dms&last_event_id=%s", left.Milliseconds()+1, url.QueryEscape(at.LastEventID))
		p, err := x.poll(ctx, x.client, query)
		if err != nil {
			break
		}
		at = p
		for _, e := range p.Events {
			arrived = arrived || strings.Contains(e.Data, mark)
		}
	}
	took := time.Since(begun)
	_ = line.Close()
	if err := <-sent; err != nil {
		x.found("request-body", Skipped, "publishing lines is answered %s", clip(err.Error()))
		return
	}
	if arrived {
		x.found("request-body", OK, "a line of a body arrived after %s, while the body went on", short(took))
		return
	}
	f := x.found("request-body", Warning, "a line of a body did not arrive in %s, and the body went on: it is held back until its end", short(x.Late))
	x.because(f, fixRequest, "who publishes many events in one request, such as the tokens of a model, reaches readers only at its end")
}

// cors finds out whether pages of the origin may read and publish.
func (x *exam) cors(ctx context.Context) {
	if x.Origin == "" {
		x.found("cors", Skipped, "pages of another origin: --origin https://app.example names it")
		return
	}
	h, err := x.corsHeader(ctx)
	if err != nil {
		x.found("cors", Skipped, "pages of another origin: %s", clip(err.Error()))
		return
	}
	allowed := h.Values("Access-Control-Allow-Origin")
	const effect = "the browser hides every answer from pages of that origin: an EventSource gives up"
	switch {
	case len(allowed) == 0:
		f := x.found("cors", Problem, "an answer to a page of %s has no Access-Control-Allow-Origin", x.Origin)
		x.because(f, fixCORS, effect)
		f.Fix = withOrigin(f.Fix, x.Origin)
		return
	case len(allowed) > 1 || strings.Contains(allowed[0], ","):
		f := x.found("cors", Problem, "Access-Control-Allow-Origin comes more than once (%s): a proxy adds it, too", clip(strings.Join(allowed, ", ")))
		x.because(f, fixCORSTwice, effect)
		return
	case allowed[0] != "*" && allowed[0] != x.Origin:
		f := x.found("cors", Problem, "Access-Control-Allow-Origin is %s, and not %s", clip(allowed[0]), x.Origin)
		x.because(f, fixCORS, effect)
		f.Fix = withOrigin(f.Fix, x.Origin)
		return
	}
	if x.hub && !x.preflight(ctx) {
		return
	}
	exposed := strings.ToLower(strings.Join(h.Values("Access-Control-Expose-Headers"), ","))
	if x.hub && exposed != "*" && (!strings.Contains(exposed, "etag") || !strings.Contains(exposed, "retry-after")) {
		f := x.found("cors", Warning, "Access-Control-Expose-Headers does not name ETag and Retry-After: a proxy replaces it")
		x.because(f, fixCORSTwice, "a page cannot set a value on condition, and does not know when to try again")
	}
	cookies := "with cookies"
	if h.Get("Access-Control-Allow-Credentials") != "true" {
		cookies = "without cookies"
	}
	x.found("cors", OK, "pages of %s may read, %s", x.Origin, cookies)
}

func withOrigin(list []Fix, origin string) []Fix {
	for i := range list {
		list[i].Change = strings.ReplaceAll(list[i].Change, "<origin>", origin)
	}
	return list
}

// corsHeader is the header of what a page of the origin reads.
func (x *exam) corsHeader(ctx context.Context) (http.Header, error) {
	if !x.hub {
		r := x.stream(ctx, "", "Origin", x.Origin)
		defer r.stop()
		if !r.answer(x.Late) {
			return nil, errLate
		}
		return r.resp.Header, nil
	}
	req := x.request(http.MethodGet, x.at(x.channel, "poll=1"), nil)
	req.Header.Set("Origin", x.Origin)
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	req.Header.Set("Sec-Fetch-Mode", "cors")
	a, err := ask(ctx, x.client, req, x.Timeout)
	if err != nil {
		return nil, err
	}
	return a.Header, nil
}

// preflight asks as a browser does before a page publishes with a token, and reports
// whether that was allowed.
func (x *exam) preflight(ctx context.Context) bool {
	req := x.request(http.MethodOptions, x.at(x.channel, ""), nil)
	req.Header.Del("Authorization") // a preflight has none
	req.Header.Set("Origin", x.Origin)
	req.Header.Set("Access-Control-Request-Method", http.MethodPost)
	req.Header.Set("Access-Control-Request-Headers", "authorization,content-type,last-event-id")
	a, err := ask(ctx, x.client, req, x.Timeout)
	const effect = "pages of that origin cannot send a token, nor publish"
	if err != nil {
		x.found("cors", Problem, "a preflight is not answered: %s", clip(err.Error())).Effect = effect
		return false
	}
	if a.StatusCode < 200 || a.StatusCode > 299 {
		f := x.found("cors", Problem, "a preflight is answered %s", a.Status)
		x.because(f, fixPreflight, effect)
		return false
	}
	headers := strings.ToLower(strings.Join(a.Header.Values("Access-Control-Allow-Headers"), ","))
	methods := strings.Join(a.Header.Values("Access-Control-Allow-Methods"), ",")
	origins := a.Header.Values("Access-Control-Allow-Origin")
	switch {
	case len(origins) != 1 || origins[0] != "*" && origins[0] != x.Origin:
		f := x.found("cors", Problem, "a preflight is answered with Access-Control-Allow-Origin: %s", clip(strings.Join(origins, ", ")))
		x.because(f, fixPreflight, effect)
		return false
	case !strings.Contains(headers, "authorization") || !strings.Contains(headers, "last-event-id") || !strings.Contains(methods, "POST"):
		f := x.found("cors", Problem, "a preflight allows the headers %q and the methods %q", clip(headers), clip(methods))
		x.because(f, fixPreflight, effect)
		return false
	}
	return true
}

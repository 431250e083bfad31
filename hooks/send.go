package hooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

const (
	// sendTimeout bounds a request, with its answer.
	sendTimeout = 15 * time.Second
	// maxAnswer is how much of an answer is read, so that the connection can be used
	// again.
	maxAnswer = 64 << 10
)

// outcome is what came of a request.
type outcome struct {
	err  error         // nil: it was taken
	gone bool          // the receiver wants nothing any more
	wait time.Duration // it asks to be left alone for so long
}

func newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: sendTimeout}).DialContext,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    sendTimeout,
		IdleConnTimeout:        30 * time.Second,
		MaxConnsPerHost:        2 * MaxHooks * maxWorkers, // all hooks may be of one host, and those of before a reload, too
		MaxIdleConnsPerHost:    maxWorkers,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		Timeout:   sendTimeout,
		// A redirect would lead to a URL that is not the configured one, and with most
		// of them the event would be lost.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// send posts an event.
func (k *Hooks) send(h *Hook, e *Event) outcome {
	at, body := time.Now(), e.Payload()
	r, err := http.NewRequestWithContext(k.ctx, http.MethodPost, h.URL, bytes.NewReader(body))
	if err != nil {
		return outcome{err: err}
	}
	r.Header = http.Header{
		"Content-Type":      {"application/json"},
		"User-Agent":        {"evstream"},
		"Webhook-Id":        {e.ID},
		"Webhook-Timestamp": {strconv.FormatInt(at.Unix(), 10)},
	}
	if len(h.Secrets) > 0 {
		r.Header.Set("Webhook-Signature", signature(h.Secrets, e.ID, at, body))
	}
	resp, err := k.client.Do(r)
	if err != nil {
		return outcome{err: withoutURL(err)}
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	return judge(resp)
}

// withoutURL takes the URL out of an error of a client: its query may have a secret.
func withoutURL(err error) error {
	if inner, ok := errors.AsType[*url.Error](err); ok {
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("no answer within %s", sendTimeout)
		}
		return inner.Err
	}
	return err
}

// judge says what an answer means.
func judge(resp *http.Response) outcome {
	switch {
	case resp.StatusCode/100 == 2:
		return outcome{}
	case resp.StatusCode == http.StatusGone:
		return outcome{err: errors.New(resp.Status), gone: true}
	case resp.StatusCode/100 == 3:
		return outcome{err: fmt.Errorf("it answers %s, and a redirect is not followed", resp.Status)}
	}
	return outcome{err: fmt.Errorf("it answers %s", resp.Status), wait: retryAfter(resp.Header.Get("Retry-After"))}
}

// retryAfter is how long a receiver asks to be left alone; 0 if it does not say.
func retryAfter(s string) time.Duration {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return time.Duration(min(n, int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(s); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}

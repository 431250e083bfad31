package scoreboard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	publishTimeout = 5 * time.Second
	maxAnswer      = 4 << 10 // bytes that are read of an answer
)

// An event, as in the body of a batch.
type event struct {
	Channel string `json:"channel"`
	Type    string `json:"event"`
	Data    string `json:"data"`
}

// A publisher posts events to an evstream endpoint. This is all there is to
// publishing: an HTTP client and a URL.
type publisher struct {
	endpoint  string // without a final slash
	transport *http.Transport
	client    *http.Client
}

func newPublisher(endpoint string) *publisher {
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	return &publisher{
		endpoint:  endpoint,
		transport: transport,
		client:    &http.Client{Transport: transport, Timeout: publishTimeout},
	}
}

// post publishes events: one to its channel's URL, several as a batch. Events with
// the same key are stored once.
func (p *publisher) post(ctx context.Context, key string, events []event) error {
	switch len(events) {
	case 0:
		return nil
	case 1:
		e := events[0]
		target := p.endpoint + "/" + escape(e.Channel) + "?event=" + url.QueryEscape(e.Type)
		return p.send(ctx, key, target, []byte(e.Data))
	default:
		body, err := json.Marshal(events)
		if err != nil {
			return fmt.Errorf("encoding a batch: %w", err)
		}
		return p.send(ctx, key, p.endpoint+"/_publish", body)
	}
}

func (p *publisher) send(ctx context.Context, key, target string, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	answer, err := p.client.Do(r)
	if err != nil {
		return err // names the method and the URL
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("reading the answer of %s: %w", target, err)
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s: %s", target, answer.Status, bytes.TrimSpace(text))
	}
	return nil
}

// close closes the idle connection.
func (p *publisher) close() { p.transport.CloseIdleConnections() }

// escape returns the path of a channel: its slashes stay.
func escape(channel string) string {
	segments := strings.Split(channel, "/")
	for i, segment := range segments {
		segments[i] = url.PathEscape(segment)
	}
	return strings.Join(segments, "/")
}

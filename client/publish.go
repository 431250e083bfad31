package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"
	"unicode/utf8"
)

// Publication is what is published: one event.
type Publication struct {
	// Channel is the channel's name. One that ends in "/" is all channels beneath it.
	Channel string
	// Type is the event's name, "" for none. Names that begin with "evstream." belong to
	// the hub.
	Type string
	// Data is the event's data: UTF-8 text, as it is.
	Data []byte
	// ID is an id of the publisher's own, "" for none: see docs/http.md.
	ID string
	// Retry asks readers to wait that long when they reconnect; 0 asks for nothing.
	Retry time.Duration
	// To and Except name the readers that get the event, and those that do not, such as
	// "user:alice", "session:…" or "claim:role=admin".
	To, Except []string
	// Key is the idempotency key, of at most 255 visible ASCII characters. By default
	// [Client.Publish] makes one; see Options.NoKeys.
	Key string
}

// Published says what was published.
type Published struct {
	ID       string // of the event, or of the last one
	Replayed bool   // it had been published by an earlier request with the same key

	Count int      // how many events were published
	IDs   []string // of [Client.PublishAll]: of each event
}

// plainText is the type of a body that is published as it is.
const plainText = "text/plain; charset=utf-8"

// query has the fields of an event that a request has in its query.
func (p *Publication) query() url.Values {
	q := url.Values{}
	if p.Type != "" {
		q.Set("event", p.Type)
	}
	if p.ID != "" {
		q.Set("id", p.ID)
	}
	if p.Retry > 0 {
		q.Set("retry", strconv.FormatInt(max(p.Retry.Milliseconds(), 1), 10))
	}
	if len(p.To) > 0 {
		q["to"] = p.To
	}
	if len(p.Except) > 0 {
		q["except"] = p.Except
	}
	return q
}

// Publish publishes one event, with all its attempts under one idempotency key. If the
// outcome is not known in the end, the error is an [UnknownError] with that key.
func (c *Client) Publish(ctx context.Context, p Publication) (Published, error) {
	return c.publish(ctx, &p, nil)
}

// CloseChannel publishes the last event of a channel, and closes it. With neither Data
// nor Type, ID and Retry there is no last event.
func (c *Client) CloseChannel(ctx context.Context, last Publication) (Published, error) {
	return c.publish(ctx, &last, url.Values{"close": {""}})
}

func (c *Client) publish(ctx context.Context, p *Publication, more url.Values) (Published, error) {
	path, err := channelPath(p.Channel)
	if err != nil {
		return Published{}, err
	}
	query := p.query()
	maps.Copy(query, more)
	return c.write(ctx, call{
		method: http.MethodPost, path: path, query: query, body: p.Data, key: c.keyed(p.Key),
		header: http.Header{"Content-Type": {plainText}},
	})
}

// PurgeHistory removes the events that a channel keeps, and opens it if it is closed.
func (c *Client) PurgeHistory(ctx context.Context, channel string) (Published, error) {
	path, err := channelPath(channel)
	if err != nil {
		return Published{}, err
	}
	return c.write(ctx, call{method: http.MethodDelete, path: path, query: url.Values{"history": {""}}, key: c.keyed("")})
}

// write sends a write that is answered with an id, or ids.
func (c *Client) write(ctx context.Context, call call) (Published, error) {
	var doc struct {
		ID        string   `json:"id"`
		Published *int     `json:"published"`
		IDs       []string `json:"ids"`
	}
	got, err := c.send(ctx, call, &doc)
	if err != nil {
		return Published{}, err
	}
	done := Published{ID: doc.ID, IDs: doc.IDs, Count: 1, Replayed: got.header.Get("Idempotency-Replayed") == "true"}
	if doc.Published != nil {
		done.Count = *doc.Published
	}
	return done, nil
}

// item is a Publication in a body of many.
type item struct {
	Channel string   `json:"channel"`
	Event   string   `json:"event,omitempty"`
	Data    string   `json:"data"`
	ID      string   `json:"id,omitempty"`
	Retry   int64    `json:"retry,omitempty"`
	To      []string `json:"to,omitempty"`
	Except  []string `json:"except,omitempty"`
}

func itemOf(p *Publication) (item, error) {
	if !utf8.Valid(p.Data) {
		return item{}, errors.New("the data is not UTF-8 text")
	}
	if p.Key != "" {
		return item{}, errors.New("an event of many has no key of its own: the request has one for all")
	}
	i := item{p.Channel, p.Type, string(p.Data), p.ID, 0, p.To, p.Except}
	if p.Retry > 0 {
		i.Retry = max(p.Retry.Milliseconds(), 1)
	}
	return i, nil
}

// PublishAll publishes up to 1,000 events in one request, in their order: all of them,
// or none if any is bad. With a key it is tried again where it fails for a while; key/1
// and so on are the keys of the events. Without one, an outcome that is not known is an
// [UnknownError] at once.
func (c *Client) PublishAll(ctx context.Context, key string, list []Publication) (Published, error) {
	if len(list) == 0 {
		return Published{}, nil
	}
	items := make([]item, len(list))
	for i := range list {
		var err error
		if items[i], err = itemOf(&list[i]); err != nil {
			return Published{}, fmt.Errorf("event %d: %w", i+1, err)
		}
	}
	body, err := encode(items)
	if err != nil {
		return Published{}, err
	}
	return c.write(ctx, call{
		method: http.MethodPost, path: "_publish", body: body, key: key,
		header: http.Header{"Content-Type": {"application/json"}},
	})
}

// PublishLines publishes events as they come, as NDJSON in one request, which may last as
// long as there is an event every five minutes. It is for many events, and for those
// that a program makes one after the other. It ends when the sequence does, or with the
// error that the sequence yields; what was yielded before that is published.
//
// It is not tried again, because what the sequence has yielded is not kept. Published
// says how many events were published, also where there is an error, unless that is an
// [UnknownError]: the connection was lost, and any number of them may have been.
func (c *Client) PublishLines(ctx context.Context, events iter.Seq2[Publication, error]) (Published, error) {
	credential, err := c.creds.get(ctx, nil)
	if err != nil {
		return Published{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	in, out := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("_publish", nil).String(), in)
	if err != nil {
		return Published{}, err
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	r.Header.Set("Accept", "application/json")
	if credential != nil && credential.Token != "" {
		r.Header.Set("Authorization", "Bearer "+credential.Token)
	}
	type result struct {
		resp *http.Response
		err  error
	}
	answered := make(chan result, 1)
	go func() { // it ends with the body, or with ctx
		resp, err := c.http.Do(r)          //nolint:bodyclose // whoever receives it closes it
		_ = in.CloseWithError(errAnswered) // nobody reads any more: a write ends
		answered <- result{resp, err}
	}()
	sent, failed := writeLines(out, events)
	_ = out.Close() // properly, also where the sequence has failed: the hub says how far it came
	got := <-answered
	if got.err != nil {
		return Published{}, linesOutcome(errors.Join(failed, plainly(got.err, r.URL)), sent)
	}
	defer got.resp.Body.Close()
	body, err := c.read(got.resp, false)
	if e, refused := errors.AsType[*Error](err); refused && !e.unknown {
		if e.Status == http.StatusUnauthorized {
			c.creds.refuse(credential)
		}
		return Published{Count: e.Published, ID: e.LastID}, errors.Join(failed, e)
	}
	if err != nil {
		return Published{}, linesOutcome(errors.Join(failed, err), sent)
	}
	var doc struct {
		Published int    `json:"published"`
		ID        string `json:"id"`
	}
	if err := json.Unmarshal(body.body, &doc); err != nil {
		return Published{}, fmt.Errorf("%s: the answer is not the document of a hub: %w", c.base.Host, err)
	}
	return Published{ID: doc.ID, Count: doc.Published}, failed
}

// errAnswered ends the writing of a body that the server has answered before its end.
var errAnswered = errors.New("the request was answered before its end")

// linesOutcome is the error of PublishLines, where some lines were sent or none.
func linesOutcome(err error, sent bool) error {
	if sent {
		return &UnknownError{Err: err}
	}
	return err
}

// writeLines writes a line for each event. It reports whether any was taken, and the
// error of the sequence or of an event.
func writeLines(w io.Writer, events iter.Seq2[Publication, error]) (sent bool, err error) {
	for p, err := range events {
		if err != nil {
			return sent, err
		}
		i, err := itemOf(&p)
		if err != nil {
			return sent, err
		}
		line, err := encode(i)
		if err != nil {
			return sent, err
		}
		if _, err := w.Write(line); err != nil {
			return sent, nil // the answer says why
		}
		sent = true
	}
	return sent, nil
}

// encode is JSON as a hub has it: with < and > as they are, and a line end.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

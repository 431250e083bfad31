package client

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Channel describes a channel.
type Channel struct {
	Name        string  `json:"channel"`
	Subscribers int     `json:"subscribers"`
	History     History `json:"history"`
	State       string  `json:"state,omitempty"`  // the version of its value, "" for none
	Closed      string  `json:"closed,omitempty"` // the id of what closed it, "" if it is open
}

// History is what a channel keeps.
type History struct {
	Events int    `json:"events"`
	Bytes  int    `json:"bytes"`
	Oldest string `json:"oldest"` // "" for nothing
	Newest string `json:"newest"`
}

// Nodes says what nodes an answer takes in, where nodes share a log.
type Nodes struct {
	Nodes   int  `json:"nodes,omitempty"`   // 0 without a shared log
	Partial bool `json:"partial,omitempty"` // not all nodes have answered
	Stale   int  `json:"stale,omitempty"`   // seconds that the log has been out of reach
}

// ChannelPage is a page of a list. Next is the after of the next page, "" for none.
type ChannelPage struct {
	Channels []Channel `json:"channels"`
	Next     string    `json:"next,omitempty"`
	Nodes
}

// Info describes a channel, and says where a subscription goes on from.
type Info struct {
	Channel
	LastEventID string `json:"last_event_id"`
	Nodes
}

// Session describes a session: one stream.
type Session struct {
	ID          string    `json:"session"`
	User        string    `json:"user,omitempty"`
	Bearer      string    `json:"bearer,omitempty"`
	Address     string    `json:"address"`
	Since       time.Time `json:"since"`
	Protocol    string    `json:"protocol,omitempty"`
	Channels    []string  `json:"channels"`
	Joined      []string  `json:"joined,omitempty"` // those of Channels that it did not begin with
	Cut         bool      `json:"cut,omitempty"`    // Channels and Joined are not complete
	LastEventID string    `json:"last_event_id"`
	Events      uint64    `json:"events"` // that were written to it
	Lag         int64     `json:"lag"`    // milliseconds that the oldest event waits
}

// SessionPage is a page of a list. Next is the After of the next page, "" for none.
type SessionPage struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next,omitempty"`
	Nodes
}

// SessionFilter says which sessions are listed. The zero SessionFilter is all.
type SessionFilter struct {
	User    string // those of a user
	Channel string // those that read a channel, or a pattern
	After   string // those after a page
	Limit   int    // of the page, up to 1,000; default 100
}

// Member is a user who is in a channel.
type Member struct {
	User     string          `json:"user"`
	Sessions int             `json:"sessions,omitempty"`
	Since    time.Time       `json:"since"`
	Meta     json.RawMessage `json:"meta,omitempty"`
}

// Presence says who is in a channel. Members is nil if there are too many to tell.
type Presence struct {
	Channel   string   `json:"channel"`
	Count     int      `json:"count"` // members, and streams without a user
	Anonymous int      `json:"anonymous"`
	Members   []Member `json:"members"`
	Next      string   `json:"next,omitempty"` // the after of the next page
	Nodes
}

// PresenceChange is what a Subscription is told of who is in a channel. With Members it
// is a snapshot, with Joined a change, and with neither there are too many to tell.
type PresenceChange struct {
	Channel   string    `json:"channel"`
	Count     int       `json:"count"`
	Anonymous int       `json:"anonymous"`
	Members   *[]Member `json:"members"`
	Joined    *[]Member `json:"joined"`
	Left      []Member  `json:"left"`
	Updated   []Member  `json:"updated"`
}

// get reads a document.
func (c *Client) get(ctx context.Context, path string, query url.Values, doc any) error {
	_, err := c.send(ctx, call{method: http.MethodGet, path: path, query: query, safe: true}, doc)
	return err
}

// page is the query of a page of a list.
func page(after string, limit int) url.Values {
	q := url.Values{}
	if after != "" {
		q.Set("after", after)
	}
	if limit != 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	return q
}

// Channels lists the channels that the caller may read, whose names begin with a prefix:
// the page after the name after, of up to limit channels; "" and 0 for the first one,
// and 100.
func (c *Client) Channels(ctx context.Context, prefix, after string, limit int) (ChannelPage, error) {
	q := page(after, limit)
	if prefix != "" {
		q.Set("prefix", prefix)
	}
	var doc ChannelPage
	return doc, c.get(ctx, "_channels", q, &doc)
}

// AllChannels yields the channels of all pages of [Client.Channels].
func (c *Client) AllChannels(ctx context.Context, prefix string) iter.Seq2[Channel, error] {
	return pages(func(after string) ([]Channel, string, error) {
		p, err := c.Channels(ctx, prefix, after, 1000)
		return p.Channels, p.Next, err
	})
}

// AllSessions yields the sessions of all pages of [Client.Sessions].
func (c *Client) AllSessions(ctx context.Context, f SessionFilter) iter.Seq2[Session, error] {
	return pages(func(after string) ([]Session, string, error) {
		if after != "" {
			f.After = after
		}
		p, err := c.Sessions(ctx, f)
		return p.Sessions, p.Next, err
	})
}

// pages yields the elements of one page after the other.
func pages[T any](get func(after string) ([]T, string, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for after := ""; ; {
			list, next, err := get(after)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range list {
				if !yield(one, nil) {
					return
				}
			}
			if next == "" || next == after {
				return
			}
			after = next
		}
	}
}

// Info describes a channel. One with neither history nor subscribers nor a value is an
// *[Error] of the kind "not-found".
func (c *Client) Info(ctx context.Context, channel string) (Info, error) {
	var doc Info
	path, err := channelPath(channel)
	if err != nil {
		return doc, err
	}
	return doc, c.get(ctx, path, url.Values{"info": {""}}, &doc)
}

// Sessions lists sessions.
func (c *Client) Sessions(ctx context.Context, f SessionFilter) (SessionPage, error) {
	q := page(f.After, f.Limit)
	if f.User != "" {
		q.Set("user", f.User)
	}
	if f.Channel != "" {
		q.Set("channel", f.Channel)
	}
	var doc SessionPage
	return doc, c.get(ctx, "_sessions", q, &doc)
}

// sessionPath is the path of a session.
func sessionPath(id string) (string, error) {
	if id == "" || id == "." || id == ".." {
		return "", errors.New("the id of the session is missing: evstream.open has it, and Subscription.Session")
	}
	return "_sessions/" + url.PathEscape(id), nil
}

// Session describes a session.
func (c *Client) Session(ctx context.Context, id string) (Session, error) {
	var doc Session
	path, err := sessionPath(id)
	if err != nil {
		return doc, err
	}
	return doc, c.get(ctx, path, nil, &doc)
}

// EndSession ends a session for good, with a reason for its client, "" for none.
func (c *Client) EndSession(ctx context.Context, id, reason string) error {
	path, err := sessionPath(id)
	if err != nil {
		return err
	}
	q := url.Values{}
	if reason != "" {
		q.Set("reason", reason)
	}
	_, err = c.send(ctx, call{method: http.MethodDelete, path: path, query: q, safe: true, empty: true}, nil)
	return err
}

// SendTo sends an event to one session, which is in no history. Of p only Type, Data and
// Retry are used. There is no idempotency key for it: if its outcome is not known, the
// error is an [UnknownError], and a second attempt may have it come twice.
func (c *Client) SendTo(ctx context.Context, id string, p Publication) error {
	path, err := sessionPath(id)
	if err != nil {
		return err
	}
	p = Publication{Type: p.Type, Data: p.Data, Retry: p.Retry}
	_, err = c.send(ctx, call{
		method: http.MethodPost, path: path, query: p.query(), body: p.Data, empty: true,
		header: http.Header{"Content-Type": {plainText}},
	}, nil)
	return err
}

// Join has a session read a channel or a pattern, too, from now on, or from where o says;
// of it only LastEventID, Since and Last are used. It returns all that the session reads.
func (c *Client) Join(ctx context.Context, id, channel string, o SubscribeOptions) ([]string, error) {
	q := url.Values{}
	if o.LastEventID != "" {
		q.Set("last_event_id", o.LastEventID)
	}
	if o.Since != "" {
		q.Set("since", o.Since)
	}
	if o.Last != 0 {
		q.Set("last", strconv.Itoa(o.Last))
	}
	return c.change(ctx, http.MethodPut, id, channel, q)
}

// Leave has a session read a channel no more. It returns what the session still reads.
func (c *Client) Leave(ctx context.Context, id, channel string) ([]string, error) {
	return c.change(ctx, http.MethodDelete, id, channel, nil)
}

func (c *Client) change(ctx context.Context, method, id, channel string, q url.Values) ([]string, error) {
	path, err := sessionPath(id)
	if err != nil {
		return nil, err
	}
	name, err := channelPath(channel)
	if err != nil {
		return nil, err
	}
	var doc struct{ Channels []string }
	_, err = c.send(ctx, call{method: method, path: path + "/channels/" + name, query: q, safe: true}, &doc)
	return doc.Channels, err
}

// Presence says who is in a channel: the page after the user after, of up to limit
// members; "" and 0 for the first one, and 100.
func (c *Client) Presence(ctx context.Context, channel, after string, limit int) (Presence, error) {
	var doc Presence
	path, err := channelPath(channel)
	if err != nil {
		return doc, err
	}
	return doc, c.get(ctx, "_presence/"+path, page(after, limit), &doc)
}

// SetPresence sets the metadata of the caller as a member of a channel, or of the user of
// a session, if that is not "". It is a JSON object.
func (c *Client) SetPresence(ctx context.Context, channel, session string, meta any) error {
	path, err := channelPath(channel)
	if err != nil {
		return err
	}
	body, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	q := url.Values{}
	if session != "" {
		q.Set("session", session)
	}
	_, err = c.send(ctx, call{method: http.MethodPut, path: "_presence/" + path + "/me", query: q, body: body, safe: true, empty: true}, nil)
	return err
}

// Ticket gets a ticket, with which one stream can be opened until it expires. Each call
// gets another one.
func (c *Client) Ticket(ctx context.Context) (ticket string, expires time.Time, err error) {
	var doc struct {
		Ticket  string    `json:"ticket"`
		Expires time.Time `json:"expires"`
	}
	_, err = c.send(ctx, call{method: http.MethodPost, path: "_tickets", safe: true}, &doc)
	return doc.Ticket, doc.Expires, err
}

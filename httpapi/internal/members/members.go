// Package members is the document of who is in a channel, and reads what a member says
// of itself.
package members

import (
	"encoding/json"
	"strings"

	"github.com/evstream/caddy-evstream/channel"
	"github.com/evstream/caddy-evstream/presence"
	"github.com/evstream/caddy-evstream/problem"
)

// Doc is a page of the members of a channel. Next, if there is more, is the "after" of
// the next page.
type Doc struct {
	Channel string `json:"channel"`
	Count   int    `json:"count"` // of members, and of sessions without a user
	Unnamed int    `json:"anonymous"`
	// Members are absent if there are too many to tell them by name.
	Members *[]presence.Member `json:"members,omitempty"`
	Next    string             `json:"next,omitempty"`
}

// New returns the document of a page.
func New(name string, p *presence.Page) Doc {
	doc := Doc{Channel: name, Count: p.Count, Unnamed: p.Unnamed, Next: p.Next}
	if p.Members != nil {
		doc.Members = &p.Members
	}
	return doc
}

// Check reports why a channel has no members that could be told; has says that it has
// presence.
func Check(name string, has bool) error {
	if err := channel.Check(name); err != nil {
		return err
	}
	if !has {
		return problem.NotFound.Because("channel %q has no presence: the option presence of a channel gives it", name)
	}
	return nil
}

// Self is the channel of which the caller's own membership is written, by the name
// behind _presence/: that ends in /me.
func Self(name string) (of string, err error) {
	of, found := strings.CutSuffix(name, "/me")
	if !found {
		p := problem.BadMethod.Because("_presence/%s is read with GET; PUT sets the caller's own metadata, at _presence/%s/me", name, name)
		p.Allow = "GET, HEAD, OPTIONS"
		return "", p
	}
	return of, nil
}

// Meta reads the metadata of a member.
func Meta(body []byte) (json.RawMessage, error) {
	meta, err := presence.CheckMeta(body)
	if err != nil {
		return nil, problem.BadBody.Because("%w", err)
	}
	return meta, nil
}

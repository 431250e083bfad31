package httpapi

import (
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/problem"
)

// ticketDoc answers who asks for a ticket.
type ticketDoc struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"` // of the first connect
}

// ticket gives a ticket to who has another credential.
func (e *Handler) ticket(w http.ResponseWriter, r *http.Request) error {
	who, err := e.writer(r)
	if err != nil {
		return e.fail(w, err)
	}
	switch {
	case e.auth == nil || !e.auth.GivesTickets():
		return e.fail(w, problem.NotFound.Because("no tickets are given here: tickets is not configured"))
	case who.Anonymous():
		return e.fail(w, problem.Unauthorized.Because("a ticket is given to who has another credential"))
	case !e.access.Somewhere(who, access.Subscribe):
		return e.fail(w, e.access.Refuse(who, access.Subscribe, "any channel"))
	}
	if err := ignoreBody(w, r); err != nil {
		return e.fail(w, err)
	}
	sealed, open, err := e.auth.NewTicket(who, r, time.Now())
	if err != nil {
		return e.fail(w, err)
	}
	return e.answer(w, ticketDoc{Ticket: sealed, Expires: open})
}

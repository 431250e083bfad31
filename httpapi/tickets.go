package httpapi

import (
	"net/http"
	"time"

	"github.com/evstream/caddy-evstream/access"
	"github.com/evstream/caddy-evstream/httpapi/internal/bodies"
	"github.com/evstream/caddy-evstream/problem"
)

// ticketDoc is the answer to a request for a ticket.
type ticketDoc struct {
	Ticket  string    `json:"ticket"`
	Expires time.Time `json:"expires"` // when it must have been used for the first time
}

// ticket gives a ticket to a caller with another credential.
func (h *Handler) ticket(w http.ResponseWriter, r *http.Request) error {
	who, err := h.writer(r)
	if err != nil {
		return h.fail(w, err)
	}
	switch {
	case h.auth == nil || !h.auth.GivesTickets():
		return h.fail(w, problem.NotFound.Because("no tickets are given here: tickets is not configured"))
	case who.Anonymous():
		return h.fail(w, problem.Unauthorized.Because("a ticket is given for another credential, and the request has none"))
	case !h.access.Somewhere(who, access.Subscribe):
		return h.fail(w, h.access.Refuse(who, access.Subscribe, "any channel"))
	}
	if err := h.readRate(r, who); err != nil {
		return h.fail(w, err)
	}
	if err := bodies.Ignore(w, r); err != nil {
		return h.fail(w, err)
	}
	sealed, open, err := h.auth.NewTicket(who, r, time.Now())
	if err != nil {
		return h.fail(w, err)
	}
	return h.answer(w, ticketDoc{Ticket: sealed, Expires: open})
}

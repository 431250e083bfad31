package boltadapter

import "github.com/evstream/caddy-evstream/broker"

// maxRemoved bounds the names of which the log knows that their value was removed, as
// the broker does.
const maxRemoved = 4096

// removedNames are the channels that had a value and have none, for readers that come
// back after the log was opened again.
type removedNames struct {
	byName map[string]broker.ID
	order  []removedName // oldest first; those that are not in byName any more count too
	forgot broker.ID     // the newest removal that is not there
}

type removedName struct {
	name string
	id   broker.ID
}

// add adds a removal. It returns the name that was forgotten for it, or "".
func (r *removedNames) add(name string, id broker.ID) (forgotten string) {
	if r.byName == nil {
		r.byName = map[string]broker.ID{}
	}
	r.byName[name] = id
	r.order = append(r.order, removedName{name, id})
	for len(r.order) > maxRemoved {
		first := r.order[0]
		r.order = r.order[1:]
		if r.byName[first.name] == first.id {
			delete(r.byName, first.name)
			r.forgot = later(r.forgot, first.id)
			forgotten = first.name
		}
	}
	return forgotten
}

// forget says that a channel has a value again.
func (r *removedNames) forget(name string) { delete(r.byName, name) }

package hub

import (
	"encoding/json"
)

// onActivity handles a notice of a node.
func (h *Hub) onActivity(a *activity, data []byte) {
	var n readersNotice
	if json.Unmarshal(data, &n) == nil && n.Node != "" {
		a.hear(&n, h.broker.Node())
	}
}

// onReset is called when the log has lost something: notices may be among it.
func (a *activity) onReset(node string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.observer != nil && node != "" {
		a.hello, a.list = true, true
		a.wake()
	}
}

// hear applies a notice, and tells the observer what it changes if it is this node's.
func (a *activity) hear(n *readersNotice, self string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.observer == nil {
		return
	}
	mine := n.Node == self
	if n.Hello {
		if !mine {
			a.list = true
			a.wake()
		}
		return
	}
	if n.Gone != "" {
		if of := a.nodes[n.Gone]; of != nil {
			for name := range of.channels {
				a.lose(of, name, mine)
			}
			delete(a.nodes, n.Gone)
		}
		if n.Gone == self { // it lives: others took it for dead
			a.list = true
			a.wake()
		}
		return
	}
	of := a.nodes[n.Node]
	if of == nil {
		of = &nodeReads{channels: make(map[string]uint64)}
		a.nodes[n.Node] = of
	}
	if n.Begin {
		of.list++
	}
	for _, name := range n.Active {
		if _, known := of.channels[name]; !known {
			if !a.admit(len(of.channels), 2*a.kind.most) { // of one's own, what it was and what it will be
				continue
			}
			if a.count[name]++; a.count[name] == 1 && mine {
				a.kind.say(a.observer, name, true)
			}
		}
		of.channels[name] = of.list
	}
	for _, name := range n.Idle {
		a.lose(of, name, mine)
	}
	if n.End {
		of.listed = true
		for name, list := range of.channels {
			if list != of.list {
				a.lose(of, name, mine)
			}
		}
	}
}

// lose takes a channel away from those that a node reads. activity.mu is held.
func (a *activity) lose(of *nodeReads, name string, mine bool) {
	if _, known := of.channels[name]; !known {
		return
	}
	delete(of.channels, name)
	if a.count[name]--; a.count[name] == 0 {
		delete(a.count, name)
		if mine {
			a.kind.say(a.observer, name, false)
		}
	}
}
